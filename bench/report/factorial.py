"""Fit and show tying x dropout x weight decay of a section as a linear model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.groups import SAID, Section, SeedGroup, in_order
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import axis, bounded, fixed, p_text, places

if TYPE_CHECKING:
    import numpy as np


ADDS_UP = "adds up, as far as is shown"
REPLACES = "they replace each other"
REINFORCES = "they reinforce each other"
BETTER, WORSE = "together better than their sum", "together worse than their sum"


class Effect(NamedTuple):
    """An estimate with its 95 % interval and p-value; `parts` are what interacts, a tying, if there is one, first."""

    parts: tuple[str, ...]
    estimate: float
    low: float
    high: float
    p: float
    reading: str
    tying: str | None = None

    @property
    def term(self) -> str:
        return " x ".join(self.parts)

    @property
    def is_shown(self) -> bool:
        """The interval leaves out 0."""
        return self.low > 0 or self.high < 0


def one_way(effect: Effect, parts: Sequence[Effect], sign: int) -> str:
    """`sign` is 1 where a higher response is better, -1 where a lower one is; a main effect has no `parts`."""
    if not effect.is_shown:
        return "no difference shown"
    return "better" if sign * effect.estimate > 0 else "worse"


def two_way(effect: Effect, parts: Sequence[Effect], sign: int) -> str:
    """`parts` are the two main effects: what the interaction adds to, or takes from, their sum.

    Only a gain can be replaced or reinforced: where neither of the two is shown to gain, their sum is all there
    is to compare with.
    """
    if not effect.is_shown:
        return ADDS_UP
    gains = any(part.is_shown and sign * part.estimate > 0 for part in parts)
    if sign * effect.estimate > 0:
        return REINFORCES if gains else BETTER
    return REPLACES if gains else WORSE


def three_way(effect: Effect, parts: Sequence[Effect], sign: int) -> str:
    if not effect.is_shown:
        return "no change of the interaction shown"
    return "the interaction changes for the " + ("better" if sign * effect.estimate > 0 else "worse")


def answer(what: str, tying: str, alone: list[Effect], within: list[Effect], both: list[Effect]) -> str:
    """One line: what each regulariser does to `what` under `none` and under the tying, and how far these differ.

    `alone` are the main effects of the regularisers, `within` their effects under the tying, `both` the
    interactions with it, in one order.
    """
    decimals = max(2, places([size for effect in (*alone, *within, *both) for size in effect[2:4]], 3))
    said = [
        f"{first.term}: {other.reading}; it moves {what} by {interval(first, decimals)} under none and by "
        f"{interval(second, decimals)} under {tying}, a difference of {interval(other, decimals)}"
        for first, second, other in zip(alone, within, both, strict=True)
    ]
    whom = list(dict.fromkeys(first.term.rpartition(" ")[0] for first in alone))
    them = "it" if len(whom) == 1 else "them"
    return f"Does {tying} replace {' and '.join(whom)}, or add to {them}? {'. '.join(said)}."


def interval(effect: Effect, decimals: int) -> str:
    """`+1.20 [+0.80, +1.60]`"""
    return bounded(effect.estimate, effect.low, effect.high, decimals, sign=True)


NAMED = 6
"""So many cells or runs of one sort are named in a line; the rest are counted."""

Term = tuple[str | None, float | None, float | None]
"""What stands away from the reference: a tying, a dropout, a weight decay; None on the axes that do not."""


class Grid(NamedTuple):
    """The levels of the three axes, the reference first, and the cells at (tying, dropout, weight decay)."""

    tyings: list[str]
    dropouts: list[float]
    decays: list[float]
    cells: dict[tuple[str, float, float], SeedGroup]

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


def response(cell: SeedGroup) -> dict[int, float]:
    """Seed -> what the model is fitted to: the loss of a perplexity, a share in percent, other metrics as they are."""
    metric = cell.runs[0].metric
    if metric.name == "perplexity":
        return cell.values("test", "nll")
    return {seed: value * (100 if metric.is_share else 1) for seed, value in cell.metric().items()}


def place(dropout: float, decay: float) -> str:
    return f"dropout {axis(dropout)}, weight decay {axis(decay)}"


def factorial_grid_places(at: list[tuple[float, float]]) -> str:
    return _some([place(*each) for each in at], "cells")


def without(found: Grid, tying: str) -> str:
    """Why a tying cannot be fitted."""
    cells = [cell for (name, _, _), cell in found.cells.items() if name == tying]
    if all(cell.is_not_applicable for cell in cells):
        return f"{tying} is not applicable"
    empty = found.empty(tying)
    where = (
        "in any cell"
        if len(empty) == len(found.dropouts) * len(found.decays)
        else f"at {factorial_grid_places(empty)}"
    )
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


MOST = 250
"""Effects of one fit: nobody reads more, and the time to fit them grows with their square."""


@dataclass(frozen=True)
class Factorial:
    """A fit. `metric` is the response with its unit, `reference` the cell that every effect starts from.

    answers: a line per tying: does it replace the regularisers, or add to them?
    left_out: a line per tying that is not in the fit, and one for the runs that are missing from it.
    """

    effects: list[Effect]
    n: int
    df: int
    metric: str
    reference: str
    answers: list[str]
    left_out: list[str]


@lru_cache(maxsize=256)
def factorial(section: Section) -> Factorial | str:
    """Tying, dropout, weight decay and all their interactions, by ordinary least squares; or why not, in a line.

    The response is the test metric, shares in percentage points; for a perplexity it is the test loss in nats,
    its logarithm, on which factors add. Seeds are blocks. Coding is by treatment: the reference is `none` at the
    least dropout and weight decay, and an effect holds at the reference of the axes it does not name. Intervals
    are 95 % Student t ones. A tying with an empty cell is left out and named.
    """
    found = grid(section)
    if len(found.tyings) < 2:
        return f"no factorial: {found.tyings[0] if found.tyings else 'a control'} is the only tying"
    if len(found.dropouts) * len(found.decays) < 2:
        return "no factorial: one dropout and one weight decay, so that nothing can interact with the tying"
    if "none" not in found.tyings:
        return "no factorial: `none` was not run, and every effect is a difference to it"
    if at := found.empty("none"):
        return f"no factorial yet: `none` has no finished run at {factorial_grid_places(at)}"
    complete = [tying for tying in found.tyings if not found.empty(tying)]
    left_out = [without(found, tying) for tying in found.tyings if tying not in complete]
    if len(complete) < 2:
        return f"no factorial: no tying but `none` has a finished run in every cell ({'; '.join(left_out)})"
    used = found._replace(tyings=complete)
    if (count := len(used.terms)) > MOST:
        return (
            f"no factorial: {len(complete)} tyings make {count} effects, more than the {MOST} that are fitted"
        )
    return _fit(section, used, left_out + ([text] if (text := missing(used)) else []))


def _fit(section: Section, used: Grid, left_out: list[str]) -> Factorial | str:
    runs = [
        (at, seed, value)
        for at, cell in used.cells.items()
        if at[0] in used.tyings
        for seed, value in sorted(response(cell).items())
    ]
    seeds = sorted({seed for _, seed, _ in runs})
    if len(seeds) < 2:
        return f"no factorial: one seed ({seeds[0]}) says nothing about chance; it takes two"
    import numpy as np
    from statsmodels.regression.linear_model import OLS  # a second to import, which only a fit pays
    from threadpoolctl import threadpool_limits

    x = _design(runs, seeds, used.terms)
    y = np.array([value for *_, value in runs])
    # One thread: on busy cores several take ten times as long, and how many they are changes the last digits.
    with threadpool_limits(1):
        if len(y) <= x.shape[1] or np.linalg.matrix_rank(np.linalg.qr(x, mode="r")) < x.shape[1]:
            return (
                f"no factorial: {len(y)} finished runs cannot tell {x.shape[1] - 1} effects and seeds apart"
            )
        fit = OLS(y, x).fit(method="qr")
        # Below that share of the response, what is left is rounding.
        if fit.ssr <= 1e-20 * float(y @ y):
            return (
                "no factorial: the seeds of a cell differ in nothing, so that there is no chance to judge by"
            )
        return _read(section, used, fit, len(seeds), left_out)


def _read(section: Section, used: Grid, fit: Any, before: int, left_out: list[str]) -> Factorial:
    """`before` columns of the design stand before those of the terms."""
    what = _response(section)
    columns = {term: at for at, term in enumerate(used.terms, start=before)}
    effects = _effects(fit, columns, 1 if section.metric.mode == "max" else -1)
    answers = [_answer(what, tying, fit, columns, effects) for tying in used.tyings[1:]]
    reference = f"none, {place(used.dropouts[0], used.decays[0])}"
    return Factorial(
        list(effects.values()), int(fit.nobs), int(fit.df_resid), what, reference, answers, left_out
    )


def _design(runs: list[tuple], seeds: list[int], terms: list[Term]) -> "np.ndarray":
    """[runs, 1 + (seeds - 1) + terms]: 1, the block of the seed, and each term that the run has every part of."""
    import numpy as np

    axes = [np.array(level) for level in zip(*(at for at, *_ in runs), strict=True)]
    of = np.array([seed for _, seed, _ in runs])
    columns = [np.ones(len(runs)), *(of == seed for seed in seeds[1:])]
    for term in terms:
        has = [axis == level for axis, level in zip(axes, term, strict=True) if level is not None]
        columns.append(np.all(has, axis=0))
    return np.column_stack(columns)


def _effects(fit: Any, columns: dict[Term, int], sign: int) -> dict[Term, Effect]:
    """`columns` are those of the design; `sign` is 1 where a higher response is better, else -1."""
    bounds = fit.conf_int()
    found: dict[Term, Effect] = {}
    for term, at in columns.items():
        effect = _effect(term, fit.params[at], *bounds[at], fit.pvalues[at])
        parts = [
            found[_only(term, at_axis)]
            for at_axis, here in enumerate(given(term))
            if here and sum(given(term)) > 1
        ]
        read = {0: one_way, 2: two_way, 3: three_way}[len(parts)]
        found[term] = effect._replace(reading=read(effect, parts, sign))
    return found


def _answer(what: str, tying: str, fit: Any, columns: dict[Term, int], effects: dict[Term, Effect]) -> str:
    """Does the tying replace the regularisers? Their effects under it are sums of two coefficients each."""
    import numpy as np

    alone = [term for term in columns if term[0] is None and sum(given(term)) == 1]
    pairs: list[Term] = [(tying, *term[1:]) for term in alone]
    sums = np.zeros((len(alone), len(fit.params)))
    for row, (term, pair) in enumerate(zip(alone, pairs, strict=True)):
        sums[row, [columns[term], columns[pair]]] = 1
    test = fit.t_test(sums)
    numbers = zip(np.atleast_1d(test.effect), test.conf_int(), np.atleast_1d(test.pvalue), strict=True)
    within = [_effect(pair, mean, *bounds, p) for pair, (mean, bounds, p) in zip(pairs, numbers, strict=True)]
    return answer(what, tying, [effects[term] for term in alone], within, [effects[pair] for pair in pairs])


def _effect(term: Term, *numbers: float) -> Effect:
    """Estimate, low, high and p at ten digits: those after them depend on the machine."""
    return Effect(_names(term), *(float(f"{number:.10g}") for number in numbers), "", term[0])


def _only(term: Term, at_axis: int) -> Term:
    return tuple(level if at == at_axis else None for at, level in enumerate(term))


def _names(term: Term) -> tuple[str, ...]:
    tying, dropout, decay = term
    said = [tying] if tying is not None else []
    said += [f"dropout {axis(dropout)}"] if dropout is not None else []
    said += [f"weight decay {axis(decay)}"] if decay is not None else []
    return tuple(said)


def _response(section: Section) -> str:
    metric = section.metric
    if metric.name == "perplexity":
        return "test loss (nats per token, the logarithm of perplexity)"
    return f"test {metric.name.replace('_', ' ')}" + (" (percentage points)" if metric.is_share else "")


READING = (
    "How to read the effects: an effect is a difference to the reference on the axes it names, at the reference of the "
    "others; an interaction (x) is what two together do beyond the sum of what each does alone. The model is ordinary "
    "least squares on all the runs with seeds as blocks: given its seed, each run counts as independent of the "
    "others, and all cells as spread alike. Intervals are 95 %, each for itself: of twenty effects that are not "
    "there, one is shown by chance. A wide interval that holds 0 shows little: see what else it holds."
)


def effects_table(factorial: Factorial) -> Table:
    """A row per effect: estimate, interval, p and reading."""
    decimals = decimals_of(factorial)
    columns = [
        Column[Effect](
            f"effect on\n{factorial.metric.replace(' (', chr(10) + '(', 1)}",
            lambda effect: fixed(effect.estimate, decimals, sign=True),
        ),
        Column[Effect]("95 % interval", lambda effect: interval(effect, decimals).partition(" ")[2]),
        Column[Effect]("p", lambda effect: p_text(effect.p)),
        Column[Effect]("reading", lambda effect: effect.reading, align="l"),
    ]
    effects = factorial.effects
    return tabulate(["effect"], [[effect.term] for effect in effects], columns, effects)


def reading(factorial: Factorial) -> list[str]:
    """Lines below the table: the main question answered per tying, what is not in the fit, and how to read it."""
    fitted = (
        f"Fitted to {factorial.n} runs with {factorial.df} residual degrees of freedom; reference: "
        f"{factorial.reference}."
    )
    left_out = [f"Not in the fit: {'; '.join(factorial.left_out)}."] if factorial.left_out else []
    return [*factorial.answers, fitted, *left_out, READING]


def csv_rows(section: Section, factorial: Factorial) -> list[dict[str, Any]]:
    """A row per effect, numbers unrounded."""
    about = {
        "task": section.task,
        "data": section.data,
        "fingerprint": section.fingerprint,
        "variant": section.variant,
        "response": factorial.metric,
        "reference": factorial.reference,
        "n_runs": factorial.n,
        "residual_df": factorial.df,
    }
    keys = ("term", "estimate", "low", "high", "p", "reading")
    return [about | {key: getattr(effect, key) for key in keys} for effect in factorial.effects]


def decimals_of(factorial: Factorial) -> int:
    """Decimals at which the median bound of an interval has three digits, two at least."""
    sizes = [size for effect in factorial.effects for size in (effect.low, effect.high)]
    return max(2, places(sizes, 3))
