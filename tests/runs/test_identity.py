"""A run's identity: equal exactly where two contents are, today and tomorrow."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.runs.identity import RECORDED_NAMES, identity, present_names, recorded_names

leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
tree = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
content = st.dictionaries(st.text(max_size=5), tree, max_size=4)


def shuffled(value):
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(content)
def test_identity_knows_no_order_of_keys_and_survives_json(value):
    assert identity(value) == identity(shuffled(value)) == identity(json.loads(json.dumps(value)))


@given(content, content | st.just({}))
def test_identities_are_equal_exactly_when_contents_are(a, b):
    assert (identity(a) == identity(b)) == same(a, b)


def same(a, b):
    """Equality as JSON has it: 1 is 1.0 and not true."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b


@given(st.integers(-(2**50), 2**50))
def test_a_whole_float_is_the_integer(number):
    assert identity({"a": [number]}) == identity({"a": [float(number)]})


@pytest.mark.parametrize(
    "other", [{"a": True}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": {"a": 1}}, {}]
)
def test_what_is_not_one_is_another_run(other):
    assert identity({"a": 1}) != identity(other)


def test_identity_is_the_same_tomorrow():
    """Records on disk are found by it: a change here orphans every one of them."""
    text = b'{"dropout":0,"seed":1}'
    assert identity({"seed": 1, "dropout": 0.0}) == hashlib.sha256(text).hexdigest()[:12] == "5445eb53aacf"


@given(st.lists(leaf | st.sampled_from([*RECORDED_NAMES])))
def test_names_of_today_come_back_from_recorded_ones(values):
    assert present_names(recorded_names({"a": values})) == {"a": values}
