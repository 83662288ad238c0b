"""Corrected p-values: an example done in the head, and laws."""

import math
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from bench.analysis.statistics import holm

p_values = st.lists(st.floats(0, 1), max_size=8)


def test_done_in_the_head():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(p_values.filter(len))
def test_it_is_that_of_statsmodels(values):
    with patch("gc.collect"):  # at each call, with all that tests import: half a second
        expected = multipletests(values, method="holm")[1]
    assert holm(values) == pytest.approx(expected)


@given(p_values)
def test_between_no_correction_and_bonferronis(values):
    for raw, corrected in zip(values, holm(values), strict=True):
        assert raw <= corrected <= min(1, len(values) * raw)


@given(p_values)
def test_the_order_in_which_they_are_given_does_not_matter(values):
    assert sorted(holm(values)) == holm(sorted(values))


@given(st.floats(0, 1))
def test_one_alone_needs_no_correction(p):
    assert holm([p]) == [p]


@pytest.mark.parametrize("odd", [-0.1, 1.1, math.nan])
def test_what_is_no_p_is_refused(odd):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, odd])
