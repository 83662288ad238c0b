"""The effective number of parameters of a table's cells, where one of them is softly tied."""

from collections.abc import Iterable

from bench.report.cells import Cell
from bench.report.numbers import fixed, short_count

EFFECTIVE = (
    "Effective parameters: a softly tied group counts as numel x (tr G)^2 / tr(G^2), G the inner products of its n "
    "copies, which is n where they are orthogonal and of one norm and 1 where they are equal. Unlike norms lower it "
    "even without a penalty. Of the weights that validation chose, a mean over seeds."
)


def has_effective(cells: Iterable[Cell]) -> bool:
    """Whether one of them is recorded as of fewer than its unique parameters, as soft tying alone is."""
    return any((count := effective(cell)) is not None and count < cell.count("num_params") for cell in cells)


def effective(cell: Cell) -> float | None:
    """Mean over seeds; None where no run of it recorded one."""
    found = cell.over_seeds("effective_params")
    return None if found is None else found.mean


def effective_text(cell: Cell) -> str:
    """In full; a dash where it was not recorded, nothing for a hole."""
    return fixed(effective(cell), 0) if cell.done else ""


def effective_short(cell: Cell) -> str:
    """At three digits and in percent of the untied parameters."""
    count, untied = effective(cell), cell.count("num_params_untied")
    if count is None or not untied:
        return fixed(None, 0)
    return f"{short_count(count)} {100 * count / untied:.0f}%"
