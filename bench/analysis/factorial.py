"""Estimate what tying, dropout and weight decay do together in a section, by contrasts within each seed."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from bench.analysis.comparison import vs_untied
from bench.analysis.groups import SAID, Section, SeedGroup, in_order
from bench.analysis.runs import WORST, Metric
from bench.analysis.statistics import ENOUGH, SIGNIFICANCE, TOO_FEW, holm, paired

MOST_NAMED = 6
"""So many cells or runs of one sort are named in a line; the rest are counted."""
MOST_EFFECTS = 250
"""A table has so many effects at most: nobody reads more."""

ADDS_UP = "adds up, as far as is shown"
REPLACES = "they replace each other"
REINFORCES = "they reinforce each other"
BETTER, WORSE = "together better than their sum", "together worse than their sum"
EQUAL = "equal at all seeds: nothing to judge by"

Term = tuple[str | None, float | None, float | None]
"""A tying, a dropout and a weight decay away from the reference; None on an axis that stands at the reference."""
Place = tuple[str, float, float]
"""A tying, a dropout, a weight decay."""
Responses = Mapping[Place, Mapping[int, float]]
"""Cell -> seed -> response."""


class Effect(NamedTuple):
    """An estimate over seeds; `parts` are what interacts, a tying, if there is one, first.

    low, high: its 95 % interval. p: of no effect. All three are None where fewer than two seeds have its cells, and
    where all seeds say the same. n: how many seeds have all its cells. asked: how many seeds were asked for. lost: at
    how many of them a run diverged, failed or gave no finite number. p_holm: p after Holm's correction over all effects
    of the table.
    """

    parts: tuple[str, ...]
    estimate: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    asked: int
    lost: int = 0
    tying: str | None = None
    reading: str = ""
    p_holm: float | None = None

    @property
    def term(self) -> str:
        return " x ".join(self.parts)

    @property
    def is_shown(self) -> bool:
        """Whether it is not 0, corrected for all effects of the table."""
        return self.p_holm is not None and self.p_holm < SIGNIFICANCE


@dataclass(frozen=True)
class Factorial:
    """The effects of a section.

    n: how many runs they are made of. seeds: those runs' seeds. response: what they are of, with its unit. metric: what
    the runs are scored by. reference: the cell that every effect starts from. within: tying -> the main effects of the
    regularisers under it, in the order in which `effects` has them under `none`. left_out: a line per tying that has no
    effects here, and one for the runs that are missing.
    """

    effects: list[Effect]
    n: int
    seeds: list[int]
    response: str
    metric: Metric
    reference: str
    within: dict[str, list[Effect]]
    left_out: list[str]


class Grid(NamedTuple):
    """The levels of the three axes, the reference first, and the cells at (tying, dropout, weight decay)."""

    tyings: list[str]
    dropouts: list[float]
    decays: list[float]
    cells: dict[Place, SeedGroup]

    @property
    def terms(self) -> list[Term]:
        """Main effects first, then what two and three axes do together; within these the tyings' first."""
        levels = product([None, *self.tyings[1:]], [None, *self.dropouts[1:]], [None, *self.decays[1:]])
        terms = [term for term in levels if _order(term)]
        return sorted(terms, key=lambda term: (_order(term), [level is None for level in term]))

    @property
    def reference(self) -> Place:
        return self.tyings[0], self.dropouts[0], self.decays[0]

    def without(self, tyings: Container[str]) -> "Grid":
        """Return the grid of the other tyings."""
        kept = [tying for tying in self.tyings if tying not in tyings]
        cells = {place: cell for place, cell in self.cells.items() if place[0] in kept}
        return self._replace(tyings=kept, cells=cells)

    def contrast(self, term: Term, under: str = "none") -> tuple[list[Place], list[Place]]:
        """Return the cells that a term adds, and those that it subtracts.

        For one axis it is the difference to the reference, for two the difference of two differences, and so on: a cell
        is added where an even number of the term's axes stand at the reference.

        Args:
            under: The tying that stands at the reference of the tyings.
        """
        levels = zip(term, (under, *self.reference[1:]), strict=True)
        sides: tuple[list[Place], list[Place]] = ([], [])
        for cell in product(*((start,) if level is None else (level, start) for level, start in levels)):
            at_reference = sum(level not in (None, its) for level, its in zip(term, cell, strict=True))
            sides[at_reference % 2].append(cell)
        return sides

    def empty(self, tying: str) -> list[tuple[float, float]]:
        """Return dropout and weight decay of the cells in which the tying has no number."""
        settings = product(self.dropouts, self.decays)
        cells = {setting: self.cells.get((tying, *setting)) for setting in settings}
        return [setting for setting, cell in cells.items() if cell is None or not response(cell)]


def grid(section: Section) -> Grid:
    """Return the grid of every tying that is no control."""
    cells = section.without_controls
    return Grid(
        list(in_order(cells)),
        sorted({cell.dropout for cell in cells}),
        sorted({cell.weight_decay for cell in cells}),
        {(cell.tying, cell.dropout, cell.weight_decay): cell for cell in cells},
    )


def response(cell: SeedGroup) -> dict[int, float]:
    """Return seed -> the value that the effects are of: what seeds are compared by, a share in percent."""
    scale = 100 if cell.runs[0].metric.is_share else 1
    return {seed: value * scale for seed, value in cell.compared.items()}


@lru_cache(maxsize=256)
def factorial(section: Section) -> Factorial | str:
    """Estimate what tying, dropout, weight decay and all their interactions do; or say why not.

    The response is the test metric, shares in percentage points; for a perplexity it is the test loss in nats,
    its logarithm, on which factors add. Runs of one seed are alike, so the unit is the seed: each effect is a contrast
    of cells that is taken within every seed that has them all, and its 95 % Student t interval is over these seeds
    (a within-subject contrast: Maxwell and Delaney 2004, Designing Experiments, ch. 11 to 13). That of a tying is thus
    the paired difference. Coding is by treatment: the reference is `none` at the least dropout and weight decay, and an
    effect holds at the reference of the axes it does not name. A tying with an empty cell is left out and named.

    Returns:
        The effects, or one line with the reason why there are none.
    """
    whole = grid(section)
    if len(whole.tyings) < 2:
        return f"no factorial: {whole.tyings[0] if whole.tyings else 'a control'} is the only tying"
    if len(whole.dropouts) * len(whole.decays) < 2:
        return "no factorial: one dropout and one weight decay, so that nothing can interact with the tying"
    if "none" not in whole.tyings:
        return "no factorial: `none` was not run, and every effect is a difference to it"
    if empty := whole.empty("none"):
        return f"no factorial yet: `none` has no finished run at {_listed(map(_place, empty), 'cells')}"
    left_out = {tying: _why_left_out(whole, tying) for tying in whole.tyings if whole.empty(tying)}
    kept = whole.without(left_out)
    responses = {place: response(cell) for place, cell in kept.cells.items()}
    apart = [term for term in kept.terms if not _seeds(responses, kept.contrast(term))]
    if unshared := [term for term in apart if term[0] is None]:
        return (
            f"no factorial: no seed has a finished run in every cell of `{' x '.join(_parts(unshared[0]))}`"
        )
    left_out |= {
        term[0]: f"no seed has a finished run in every cell of {term[0]} and `none`" for term in apart
    }
    used, reasons = whole.without(left_out), [left_out[tying] for tying in whole.tyings if tying in left_out]
    if len(used.tyings) < 2:
        return f"no factorial: no tying but `none` has a finished run in every cell ({'; '.join(reasons)})"
    if (count := len(used.terms)) > MOST_EFFECTS:
        return f"no factorial: {len(used.tyings)} tyings make {count} effects, more than the {MOST_EFFECTS} of a table"
    return _estimated(section, used, {place: responses[place] for place in used.cells}, reasons)


def _estimated(section: Section, used: Grid, responses: Responses, left_out: list[str]) -> Factorial | str:
    effects = [_effect(used, responses, term) for term in used.terms]
    seeds = sorted({seed for values in responses.values() for seed in values})
    if len(seeds) < 2:
        return f"no factorial: one seed ({seeds[0]}) says nothing about chance; it takes two"
    if all(effect.n < 2 for effect in effects):
        return "no factorial: no effect has two seeds with a finished run in all its cells"
    if all(effect.low == effect.high for effect in effects):
        return "no factorial: the seeds of a cell differ in nothing, so that there is no chance to judge by"
    alone = [term for term in used.terms if term[0] is None and _order(term) == 1]
    within = {
        tying: [_effect(used, responses, term, under=tying) for term in alone] for tying in used.tyings[1:]
    }
    return Factorial(
        effects=_read(section, used, effects),
        n=sum(map(len, responses.values())),
        seeds=seeds,
        response=_response_name(section),
        metric=section.metric,
        reference=f"none, {_place(used.reference[1:])}",
        within=within,
        left_out=left_out + _runs_without_a_number(used),
    )


def _effect(used: Grid, responses: Responses, term: Term, under: str = "none") -> Effect:
    """Estimate a term over the seeds that have all its cells; `under` stands at the reference of the tyings."""
    sides = used.contrast(term, under)
    shared = _seeds(responses, sides)
    plus, minus = (
        {seed: math.fsum(responses[cell][seed] for cell in side) for seed in shared} for side in sides
    )
    difference = paired(plus, minus)
    ends = (None, None) if difference.p is None else (difference.low, difference.high)
    numbers = [difference.mean, *ends, difference.p]
    # At ten digits: those after them depend on the machine.
    rounded = (None if number is None else float(f"{number:.10g}") for number in numbers)
    runs = [run for side in sides for cell in side for run in used.cells[cell].runs]
    lost = {run.seed for run in runs if run.status in WORST}
    tying = term[0] or (None if under == "none" else under)
    parts = _parts((tying, *term[1:]))
    return Effect(parts, *rounded, difference.n, len({run.seed for run in runs}), len(lost), tying)


def _seeds(responses: Responses, sides: tuple[list[Place], list[Place]]) -> list[int]:
    """Return the seeds that have a number in every cell of a contrast."""
    return sorted(set.intersection(*(set(responses[cell]) for side in sides for cell in side)))


def _parts(term: Term) -> tuple[str, ...]:
    tying, dropout, decay = term
    parts = [tying] if tying is not None else []
    parts += [f"dropout {dropout:.15g}"] if dropout is not None else []
    parts += [f"weight decay {decay:.15g}"] if decay is not None else []
    return tuple(parts)


def _read(section: Section, used: Grid, effects: list[Effect]) -> list[Effect]:
    """Give each effect its corrected p and its reading, that of a tying alone from the section's verdicts."""
    sign, verdicts = 1 if section.metric.higher_is_better else -1, _verdicts(section, used)
    tested = [effect.term for effect in effects if effect.p is not None]
    corrected = dict(zip(tested, holm([effect.p for effect in effects if effect.p is not None]), strict=True))
    known = [effect._replace(p_holm=corrected.get(effect.term)) for effect in effects]
    by_term = dict(zip(used.terms, known, strict=True))
    read = []
    for term, effect in by_term.items():
        axes = [axis for axis, level in enumerate(term) if level is not None]
        alone = [tuple(level if axis == kept else None for axis, level in enumerate(term)) for kept in axes]
        main = [by_term[part] for part in alone] if len(axes) > 1 else []
        text = verdicts.get(effect.term) if effect.p is not None and not effect.lost else None
        read.append(effect._replace(reading=text or reading(effect, main, sign)))
    return read


def _verdicts(section: Section, used: Grid) -> dict[str, str]:
    """Return what the table of differences says of each tying at the reference: it is the same contrast."""
    at_reference = {used.cells[tying, *used.reference[1:]]: tying for tying in used.tyings[1:]}
    rows = {at_reference[row.cell]: row for row in vs_untied(section) if row.cell in at_reference}
    return {
        tying: str(replace(row.verdict, qualifiers=())) for tying, row in rows.items() if row.p is not None
    }


def reading(effect: Effect, main: Sequence[Effect], sign: int) -> str:
    """Say what an effect shows.

    Where two interact, only a gain can be replaced or reinforced. Where neither is shown to gain, their joint effect is
    compared with their sum alone.

    Args:
        main: the main effects of what interacts; empty for a main effect.
        sign: 1 where a higher response is better, -1 where a lower one is.
    """
    if effect.lost:
        return f"not judged: {effect.lost} of {effect.asked} seeds diverged or failed"
    if effect.n < 2:
        return TOO_FEW
    if effect.p is None:
        return EQUAL
    word = _word(effect, main, sign)
    return word if effect.n >= ENOUGH else f"{word} ({TOO_FEW})"


def _word(effect: Effect, main: Sequence[Effect], sign: int) -> str:
    is_good = sign * effect.estimate > 0
    if not main:
        return ("better" if is_good else "worse") if effect.is_shown else "no difference shown"
    if len(main) > 2:
        if not effect.is_shown:
            return "no change of the interaction shown"
        return f"the interaction changes for the {'better' if is_good else 'worse'}"
    if not effect.is_shown:
        return ADDS_UP
    if any(part.is_shown and sign * part.estimate > 0 for part in main):
        return REINFORCES if is_good else REPLACES
    return BETTER if is_good else WORSE


def _order(term: Term) -> int:
    """Return on how many axes a term is away from the reference."""
    return sum(level is not None for level in term)


def _response_name(section: Section) -> str:
    metric = section.metric
    if metric.name == "perplexity":
        return "test loss (nats per token, the logarithm of perplexity)"
    return f"test {metric.name.replace('_', ' ')}" + (" (percentage points)" if metric.is_share else "")


def _place(setting: tuple[float, float]) -> str:
    return f"dropout {setting[0]:.15g}, weight decay {setting[1]:.15g}"


def _why_left_out(whole: Grid, tying: str) -> str:
    if all(cell.is_not_applicable for (name, *_), cell in whole.cells.items() if name == tying):
        return f"{tying} is not applicable"
    empty = whole.empty(tying)
    is_all = len(empty) == len(whole.dropouts) * len(whole.decays)
    where = "in any cell" if is_all else f"at {_listed(map(_place, empty), 'cells')}"
    return f"{tying} has no finished run {where}"


def _runs_without_a_number(used: Grid) -> list[str]:
    """Return a line that names the runs of the grid's tyings that gave no number; [] where all did."""
    runs = [
        f"{tying} at {_place(setting)}, seed {run.seed} ({SAID.get(run.status, run.status)})"
        for (tying, *setting), cell in used.cells.items()
        if tying in used.tyings
        for run in cell.runs
        if run.seed not in response(cell)
    ]
    return [f"runs without a number: {_listed(runs, 'runs')}"] if runs else []


def _listed(items: Any, noun: str) -> str:
    names = list(items)
    more = [f"{len(names) - MOST_NAMED} more {noun}"] if len(names) > MOST_NAMED else []
    return " and ".join(names[:MOST_NAMED] + more)
