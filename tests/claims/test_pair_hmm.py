"""The likelihood ratio of a pair HMM whose gaps are tied: laws of the statistic, and numbers done by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.claims.checks.pair_hmm import LIKE, MATCH, ONE, OTHER, counts, gaps, statistics

NOTHING = {(a, b): np.zeros(1) for a in range(3) for b in range(3)}
NUMBERS = st.tuples(*[st.integers(0, 40)] * 6)


def statistic(opened, other_opened, on, other_on, back, other_back):
    made = {(MATCH, ONE): opened, (MATCH, OTHER): other_opened, (ONE, ONE): on, (OTHER, OTHER): other_on}
    made |= {(ONE, MATCH): back, (OTHER, MATCH): other_back}
    (value,) = statistics(NOTHING | {pair: np.array([float(count)]) for pair, count in made.items()})
    return value


def test_it_is_the_ratio_by_hand():
    # 3 and 1 gaps opened: 2 (3 ln(3/2) + 1 ln(1/2)); all go on in the one and none in the other: 2 x 4 ln 2.
    opened = 2 * (3 * math.log(3 / 2) + math.log(1 / 2))
    assert statistic(3, 1, 0, 0, 0, 0) == pytest.approx(opened)
    assert statistic(0, 0, 2, 0, 0, 2) == pytest.approx(8 * math.log(2))
    assert statistic(3, 1, 2, 0, 0, 2) == pytest.approx(opened + 8 * math.log(2))


@given(NUMBERS)
def test_it_is_never_below_zero_and_the_gaps_may_change_names(numbers):
    opened, other_opened, on, other_on, back, other_back = numbers
    value = statistic(*numbers)
    assert value >= -1e-9
    assert value == pytest.approx(statistic(other_opened, opened, other_on, on, other_back, back), abs=1e-9)


@given(NUMBERS)
def test_gaps_that_are_alike_are_not_told_apart(numbers):
    opened, _, on, _, back, _ = numbers
    assert statistic(opened, opened, on, on, back, back) == pytest.approx(0, abs=1e-9)


def test_every_column_but_the_first_is_one_transition_and_no_gap_follows_the_other():
    made = counts(np.random.default_rng(0), 50, 20, LIKE)
    assert (sum(made.values()) == 50).all()
    assert not made[ONE, OTHER].any() and not made[OTHER, ONE].any()


def test_a_longer_alignment_tells_more():
    short, long = gaps([20, 2000], 400)
    assert short.name == "20 columns" and [m.name for m in long.measures] == ["size", "power", "chi_squared"]
    assert long.numbers()["power"] > short.numbers()["power"] + 0.5
    assert abs(long.numbers()["size"] - 0.05) < 0.05
