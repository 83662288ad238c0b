"""The words for a difference, and the rule behind them."""

import pytest

from bench.analysis.statistics import margin_of, paired, verdict


def difference(*values: float):
    return paired(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))


CLEAR, NOISE, SMALL = (2.0, 2.1, 1.9, 2.0, 2.1), (2.0, -2.1, 1.9, -2.0, 0.1), (0.1, 0.11, 0.1, 0.09, 0.1)


@pytest.mark.parametrize(
    ("values", "p_holm", "mode", "said"),
    [
        (CLEAR, 0.001, "max", "better"),
        (CLEAR, 0.001, "min", "worse"),
        ([-value for value in CLEAR], 0.001, "min", "better"),
        (CLEAR, 0.06, "max", "no difference shown"),
        (CLEAR, 0.05, "max", "no difference shown"),
        (NOISE, 0.9, "max", "no difference shown"),
        (SMALL, 0.0001, "max", "equivalent"),  # sure of its sign, and too small to matter
        ([0.0] * 5, 1.0, "max", "equivalent"),
        (CLEAR[:4], 0.001, "max", "better (too few seeds)"),
        (SMALL[:2], 0.5, "max", "equivalent (too few seeds)"),
        (CLEAR[:1], None, "max", "too few seeds"),
        ([float("nan"), *CLEAR], None, "max", "not a number"),
    ],
)
def test_words(values, p_holm, mode, said):
    assert verdict(difference(*values), p_holm, margin=1.0, mode=mode) == said


def test_nothing_to_compare_with_is_no_verdict():
    assert verdict(None, None, 1.0, "max") == ""


def test_equivalent_asks_for_the_90_percent_interval_and_not_for_the_95():
    """Of 0 and 2 at n = 2: the mean is 1, and the 90 % interval reaches 6.314 (a quantile in every table) from it."""
    values = [0.0, 2.0]
    assert verdict(difference(*values), 0.5, 7.32, "max").startswith("equivalent")
    assert verdict(difference(*values), 0.5, 7.31, "max").startswith("no difference shown")


def test_margins():
    assert margin_of(True, 0.9) == 0.005
    assert margin_of(False, 200.0) == margin_of(False, -200.0) == 2.0
