"""The factorial tying x dropout x weight decay of a section as a fitted linear model."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bench.report.cells import Section
from bench.report.factorial_grid import Grid, Term, given, grid, missing, place, places, response, without
from bench.report.interplay import Effect, answer, one_way, three_way, two_way
from bench.report.numbers import axis

if TYPE_CHECKING:
    import numpy as np

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
        return f"no factorial yet: `none` has no finished run at {places(at)}"
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
