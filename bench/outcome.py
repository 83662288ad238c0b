"""What a single run ends with in the terminal. Imports no torch."""

from typing import Any

from bench.cell import Cell
from bench.records import Status
from bench.report.control import control_note

Record = dict[str, Any]


def outcome(cell: Cell, record: Record) -> str:
    """Its lines: the headline figures of a finished run, where it lies of another."""
    if record["status"] != Status.DONE:
        return f"{record['status']}: {cell.folder}"
    figures = "  ".join(f"{k} {v:.5g}" for k, v in record["test"].items() if isinstance(v, int | float))
    control = f"{said}\n" if (said := control_note(record)) else ""
    return (
        f"{record['task']} on {record['data']}, tying {record['tying']}, seed {record['seed']}: "
        f"{record['num_params']:,} of {record['num_params_untied']:,} parameters\n"
        f"{control}{_begun(record)}"
        f"test  {figures}  (epoch {record['best_epoch']:.3g} of {record['epochs']}, chosen on validation)\n"
        f"record: {cell.folder / 'record.json'}"
    )


def _begun(record: Record) -> str:
    """What was found out or trained before the run, a line each."""
    lines = []
    if record.get("learned_from"):
        labels = " ".join(map(str, record["config"]["tying"]["grouping"]))
        lines.append(f"groups of blocks: {labels}, learned from run {record['learned_from']}\n")
    if record.get("start"):
        reached = record["start"]["test"][record["metric"]["name"]]
        lines.append(
            f"started from run {record['start']['run']}: test {record['metric']['name']} {reached:.5g}\n"
        )
    return "".join(lines)
