"""Scores of many runs in one number and one curve (Agarwal et al. 2021, Deep RL at the Edge of the Statistical
Precipice, sec. 4.2 and 4.3)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.stats.bootstrap import LEAST, bounds
from bench.stats.student import Interval

if TYPE_CHECKING:
    from numpy import ndarray


def interquartile_mean(scores: Sequence[float]) -> float:
    """The mean of the middle half: of n scores the n // 4 lowest and the n // 4 highest are cut off.

    As `scipy.stats.trim_mean(scores, 0.25)`, without weights for a fraction of a score. ValueError for none.
    """
    import numpy as np

    if not len(scores):
        raise ValueError("the interquartile mean of no scores: give at least one")
    return float(_middle(np.asarray(scores, float)[None])[0])


def of_tasks(
    tasks: Sequence[Sequence[Sequence[float]]], level: float = 0.95, seed: int = 0, resamples: int = 2_000
) -> Interval:
    """Interquartile mean of all scores, with the interval where seeds are drawn with replacement within each task.

    `tasks[t][s]` holds the scores of one seed in one task: as they share the seed, they are drawn together.
    n is how many task x seed there are; below 10 there are no bounds. ValueError where there is no score.
    """
    import numpy as np

    found = interquartile_mean([score for task in tasks for seed_ in task for score in seed_])
    n = sum(map(len, tasks))
    if n < LEAST:
        return Interval(found, None, None, n)
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = []
    for task in filter(len, tasks):
        longest = max(map(len, task))
        # NaN stands where a seed has fewer scores than another: it sorts to the end and is not counted.
        table = np.array([[*scores, *[np.nan] * (longest - len(scores))] for scores in task], float)
        chosen = table[generator.integers(len(task), size=(resamples, len(task)))]
        drawn.append(chosen.reshape(resamples, -1))
    return Interval(found, *bounds(_middle(np.concatenate(drawn, axis=1)), level), n)


def performance_profile(scores: Sequence[float], thresholds: Sequence[float]) -> list[float]:
    """For each threshold the share of scores that reach it. ValueError for no scores."""
    if not len(scores):
        raise ValueError("the performance profile of no scores: give at least one")
    return [sum(score >= threshold for score in scores) / len(scores) for threshold in thresholds]


def _middle(rows: "ndarray") -> "ndarray":
    """The interquartile mean of each row, NaN left out."""
    import numpy as np

    rows = np.sort(rows, axis=1)
    n = np.isfinite(rows).sum(axis=1)
    cut = n // 4
    places = np.arange(rows.shape[1])
    inside = (places >= cut[:, None]) & (places < (n - cut)[:, None])
    return np.where(inside, rows, 0.0).sum(axis=1) / (n - 2 * cut)
