"""Percentile bootstrap, for what has no t interval: groups of examples, aggregates over tasks, many values.

Draws come from generators of its own, seeded by the caller: the same values give the same bounds.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from bench.stats.student import Interval

if TYPE_CHECKING:
    from numpy import ndarray

LEAST = 10
"""Fewer values than this have too few resamples that differ: at 5 the interval covers 82 % where it says 95."""


def of_mean(values: Sequence[float], level: float = 0.95, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of the values and its interval. ValueError below 10 values and for one that is not finite."""
    import numpy as np

    numbers = np.asarray(values, float)
    if not np.isfinite(numbers).all():
        raise ValueError("a bootstrap of values that are not finite: count them apart")
    require(len(numbers), "values")
    means = _counts(len(numbers), resamples, seed) @ numbers / len(numbers)
    return Interval(float(numbers.mean()), *bounds(means, level), len(numbers))


def of_groups(
    correct: Sequence[int],
    count: Sequence[int],
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> Interval:
    """Sum of `correct` over sum of `count`, and its interval where whole groups are drawn with replacement.

    Examples of one group (cells of one photograph) are not independent, groups are: n is how many groups
    (Davison and Hinkley 1997, Bootstrap Methods, sec. 3.8). Memory: 8 bytes x groups x resamples.
    ValueError below 10 groups, for lists of unequal length, and for counts that are no counts.
    """
    import numpy as np

    right, of = np.asarray(correct, float), np.asarray(count, float)
    if right.shape != of.shape or not ((right >= 0) & (right <= of) & (of > 0)).all():
        raise ValueError("groups need as many `correct` as `count`, each 0 <= correct <= count, count > 0")
    require(len(of), "groups")
    drawn = _counts(len(of), resamples, seed)
    return Interval(float(right.sum() / of.sum()), *bounds((drawn @ right) / (drawn @ of), level), len(of))


def require(n: int, what: str) -> None:
    if n < LEAST:
        raise ValueError(f"a bootstrap of {n} {what}: give at least {LEAST}, or use a t interval")


def bounds(statistics: "ndarray", level: float) -> tuple[float, float]:
    """The middle `level` of a statistic's resamples."""
    import numpy as np

    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=2)
def _counts(n: int, resamples: int, seed: int) -> "ndarray":
    """[resamples, n]: how often each of n is in each resample. Kept, as the cells of a table share it."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
