"""Resampling: from ten values on, its own generator, whole groups."""

import random

import numpy as np
import pytest

from bench.analysis.aggregate import Scores
from bench.analysis.statistics import bootstrap_of_groups

COIN = [0, 1] * 10


def test_fewer_than_ten_are_refused():
    with pytest.raises(ValueError, match="at least 10"):
        bootstrap_of_groups([1] * 9, [2] * 9)
    assert bootstrap_of_groups([1] * 10, [1] * 10) == (1.0, 1.0, 1.0, 10)


def test_the_same_values_give_the_same_bounds_and_nobody_elses_draws_move():
    before = random.getstate(), np.random.get_state()[1].tolist()
    groups = list(range(20)), [20] * 20
    assert (
        bootstrap_of_groups(*groups) == bootstrap_of_groups(*groups) != bootstrap_of_groups(*groups, seed=1)
    )
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_higher_level_is_wider_and_the_mean_lies_within():
    narrow, wide = bootstrap_of_groups(COIN, [1] * 20, 0.5), bootstrap_of_groups(COIN, [1] * 20, 0.99)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


def test_groups_of_one_example_are_the_plain_bootstrap():
    from scipy.stats import bootstrap

    values = [0] * 30 + [1] * 70
    generator = np.random.Generator(np.random.PCG64(0))
    others = bootstrap([values], np.mean, method="percentile", rng=generator).confidence_interval
    assert bootstrap_of_groups(values, [1] * 100)[1:3] == pytest.approx(tuple(others), abs=0.011)


def test_examples_that_share_their_group_say_less():
    alone = bootstrap_of_groups([0, 1] * 100, [1] * 200)
    shared = bootstrap_of_groups([0, 10] * 10, [10] * 20)
    assert alone.mean == shared.mean == 0.5
    assert shared.high - shared.low > 2 * (alone.high - alone.low)


def test_groups_of_one_rate_have_no_width_whatever_their_sizes():
    found = bootstrap_of_groups([2 * size for size in range(1, 13)], [4 * size for size in range(1, 13)])
    assert found == (0.5, 0.5, 0.5, 12)


@pytest.mark.parametrize(
    ("correct", "count"), [([1] * 10, [1] * 11), ([2] * 10, [1] * 10), ([0] * 10, [0] * 10)]
)
def test_counts_that_are_none_are_refused(correct, count):
    with pytest.raises(ValueError, match="0 <= correct <= count"):
        bootstrap_of_groups(correct, count)


def test_a_profile_is_the_share_that_reaches_a_threshold():
    seeds = {1: [0.0, 0.95], 2: [0.99, 1.0], 3: [2.0]}
    assert Scores("tied", {("task", "data"): seeds}).profile == [0.8, 0.6, 0.4, 0.2]
    assert Scores("tied").profile == [None] * 4
