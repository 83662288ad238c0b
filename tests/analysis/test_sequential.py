"""Looking after each seed: how often a wrong decision is made, and that a right one takes fewer seeds."""

import math

import numpy as np
import pytest
from scipy.special import stdtrit

from bench.analysis.sequential import Decision, boundaries, decide

SWEEPS = 4_000


def ends(mean: float, margin: float, most: int, seed: int, first: int = 3) -> list[Decision]:
    """How each of many sequences of differences with standard deviation 1 ends."""
    draws = mean + np.random.Generator(np.random.PCG64(seed)).standard_normal((SWEEPS, most))
    last = []
    for row in draws.tolist():
        looks = (decide(row[:n], margin, most, first) for n in range(first, most + 1))
        last.append(next((look for look in looks if look.word), decide(row, margin, most, first)))
    return last


@pytest.mark.parametrize("most, first", [(5, 3), (12, 3), (20, 5)])
def test_no_difference_is_seldom_called_one_over_all_looks(most, first):
    false = np.mean([end.word == "different" for end in ends(0.0, 1e-9, most, seed=most, first=first)])
    # Two standard errors of 4,000 sequences are 0.7 %.
    assert 0.043 <= false <= 0.057


@pytest.mark.parametrize("most", [8, 20])
def test_a_difference_of_the_margin_is_seldom_called_none(most):
    words = [end.word for end in ends(0.5, 0.5, most, seed=100 + most)]
    assert words.count("equivalent") / SWEEPS <= 0.05


def test_looking_with_the_fixed_t_would_decide_wrongly_far_more_often():
    draws = np.random.Generator(np.random.PCG64(7)).standard_normal((SWEEPS, 12))
    n = np.arange(3, 13)
    crossed = np.zeros(SWEEPS, bool)
    for at in n:
        t = draws[:, :at].mean(1) / draws[:, :at].std(1, ddof=1) * np.sqrt(at)
        crossed |= np.abs(t) > stdtrit(at - 1, 0.975)
    assert crossed.mean() > 0.12


def test_a_large_difference_and_none_are_both_decided_early():
    large = ends(3.0, 0.5, 12, seed=1)
    assert np.mean([end.word == "different" for end in large]) > 0.99
    assert np.mean([end.n for end in large]) < 6
    none = ends(0.0, 4.0, 12, seed=2)
    assert np.mean([end.word == "equivalent" for end in none]) > 0.94
    assert np.mean([end.n for end in none]) < 6


def test_one_look_is_the_t_test():
    for n in (3, 6, 15):
        assert boundaries(n, n) == (pytest.approx(stdtrit(n - 1, 0.975), rel=0.02),)


def test_the_boundaries_fall_as_seeds_come_and_every_one_is_above_that_of_one_look():
    bounds = boundaries(3, 12)
    assert len(bounds) == 10 and bounds[0] > 5
    assert all(bound > stdtrit(n - 1, 0.975) for n, bound in enumerate(bounds, start=3))
    assert boundaries(3, 12) == bounds and boundaries(3, 12, 0.01)[0] > bounds[0]


def test_before_the_first_look_and_without_spread_nothing_is_decided():
    assert decide([5.0, 5.1], 0.1, 8) == ("", 2, pytest.approx(5.05), None, None)
    assert decide([5.0, 5.0, 5.0], 0.1, 8).word == ""
    assert decide([5.0, math.inf, 5.0], 0.1, 8).word == ""
    assert decide([5.0, 5.1, 4.9], 0.1, 8).word == "different"
    assert decide([-5.0, -5.1, -4.9], 0.1, 8).word == "different"
    assert decide([0.001, -0.001, 0.0], 0.1, 8).word == "equivalent"
    assert decide([5.0, -4.0], 0.1, 2).n == 2  # a sweep of two seeds has one look


@pytest.mark.parametrize("first, most", [(1, 5), (6, 5), (3, 5000)])
def test_odd_looks_are_refused(first, most):
    with pytest.raises(ValueError, match="looks from"):
        boundaries(first, most)
