"""Intervals and tests of a mean: with two values a t quantile is a tangent, which can be done in the head."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.statistics import around, interval, interval_of_correlations, paired

numbers = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8)
ZEROS = {1: 0.0, 2: 0.0}


def test_half_of_all_draws_with_one_degree_of_freedom_lie_within_one_standard_error():
    assert interval([0, 2], level=0.5) == pytest.approx((1, 0, 2, 2))
    assert interval([0, 2]).high == pytest.approx(1 + math.tan(0.95 * math.pi / 2))
    assert paired({1: 0.0, 2: 2.0}, ZEROS).p == pytest.approx(0.5)


def test_one_value_has_no_interval_and_no_value_none():
    assert interval([5]) == (5.0, None, None, 1)
    assert paired({1: 5.0}, {1: 3.0}) == (2.0, None, None, None, None, 1)
    assert interval([]) is None and paired({1: 5.0}, {2: 3.0}) is None


def test_equal_values_have_an_interval_without_width_and_differences_of_one_size_no_p():
    assert interval([0.1] * 3) == (0.1, 0.1, 0.1, 3)
    assert paired({1: 4.0, 2: 5.0}, {1: 3.0, 2: 4.0}) == (1.0, 0.0, 1.0, 1.0, None, 2)
    assert paired(ZEROS, ZEROS).p == 1.0


def test_rounding_is_no_spread():
    shares, others = {1: 0.3, 2: 0.2}, {1: 0.2, 2: 0.1}
    assert len({shares[seed] - others[seed] for seed in shares}) > 1
    assert paired(shares, others)[1:] == (0.0, *[pytest.approx(0.1)] * 2, None, 2)
    assert paired({1: 0.1 + 0.2, 2: 0.3}, {1: 0.3, 2: 0.3}) == (0.0, 0.0, 0.0, 0.0, 1.0, 2)
    assert paired({1: 1.0 + 1e-9, 2: 1.0}, {1: 1.0, 2: 1.0}).sd > 0


def test_only_the_seeds_that_both_have_are_paired():
    untied = {1: 10.0, 2: 20.0, 3: 30.0}
    difference = paired({3: 29.0, 1: 9.0, 2: 19.0, 4: 500.0}, untied)
    assert (difference.mean, difference.sd, difference.n) == (-1.0, 0.0, 3)


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_not_finite_stays_in_the_mean_and_there_are_no_bounds(odd):
    mean, *bounds, n = interval([1.0, odd, 3.0])
    assert not math.isfinite(mean) and bounds == [None, None] and n == 3
    difference = paired({1: odd, 2: 1.0}, ZEROS)
    assert not math.isfinite(difference.mean) and difference[1:] == (None, None, None, None, 2)


def test_the_perplexity_of_a_diverged_run_overflows_nothing():
    assert interval([1e250, 1.0]).mean == 5e249
    assert paired({1: 1e250, 2: 1.0}, {1: 1.0, 2: 1.0}).p == pytest.approx(0.5)


@given(numbers)
def test_turned_round_a_difference_changes_only_its_sign(values):
    ours, theirs = dict(enumerate(values)), dict(enumerate(reversed(values)))
    there, back = paired(ours, theirs), paired(theirs, ours)
    assert (there.mean, there.low, there.high) == (-back.mean, -back.high, -back.low)
    assert there.p == back.p and there.sd == back.sd


@given(numbers, st.integers(-1000, 1000))
def test_a_shift_moves_an_interval_and_leaves_its_width(values, shift):
    plain, moved = interval(values), interval(value + shift for value in values)
    assert moved[:3] == pytest.approx([end + shift for end in plain[:3]], abs=1e-6)


@given(numbers, st.sampled_from([0.5, 0.9, 0.95]))
def test_an_interval_holds_0_exactly_where_p_is_not_small(values, level):
    difference = paired(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0), level)
    if difference.p is None:
        assert difference.sd == 0 and difference.low == difference.high == difference.mean != 0
    elif abs(difference.p - (1 - level)) > 1e-9:
        assert (difference.low <= 0 <= difference.high) == (difference.p > 1 - level)
    assert around(difference, level) == (difference.low, difference.high)


def test_against_an_implementation_of_others():
    from scipy.stats import ttest_rel

    ours, theirs = [3.1, 2.2, 5.7, 4.4], [2.0, 2.5, 3.9, 4.1]
    expected = ttest_rel(ours, theirs)
    found = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95))


@given(st.lists(st.floats(-0.999, 0.999), min_size=2, max_size=6))
def test_the_interval_of_correlations_holds_their_mean_and_none_beyond_1(values):
    mean, low, high, n = interval_of_correlations(values)
    assert (mean, n) == (pytest.approx(sum(values) / len(values)), len(values))
    assert -1 <= low <= mean <= high <= 1
    flipped = interval_of_correlations([-value for value in values])
    assert (flipped.low, flipped.high) == pytest.approx((-high, -low))


def test_an_interval_of_correlations_is_that_of_fishers_z():
    values = [math.tanh(0.5), math.tanh(1.5), math.tanh(2.5)]
    assert interval_of_correlations(values)[1:3] == pytest.approx(
        tuple(map(math.tanh, interval([0.5, 1.5, 2.5])[1:3]))
    )
    for limit in (1.0, -1.0, 1 - 1e-16):
        assert interval_of_correlations([limit, 0.5, 0.6])[1:] == (None, None, 3)
        assert interval_of_correlations([limit] * 3) == (limit, limit, limit, 3)
    skew = interval_of_correlations([0.0, *[0.992] * 2, *[0.996] * 3])
    assert skew.low == skew.mean == pytest.approx(4.972 / 6) and skew.high > 0.996
    assert interval_of_correlations([0.0, 8e-11]) == (4e-11, 4e-11, 4e-11, 2)
    assert interval_of_correlations([0.5]) == (0.5, None, None, 1) and interval_of_correlations([]) is None
