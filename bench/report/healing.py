"""Say what tying, or leaving a block out, does to a trained model at once, and what of it training heals."""

from bench.analysis.groups import Section, SeedGroup
from bench.analysis.runs import percent
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import fixed, interval_text, short_count
from bench.runs.tying_spec import Part

TITLE = "Before and after healing"
NOTES = (
    "At once: the test metric of the trained model as it is tied, or with blocks left out (control=delete), before any "
    "step. Healed: after the training of this sweep. To delete: the healed metric less that of leaving out the blocks "
    "that the same tie makes copies of others, paired by seed, with its 95 % t interval. Means over seeds.",
    "Either has as many parameters, but for norms and biases. A block that is left out saves its time too, and a tied "
    "one does not: deleting is the baseline that a tie must beat.",
)


def healing_table(section: Section) -> Table | None:
    """Make a row per cell that begins from a trained model; None where none does."""
    cells = [cell for cell in section.cells if at_once(cell) is not None]
    if not cells:
        return None
    deleted = {_base(cell): cell for cell in cells if cell.spec.control == "delete"}
    scale, decimals = (100, 1) if section.metric.is_share else (1, 3)

    def shown(value: float | None) -> str:
        return fixed(None if value is None else scale * value, decimals)

    def to_delete(cell: SeedGroup) -> str:
        other = deleted.get(_base(cell)) if cell.spec.control is None else None
        return interval_text(percent(section.difference(cell, other), section.metric), decimals, sign=True)

    columns = [
        Column("parameters", lambda cell: short_count(cell.over_seeds("num_params").mean)),
        Column("at once", lambda cell: shown(at_once(cell))),
        Column("healed", lambda cell: shown(_healed(cell))),
        Column("to delete\n[95 %]", to_delete),
    ]
    return tabulate(["tying"], [[cell.tying] for cell in cells], columns, cells)


def _base(cell: SeedGroup) -> tuple[Part, ...]:
    """Return which blocks are made one, however they are merged."""
    return tuple(part.without("merge") for part in cell.spec.parts)


def at_once(cell: SeedGroup) -> float | None:
    """Return the mean test metric before any step of training; None where no trained model was begun from."""
    if not any(run.number("start", "model") for run in cell.done):
        return None
    estimate = cell.over_seeds("start", "test", cell.runs[0].metric.name)
    return estimate and estimate.mean


def _healed(cell: SeedGroup) -> float:
    return cell.metric_over_seeds("test").mean
