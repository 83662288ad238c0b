"""Fit tying x dropout x weight decay of a section as a linear model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.groups import SAID, Section, SeedGroup, in_order

if TYPE_CHECKING:
    import numpy as np

MOST_NAMED = 6
"""So many cells or runs of one sort are named in a line; the rest are counted."""
MOST_EFFECTS = 250
"""Effects of one fit: nobody reads more, and the time to fit them grows with their square."""

ADDS_UP = "adds up, as far as is shown"
REPLACES = "they replace each other"
REINFORCES = "they reinforce each other"
BETTER, WORSE = "together better than their sum", "together worse than their sum"

Term = tuple[str | None, float | None, float | None]
"""What stands away from the reference: a tying, a dropout, a weight decay; None on the axes that do not."""


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


@dataclass(frozen=True)
class Factorial:
    """A fit.

    metric: the response with its unit. reference: the cell that every effect starts from. within: tying -> the main
    effects of the regularisers under it, in the order in which `effects` has them under `none`. left_out: a line per
    tying that is not in the fit, and one for the runs that are missing from it.
    """

    effects: list[Effect]
    n: int
    df: int
    metric: str
    reference: str
    within: dict[str, list[Effect]]
    left_out: list[str]


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
        terms = [term for term in levels if _order(term)]
        return sorted(terms, key=lambda term: (_order(term), [level is None for level in term]))

    def empty(self, tying: str) -> list[tuple[float, float]]:
        """Dropout and weight decay of the cells in which the tying has no number."""
        cells = {at: self.cells.get((tying, *at)) for at in product(self.dropouts, self.decays)}
        return [at for at, cell in cells.items() if cell is None or not response(cell)]


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
    """Seed -> what the model is fitted to: the loss of a perplexity, a share in percent, other metrics as they are."""
    metric = cell.runs[0].metric
    if metric.name == "perplexity":
        return cell.values("test", "nll")
    return {seed: value * (100 if metric.is_share else 1) for seed, value in cell.metric().items()}


@lru_cache(maxsize=256)
def factorial(section: Section) -> Factorial | str:
    """Fit tying, dropout, weight decay and all their interactions by ordinary least squares; or say why not.

    The response is the test metric, shares in percentage points; for a perplexity it is the test loss in nats,
    its logarithm, on which factors add. Seeds are blocks. Coding is by treatment: the reference is `none` at the
    least dropout and weight decay, and an effect holds at the reference of the axes it does not name. Intervals
    are 95 % Student t ones. A tying with an empty cell is left out and named.

    Returns:
        The fit, or one line with the reason why there is none.
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
    complete = [tying for tying in whole.tyings if not whole.empty(tying)]
    left_out = [_why_left_out(whole, tying) for tying in whole.tyings if tying not in complete]
    if len(complete) < 2:
        return f"no factorial: no tying but `none` has a finished run in every cell ({'; '.join(left_out)})"
    used = whole._replace(tyings=complete)
    if (count := len(used.terms)) > MOST_EFFECTS:
        return (
            f"no factorial: {len(complete)} tyings make {count} effects, more than the {MOST_EFFECTS} that are "
            "fitted"
        )
    return _fit(section, used, left_out + _runs_without_a_number(used))


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
        columns = {term: column for column, term in enumerate(used.terms, start=len(seeds))}
        return Factorial(
            effects=_effects(fit, columns, 1 if section.metric.higher_is_better else -1),
            n=int(fit.nobs),
            df=int(fit.df_resid),
            metric=_response_name(section),
            reference=f"none, {_place((used.dropouts[0], used.decays[0]))}",
            within={tying: _within(fit, columns, tying) for tying in used.tyings[1:]},
            left_out=left_out,
        )


def _design(runs: list[tuple], seeds: list[int], terms: list[Term]) -> "np.ndarray":
    """[runs, 1 + (seeds - 1) + terms]: 1, the block of the seed, and each term that the run has every part of."""
    import numpy as np

    axes = [np.array(level) for level in zip(*(at for at, *_ in runs), strict=True)]
    seed_of_run = np.array([seed for _, seed, _ in runs])
    columns = [np.ones(len(runs)), *(seed_of_run == seed for seed in seeds[1:])]
    for term in terms:
        has = [axis == level for axis, level in zip(axes, term, strict=True) if level is not None]
        columns.append(np.all(has, axis=0))
    return np.column_stack(columns)


def _effects(fit: Any, columns: dict[Term, int], sign: int) -> list[Effect]:
    """Read the effects from their columns of the design; `sign` is 1 where a higher response is better, else -1."""
    bounds = fit.conf_int()
    effects: dict[Term, Effect] = {}
    for term, column in columns.items():
        effect = _effect(term, fit.params[column], *bounds[column], fit.pvalues[column])
        axes = [axis for axis, level in enumerate(term) if level is not None]
        main = [effects[_only(term, axis)] for axis in axes] if len(axes) > 1 else []
        effects[term] = effect._replace(reading=reading(effect, main, sign))
    return list(effects.values())


def reading(effect: Effect, main: Sequence[Effect], sign: int) -> str:
    """Say what an effect shows.

    Of two that interact: only a gain can be replaced or reinforced. Where neither of the two is shown to gain, their
    sum is all there is to compare with.

    Args:
        main: the main effects of what interacts; empty for a main effect.
        sign: 1 where a higher response is better, -1 where a lower one is.
    """
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


def _within(fit: Any, columns: dict[Term, int], tying: str) -> list[Effect]:
    """The main effects of the regularisers under the tying, each the sum of two coefficients."""
    import numpy as np

    alone = [term for term in columns if term[0] is None and _order(term) == 1]
    pairs: list[Term] = [(tying, *term[1:]) for term in alone]
    sums = np.zeros((len(alone), len(fit.params)))
    for row, (term, pair) in enumerate(zip(alone, pairs, strict=True)):
        sums[row, [columns[term], columns[pair]]] = 1
    test = fit.t_test(sums)
    numbers = zip(np.atleast_1d(test.effect), test.conf_int(), np.atleast_1d(test.pvalue), strict=True)
    return [_effect(pair, mean, *bounds, p) for pair, (mean, bounds, p) in zip(pairs, numbers, strict=True)]


def _effect(term: Term, *numbers: float) -> Effect:
    """Estimate, low, high and p at ten digits: those after them depend on the machine."""
    tying, dropout, decay = term
    parts = [tying] if tying is not None else []
    parts += [f"dropout {dropout:.15g}"] if dropout is not None else []
    parts += [f"weight decay {decay:.15g}"] if decay is not None else []
    return Effect(tuple(parts), *(float(f"{number:.10g}") for number in numbers), "", tying)


def _only(term: Term, axis: int) -> Term:
    return tuple(level if at == axis else None for at, level in enumerate(term))


def _order(term: Term) -> int:
    """How many axes it is away from the reference on."""
    return sum(level is not None for level in term)


def _response_name(section: Section) -> str:
    metric = section.metric
    if metric.name == "perplexity":
        return "test loss (nats per token, the logarithm of perplexity)"
    return f"test {metric.name.replace('_', ' ')}" + (" (percentage points)" if metric.is_share else "")


def _place(at: tuple[float, float]) -> str:
    return f"dropout {at[0]:.15g}, weight decay {at[1]:.15g}"


def _why_left_out(whole: Grid, tying: str) -> str:
    if all(cell.is_not_applicable for (name, *_), cell in whole.cells.items() if name == tying):
        return f"{tying} is not applicable"
    empty = whole.empty(tying)
    is_all = len(empty) == len(whole.dropouts) * len(whole.decays)
    where = "in any cell" if is_all else f"at {_listed(map(_place, empty), 'cells')}"
    return f"{tying} has no finished run {where}"


def _runs_without_a_number(used: Grid) -> list[str]:
    """A line that names the runs of the grid's tyings that gave no number; none where all did."""
    runs = [
        f"{tying} at {_place(at)}, seed {run.seed} ({SAID.get(run.status, run.status)})"
        for (tying, *at), cell in used.cells.items()
        if tying in used.tyings
        for run in cell.runs
        if run.seed not in response(cell)
    ]
    return [f"runs without a number: {_listed(runs, 'runs')}"] if runs else []


def _listed(items: Any, what: str) -> str:
    names = list(items)
    more = [f"{len(names) - MOST_NAMED} more {what}"] if len(names) > MOST_NAMED else []
    return " and ".join(names[:MOST_NAMED] + more)
