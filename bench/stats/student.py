"""Student's t: the interval of a mean over seeds, and of the mean of differences paired by seed.

At the three to ten seeds of a sweep a percentile bootstrap covers 75 to 91 % where it says 95; this one covers 95.
"""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean, its interval and how many values it is made of; no bounds where n = 1."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Paired(NamedTuple):
    """A mean of n differences, their sample standard deviation, the interval and two-sided p of their mean.

    Only mean and n where n = 1 or where a value is not finite.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int


def interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Mean and two-sided t interval, in the unit of the values; None for no values.

    Equal values give an interval without width. A value that is not finite is never dropped: it is in the
    mean, and there are no bounds.
    """
    mean, sd, n = _moments(values)
    return Interval(mean, *_bounds(mean, sd, n, level), n) if n else None


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], level: float = 0.95) -> Paired | None:
    """Mean of ours - theirs over the seeds both have, its t interval, and p of no difference; None without a seed.

    Both map a seed to a value. At one seed, initial weights, data order and dropout stream are the same, so
    the difference is free of what they share: it spreads less than that of two independent means.
    Differences that are all equal have p 1 where they are 0, else p 0.
    """
    mean, sd, n = _moments(ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys()))
    if not n:
        return None
    return Paired(mean, sd, *_bounds(mean, sd, n, level), _p(mean, sd, n), n)


def around(difference: Paired, level: float) -> tuple[float, float] | tuple[None, None]:
    """The bounds of a paired difference at another level."""
    return _bounds(difference.mean, difference.sd, difference.n, level)


def _moments(values: Iterable[float]) -> tuple[float, float | None, int]:
    values = [float(value) for value in values]
    n = len(values)
    if not all(map(math.isfinite, values)):
        return sum(values) / n, None, n
    mean = math.fsum(values) / max(n, 1)
    if n < 2:
        return mean, None, n
    if min(values) == max(values):
        return values[0], 0.0, n
    # hypot, as the square of a diverged run's perplexity overflows.
    return mean, math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1), n


def _bounds(mean: float, sd: float | None, n: int, level: float) -> tuple[float, float] | tuple[None, None]:
    if sd is None:
        return None, None
    half = quantile(n - 1, level) * sd / math.sqrt(n)
    return mean - half, mean + half


def _p(mean: float, sd: float | None, n: int) -> float | None:
    if sd is None:
        return None
    if sd == 0:
        return float(mean == 0)
    from scipy.special import stdtr

    return 2 * float(stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


@lru_cache(maxsize=256)
def quantile(df: int, level: float) -> float:
    """How many standard errors an interval of that level reaches to either side."""
    from scipy.special import stdtrit  # a third of a second to import, which only who writes tables pays

    return float(stdtrit(df, (1 + level) / 2))
