"""A row per run: what became of it, and the command that runs it again."""

import shlex

from bench.report.cells import SAID, Cell, Section
from bench.report.markup import Table
from bench.report.numbers import NOTHING, axis, fixed, metric_places
from bench.report.rows import Run, is_finite

COMMAND = "command"
PROGRAM = "python -m bench"
NOT_RECORDED = "its overrides are not recorded"


def runs_table(section: Section) -> Table:
    """In table order, holes included; the last column is the command, the one before it why there is no number."""
    metric = section.metric
    values = [value for cell in section.cells for value in cell.metric().values()]
    scale = 100 if metric.is_share else 1
    decimals = metric_places([scale * value for value in values], metric)

    def score(run: Run, split: str) -> str:
        value = run.number(split, metric.name)
        return fixed(scale * value, decimals) if run.is_done and is_finite(value) else NOTHING

    def row(cell: Cell, run: Run) -> list[str]:
        seconds = run.number("seconds", "total")
        return [
            cell.tying,
            axis(cell.dropout),
            axis(cell.weight_decay),
            str(run.seed),
            SAID.get(run.status, run.status),
            score(run, "test"),
            score(run, "val"),
            fixed(seconds, 1) if is_finite(seconds) else NOTHING,
            run.reason or "",
            command(run),
        ]

    name = metric.label.removeprefix("test ")
    header = ["tying", "dropout", "weight decay", "seed", "status", f"test\n{name}", f"validation\n{name}"]
    table = Table(
        [*header, "seconds", "reason", COMMAND],
        "lrrrlrrrll",
        [row(cell, run) for cell in section.cells for run in cell.runs],
    )
    said = any(run.reason for run in section.runs)
    return table if said else table.columns(c for c, head in enumerate(table.header) if head != "reason")


def command(run: Run) -> str:
    """`python -m bench task=... tying=... seed=...`: what was asked for, for a shell in the repository.

    A record that was made before overrides were recorded has no command.
    """
    overrides = run.record.get("overrides")
    if overrides is None:
        return NOT_RECORDED
    return shlex.join([*PROGRAM.split(), *overrides])
