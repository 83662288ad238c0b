"""Decide a paired comparison seed by seed, with a rule that holds over all the times it is looked at."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis.statistics import SIGNIFICANCE, moments

if TYPE_CHECKING:
    from numpy import ndarray

LEAST = 3
"""Seeds before the first look; with fewer the spread is hardly known."""
MOST = 1_000
"""Seeds that a rule is made for."""
PATHS = 100_000


class Decision(NamedTuple):
    """The decision that n differences allow. `word`: `different`, `equivalent`, or empty where nothing is decided.

    low, high: the interval of the true mean that holds at all looks together; None before the first look and where the
    differences do not spread.
    """

    word: str
    n: int
    mean: float
    low: float | None
    high: float | None


def decide(differences: Sequence[float], margin: float, most: int, first: int = LEAST) -> Decision:
    """Decide by the differences so far, in the order of their seeds, looked at after each from the first look on.

    The interval at a look reaches as many standard errors as `boundaries` says (a repeated confidence interval:
    Jennison and Turnbull 2000, Group Sequential Methods, ch. 9). The true mean lies in all intervals together with
    probability 1 - 0.05. Different: 0 lies outside. Equivalent: the interval lies within +- margin. A decision is
    wrong only where the interval misses the truth: with probability 0.05 at most, whenever it is made.

    Args:
        differences: At each seed ours - theirs; at most `most` of them.
        margin: What counts as no difference, in their unit.
        most: Seeds of the last look, which must be fixed beforehand.
        first: Seeds of the first look.
    """
    mean, sd, n = moments(differences)
    if n < min(first, most) or not sd or not math.isfinite(sd):
        return Decision("", n, mean, None, None)
    half = boundaries(min(first, most), most)[n - min(first, most)] * sd / math.sqrt(n)
    low, high = mean - half, mean + half
    word = "different" if low > 0 or high < 0 else ""
    return Decision("equivalent" if -margin <= low and high <= margin else word, n, mean, low, high)


@lru_cache(maxsize=64)
def boundaries(first: int, most: int, alpha: float = SIGNIFICANCE) -> tuple[float, ...]:
    """Return how many standard errors the interval reaches at each look, after `first`, `first` + 1 ... `most` seeds.

    Up to a look the level spent is alpha ln(1 + (e - 1) n / most) (Lan and DeMets 1983, Discrete sequential boundaries
    for clinical trials: the spending like Pocock's). As t statistics of a handful of seeds are far from normal, the
    boundary of each look is the quantile of |t| over simulated sequences that crossed none before.

    Raises:
        ValueError: For a first look of fewer than 2 seeds, more than `most`, and for more than MOST seeds.
    """
    import numpy as np

    if not 2 <= first <= most <= MOST:
        raise ValueError(f"looks from {first} to {most} seeds: give 2 <= first <= most <= {MOST}")
    looks = range(first, most + 1)
    t = np.abs(_t_paths(most))
    inside = np.ones(PATHS, bool)
    bounds = []
    for n in looks:
        crossed = alpha * math.log(1 + (math.e - 1) * n / most) * PATHS
        left = t[inside, n - 2]
        # So many of those left may cross here that `crossed` have crossed in all.
        keep = len(left) - max(0, round(crossed) - (PATHS - len(left)))
        bound = float(np.partition(left, keep - 1)[keep - 1])
        inside &= t[:, n - 2] <= bound
        bounds.append(bound)
    return tuple(bounds)


@lru_cache(maxsize=2)
def _t_paths(most: int) -> "ndarray":
    """[PATHS, most - 1]: t statistics after 2, 3 ... `most` differences without a mean."""
    import numpy as np

    draws = np.random.Generator(np.random.PCG64(0)).standard_normal((PATHS, most))
    n = np.arange(1, most + 1)
    mean = draws.cumsum(axis=1) / n
    squares = (draws**2).cumsum(axis=1) - n * mean**2
    return (mean * np.sqrt(n))[:, 1:] / np.sqrt(squares[:, 1:] / (n[1:] - 1))
