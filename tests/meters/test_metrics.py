import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.meters.metrics import accuracy, bits_per_byte, mean_sd, perplexity

numbers = st.lists(st.integers(-1000, 1000), min_size=2, max_size=8)


def test_mean_and_sample_deviation_done_in_the_head():
    assert mean_sd([1, 2, 3]) == (2.0, 1.0, 3)
    assert mean_sd([2, 4]) == (3.0, math.sqrt(2), 2)


def test_one_value_has_no_spread():
    assert mean_sd([5]) == (5.0, None, 1)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        mean_sd([])


def test_a_nan_is_never_dropped():
    mean, sd, n = mean_sd([1.0, math.nan, 3.0])
    assert math.isnan(mean) and math.isnan(sd) and n == 3
    assert mean_sd([math.inf, 1.0]).mean == math.inf


@given(numbers, st.integers(-1000, 1000))
def test_a_shift_moves_the_mean_and_leaves_the_spread(values, shift):
    plain, moved = mean_sd(values), mean_sd([value + shift for value in values])
    assert moved.mean == pytest.approx(plain.mean + shift)
    assert moved.sd == pytest.approx(plain.sd, abs=1e-9)


def test_spread_of_close_values_keeps_its_digits():
    assert mean_sd([1e9, 1e9 + 1, 1e9 + 2]).sd == 1.0


def test_the_spread_of_a_diverged_runs_perplexity_overflows_nothing():
    assert mean_sd([1e250, 1.0]).sd == pytest.approx(1e250 / math.sqrt(2))


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices():
    assert perplexity(100 * math.log(8), 100) == pytest.approx(8)
    assert perplexity(0.0, 3) == 1.0
    assert perplexity(1e6, 1) == math.inf


def test_bits_per_byte_of_a_fair_coin_per_byte_is_one():
    assert bits_per_byte(10 * math.log(2), 10) == pytest.approx(1)
    assert bits_per_byte(10 * math.log(2), 20) == pytest.approx(0.5)


def test_accuracy_is_a_share():
    assert accuracy(3, 4) == 0.75
    with pytest.raises(ValueError, match="between 0 and 4"):
        accuracy(5, 4)


@pytest.mark.parametrize("mean", [perplexity, bits_per_byte, accuracy])
def test_a_mean_over_nothing_is_refused(mean):
    with pytest.raises(ValueError, match="at least one"):
        mean(0, 0)
