"""What a number of seeds can show: numbers of textbooks, laws, and a simulation."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from bench.analysis.power import MOST_SEEDS, seeds_needed, smallest_difference


@pytest.mark.parametrize("size, seeds", [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_of_small_medium_and_large_effects(size, seeds):
    # Cohen's small, medium and large effect at 80 % power, one sample of differences: G*Power's numbers.
    assert seeds_needed(1.0, size) == seeds
    assert seeds_needed(1.0, -size) == seeds


def test_many_seeds_approach_the_normal_rule_of_thumb():
    # (1.960 + 0.842) sd / sqrt(n)
    assert smallest_difference(2.0, 10_000) == pytest.approx(2.802 * 2 / 100, rel=1e-3)


@pytest.mark.parametrize("sd", [1e-9, 0.3, 40.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_two_functions_are_each_others_inverse(sd, power):
    for n in (2, 3, 4, 5, 8, 20, 300):
        smallest = smallest_difference(sd, n, power=power)
        assert seeds_needed(sd, smallest * 1.0001, power=power) == n
        assert seeds_needed(sd, smallest * 0.9999, power=power) == n + 1


def test_more_seeds_and_less_spread_show_less_and_more_power_takes_more():
    sizes = [smallest_difference(1.0, n) for n in range(2, 60)]
    assert sizes == sorted(sizes, reverse=True)
    assert smallest_difference(3.0, 7) == pytest.approx(3 * smallest_difference(1.0, 7))
    assert smallest_difference(1.0, 7, power=0.9) > smallest_difference(1.0, 7)
    assert smallest_difference(1.0, 7, alpha=0.01) > smallest_difference(1.0, 7)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_the_power_is_what_it_says(n):
    draws = np.random.Generator(np.random.PCG64(n)).standard_normal((20_000, n))
    test = ttest_1samp(draws + smallest_difference(1.0, n), 0, axis=1)
    shown = (test.pvalue < 0.05) & (test.statistic > 0)
    assert shown.mean() == pytest.approx(0.8, abs=0.01)


def test_ends():
    assert smallest_difference(1.0, 1) == math.inf
    assert smallest_difference(0.0, 1) == smallest_difference(0.0, 5) == 0
    assert seeds_needed(0.0, 0.1) == 2
    assert seeds_needed(1.0, 0.0) is seeds_needed(0.0, 0.0) is None
    assert seeds_needed(1.0, 1e-9) is None
    assert seeds_needed(1.0, smallest_difference(1.0, MOST_SEEDS)) == MOST_SEEDS


@pytest.mark.parametrize("sd", [-1.0, math.nan, math.inf])
def test_odd_spreads_are_refused(sd):
    with pytest.raises(ValueError, match="standard deviation"):
        smallest_difference(sd, 5)
    with pytest.raises(ValueError, match="standard deviation"):
        seeds_needed(sd, 1.0)


def test_odd_levels_are_refused():
    for alpha, power in ((0.0, 0.8), (0.05, 1.0), (0.8, 0.5)):
        with pytest.raises(ValueError, match="0 < alpha < power < 1"):
            smallest_difference(1.0, 5, alpha, power)
    with pytest.raises(ValueError, match="at least 1"):
        smallest_difference(1.0, 0)
    with pytest.raises(ValueError, match="finite"):
        seeds_needed(1.0, math.nan)
