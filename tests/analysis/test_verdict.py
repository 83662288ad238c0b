"""The words for a difference, and the rule behind them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.power import margin_on_scale, seeds_needed, smallest_difference
from bench.analysis.runs import Metric
from bench.analysis.statistics import Paired, bound_of, holm, holm_of_two, p_beyond, paired
from bench.analysis.verdict import Kind, Verdict, judge, without_bound

BEST_HIGH, BEST_LOW = Metric("score", "max"), Metric("perplexity", "min")


def difference(*values: float) -> Paired:
    return paired(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))


def judged(*values: float, margin: float = 1.0, metric: Metric = BEST_HIGH):
    (alone,) = judge([(difference(*values), margin)], metric)
    return alone


CLEAR, NOISE, SMALL = (2.0, 2.1, 1.9, 2.0, 2.1), (9.0, -9.1, 8.9, -9.0, 0.1), (0.1, 0.11, 0.1, 0.09, 0.1)
NEARLY = (1.5, -1.4, 1.0, -1.0, 0.1)


@pytest.mark.parametrize(
    ("values", "metric", "text"),
    [
        (CLEAR, BEST_HIGH, "better"),
        (CLEAR, BEST_LOW, "worse"),
        ([-value for value in CLEAR], BEST_LOW, "better"),
        (NOISE, BEST_HIGH, "not enough to tell (±1 % needs about 640 seeds)"),
        (NEARLY, BEST_HIGH, "smaller than 1.3"),
        (SMALL, BEST_HIGH, "equivalent"),  # sure of its sign, and too small to matter
        ([0.0] * 5, BEST_HIGH, "equivalent"),
        ([2.0] * 5, BEST_HIGH, "no spread (the same difference at all seeds)"),
        ([0.3 + 1e-17 * at for at in range(5)], BEST_HIGH, "no spread (the same difference at all seeds)"),
        (CLEAR[:4], BEST_HIGH, "better (too few seeds)"),
        (NOISE[:2], BEST_HIGH, "not enough to tell (±1 % needs about 1,300 seeds)"),
        (SMALL[:3], BEST_HIGH, "equivalent (too few seeds)"),
        (CLEAR[:1], BEST_HIGH, "too few seeds"),
        ([float("nan"), *CLEAR], BEST_HIGH, "not a number"),
        ([1.7e308, -1.7e308, 1.7e308], BEST_HIGH, "not a number"),  # a spread beyond all numbers
    ],
)  # fmt: skip
def test_words(values, metric, text):
    assert str(judged(*values, metric=metric).verdict) == text


def test_nothing_to_compare_with_is_no_verdict():
    (alone,) = judge([(None, 1.0)], BEST_HIGH)
    assert alone.verdict == Verdict(Kind.NOTHING) and str(alone.verdict) == ""
    assert (alone.p_holm, alone.smallest, alone.seeds) == (None, None, None)


def test_equivalent_asks_for_the_90_percent_interval_and_not_for_the_95():
    """Of 0 and 2 at n = 2: the mean is 1, and the 90 % interval reaches 6.314 (a quantile in every table) from it."""
    assert judged(0.0, 2.0, margin=7.32).verdict.kind == Kind.EQUIVALENT
    assert judged(0.0, 2.0, margin=7.31).verdict.kind == Kind.SMALLER


def test_a_bound_is_told_in_percentage_points_of_a_share_and_never_below_itself():
    values = [0.01 * value for value in NEARLY]
    verdict = judged(*values, margin=0.01, metric=Metric("accuracy", "max")).verdict
    assert verdict.word == "smaller than 1.3 points" and 100 * bound_of(difference(*values), 0.05) <= 1.3


def test_a_bound_on_the_logarithm_of_a_perplexity_is_told_as_a_change_in_percent():
    values = [0.01 * value for value in NEARLY]
    word = judged(*values, margin=0.01, metric=BEST_LOW).verdict.word
    told = float(word.removeprefix("smaller than ").removesuffix(" %"))
    assert told - 0.1 <= 100 * math.expm1(bound_of(difference(*values), 0.05)) <= told


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=7), st.floats(0.1, 3))
def test_what_is_said_follows_from_the_numbers(values, margin):
    alone = judged(*values, margin=margin)
    pairs = difference(*values)
    kind, bound = alone.verdict.kind, bound_of(pairs, 0.05)
    if kind == Kind.NO_SPREAD:
        assert pairs.sd == 0 and pairs.mean != 0
        return
    assert (kind == Kind.EQUIVALENT) == (p_beyond(pairs, margin) < 0.05)
    if kind in (Kind.BETTER, Kind.WORSE):
        assert pairs.p < 0.05 and (pairs.mean > 0) == (kind == Kind.BETTER)
    if kind == Kind.SMALLER:
        assert pairs.p >= 0.05 and margin <= bound <= 3 * margin
    if kind == Kind.UNDECIDED:
        assert pairs.p >= 0.05 and bound > 3 * margin and (alone.seeds is None or alone.seeds > len(values))
    if alone.p_holm is not None:
        assert alone.smallest == smallest_difference(pairs.sd, pairs.n, 0.05, 0.8)
        assert alone.seeds == seeds_needed(pairs.sd, margin, 0.05, 0.8)


def test_more_comparisons_ask_for_more_seeds_and_a_larger_difference():
    alone = judged(*NOISE)
    first, *_ = judge([(difference(*NOISE), 1.0)] * 10, BEST_HIGH)
    assert first.smallest > alone.smallest and first.seeds > alone.seeds and first.p_holm == 1.0


def test_a_verdict_says_all_that_must_be_known_of_it():
    verdict = Verdict(
        Kind.WORSE, "worse", qualifiers=("worse than the trigram floor", "1 of 3 not run yet"), is_hint=True
    )
    assert str(verdict.only_at("budget")) == (
        "worse at this budget (too few seeds); worse than the trigram floor; 1 of 3 not run yet"
    )
    hint = verdict.only_at("budget", "rate")
    assert hint.word == "worse at this budget and rate, a hint" and hint.is_rate_given
    assert verdict.only_at() == verdict
    undecided = Verdict(Kind.UNDECIDED, "not enough to tell")
    assert undecided.only_at("budget") == undecided == undecided.only_at("rate")
    bound = Verdict(Kind.SMALLER, "smaller than 3 %")
    assert (
        bound.only_at("budget") == bound
        and bound.only_at("rate").word == "smaller than 3 % at this rate, a hint"
    )
    assert Verdict(Kind.BETTER).is_good and not Verdict(Kind.BETTER, is_hint=True).is_good
    assert not Verdict(Kind.SMALLER).is_good
    assert Verdict(Kind.BETTER, "better").only_at("budget").is_good
    assert not Verdict(Kind.BETTER, "better").only_at("rate").is_good


@pytest.mark.parametrize("bound", ["3 %", "0.93 points", "1.1e-05", "12"])
@pytest.mark.parametrize(
    "rest", ["", " at this rate, a hint", "; worse than the trigram floor", " (few seeds)", "*"]
)
def test_verdicts_that_differ_in_their_bound_alone_count_as_one(bound, rest):
    assert without_bound(f"smaller than {bound}{rest}") == f"smaller than a bound{rest}"
    assert without_bound(f"worse{rest}") == f"worse{rest}"


def test_margins():
    share, loss, perplexity = (Metric(name, "min") for name in ("accuracy", "nll", "perplexity"))
    assert margin_on_scale(share, None, 0.9) == 0.005
    assert margin_on_scale(loss, None, 200.0) == margin_on_scale(loss, None, -200.0) == 2.0
    assert margin_on_scale(perplexity, None, 5.0) == math.log1p(0.01)


# Two hypotheses per comparison.

pairs_of_p = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=6)


def test_two_hypotheses_done_in_the_head():
    """Times 3 while three may be true, times 2 when both of one comparison are rejected, and never below one before."""
    found = holm_of_two([(0.01, 0.02), (0.03, 0.9), (0.5, 0.4)])
    assert found[0] == pytest.approx((0.03, 0.06)) and found[1] == pytest.approx((0.06, 1.0))
    assert found[2] == pytest.approx((1.0, 0.8))


@given(pairs_of_p)
def test_two_hypotheses_are_never_worse_off_than_with_holm_over_all(pairs):
    flat = holm([p for pair in pairs for p in pair])
    for (first, second), one, other, raw in zip(
        holm_of_two(pairs), flat[::2], flat[1::2], pairs, strict=True
    ):
        assert raw[0] <= first <= one + 1e-12 and raw[1] <= second <= other + 1e-12


@given(st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_the_two_of_one_comparison_need_no_correction_but_order(pair):
    (found,) = holm_of_two([pair])
    assert min(found) == min(pair) and max(found) in (0.0, *pair, max(pair))


@pytest.mark.parametrize("odd", [-0.1, 1.1, math.nan])
def test_what_is_no_p_is_refused(odd):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm_of_two([(0.5, odd)])


def test_p_beyond_a_margin():
    """Of 0 and 2 the mean is 1, its standard error 1: at margin 1 the odds are even."""
    assert p_beyond(difference(0.0, 2.0), 1.0) == pytest.approx(0.5)
    assert p_beyond(difference(0.0, 2.0), 7.3138) == pytest.approx(0.05, abs=1e-5)
    assert p_beyond(difference(0.5, 0.5), 1.0) == 0.0 and p_beyond(difference(0.5, 0.5), 0.5) == 1.0
    assert p_beyond(difference(0.5), 1.0) is None and bound_of(difference(0.5), 0.05) is None
