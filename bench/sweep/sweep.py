"""The controller: what is recorded is not run again, the rest runs in processes of its own. Imports no torch."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bench.config.run_config import RunConfig, from_hydra
from bench.runs import lock
from bench.runs.code import other_code
from bench.runs.process import kill_all, preload, stop_all
from bench.runs.store import Status, recorded, remove_stale_temporaries
from bench.sweep import manifest, prerequisites
from bench.sweep.launchers.engine import Engine
from bench.sweep.launchers.local import Joblib
from bench.sweep.progress import Progress, outcome
from bench.sweep.run_or_load import Ensure, architectures, ensure_cost, ensure_run
from bench.sweep.state import PHASES, count
from bench.tying.errors import BadInput

Record = dict[str, Any]

POLL_S = 0.5
"""Between looks at runs that are being done elsewhere."""


class RunFailed(Exception):
    """A run that was asked for did not finish; the command line says why and exits with 1."""


unfinished: list[str] = []
"""What the sweeps of this process left undone, a line each: a search launches several, and none must end it."""


def control(cfg: DictConfig) -> float | None:
    """Hydra's task function: one cell, run or found; returns its headline metric on validation."""
    cell = from_hydra(cfg, HydraConfig.get().overrides.task)
    for key in cell.unused:
        print(f"note: {key} is not used by tying={cell.label}")
    began = time.time()
    (cell,), (record,) = conduct([cell], Joblib(n_jobs=1))
    print(outcome(cell, record))
    if record["status"] == Status.NOT_APPLICABLE:
        raise BadInput(
            f"tying={cell.label} cannot be applied to {cell.config['task']['name']}: {record['reason']}"
        )
    again = recorded_before([record], began) if record["status"] == Status.FAILED else ""
    again = f"{again}; retry=true runs it again" if again else ""
    if record.get("bad_input"):
        raise BadInput(f"{record['reason']}{again}")
    if record["status"] != Status.DONE:
        raise RunFailed(
            f"the run ended as {record['status']}: {record['reason']} (log: {cell.folder / 'log'}){again}"
        )
    return float(record["val"][record["metric"]["name"]])


def recorded_before(failed: Sequence[Record], began: float) -> str:
    """Say which failures are records from before this command, and when the newest of them ended; empty for none.

    Args:
        began: When the command began, in seconds since the epoch.
    """
    ends = [record.get("ended_at", 0.0) for record in failed]
    if not (earlier := [end for end in ends if end < began]):
        return ""
    newest = (
        time.strftime("on %Y-%m-%d at %H:%M", time.localtime(max(earlier))) if max(earlier) else "earlier"
    )
    return f" ({len(earlier)} of them recorded {newest})" if len(failed) > 1 else f" (recorded {newest})"


def conduct(
    cells: Sequence[RunConfig], engine: Engine, sweep: bool = False, more: bool = False
) -> tuple[list[RunConfig], list[Record]]:
    """Run on `engine` what is not recorded of `cells`, after what they wait for and their costs, each alone.

    Returns the cells with their groupings and learning rates settled, and their records, in the order asked. A sweep
    leaves a manifest of what it consists of, to which `more` adds.
    """
    engine.check(cells)
    for folder in (cells[0].runs, cells[0].runs / "sweeps"):
        remove_stale_temporaries(folder)
    # Read whatever `more`: a manifest of a newer version is refused and not written over.
    there = recorded(manifest.path(cells[0])) if sweep else None
    earlier = (there or {}) if more else {}
    before = {"sources": _distinct(prerequisites.source(cell) for cell in cells)}
    if sweep and before["sources"]:
        manifest.write(cells, before, earlier)
    preload(architectures(cells))
    with Progress() as progress:
        sources = _all(before["sources"], ensure_run, engine, progress, PHASES["sources"])
        cells, ended = _grouped(cells, sources)
        ready = [cell for cell in cells if cell.id not in ended]
        before["search"] = _distinct(c for cell in ready for c in prerequisites.candidates(cell))
        before["starts"] = _distinct(cell.start for cell in (*ready, *before["search"]))
        if sweep:
            manifest.write(cells, before, earlier)
        _costs([cell for cell in ready if cell.is_measured], engine, progress)
        starts = _all(before["starts"], ensure_run, engine, progress, PHASES["starts"])
        reached = _train(before["search"], starts, engine, progress, PHASES["search"])
        cells = [cell if cell.id in ended else _with_learning_rate(cell, reached) for cell in cells]
        if sweep and before["search"]:
            manifest.write(cells, before, earlier)
        ready = _distinct(cell for cell in cells if cell.id not in ended)
        records = ended | _train(ready, starts, engine, progress, "training")
    return list(cells), [records[cell.id] for cell in cells]


def measure(cells: Sequence[RunConfig], again: bool = False) -> list[tuple[RunConfig, Record]]:
    """Measure here, one after the other, the costs of `cells` that are not recorded; train nothing.

    Returns a cell of each cost with the cost's record, in the order asked. again: also those that are
    recorded, in the place of their records. BadInput where a grouping is to be learned from a run not recorded.
    """
    engine = Joblib(n_jobs=1)
    engine.check(cells)
    remove_stale_temporaries(cells[0].runs)
    cells = _grouped_before(cells)
    if again:
        for cell in cells:
            _forget_cost(cell)
    preload(architectures(cells))
    with Progress() as progress:
        return _costs(cells, engine, progress)


def _costs(cells: Sequence[RunConfig], engine: Engine, progress: Progress) -> list[tuple[RunConfig, Record]]:
    """One cell of each cost, with the cost's record."""
    unique = {cell.cost: cell for cell in cells}
    records = _all(list(unique.values()), ensure_cost, engine, progress, "measuring cost")
    return [(cell, records[cost]) for cost, cell in unique.items()]


def _forget_cost(cell: RunConfig) -> None:
    """Remove its record, unless somebody is at it: then it is about to be new."""
    path = ensure_cost.path(cell)
    if path.exists():
        with lock.held(path.parent) as mine:
            if mine:
                path.unlink(missing_ok=True)


def _distinct(cells: Iterable[RunConfig | None]) -> list[RunConfig]:
    """Each run once; None is no run."""
    return list({cell.id: cell for cell in cells if cell is not None}.values())


def _grouped(
    cells: Sequence[RunConfig], sources: dict[str, Record]
) -> tuple[list[RunConfig], dict[str, Record]]:
    """The cells with what they share learned, and the records of those that end here because nothing could be."""
    found, ended = [], {}
    for cell in cells:
        try:
            found.append(prerequisites.resolved(cell, sources))
        except prerequisites.Unlearned as end:
            found.append(cell)
            ended[cell.id] = ensure_run.settled(cell, end.status, str(end))
    return found, ended


def _grouped_before(cells: Sequence[RunConfig]) -> list[RunConfig]:
    """The cells with what they share learned from what is recorded; BadInput where it cannot be."""
    sources = _distinct(prerequisites.source(cell) for cell in cells)
    found = {cell.id: ensure_run.found(cell) for cell in sources}
    if None in found.values():
        raise BadInput(
            "tying=learned learns its groups in a run that is not recorded with the present code: train such a cell "
            "first, accept an older record with reuse=true, or measure grouped"
        )
    try:
        return [prerequisites.resolved(cell, found) for cell in cells]
    except prerequisites.Unlearned as end:
        raise BadInput(str(end)) from end


def _with_learning_rate(cell: RunConfig, records: dict[str, Record]) -> RunConfig:
    if not prerequisites.candidates(cell):
        return cell
    cell, reached = prerequisites.chosen(cell, records)
    return replace(cell, options={**cell.options, "lr_reached": reached})


def _train(
    cells: Sequence[RunConfig], starts: dict[str, Record], engine: Engine, progress: Progress, phase: str
) -> dict[str, Record]:
    """Records of runs by their id. A run whose start was interrupted is too: it would fail without it."""
    waits = {c.id for c in cells if c.start and starts[c.start.id]["status"] == Status.INTERRUPTED}
    reason = "the run to start from was stopped; the same command goes on"
    put_off = {c.id: ensure_run.settled(c, Status.INTERRUPTED, reason) for c in cells if c.id in waits}
    return put_off | _all([c for c in cells if c.id not in waits], ensure_run, engine, progress, phase)


def _all(
    cells: Sequence[RunConfig], ensure: Ensure, engine: Engine, progress: Progress, phase: str
) -> dict[str, Record]:
    """`ensure` each cell; records by the id of the run, or of the cost. What another controller is at is waited
    for, not done twice."""
    found: dict[str, Record] = {}
    if not cells:
        return found
    progress.begin(phase, len(cells), lambda cell: ensure.path(cell).parent)
    try:
        left = []
        modules: list[str] = []
        superseded = 0
        for cell in cells:
            record, changed = ensure.look(cell)
            if changed:
                superseded += 1
                modules += changed
                left.append(replace(cell, options=cell.options | {"superseded": record.get("ended_at")}))
            elif record is None:
                left.append(cell)
            else:
                _note(found, ensure, cell, record, progress)
        if superseded:
            what = "recorded run" if ensure == ensure_run else "recorded cost"
            progress.say(
                f"{count(superseded, what)} {other_code(modules)}: made again; reuse=true accepts what is recorded"
            )
        while left:
            elsewhere = []
            for cell, record in engine.map(ensure, left, progress.started):
                if record is None:
                    elsewhere.append(cell)
                    progress.elsewhere(cell)
                else:
                    _note(found, ensure, cell, record, progress)
            left = elsewhere
            while left and all(ensure.is_elsewhere(cell) for cell in left):
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        stop_all()
        raise
    except BaseException:
        kill_all()
        raise
    return found


def _note(
    found: dict[str, Record], ensure: Ensure, cell: RunConfig, record: Record, progress: Progress
) -> None:
    found[ensure.path(cell).parent.name] = record
    progress.ended(cell, record)
    if record["status"] == Status.FAILED and cell.options["sweep"]["fail_fast"]:
        kill_all()
        raise RunFailed(f"sweep.fail_fast: {cell.label}, seed {cell.config['seed']}: {record['reason']}")
