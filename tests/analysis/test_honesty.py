"""What the intervals and verdicts promise, kept on simulated seeds: the functions themselves, thousands of times."""

import numpy as np
import pytest

from bench.analysis.statistics import bootstrap_of_groups, holm, interval, paired, verdict

TYINGS = 4
FAMILIES = 10_000
BOUND = 0.05 + 2 * (0.05 * 0.95 / FAMILIES) ** 0.5
"""5 %, and two standard errors of a share that is counted over so many families."""


def draws(*shape: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(20211)).normal(size=shape)


def covered(found, truth: float) -> bool:
    return found.low <= truth <= found.high


@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_interval_of_95_percent_holds_the_truth_95_times_in_100(n):
    held = [covered(interval(values), 80.0) for values in (80 + 3 * draws(5000, n)).tolist()]
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize("n", [3, 5, 10])
def test_so_does_that_of_a_paired_difference(n):
    """Seeds move both sides together; the truth is that ours is 1 above."""
    seeds, ours, theirs = 5 * draws(3, 5000, n)
    pairs = zip((seeds + ours + 1).tolist(), (seeds + theirs).tolist(), strict=True)
    held = [covered(paired(dict(enumerate(a)), dict(enumerate(b))), 1.0) for a, b in pairs]
    assert 0.93 <= np.mean(held) <= 0.97


def test_what_is_often_done_instead_does_not():
    """Two standard errors and the percentile bootstrap at n = 3: the tests above can tell."""
    values = draws(5000, 3)
    half = 2 * values.std(axis=1, ddof=1) / np.sqrt(3)
    assert np.mean(abs(values.mean(axis=1)) <= half) < 0.87
    drawn = np.random.Generator(np.random.PCG64(0)).integers(3, size=(400, 3))
    low, high = np.quantile(values[:, drawn].mean(axis=2), [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) < 0.80


@pytest.mark.parametrize("groups", [50, 71])
def test_an_interval_over_groups_holds_the_truth_and_one_over_examples_does_not(groups):
    """Groups of 2 to 30 examples, each group with a rate of its own."""
    generator, rate = np.random.Generator(np.random.PCG64(7)), 0.8
    by_group, by_example = [], []
    for _ in range(1000):
        count = generator.integers(2, 31, size=groups)
        correct = generator.binomial(count, generator.beta(8, 2, size=groups))
        by_group.append(covered(bootstrap_of_groups(correct.tolist(), count.tolist(), resamples=1000), rate))
        p, n = correct.sum() / count.sum(), count.sum()
        by_example.append(abs(p - rate) <= 1.96 * np.sqrt(p * (1 - p) / n))
    assert 0.92 <= np.mean(by_group) <= 0.97
    assert np.mean(by_example) < 0.85


def alarms(n: int, correct) -> float:
    """The share of families in which a verdict claims a difference, where all tyings are as `none` is."""
    found = 0
    for none, *tyings in draws(FAMILIES, TYINGS + 1, n).tolist():
        differences = [paired(dict(enumerate(ours)), dict(enumerate(none))) for ours in tyings]
        corrected = correct([difference.p for difference in differences])
        said = [verdict(d, p, 0.01, "min") for d, p in zip(differences, corrected, strict=True)]
        found += any(words.startswith(("better", "worse")) for words in said)
    return found / FAMILIES


@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_alarms_stay_under_5_percent_of_families(n):
    assert alarms(n, holm) < BOUND < 0.055


@pytest.mark.parametrize("n", [3, 5, 10])
def test_without_the_correction_they_do_not(n):
    assert alarms(n, list) > 2 * BOUND


def test_a_tying_that_is_worse_by_twice_the_margin_is_seldom_called_equivalent():
    """Two one-sided tests at 5 %: at the margin itself the words are wrong 1 time in 20."""
    ours = 1.0 + 0.3 * draws(3000, 10)
    zeros = dict.fromkeys(range(10), 0.0)
    said = [verdict(paired(dict(enumerate(row)), zeros), 1.0, 1.0, "min") for row in ours.tolist()]
    assert 0.03 < np.mean([words == "equivalent" for words in said]) < 0.07
