"""Say what a handful of seeds can show: intervals, paired tests, corrections and aggregates. Numbers only."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from bench.meters.metrics import Estimate, mean_sd

if TYPE_CHECKING:
    from numpy import ndarray


SIGNIFICANCE = 0.05
ENOUGH = 5
TOO_FEW = "too few seeds"

SHARE_MARGIN = 0.005
OTHER_MARGIN = 0.01
"""Differences that count as none: half a percentage point of a share; of anything else this part of the mean."""

ROUNDING = 1e-10
"""A spread of differences over seeds below this share of the values is rounding."""

LEAST_RESAMPLED = 10
"""Fewer values than this have too few resamples that differ: at 5 the interval covers 82 % where it says 95."""


class Interval(NamedTuple):
    """A mean, its interval and how many values it is made of; no bounds where n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Paired(NamedTuple):
    """A mean of n differences, their sample standard deviation, the interval and two-sided p of their mean.

    Only mean and n where n = 1 or where a value is not finite. No p where all differences are the same and not 0.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int


def interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Return the mean and two-sided t interval, in the unit of the values; None for no values.

    Equal values give an interval without width. A value that is not finite is never dropped: it is in the
    mean, and there are no bounds.
    """
    if not (values := list(values)):
        return None
    mean, sd, n = moments(values)
    return Interval(mean, *bounds(mean, sd, n, level), n)


def interval_of_correlations(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Return the mean of correlations, with bounds that no correlation exceeds; None for no values.

    The bounds are those of the t interval of Fisher's z = atanh(r), turned back. Where values are so skew that the mean
    lies beyond a bound, the interval reaches to the mean. Equal values give an interval without width. A correlation of
    1 or -1 has no finite z, and beside other values the mean then has no bounds.

    Source: Fisher 1921, On the "probable error" of a coefficient of correlation deduced from a small sample.
    """
    if not (values := list(values)):
        return None
    mean, _, n = moments(values)
    if n > 1 and max(values) - min(values) <= ROUNDING:
        return Interval(mean, mean, mean, n)
    scores = [math.atanh(r) if abs(r) < 1 - ROUNDING else math.copysign(math.inf, r) for r in values]
    low, high = bounds(*moments(scores), level)
    if low is None or high is None:
        return Interval(mean, None, None, n)
    return Interval(mean, min(mean, math.tanh(low)), max(mean, math.tanh(high)), n)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], level: float = 0.95) -> Paired | None:
    """Return the mean of ours - theirs over the seeds both have, its t interval, and p of no difference.

    At one seed, initial weights, data order and dropout stream are the same, so the difference is free of what they
    share: it spreads less than that of two independent means. Differences that are equal at all seeds, but for
    rounding, have no spread to test by: p is 1 where they are 0, else None.

    Args:
        ours: seed -> value, as `theirs`.

    Returns:
        None without a seed that both have.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    if not differences:
        return None
    rounding = ROUNDING * max(max(abs(ours[seed]), abs(theirs[seed])) for seed in seeds)
    if all(map(math.isfinite, differences)) and max(differences) - min(differences) <= rounding:
        differences = [0.0 if abs(differences[0]) <= rounding else differences[0]] * len(differences)
    mean, sd, n = moments(differences)
    return Paired(mean, sd, *bounds(mean, sd, n, level), p_value(mean, sd, n), n)


def p_beyond(difference: Paired, margin: float) -> float | None:
    """Return p of a true difference of `margin` or more, to either side; None for one pair or none that is finite.

    The larger p of two one-sided t tests (Schuirmann 1987, A comparison of the two one-sided tests procedure): where it
    is small, the difference is shown to be smaller than the margin.
    """
    if difference.sd is None:
        return None
    room = margin - abs(difference.mean)
    if difference.sd == 0:
        return float(room <= 0)
    from scipy.special import stdtr  # a third of a second to import, which only who writes tables pays

    return float(stdtr(difference.n - 1, -room / (difference.sd / math.sqrt(difference.n))))


def bound_of(difference: Paired, alpha: float) -> float | None:
    """Return what the size of the true difference exceeds with a chance of alpha at most; None for one pair."""
    if difference.sd is None:
        return None
    low, high = around(difference, 1 - 2 * alpha)
    return max(abs(low), abs(high))


def around(difference: Paired, level: float) -> tuple[float, float] | tuple[None, None]:
    """Return the bounds of a paired difference at another level."""
    return bounds(difference.mean, difference.sd, difference.n, level)


def moments(values: Sequence[float]) -> Estimate:
    """Return mean and sample standard deviation: None for one value and for what is not finite, 0 for equal values."""
    if len(values) > 1 and min(values) == max(values) and math.isfinite(values[0]):
        return Estimate(float(values[0]), 0.0, len(values))
    mean, sd, n = mean_sd(values)
    return Estimate(mean, None if sd is None or math.isnan(sd) else sd, n)


def bounds(mean: float, sd: float | None, n: int, level: float) -> tuple[float, float] | tuple[None, None]:
    """Return the Student t interval of a mean of n values; None and None where there is no spread to go by."""
    if sd is None:
        return None, None
    half = quantile(n - 1, level) * sd / math.sqrt(n)
    return mean - half, mean + half


def p_value(mean: float, sd: float | None, n: int) -> float | None:
    """Return the p of a true mean of 0; None where there is no spread, or none while the mean is not 0."""
    if sd is None:
        return None
    if sd == 0:
        return 1.0 if mean == 0 else None
    from scipy.special import stdtr

    return 2 * float(stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


@lru_cache(maxsize=256)
def quantile(df: int, level: float) -> float:
    """Return how many standard errors an interval of that level reaches to either side."""
    from scipy.special import stdtrit  # a third of a second to import, which only who writes tables pays

    return float(stdtrit(df, (1 + level) / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values, in the order given: those below a level are shown at that level by the whole family.

    Holds under any dependence between the tests (Holm 1979, A simple sequentially rejective multiple test
    procedure). As statsmodels' `multipletests`, whose import takes three quarters of a second.
    ValueError for a p that is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values {list(p_values)}: give numbers between 0 and 1")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = least
    return adjusted


def margin_text(is_share: bool) -> str:
    """Return `±1 %`."""
    return f"±{100 * SHARE_MARGIN:g} points" if is_share else f"±{100 * OTHER_MARGIN:g} %"


def holm_of_two(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Adjust two p-values per comparison, of hypotheses that cannot both be true, over all comparisons together.

    Such are `there is no difference` and `the difference is the margin or more`. Holm's procedure counts how many
    hypotheses may still be true: at most one per comparison, none where both are rejected (Shaffer 1986, Modified
    sequentially rejective multiple test procedures, procedure S2). So asking the second question costs nothing.
    ValueError for a p that is not between 0 and 1.
    """
    if not all(0 <= p <= 1 for pair in pairs for p in pair):
        raise ValueError(f"p-values {list(pairs)}: give numbers between 0 and 1")
    adjusted, rejected, least = [[0.0, 0.0] for _ in pairs], [0] * len(pairs), 0.0
    for p, i, side in sorted((p, i, side) for i, pair in enumerate(pairs) for side, p in enumerate(pair)):
        least = max(least, min(1.0, sum(count < 2 for count in rejected) * p))
        adjusted[i][side] = least
        rejected[i] += 1
    return [(first, second) for first, second in adjusted]


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, equal values at their mean rank; None where either has only one value.

    ValueError where they differ in length. As `scipy.stats.spearmanr`, whose import takes half a second.
    """
    import numpy as np
    from pandas import Series

    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} values do not pair")
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(np.corrcoef(Series(one).rank(), Series(other).rank())[0, 1])


def bootstrap_of_groups(
    correct: Sequence[int],
    count: Sequence[int],
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> Interval:
    """Return sum of `correct` over sum of `count`, and its interval from drawing whole groups with replacement.

    Examples of one group (cells of one photograph) are not independent, groups are: n is how many groups
    (Davison and Hinkley 1997, Bootstrap Methods, sec. 3.8). Memory: 8 bytes x groups x resamples.
    ValueError below 10 groups, for lists of unequal length, and for counts that are no counts.
    """
    import numpy as np

    right, total = np.asarray(correct, float), np.asarray(count, float)
    if right.shape != total.shape or not ((right >= 0) & (right <= total) & (total > 0)).all():
        raise ValueError("groups need as many `correct` as `count`, each 0 <= correct <= count, count > 0")
    if len(total) < LEAST_RESAMPLED:
        raise ValueError(
            f"a bootstrap of {len(total)} groups: give at least {LEAST_RESAMPLED}, or use a t interval"
        )
    drawn = _counts(len(total), resamples, seed)
    return Interval(
        float(right.sum() / total.sum()), *_percentiles((drawn @ right) / (drawn @ total), level), len(total)
    )


def _percentiles(statistics: "ndarray", level: float) -> tuple[float, float]:
    """Return the bounds of the middle `level` of a statistic's resamples."""
    import numpy as np

    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _counts(n: int, resamples: int, seed: int) -> "ndarray":
    """[resamples, n]: how often each of n is in each resample. Kept, as the cells of a table share it."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
