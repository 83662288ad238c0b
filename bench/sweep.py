"""The controller: what is recorded is not run again, the rest runs in processes of its own. Imports no torch."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from bench import claim, lr_search
from bench.cell import Cell, from_hydra
from bench.engines import Engine
from bench.engines.joblib import Joblib
from bench.ensure import Ensure, architectures, ensure_cost, ensure_run
from bench.errors import BadInput
from bench.launch import kill_all, preload, stop_all
from bench.progress import Progress
from bench.records import (
    DONE,
    FAILED,
    NOT_APPLICABLE,
    SCHEMA,
    manifest_path,
    recorded,
    tidy,
    write_json,
)
from bench.report.control import control_note

Record = dict[str, Any]

MANIFEST_KEYS = ("id", "task", "data", "tying", "dropout", "weight_decay", "seed", "cell", "cost", "metric")

POLL_S = 0.5
"""Between looks at runs that are being done elsewhere."""


class RunFailed(Exception):
    """A run that was asked for did not finish; the command line says why and exits with 1."""


unfinished: list[str] = []
"""What the sweeps of this process left undone, a line each: a search launches several, and none must end it."""


def control(cfg: DictConfig) -> float | None:
    """Hydra's task function: one cell, run or found; returns its headline metric on validation."""
    cell = from_hydra(cfg)
    for key in cell.unused:
        print(f"note: {key} is not used by tying={cell.label}")
    (cell,), (record,) = conduct([cell], Joblib(n_jobs=1))
    print(_outcome(cell, record))
    if record["status"] == NOT_APPLICABLE:
        raise BadInput(
            f"tying={cell.label} cannot be applied to {cell.config['task']['name']}: {record['reason']}"
        )
    if record.get("bad_input"):
        raise BadInput(record["reason"])
    if record["status"] != DONE:
        raise RunFailed(
            f"the run ended as {record['status']}: {record['reason']} (log: {cell.folder / 'log'})"
        )
    return float(record["val"][record["metric"]["name"]])


def conduct(
    cells: Sequence[Cell], engine: Engine, sweep: bool = False, more: bool = False
) -> tuple[list[Cell], list[Record]]:
    """Run on `engine` what is not recorded of `cells`, after their costs were measured, each alone.

    Returns the cells with their learning rates settled, and their records, in the order asked. A sweep leaves a
    manifest of what it consists of, to which `more` adds.
    """
    engine.check(cells)
    for folder in (cells[0].runs, cells[0].runs / "sweeps"):
        tidy(folder)
    searched = {c.id: c for cell in cells for c in lr_search.candidates(cell)}
    if sweep:
        write_manifest(cells, searched.values(), more)
    preload(architectures(cells))
    with Progress() as progress:
        _costs(cells, engine, progress)
        if searched:
            reached = _all(list(searched.values()), ensure_run, engine, progress, "choosing learning rates")
            cells = [_with_learning_rate(cell, reached) for cell in cells]
            if sweep:
                write_manifest(cells, searched.values(), more)
        unique = list({cell.id: cell for cell in cells}.values())
        records = _all(unique, ensure_run, engine, progress, "training")
    return list(cells), [records[cell.id] for cell in cells]


def measure(cells: Sequence[Cell], again: bool = False) -> list[tuple[Cell, Record]]:
    """Measure here, one after the other, the costs of `cells` that are not recorded; train nothing.

    Returns a cell of each cost with the cost's record, in the order asked. again: also those that are
    recorded, in the place of their records.
    """
    engine = Joblib(n_jobs=1)
    engine.check(cells)
    tidy(cells[0].runs)
    if again:
        for cell in cells:
            _forget_cost(cell)
    preload(architectures(cells))
    with Progress() as progress:
        return _costs(cells, engine, progress)


def _costs(cells: Sequence[Cell], engine: Engine, progress: Progress) -> list[tuple[Cell, Record]]:
    """One cell of each cost, with the cost's record."""
    unique = {cell.cost: cell for cell in cells}
    records = _all(list(unique.values()), ensure_cost, engine, progress, "measuring cost")
    return [(cell, records[cost]) for cost, cell in unique.items()]


def _forget_cost(cell: Cell) -> None:
    """Remove its record, unless somebody is at it: then it is about to be new."""
    path = ensure_cost.path(cell)
    if path.exists():
        with claim.held(path.parent) as mine:
            if mine:
                path.unlink(missing_ok=True)


def _with_learning_rate(cell: Cell, records: dict[str, Record]) -> Cell:
    cell, reached = lr_search.chosen(cell, records)
    return replace(cell, options={**cell.options, "lr_reached": reached})


def _all(
    cells: Sequence[Cell], ensure: Ensure, engine: Engine, progress: Progress, phase: str
) -> dict[str, Record]:
    """`ensure` each cell; records by the id of the run, or of the cost. What another controller is at is waited
    for, not done twice."""
    progress.begin(phase, len(cells))
    found: dict[str, Record] = {}
    try:
        left = []
        for cell in cells:
            record = ensure.found(cell)
            if record is None:
                left.append(cell)
            else:
                _note(found, ensure, cell, record, progress)
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


def _note(found: dict[str, Record], ensure: Ensure, cell: Cell, record: Record, progress: Progress) -> None:
    found[ensure.path(cell).parent.name] = record
    progress.ended(cell, record)
    if record["status"] == FAILED and cell.options["sweep"]["fail_fast"]:
        kill_all()
        raise RunFailed(f"sweep.fail_fast: {cell.label}, seed {cell.config['seed']}: {record['reason']}")


def write_manifest(cells: Sequence[Cell], searched: Iterable[Cell], more: bool) -> None:
    """What their sweep consists of, which is what its tables show, holes included; and its learning rates' search.

    more: besides what it consisted of before.
    """
    sweep, path = cells[0].options["sweep"], manifest_path(cells[0].runs, cells[0].options["sweep"]["name"])
    before = recorded(path) or {}
    content = {"schema": SCHEMA, "name": sweep["name"], "note": sweep["note"]}
    for part, members in (("runs", cells), ("search", searched)):
        entries = {entry["id"]: entry for entry in (before.get(part, ()) if more else ())}
        for header in (cell.header() for cell in members):
            entries[header["id"]] = {key: header[key] for key in MANIFEST_KEYS}
        content[part] = list(entries.values())
    write_json(path, content)


def _outcome(cell: Cell, record: Record) -> str:
    """The lines that a single run ends with."""
    if record["status"] != DONE:
        return f"{record['status']}: {cell.folder}"
    figures = "  ".join(f"{k} {v:.5g}" for k, v in record["test"].items() if isinstance(v, int | float))
    control = f"{said}\n" if (said := control_note(record)) else ""
    return (
        f"{record['task']} on {record['data']}, tying {record['tying']}, seed {record['seed']}: "
        f"{record['num_params']:,} of {record['num_params_untied']:,} parameters\n"
        f"{control}"
        f"test  {figures}  (epoch {record['best_epoch']:.3g} of {record['epochs']}, chosen on validation)\n"
        f"record: {cell.folder / 'record.json'}"
    )
