"""Check the likelihood ratio test of a pair HMM whose two kinds of gap are tied against one where each has its own.

Source of the model: Durbin et al. 1998 (Biological Sequence Analysis), section 4.1. Alignments are simulated, so that
it is known which of the two models made them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2

from bench.claims.evaluate import Measure, Part

LEVEL = 0.05
OPEN = 0.05
"""How often a column of two letters is followed by a gap in the one sequence, and as often in the other."""
LIKE, UNLIKE = (0.4, 0.4), (0.55, 0.25)
"""How often a gap goes on, in the one sequence and in the other: tied, and each its own."""
DEGREES = 2
"""How many transitions the tied model has fewer: one of opening and one of going on."""
MATCH, ONE, OTHER = range(3)


def gaps(columns: Sequence[int], alignments: int) -> list[Part]:
    """Measure how often the test says that gaps differ: `size` where they do not, `power` where they do.

    The bound of the statistic is the quantile of simulations under the tied model; `chi_squared` is the size with
    that of the distribution for long alignments.

    Args:
        columns: of an alignment, for each part.
        alignments: simulated of each kind.
    """
    return [Part(f"{length:,} columns", _measures(length, alignments), decides=True) for length in columns]


def _measures(length: int, alignments: int) -> tuple[Measure, ...]:
    rng = np.random.default_rng(length)
    calibration, tied, own = (
        statistics(counts(rng, length, alignments, extend)) for extend in (LIKE, LIKE, UNLIKE)
    )
    bound = np.quantile(calibration, 1 - LEVEL)
    rates = {
        "size": np.mean(tied > bound),
        "power": np.mean(own > bound),
        "chi_squared": np.mean(tied > chi2.ppf(1 - LEVEL, DEGREES)),
    }
    return tuple(
        Measure(name, float(rate), f"of {alignments:,} alignments told apart") for name, rate in rates.items()
    )


def counts(
    rng: np.random.Generator, length: int, alignments: int, extend: tuple[float, float]
) -> Mapping[tuple[int, int], np.ndarray]:
    """Return how often each transition occurs in each simulated alignment, which begins with two letters."""
    shares = np.array(
        [[1 - 2 * OPEN, OPEN, OPEN], [1 - extend[0], extend[0], 0], [1 - extend[1], 0, extend[1]]]
    )
    bounds = shares.cumsum(1)
    state = np.full(alignments, MATCH)
    transitions = {(a, b): np.zeros(alignments) for a in range(3) for b in range(3)}
    for _ in range(length):
        after = (rng.random(alignments)[:, None] >= bounds[state, :2]).sum(1)
        for pair, count in transitions.items():
            count += (state == pair[0]) & (after == pair[1])
        state = after
    return transitions


def statistics(transitions: Mapping[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Return twice the logarithm of the likelihood ratio of each alignment: each gap its own, over tied."""
    opened = transitions[MATCH, ONE], transitions[MATCH, OTHER]
    # Tied, each gap has half of all openings, and goes on as often as both gaps together do.
    ratio = sum(xlogy(n, n) for n in opened) - xlogy(sum(opened), sum(opened) / 2)
    for to_itself in (True, False):
        counted = [transitions[gap, gap if to_itself else MATCH] for gap in (ONE, OTHER)]
        totals = [transitions[gap, gap] + transitions[gap, MATCH] for gap in (ONE, OTHER)]
        own = sum(xlogy(n, n / np.maximum(total, 1)) for n, total in zip(counted, totals, strict=True))
        ratio += own - xlogy(sum(counted), sum(counted) / np.maximum(sum(totals), 1))
    return 2 * ratio
