"""Rules: what they answer, what they leave open, and what they refuse."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.statistics import paired
from bench.claims.evaluate import Measure, Part
from bench.claims.rule import EVERY, Verdict, Word, holds, over_parts, verdict
from bench.tying.errors import BadInput

NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 3))


@given(NUMBERS, NUMBERS, NUMBERS)
def test_an_expression_means_what_it_means_in_python(a, b, c):
    numbers = {"a": a, "b": b, "c": c}
    for text in (
        "a < b",
        "a < b <= c",
        "not a + 2 * b > c",
        "abs(a - b) <= 1 and max(a, b) > -c",
        "a == b or b != c",
    ):
        assert holds(text, numbers) is eval(text, {}, numbers)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a > 0", None),
        ("a > 0 or b > 0", True),
        ("a > 0 and b > 0", None),
        ("a > 0 and b < 0", False),
        ("not a > 0", None),
        ("-a + b > 0", None),
        ("max(a, b) > 0", None),
    ],
)
def test_what_is_not_known_leaves_open_only_what_hangs_on_it(text, answer):
    assert holds(text, {"a": None, "b": 1.0}) is answer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a >",
        "a",
        "1",
        "a + 1",
        "a.real > 0",
        "open('x') > 0",
        "abs",
        "(lambda: 1)() > 0",
        "a[0] > 0",
        "'a' > 'b'",
        "[x for x in a] > 0",
        "a > True",
        "unknown > 0",
        "a / 0 > 1",
        "10.0 ** 400 > a",
        None,
    ],
)
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(BadInput, match="bad expression") as caught:
        holds(text, {"a": 1.0})
    assert "\n" not in str(caught.value)


RULE = {"supported": "low > 0", "refuted": "high < 0"}


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (1, 2, "supported"),
        (-2, -1, "refuted"),
        (-1, 1, "inconclusive"),
        (0, 1, "inconclusive"),
        (None, None, None),
    ],
)
def test_a_verdict_is_one_of_three_or_open(low, high, found):
    assert verdict(RULE, {"low": low, "high": high}) == found


def test_a_rule_must_not_say_both():
    with pytest.raises(BadInput, match="both"):
        verdict({"supported": "low > 0", "refuted": "low > 1"}, {"low": 2.0})


def test_one_false_part_of_many_decides_nothing():
    """Twenty parts without an effect: alone one of them is beyond 0 by chance, judged together none is."""
    rng, alarms, together = random.Random(0), 0, 0
    for _ in range(400):
        parts = []
        for name in range(20):
            ours = {seed: rng.gauss(0, 1) for seed in range(5)}
            difference = paired(ours, dict.fromkeys(range(5), 0.0))
            bounds = (difference.low, difference.high)
            parts.append(Part(str(name), (Measure("gain", difference.mean, "", *bounds, 5),)))
        alarms += any(part.numbers()["gain_low"] > 0 or part.numbers()["gain_high"] < 0 for part in parts)
        wide = [part.numbers(20) for part in parts]
        together += any(found["gain_low"] > 0 or found["gain_high"] < 0 for found in wide)
    assert alarms > 200 and together < 0.05 * 400 + 2 * math.sqrt(400 * 0.05 * 0.95)


def test_a_ratio_is_widened_as_its_logarithm_and_one_without_seeds_is_not():
    ratio = Measure("time", 2.0, "", 1.0, 4.0, 5, is_ratio=True).among(10)
    assert ratio.low < 1 and ratio.low * ratio.high == pytest.approx(4)
    over_turns = Measure("cut", 0.1, "", 0.0, 0.2)
    assert over_turns.among(10) == over_turns and ratio.among(1) == ratio


@pytest.mark.parametrize(
    "words, detail",
    [
        ("srsr", "supported for b, warm (all 2). refuted for b, cold (all 2)"),
        ("srrr", "supported for x, b, warm. refuted for x, b, cold; y, b, warm; y, b, cold"),
    ],
)
def test_conditions_are_named_by_their_end_where_that_decides(words, detail):
    names = [f"{network}, b, {cache}" for network in "xy" for cache in ("warm", "cold")]
    word_of = {"s": Word.SUPPORTED, "r": Word.REFUTED}
    conditions = [(name, Verdict(word_of[word])) for name, word in zip(names, words, strict=True)]
    assert over_parts(EVERY, conditions) == Verdict(Word.MIXED, detail)
