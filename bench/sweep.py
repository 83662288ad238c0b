"""The controller: what is recorded is not run again, the rest runs in processes of its own. Imports no torch."""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bench import lr_search, machine
from bench.cell import Cell, from_hydra
from bench.errors import BadInput
from bench.launch import kill_all, preload, run_process
from bench.progress import Progress
from bench.records import (
    DONE,
    FAILED,
    NOT_APPLICABLE,
    SCHEMA,
    cost_folder,
    manifest_path,
    recorded,
    write_bytes_atomic,
    write_json,
)
from bench.worker import CONFIG, REQUEST

Record = dict[str, Any]


class RunFailed(Exception):
    """A single run that was asked for did not finish; the command line says why and exits with 1."""


def control(cfg: DictConfig) -> float | None:
    """Hydra's task function: one cell, run or found; returns its headline metric on validation."""
    cell = from_hydra(cfg)
    for key in cell.unused:
        print(f"note: {key} is not used by tying={cell.label}")
    (cell,), (record,) = conduct([cell], workers=1)
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


def conduct(cells: Sequence[Cell], workers: int) -> tuple[list[Cell], list[Record]]:
    """Run what is not recorded of `cells`, `workers` at once, after their costs were measured, each alone.

    Returns the cells with their learning rates settled, and their records, in the order asked. A sweep with a name
    of its own leaves a manifest of what it consists of.
    """
    preload(_architectures(cells))
    with Progress() as progress:
        costs = {cell.cost: cell for cell in cells}
        _all(list(costs.values()), 1, ensure_cost, progress, "measuring cost")
        cells = _with_learning_rates(cells, workers, progress)
        if cells[0].options["sweep"]["name"]:
            write_manifest(cells)
        unique = list({cell.id: cell for cell in cells}.values())
        records = _all(unique, workers, ensure_run, progress, "training")
    return list(cells), [records[cell.id] for cell in cells]


def _with_learning_rates(cells: Sequence[Cell], workers: int, progress: Progress) -> list[Cell]:
    wanted = {c.id: c for cell in cells for c in lr_search.candidates(cell)}
    if not wanted:
        return list(cells)
    records = _all(list(wanted.values()), workers, ensure_run, progress, "choosing learning rates")
    settled = []
    for cell in cells:
        cell, reached = lr_search.chosen(cell, records)
        settled.append(replace(cell, options={**cell.options, "lr_reached": reached}))
    return settled


def _all(
    cells: Sequence[Cell], workers: int, ensure: Callable[[Cell], Record], progress: Progress, phase: str
) -> dict[str, Record]:
    """`ensure` each cell, `workers` at a time; records by the cell's id."""
    progress.begin(phase, len(cells), workers)

    def watched(cell: Cell) -> Record:
        progress.started(cell)
        record = ensure(cell)
        progress.ended(cell, record)
        return record

    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(watched, cell) for cell in cells]
            return {cell.id: future.result() for cell, future in zip(cells, futures, strict=True)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            kill_all()
            raise


def ensure_run(cell: Cell) -> Record:
    return _ensure(cell, cell.folder, "record.json", "bench.run")


def ensure_cost(cell: Cell) -> Record:
    return _ensure(cell, cost_folder(cell.runs, cell.cost), "cost.json", "bench.cost")


def _ensure(cell: Cell, folder: Path, name: str, module: str) -> Record:
    """The record at `folder/name`; where there is none, a fresh process makes it."""
    found = recorded(folder / name)
    if found is not None and not (found["status"] == FAILED and cell.options["retry"]):
        return found
    if found is not None:  # failed before; no other file is removed: another controller may just have made it
        (folder / name).unlink(missing_ok=True)
    _freeze(cell, folder)
    code = run_process(module, folder, cell.config["trainer"]["threads"])
    found = recorded(folder / name)
    if found is None:
        found = {**_request(cell), "config": cell.config, "status": FAILED, "reason": _death(code, folder)}
        write_json(folder / name, found)
    return found


def _architectures(cells: Sequence[Cell]) -> list[str]:
    """The modules of the `transformers` architectures among the cells: each takes seconds to import."""
    names = {cell.config["model"].get("architecture") for cell in cells} - {None}
    return [f"transformers.models.{name}.modeling_{name}" for name in names]


def _freeze(cell: Cell, folder: Path) -> None:
    """Write down what will run, before it does: edits to conf/ during a sweep change nothing."""
    write_json(folder / REQUEST, _request(cell))
    write_bytes_atomic(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(cell.config)).encode())
    write_bytes_atomic(folder / "env", machine.installed().encode())


def _request(cell: Cell) -> Record:
    return {
        **cell.header(),
        "logger": cell.options["logger"],
        "sweep": cell.options["sweep"]["name"] or "single",
        "lr_search": cell.options.get("lr_reached"),
        "provenance": {**machine.provenance(), "threads": cell.config["trainer"]["threads"]},
    }


def _death(code: int, folder: Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"the process ended with exit code {code} and left no record; see {folder / 'log'}"


def write_manifest(cells: Sequence[Cell]) -> None:
    """What their sweep consists of, which is what its tables show: holes included."""
    sweep, runs = cells[0].options["sweep"], cells[0].runs
    keys = ("id", "task", "data", "tying", "dropout", "weight_decay", "seed", "cell", "cost", "metric")
    entries = [{key: header[key] for key in keys} for header in (cell.header() for cell in cells)]
    unique = list({entry["id"]: entry for entry in entries}.values())
    content = {"schema": SCHEMA, "name": sweep["name"], "note": sweep["note"], "runs": unique}
    write_json(manifest_path(runs, sweep["name"]), content)


def _outcome(cell: Cell, record: Record) -> str:
    """The lines that a single run ends with."""
    if record["status"] != DONE:
        return f"{record['status']}: {cell.folder}"
    figures = "  ".join(f"{k} {v:.5g}" for k, v in record["test"].items() if isinstance(v, int | float))
    return (
        f"{record['task']} on {record['data']}, tying {record['tying']}, seed {record['seed']}: "
        f"{record['num_params']:,} of {record['num_params_untied']:,} parameters\n"
        f"test  {figures}  (epoch {record['best_epoch']:.3g} of {record['epochs']}, chosen on validation)\n"
        f"record: {cell.folder / 'record.json'}"
    )
