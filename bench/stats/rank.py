"""Rank correlation."""

from collections.abc import Sequence

import numpy as np


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values at their mean rank; None where either has only one value.

    ValueError where they differ in length. As `scipy.stats.spearmanr`, whose import takes a second.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} values do not pair")
    ranks = [_ranks(np.asarray(values, dtype=float)) for values in (one, other)]
    if any(np.ptp(each) == 0 for each in ranks if len(each)) or not len(one):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]
