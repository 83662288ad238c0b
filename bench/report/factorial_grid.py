"""The grid tying x dropout x weight decay of a section: its levels, its terms, and where it has holes."""

from itertools import product
from typing import NamedTuple

from bench.report.cells import SAID, Cell, Section, in_order
from bench.report.numbers import axis

NAMED = 6
"""So many cells or runs of one sort are named in a line; the rest are counted."""

Term = tuple[str | None, float | None, float | None]
"""What stands away from the reference: a tying, a dropout, a weight decay; None on the axes that do not."""


class Grid(NamedTuple):
    """The levels of the three axes, the reference first, and the cells at (tying, dropout, weight decay)."""

    tyings: list[str]
    dropouts: list[float]
    decays: list[float]
    cells: dict[tuple[str, float, float], Cell]

    @property
    def terms(self) -> list[Term]:
        """Main effects first, then what two and three axes do together; within these the tyings' first."""
        levels = product([None, *self.tyings[1:]], [None, *self.dropouts[1:]], [None, *self.decays[1:]])
        order = {at: (sum(given(at)), [level is None for level in at]) for at in levels if any(given(at))}
        return sorted(order, key=lambda term: order[term])

    def empty(self, tying: str) -> list[tuple[float, float]]:
        """Dropout and weight decay of the cells in which the tying has no number."""
        found = {at: self.cells.get((tying, *at)) for at in product(self.dropouts, self.decays)}
        return [at for at, cell in found.items() if cell is None or not response(cell)]


def grid(section: Section) -> Grid:
    """Of every tying that is no control."""
    plain = [cell for cell in section.cells if cell.spec.control is None]
    cells = {(cell.tying, cell.dropout, cell.weight_decay): cell for cell in plain}
    tyings = list(in_order(plain))
    return Grid(tyings, sorted({at[1] for at in cells}), sorted({at[2] for at in cells}), cells)


def given(term: Term) -> list[bool]:
    return [level is not None for level in term]


def response(cell: Cell) -> dict[int, float]:
    """Seed -> what the model is fitted to: the loss of a perplexity, a share in percent, other metrics as they are."""
    metric = cell.runs[0].metric
    if metric.name == "perplexity":
        return cell.values("test", "nll")
    return {seed: value * (100 if metric.is_share else 1) for seed, value in cell.metric().items()}


def place(dropout: float, decay: float) -> str:
    return f"dropout {axis(dropout)}, weight decay {axis(decay)}"


def places(at: list[tuple[float, float]]) -> str:
    return _some([place(*each) for each in at], "cells")


def without(found: Grid, tying: str) -> str:
    """Why a tying cannot be fitted."""
    cells = [cell for (name, _, _), cell in found.cells.items() if name == tying]
    if all(cell.is_not_applicable for cell in cells):
        return f"{tying} is not applicable"
    empty = found.empty(tying)
    where = "in any cell" if len(empty) == len(found.dropouts) * len(found.decays) else f"at {places(empty)}"
    return f"{tying} has no finished run {where}"


def missing(found: Grid) -> str:
    """The runs of the grid's tyings that gave no number; empty where all did."""
    said = [
        f"{at[0]} at {place(*at[1:])}, seed {run.seed} ({SAID.get(run.status, run.status)})"
        for at, cell in found.cells.items()
        if at[0] in found.tyings
        for run in cell.runs
        if run.seed not in response(cell)
    ]
    return f"runs without a number: {_some(said, 'runs')}" if said else ""


def _some(said: list[str], what: str) -> str:
    if len(said) > NAMED:
        return " and ".join([*said[:NAMED], f"{len(said) - NAMED} more {what}"])
    return " and ".join(said)
