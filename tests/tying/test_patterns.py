"""Groupings along depth: the published ones by their published examples, and the laws that hold at every depth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_strategies import along, names, network

from bench.tying.errors import BadInput
from bench.tying.methods import (
    block_wise,
    bottom_k,
    cross_layer,
    cycle,
    cycle_rev,
    embedding,
    grouped,
    in_cycles,
    in_repeats,
    in_reversed_cycles,
    in_sandwich,
    in_sequence,
    in_the_first,
    none,
    sandwich,
    sequence,
    soft,
    top_k,
)
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.tie import Tie

BY_GROUPS = {sequence: in_sequence, cycle: in_cycles, cycle_rev: in_reversed_cycles}
depths = st.integers(2, 12)
stacks = depths.flatmap(lambda depth: st.tuples(st.just(depth), st.integers(1, depth)))


def partition(labels):
    return {frozenset(at for at, other in enumerate(labels) if other == label) for label in labels}


def published(kind, depth, groups):
    """Takase & Kiyono 2021, algorithm 1, line by line, blocks counted from 1: which block each one is a use of."""
    of = {}
    for i in range(1, depth + 1):
        if i == 1:
            of[i] = 1
        elif kind == "sequence":
            of[i] = i if (i - 1) % math.floor(depth / groups) == 0 else of[i - 1]
        elif i <= groups:
            of[i] = i
        elif kind == "cycle" or i <= groups * (math.ceil(depth / groups) - 1):
            of[i] = of[(i - 1) % groups + 1]
        else:
            of[i] = of[groups - (i - 1) % groups]
    return [of[i] for i in range(1, depth + 1)]


@given(stacks)
def test_sequence_and_cycles_are_the_published_ones(stack):
    depth, groups = stack
    assert partition(in_cycles(depth, groups)) == partition(published("cycle", depth, groups))
    assert partition(in_reversed_cycles(depth, groups)) == partition(published("reversed", depth, groups))
    if depth % groups == 0:
        assert partition(in_sequence(depth, groups)) == partition(published("sequence", depth, groups))


def test_examples():
    assert in_sequence(6, 3) == (0, 0, 1, 1, 2, 2) and in_sequence(7, 3) == (0, 0, 0, 1, 1, 2, 2)
    assert in_cycles(6, 3) == (0, 1, 2, 0, 1, 2) and in_cycles(7, 3) == (0, 1, 2, 0, 1, 2, 0)
    assert in_reversed_cycles(6, 3) == (0, 1, 2, 2, 1, 0) and in_reversed_cycles(9, 3)[3:] == (
        0,
        1,
        2,
        2,
        1,
        0,
    )
    assert in_sandwich(6) == (0, 1, 1, 1, 1, 2)
    assert in_repeats(6, 2) == (0, 0, 1, 1, 2, 2) and in_repeats(5, 2) == (0, 0, 1, 1, 2)
    assert in_the_first(6, 3) == (0, 0, 0, 1, 2, 3)


@pytest.mark.parametrize("pattern", [in_sequence, in_cycles, in_reversed_cycles])
@given(stack=stacks)
def test_there_are_as_many_groups_as_asked_for(pattern, stack):
    depth, groups = stack
    labels = pattern(depth, groups)
    assert len(labels) == depth and set(labels) == set(range(groups))
    sizes = [len(blocks) for blocks in partition(labels)]
    assert pattern is in_reversed_cycles or max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("strategy", BY_GROUPS)
@given(depth=depths, scope=st.sampled_from(["weights", "all", "norm"]))
def test_one_group_is_cross_layer_and_parameters_rise_with_groups_up_to_none(strategy, depth, scope):
    model = network((2,) * depth)
    plans = [strategy(model, groups=groups, scope=scope) for groups in range(1, depth + 1)]
    assert plans[0] == cross_layer(model, scope=scope) and plans[-1] == none(model)
    counts = [plan.num_params(model) for plan in plans]
    assert counts == sorted(set(counts))


@given(depths)
def test_repeats_run_from_none_to_cross_layer(depth):
    model = network((2,) * depth)
    assert block_wise(model, repeats=1) == none(model)
    assert block_wise(model, repeats=depth) == cross_layer(model)
    if depth % 2 == 0:
        assert block_wise(model, repeats=2) == sequence(model, groups=depth // 2)


@given(stacks)
def test_bottom_k_is_top_k_of_the_stack_read_backwards(stack):
    depth, k = stack
    model = network((2,) * depth)
    mirrored = {tuple(reversed([_mirrored(name, depth) for name in tie])) for tie in names(top_k(model, k=k))}
    assert names(bottom_k(model, k=k)) == mirrored


def _mirrored(name, depth):
    first, at, *rest = name.split(".")
    return ".".join([first, str(depth - 1 - int(at)), *rest])


@given(depths.flatmap(lambda depth: st.lists(st.integers(0, 3), min_size=depth, max_size=depth)))
def test_any_grouping_cuts_cross_layer(labels):
    model = network((2,) * len(labels))
    plan, whole = grouped(model, grouping=labels), cross_layer(model)
    assert plan == whole.within(labels) and plan + whole == whole
    leaves = ("up.weight", "down.weight")
    several = [sorted(blocks) for blocks in partition(labels) if len(blocks) > 1]
    assert names(plan) == {along(leaf, blocks) for leaf in leaves for blocks in several}


def test_sandwich_leaves_the_ends_their_own():
    assert names(sandwich(network((4,) * 5), scope="feed_forward")) == {along("up.weight", (1, 2, 3))}
    with pytest.raises(NotApplicable, match="of 3 blocks"):
        sandwich(network())


def test_blocks_of_other_shapes_share_within_their_shape():
    model = network((4, 4, 8, 8))
    assert names(grouped(model, grouping=[5, 5, 5, 5])) == names(cross_layer(model))
    assert names(sequence(model, groups=2, scope="feed_forward")) == {
        along("up.weight", (0, 1)),
        along("up.weight", (2, 3)),
    }
    assert names(cycle(network((4, 8, 4, 8)), groups=2, scope="feed_forward")) == {
        along("up.weight", (0, 2)),
        along("up.weight", (1, 3)),
    }
    with pytest.raises(NotApplicable, match="no two blocks of one label"):
        sequence(network((4, 8, 4, 8)), groups=2)


def test_they_compose_with_an_embedding_and_with_soft_ties():
    model = network((4,) * 4)
    both = embedding(model) + cycle(model, groups=2)
    assert both.within((0, 1, 0, 1)) == both and both.within((0, 1, 2, 3)) == embedding(model)
    mixed = cycle(model, groups=2, scope="feed_forward") + soft(model, strength=0.5, scope="feed_forward")
    mixed.apply(model)
    mixed.verify(model)
    ((members, strength),) = mixed.bind(model).soft
    assert len(members) == 2 and strength == 0.5  # a group is one member of what draws the groups together
    assert soft(model, strength=0.5).within((0, 1, 0, 1)) == cycle(model, groups=2).soften(0.5)


@pytest.mark.parametrize(
    "grouping", [None, [], [0, 0], [0, 0, 1, 1], [0, 0, 1.0], [0, 0, True], "001", [0, 0, None]]
)
def test_a_grouping_that_is_none_is_refused(grouping):
    with pytest.raises(BadInput, match="the network has 3 blocks: give a whole number for each"):
        grouped(network(), grouping=grouping)


@pytest.mark.parametrize("number", [0, 4, 2.0, True, None, -1])
def test_numbers_beyond_the_stack_are_refused(number):
    for strategy in BY_GROUPS:
        with pytest.raises(BadInput, match="groups must be an integer from 1 to 3"):
            strategy(network(), groups=number)
    with pytest.raises(BadInput, match="repeats must be an integer from 1 to 3"):
        block_wise(network(), repeats=number)
    with pytest.raises(BadInput, match="from 1 to 3" if number is not None else "bottom_k takes exactly one"):
        bottom_k(network(), k=number)


def test_a_grouping_shorter_than_the_stack_of_a_plan_is_refused():
    plan = TyingPlan((Tie(("a", "b"), blocks=(-3, -1)),))
    with pytest.raises(BadInput, match="a sits in block -3; the grouping has labels for 2 blocks"):
        plan.within((0, 0))
