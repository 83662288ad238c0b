"""Laws of the algebra, on plans over a small alphabet of names."""

import math
from functools import reduce

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.tying.errors import BadInput
from bench.tying.plan import TyingPlan
from bench.tying.tie import HARD, Tie

BLOCK = {"a": -3, "b": -2, "c": -1, "d": -1, "e": None, "f": None}
STRENGTHS = (0.0, 0.1, 1.0, HARD)


def tie(names, strength=HARD):
    return Tie(tuple(names), strength, tuple(BLOCK[name] for name in names))


some_names = st.lists(st.sampled_from(sorted(BLOCK)), max_size=3)
ties = st.builds(tie, some_names, st.sampled_from(STRENGTHS))


@st.composite
def plans(draw):
    return attempt(TyingPlan, tuple(draw(st.lists(ties, max_size=3)))) or TyingPlan()


def attempt(make, *args):
    """The plan, or None where it is refused."""
    try:
        return make(*args)
    except BadInput:
        return None


def total(*plans):
    return attempt(lambda: reduce(TyingPlan.__add__, plans))


@given(plans(), plans())
def test_union_is_commutative_also_in_what_it_refuses(a, b):
    assert total(a, b) == total(b, a)


@given(plans(), plans(), plans())
def test_union_is_associative_also_in_what_it_refuses(a, b, c):
    left, right = total(a, b), total(b, c)
    assert (left and total(left, c)) == (right and total(a, right))


@given(plans())
def test_union_is_idempotent_and_the_empty_plan_is_its_identity(a):
    assert a + a == a
    assert a + TyingPlan() == a == TyingPlan() + a


@given(plans(), plans(), st.sampled_from(STRENGTHS))
def test_soften_distributes_over_union(a, b, strength):
    both = total(a, b)
    assume(both is not None)
    assert both.soften(strength) == a.soften(strength) + b.soften(strength)


@given(plans())
def test_normal_form_is_stable_and_last_of_everything_changes_nothing(a):
    assert TyingPlan(a.ties) == TyingPlan(tuple(reversed(a.ties))) == a
    assert a.last(3) == a
    assert a.soften(0) == TyingPlan()


@given(plans(), st.integers(1, 3), st.integers(1, 3))
def test_last_after_last_is_the_smaller_of_the_two(a, k, j):
    assert a.last(k).last(j) == a.last(min(k, j))


def test_a_tie_sorts_by_block_then_name_and_collapses_repeats():
    assert Tie(("y", "x", "y"), blocks=(-1, -10, -1)) == Tie(("x", "y"), blocks=(-10, -1))
    assert Tie(("blocks.10.w", "blocks.9.w"), blocks=(-2, -3)).names == ("blocks.9.w", "blocks.10.w")
    assert Tie(("b", "a"), blocks=(None, None)) == Tie(("a", "b"))
    assert Tie(("a", "z"), blocks=(None, -1)).names == ("z", "a")


@pytest.mark.parametrize(
    "arguments",
    [
        {"names": "ab"},
        {"names": (1, 2)},
        {"names": ("a", "b"), "strength": math.nan},
        {"names": ("a", "b"), "strength": -0.1},
        {"names": ("a", "b"), "strength": True},
        {"names": ("a", "b"), "strength": "1"},
        {"names": ("a", "b"), "blocks": (-1,)},
        {"names": ("a", "b"), "blocks": (0, 1)},
        {"names": ("a", "b"), "blocks": (-2.0, -1)},
        {"names": ("a", "a"), "blocks": (-2, -1)},
    ],
)
def test_a_wrong_tie_is_refused(arguments):
    with pytest.raises(BadInput):
        Tie(**arguments)


def test_hard_overlaps_close_and_a_soft_tie_pulls_in_the_whole_hard_class():
    assert TyingPlan((tie("ab"), tie("bc"))).ties == (tie("abc"),)
    assert TyingPlan((tie("ab"), tie("bc", 0.1))).ties == (tie("ab"), tie("abc", 0.1))


def test_two_strengths_that_meet_are_refused_by_name():
    with pytest.raises(BadInput, match=r"^b is softly tied with two strengths, 0.1 and 1,"):
        TyingPlan((tie("ab", 0.1), tie("bc", 1.0)))
    with pytest.raises(BadInput, match="0.1 and 1"):  # through the hard tie of b and c
        TyingPlan((tie("ab", 0.1), tie("cd", 1.0), tie("bc")))
    assert len(TyingPlan((tie("ab", 0.1), tie("cd", 1.0))).ties) == 2


def test_a_soft_tie_inside_a_hard_class_keeps_its_strength():
    plan = TyingPlan((tie("ab"), tie("ab", 0.1)))
    assert len(plan.ties) == 2
    with pytest.raises(BadInput):
        plan + TyingPlan((tie("bc", 1.0),))


def test_one_name_in_two_blocks_is_refused_across_ties():
    with pytest.raises(BadInput, match="block"):
        TyingPlan((Tie(("x", "y"), blocks=(-2, -1)), Tie(("y", "z"), blocks=(-3, -1))))


@pytest.mark.parametrize("k", [0, -1, 1.0, True, None, "2"])
def test_last_takes_whole_blocks_from_one(k):
    with pytest.raises(BadInput):
        TyingPlan((tie("abc"),)).last(k)


@pytest.mark.parametrize("strength", [-1, math.nan, None])
def test_soften_refuses_a_wrong_strength_even_with_nothing_to_soften(strength):
    with pytest.raises(BadInput):
        TyingPlan().soften(strength)
