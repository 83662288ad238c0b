"""Run a sweep: what is recorded is not run again, the rest runs in processes of its own. Imports no torch."""

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from bench.config.run_config import RATES_REACHED, RunConfig
from bench.runs import lock
from bench.runs.code import other_code
from bench.runs.process import Runner, kill_all, preload, stop_all
from bench.runs.store import Status, recorded, remove_stale_temporaries, require_writable, write_json
from bench.sweep import manifest, prerequisites, stopping
from bench.sweep.launchers import Launcher
from bench.sweep.launchers.local import Joblib
from bench.sweep.progress import Progress, outcome
from bench.sweep.run_or_load import Record, RunOrLoad, ensure_cost, ensure_run, imports_of
from bench.sweep.state import PHASES, count
from bench.tying.errors import BadInput

BUILT_OF = ("task", "data", "model", "tying", "control", "dropout", "trainer")
"""The keys of a config that say how a network is built: cells that differ in others alone are asked about once."""

POLL_S = 0.5
"""Seconds between looks at runs that are being done elsewhere."""


class RunFailed(Exception):
    """A run that was asked for did not finish; the command line says why and exits with 1."""


class SweepResult(NamedTuple):
    """What a sweep came to: its cells with groupings and learning rates filled in, and the record of each."""

    cells: list[RunConfig]
    records: list[Record]

    def shortfalls(self, began: float) -> list[str]:
        """Say which runs failed and which were interrupted, a line each.

        Args:
            began: When the command began, in seconds since the epoch.
        """
        lines = []
        for status, verb, advice in (
            (Status.FAILED, "failed", "; retry=true runs them again"),
            (Status.INTERRUPTED, "were interrupted", ""),
        ):
            records = [record for record in self.records if record["status"] == status]
            if records:
                earlier = recorded_before(records, began) if advice else ""
                counted = f"{len(records)} of {len(self.records)} runs {verb}"
                lines.append(f"{counted}: {records[0]['reason']}{earlier}{advice}")
        return lines


def run_one(cell: RunConfig) -> float:
    """Run one cell here, or find its record; print what it came to.

    Returns:
        Its headline metric on validation.

    Raises:
        BadInput: The tying cannot be applied, or the run says that its input was bad.
        RunFailed: It has no end that gives a metric.
    """
    for key in cell.unused:
        print(f"note: {key} is not used by tying={cell.label}")
    began = time.time()
    (cell,), (record,) = run_sweep([cell], Joblib(n_jobs=1))
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


def run_sweep(cells: Sequence[RunConfig], launcher: Launcher, sweep: bool = False) -> SweepResult:
    """Run what is not recorded of `cells`, after what they wait for and after their costs, each alone.

    Args:
        sweep: Leave a manifest of what the sweep consists of, for its tables in the folder `results`. What earlier
            commands of the same sweep asked for stays in it.

    Returns:
        Cells and records in the order of `cells`.

    Raises:
        BadInput: A cell that is not recorded cannot be built; nothing has been run or written.
    """
    launcher.check(cells)
    archived = manifest.archived(cells) if sweep else {}
    _refuse_bad_input([cell for cell in cells if ensure_run.path(cell) not in archived], ensure_run)
    if sweep:
        for place in (Path(cells[0].options["results"]), cells[0].runs):
            require_writable(place)
    for folder in (cells[0].runs, cells[0].runs / "sweeps"):
        remove_stale_temporaries(folder)
    for path, record in archived.items():
        write_json(path, record)
    earlier, dropped = manifest.earlier(cells[0]) if sweep else ({}, [])
    before = {"sources": _unique(prerequisites.source(cell) for cell in cells)}
    if sweep and before["sources"]:
        unsettled = {c.id for c in cells if prerequisites.source(c) or prerequisites.candidates(c)}
        manifest.write(cells, before, earlier, unsettled)
    preload(imports_of(cells))
    with Progress() as progress:
        for line in dropped:
            progress.say(line)
        if archived:
            progress.say(
                f"{count(len(archived), 'record')} of results/{cells[0].options['sweep']['name']} taken over"
            )
        phase = _Phases(launcher, progress)
        sources = phase.run(before["sources"], PHASES["sources"])
        cells, ended = _with_learned_groups(cells, sources)
        ready = [cell for cell in cells if cell.id not in ended]
        before["search"] = search = _candidates(ready)
        before["starts"] = _unique(cell.start for cell in (*ready, *before["search"]))
        if sweep:
            searched = {cell.id for cell in ready if prerequisites.candidates(cell)}
            manifest.write(cells, before, earlier, searched)
        phase.measure([cell for cell in ready if cell.is_measured])
        starts = phase.run(before["starts"], PHASES["starts"])
        reached: dict[str, Record] = {}
        while beyond := [cell for cell in search if cell.id not in reached]:
            reached |= phase.train(beyond, starts, PHASES["search"])
            search = _candidates(ready, reached)
        before["search"] = search
        cells = [cell if cell.id in ended else _with_learning_rate(cell, reached) for cell in cells]
        if sweep and search:
            earlier, line = manifest.without_earlier_choices(cells, search, earlier)
            if line:
                progress.say(line)
            manifest.write(cells, before, earlier)
        if line := manifest.kept(cells, earlier):
            progress.say(line)
        ready = _unique(cell for cell in cells if cell.id not in ended)
        if not sweep or cells[0].options["sweep"]["stop"]["margin"] is None:
            records = ended | phase.train(ready, starts, "training")
        else:
            trained, stopped = stopping.train(ready, lambda turn: phase.train(turn, starts, "training"))
            records = ended | trained
            ran = [cell for cell in cells if records[cell.id]["status"] != Status.NOT_RUN]
            manifest.write(ran, before, earlier, stopped=stopped)
            for text in stopped.values():
                progress.say(f"no more seeds: {text}")
    return SweepResult(cells, [records[cell.id] for cell in cells])


def measure(cells: Sequence[RunConfig], again: bool = False) -> list[tuple[RunConfig, Record]]:
    """Measure here, one after the other, the costs of `cells` that are not recorded; train nothing.

    Args:
        again: Measure also those that are recorded, in the place of their records.

    Returns:
        A cell of each cost with the cost's record, in the order of `cells`.

    Raises:
        BadInput: A grouping is to be learned from a run that is not recorded.
    """
    launcher = Joblib(n_jobs=1)
    launcher.check(cells)
    if not again:
        _refuse_bad_input(cells, ensure_cost)
    remove_stale_temporaries(cells[0].runs)
    cells = _with_recorded_groups(cells)
    if again:
        for cell in cells:
            _remove_cost(cell)
    preload(imports_of(cells))
    with Progress() as progress:
        return _Phases(launcher, progress).measure(cells)


def _refuse_bad_input(cells: Sequence[RunConfig], ensure: RunOrLoad) -> None:
    """Raise BadInput where one of the cells without a record is of what cannot be built."""
    if reason := refusal([cell for cell in cells if ensure.load(cell) is None]):
        raise BadInput(reason)


def refusal(cells: Sequence[RunConfig]) -> str | None:
    """Return the first reason for which a data set, network, control or tying of these cells is bad input, or None.

    A tying that has yet to be learned is looked at as the run that it is learned from.
    """
    built = [prerequisites.source(cell) or cell for cell in cells]
    configs = {
        json.dumps({key: cell.config.get(key) for key in BUILT_OF}, sort_keys=True): cell.config
        for cell in built
    }
    if not configs:
        return None
    preload(imports_of(cells))
    runner = Runner()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        write_json(folder / "configs.json", {"configs": list(configs.values())})
        try:
            runner.run("bench.training.precheck", folder, threads=1)
        except BaseException:  # Ctrl-C: there is nothing to save
            runner.kill_all()
            raise
        # Without an answer the process died, as the runs then will, whose logs say why.
        answer = recorded(folder / "refusals.json") or {"refusals": []}
    return next(filter(None, answer["refusals"]), None)


def _remove_cost(cell: RunConfig) -> None:
    """Remove the cell's cost record, unless somebody is at it: then it is about to be new."""
    path = ensure_cost.path(cell)
    if path.exists():
        with lock.held(path.parent) as is_mine:
            if is_mine:
                path.unlink(missing_ok=True)


def _unique(cells: Iterable[RunConfig | None]) -> list[RunConfig]:
    """Return each run once; None is no run."""
    return list({cell.id: cell for cell in cells if cell is not None}.values())


def _candidates(
    cells: Iterable[RunConfig], records: Mapping[str, Record] = prerequisites.EMPTY
) -> list[RunConfig]:
    """Return each run that a learning rate is chosen from once, those that `records` make necessary among them."""
    return _unique(candidate for cell in cells for candidate in prerequisites.candidates(cell, records))


def _with_learned_groups(
    cells: Sequence[RunConfig], sources: dict[str, Record]
) -> tuple[list[RunConfig], dict[str, Record]]:
    """Fill in the groups learned in `sources`; returns the cells and the records of those that end without groups."""
    grouped, ended = [], {}
    for cell in cells:
        try:
            grouped.append(prerequisites.resolved(cell, sources))
        except prerequisites.Unlearned as end:
            grouped.append(cell)
            ended[cell.id] = ensure_run.record_ending(cell, end.status, str(end))
    return grouped, ended


def _with_recorded_groups(cells: Sequence[RunConfig]) -> list[RunConfig]:
    """Fill in the groups learned in runs that are recorded; BadInput where they cannot be."""
    records = {
        cell.id: ensure_run.load(cell) for cell in _unique(prerequisites.source(cell) for cell in cells)
    }
    if None in records.values():
        raise BadInput(
            "a tying learns its groups in a run that is not recorded with the present code: train such a cell first, "
            "or accept an older record with reuse=true"
        )
    try:
        return [prerequisites.resolved(cell, records) for cell in cells]
    except prerequisites.Unlearned as end:
        raise BadInput(str(end)) from end


def _with_learning_rate(cell: RunConfig, records: dict[str, Record]) -> RunConfig:
    if not prerequisites.candidates(cell):
        return cell
    cell, reached = prerequisites.chosen(cell, records)
    return replace(cell, options={**cell.options, RATES_REACHED: reached})


@dataclass(frozen=True)
class _Phases:
    """The phases of a sweep: each runs cells on the launcher and shows how far it is."""

    launcher: Launcher
    progress: Progress

    def measure(self, cells: Sequence[RunConfig]) -> list[tuple[RunConfig, Record]]:
        """Return one cell of each cost, with the cost's record."""
        unique = {cell.cost: cell for cell in cells}
        records = self.run(list(unique.values()), "measuring cost", ensure_cost)
        return [(cell, records[cost]) for cost, cell in unique.items()]

    def train(self, cells: Sequence[RunConfig], starts: dict[str, Record], phase: str) -> dict[str, Record]:
        """Return records of runs by their id. A run whose start was interrupted is too: it would fail without it."""
        waits = {c.id for c in cells if c.start and starts[c.start.id]["status"] == Status.INTERRUPTED}
        reason = "the run to start from was stopped; the same command goes on"
        put_off = {
            c.id: ensure_run.record_ending(c, Status.INTERRUPTED, reason) for c in cells if c.id in waits
        }
        return put_off | self.run([c for c in cells if c.id not in waits], phase)

    def run(
        self, cells: Sequence[RunConfig], phase: str, ensure: RunOrLoad = ensure_run
    ) -> dict[str, Record]:
        """Return records by the id of the run, or of the cost.

        What another controller is at is waited for, not done twice.
        """
        records: dict[str, Record] = {}
        if not cells:
            return records
        self.progress.begin(phase, cells, lambda cell: ensure.path(cell).parent)
        try:
            left = self._not_recorded(cells, ensure, records)
            while left:
                elsewhere = []
                for cell, record in self.launcher.map(ensure, left, self.progress.started):
                    if record is None:
                        elsewhere.append(cell)
                        self.progress.elsewhere(cell)
                    else:
                        self._note(cell, record, ensure, records)
                left = elsewhere
                while left and all(ensure.is_elsewhere(cell) for cell in left):
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            stop_all()
            raise
        except BaseException:
            kill_all()
            raise
        return records

    def _not_recorded(
        self, cells: Sequence[RunConfig], ensure: RunOrLoad, records: dict[str, Record]
    ) -> list[RunConfig]:
        """Note what is recorded in `records`; returns the other cells, and says which are made again."""
        left, modules, superseded = [], [], 0
        for cell in cells:
            record, changed = ensure.look(cell)
            if changed:
                superseded += 1
                modules += changed
                left.append(replace(cell, options=cell.options | {"superseded": record.get("ended_at")}))
            elif record is None:
                left.append(cell)
            else:
                self._note(cell, record, ensure, records)
        if superseded:
            kind = "recorded run" if ensure == ensure_run else "recorded cost"
            self.progress.say(
                f"{count(superseded, kind)} {other_code(modules)}: made again; reuse=true accepts what is recorded"
            )
        return left

    def _note(self, cell: RunConfig, record: Record, ensure: RunOrLoad, records: dict[str, Record]) -> None:
        records[ensure.path(cell).parent.name] = record
        self.progress.ended(cell, record)
        if record["status"] == Status.FAILED and cell.options["sweep"]["fail_fast"]:
            kill_all()
            raise RunFailed(f"sweep.fail_fast: {cell.label}, seed {cell.config['seed']}: {record['reason']}")
