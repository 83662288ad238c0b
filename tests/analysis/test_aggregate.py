"""Means over tasks: how often the interval holds the mean of all tasks that might have been taken."""

import numpy as np
import pytest
from scipy.special import stdtrit
from statsmodels.stats.meta_analysis import combine_effects

from bench.analysis.aggregate import geometric_mean

DRAWS = 4_000
CASES = [
    (tasks, seeds, between, ratio)
    for tasks in (2, 3, 6)
    for seeds in (3, 5)
    for between, ratio in ((0.0, 1.0), (0.5, 4.0), (2.0, 4.0))
]
"""Tasks, seeds, how much tasks differ, and how much more the last task's seeds spread than the first one's."""


def drawn(tasks: int, seeds: int, between: float, ratio: float) -> np.ndarray:
    """[draws, tasks, seeds]: logarithms of scores whose mean over all tasks there are is 0."""
    rng = np.random.Generator(np.random.PCG64(tasks * seeds))
    means = between * rng.standard_normal((DRAWS, tasks, 1))
    return means + np.geomspace(1, ratio, tasks)[:, None] * rng.standard_normal((DRAWS, tasks, seeds))


def holds_zero(mean: np.ndarray, error: np.ndarray, df: int) -> float:
    return float((np.abs(mean) <= stdtrit(df, 0.975) * error).mean())


def weighted(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of DerSimonian and Laird, and the standard error of Hartung, Knapp, Sidik and Jonkman."""
    n = means.shape[1]
    w = 1 / variances
    fixed = (w * means).sum(1) / w.sum(1)
    spread = (w * (means - fixed[:, None]) ** 2).sum(1) - (n - 1)
    tau2 = np.maximum(0, spread / (w.sum(1) - (w**2).sum(1) / w.sum(1)))
    w = 1 / (variances + tau2[:, None])
    mean = (w * means).sum(1) / w.sum(1)
    return mean, np.sqrt((w * (means - mean[:, None]) ** 2).sum(1) / (n - 1) / w.sum(1))


@pytest.mark.parametrize("case", CASES)
def test_the_interval_over_tasks_covers(case):
    means = drawn(*case).mean(axis=2)
    error = means.std(axis=1, ddof=1) / np.sqrt(case[0])
    assert 0.94 <= holds_zero(means.mean(axis=1), error, case[0] - 1) <= 0.985


def test_weights_from_a_handful_of_seeds_would_not():
    shares = []
    for case in CASES:
        values = drawn(*case)
        shares.append(holds_zero(*weighted(values.mean(2), values.var(2, ddof=1) / case[1]), case[0] - 1))
    assert np.mean(shares) < 0.93 and min(shares) < 0.90 and max(shares) < 0.96


def test_what_is_said_of_the_weighted_mean_is_of_that_of_statsmodels():
    values = drawn(4, 5, 0.5, 4.0)[:3]
    means, variances = values.mean(2), values.var(2, ddof=1) / 5
    mean, error = weighted(means, variances)
    for at in range(3):
        table = combine_effects(means[at], variances[at], method_re="dl", use_t=True)
        assert (table.mean_effect_re, table.sd_eff_w_re_hksj) == pytest.approx((mean[at], error[at]))


def test_the_function_gives_that_interval():
    values = np.exp(drawn(3, 5, 0.5, 1.0)[0].mean(axis=1))
    logs = np.log(values)
    half = stdtrit(2, 0.975) * logs.std(ddof=1) / np.sqrt(3)
    expected = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    assert geometric_mean(values)[:3] == pytest.approx(tuple(expected))
    assert geometric_mean([2.0, 2.0]) == pytest.approx((2.0, None, None, 2))
    assert geometric_mean([3.0]) == pytest.approx((3.0, None, None, 1))
