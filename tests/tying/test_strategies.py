"""The named strategies on small stacks that name their parts."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.config import schema
from bench.tying import methods
from bench.tying.errors import BadInput
from bench.tying.methods import compose, cross_layer, embedding, none, soft, soft_embedding, top_k
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.structure import Parts
from bench.tying.tie import Tie


def role(name):
    if name.endswith("bias"):
        return "bias"
    return next((role for key, role in (("norm", "norm"), ("up", "feed_forward")) if key in name), "other")


def block(width, wide):
    parts = {"up": nn.Linear(width, wide), "down": nn.Linear(wide, width), "norm": nn.BatchNorm1d(width)}
    return nn.ModuleDict(parts)


def network(widths=(4, 4, 4), vocab=7, output=4, **parts):
    """One block per width; parameters of block i: up, down (weights and biases) and a batch norm."""
    model = nn.Module()
    model.blocks = nn.ModuleList(block(width, 2 * width) for width in widths)
    model.embedding = nn.Embedding(vocab, 4)
    model.output = nn.Linear(output, vocab, bias=False)
    stack = tuple(f"blocks.{i}" for i in range(len(widths)))
    named = {"stack": stack, "embedding": "embedding.weight", "unembedding": "output.weight", "role": role}
    model.parts = Parts(**named | parts)
    return model


def names(plan):
    return {tie.names for tie in plan.ties}


def along(leaf, blocks):
    return tuple(f"blocks.{i}.{leaf}" for i in blocks)


def test_none_is_the_empty_plan():
    assert none(network()) == TyingPlan()


def test_embedding_ties_both_ends():
    model = network()
    assert embedding(model) == TyingPlan((Tie(("embedding.weight", "output.weight")),))
    embedding(model).apply(model)
    assert model.embedding.weight is model.output.weight


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"embedding": None}, "no input embedding"),
        ({"unembedding": None}, "no output embedding"),
        ({"output": 5}, r"embedding.weight \(7, 4\) and output.weight \(7, 5\)"),
    ],
)
def test_embedding_says_why_it_cannot(options, reason):
    with pytest.raises(NotApplicable, match=reason):
        embedding(network(**options))


def test_cross_layer_ties_the_weights_of_all_blocks():
    plan = cross_layer(network())
    assert names(plan) == {along("up.weight", range(3)), along("down.weight", range(3))}
    assert all(tie.is_hard and tie.blocks == (-3, -2, -1) for tie in plan.ties)


def test_each_shape_is_its_own_tie():
    plan = cross_layer(network((4, 4, 8, 8, 16)))
    leaves = ("up.weight", "down.weight")
    assert names(plan) == {along(leaf, pair) for leaf in leaves for pair in ((0, 1), (2, 3))}
    assert {tie.blocks for tie in plan.ties} == {(-5, -4), (-3, -2)}


@pytest.mark.parametrize(
    ("scope", "leaves"),
    [
        ("weights", {"up.weight", "down.weight"}),
        ("all", {"up.weight", "up.bias", "down.weight", "down.bias", "norm.weight", "norm.bias"}),
        ("feed_forward", {"up.weight"}),
        (["feed_forward", "norm"], {"up.weight", "norm.weight"}),
        ("bias", {"up.bias", "down.bias", "norm.bias"}),
    ],
)
def test_scope_chooses_by_rank_or_role(scope, leaves):
    assert names(cross_layer(network(), scope=scope)) == {along(leaf, range(3)) for leaf in leaves}


def test_buffers_are_never_tied():
    model = network()
    cross_layer(model, scope="all").apply(model)
    norms = [block["norm"] for block in model.blocks]
    assert norms[0].weight is norms[1].weight
    assert norms[0].running_mean is not norms[1].running_mean


@pytest.mark.parametrize("scope", ["conv1d", ["norm", "conv1d"], ["weights"], [], None])
def test_an_unknown_scope_is_refused_with_the_allowed_ones(scope):
    with pytest.raises(BadInput, match="allowed are weights, all.*attention, feed_forward"):
        cross_layer(network(), scope=scope)


def test_a_role_that_the_model_lacks_is_not_applicable():
    with pytest.raises(NotApplicable, match="no recurrent parameters.*bias, feed_forward"):
        cross_layer(network(), scope=["norm", "recurrent"])


@pytest.mark.parametrize("widths", [(), (4,), (4, 8)])
def test_nothing_to_share_across_is_not_applicable(widths):
    with pytest.raises(NotApplicable):
        cross_layer(network(widths))


def test_a_stack_can_be_given_and_must_name_modules_once():
    plan = cross_layer(network(), stack=("blocks.0", "blocks.2"))
    assert names(plan) == {along("up.weight", (0, 2)), along("down.weight", (0, 2))}
    for stack in (("blocks.0", "blocks.7"), ("blocks.0", "blocks.0")):
        with pytest.raises(BadInput, match="stack"):
            cross_layer(network(), stack=stack)


@given(st.integers(2, 6), st.sampled_from(["weights", "all", "norm"]))
def test_top_k_runs_from_none_to_cross_layer_and_saves_at_every_step(depth, scope):
    model = network((2,) * depth)
    plans = [top_k(model, k=k, scope=scope) for k in range(1, depth + 1)]
    assert plans[0] == none(model)
    assert plans[-1] == cross_layer(model, scope=scope)
    counts = [plan.num_params(model) for plan in plans]
    assert all(more > less for more, less in zip(counts, counts[1:], strict=False))


@given(st.lists(st.sampled_from([2, 3]), min_size=2, max_size=6))
def test_num_params_never_rises_in_k_on_a_mixed_stack(widths):
    model = network(tuple(widths))
    counts = []
    for k in range(2, len(widths) + 1):
        try:
            counts.append(top_k(model, k=k).num_params(model))
        except NotApplicable:
            assert not counts  # once there is something to share, there always is
    assert counts == sorted(counts, reverse=True)


def test_top_k_counts_from_the_output():
    assert names(top_k(network(), k=2, scope="feed_forward")) == {along("up.weight", (1, 2))}


def test_top_k_without_namesakes_does_not_run_as_none():
    with pytest.raises(NotApplicable, match="last 2 of 3"):
        top_k(network((4, 4, 8)), k=2)


@pytest.mark.parametrize(
    ("depth", "fraction", "k"),
    [(10, 0.3, 3), (100, 0.07, 7), (6, 0.5, 3), (9, 0.3, 3), (3, 0.1, 2), (4, 1, 4), (4, 0.51, 3)],
)
def test_a_fraction_is_rounded_up_to_whole_blocks(depth, fraction, k):
    model = network((1,) * depth)
    assert top_k(model, fraction=fraction) == top_k(model, k=k)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one"),
        ({"k": 2, "fraction": 0.5}, "exactly one"),
        ({"k": 0}, "1 to 3"),
        ({"k": 4}, "the network has 3 blocks"),
        ({"k": 2.0}, "integer"),
        ({"k": True}, "integer"),
        ({"fraction": 0}, "above 0"),
        ({"fraction": 1.1}, "up to 1"),
        ({"fraction": math.nan}, "up to 1"),
        ({"fraction": "half"}, "number"),
    ],
)
def test_top_k_refuses_what_is_no_share_of_the_stack(arguments, message):
    with pytest.raises(BadInput, match=message):
        top_k(network(), **arguments)


def test_soft_has_both_ends():
    model = network()
    assert soft(model, strength=0) == none(model)
    assert soft(model, strength=math.inf) == cross_layer(model)
    assert soft(model, strength=0.1) == cross_layer(model).soften(0.1)
    assert soft(model, strength=0.1, scope="norm") == cross_layer(model, scope="norm").soften(0.1)
    assert soft_embedding(model, strength=0.1) == embedding(model).soften(0.1)
    with pytest.raises(BadInput):
        soft(model, strength=-1)


def test_compose_sums_plans_and_passes_on_a_refusal():
    model = network()
    both = compose(model, parts=[embedding, partial(top_k, k=2)])
    assert both == embedding(model) + top_k(model, k=2)
    assert compose(model, parts=[]) == TyingPlan()
    with pytest.raises(NotApplicable):
        compose(network(embedding=None), parts=[partial(top_k, k=2), embedding])
    mixed = compose(model, parts=[embedding, partial(soft, strength=0.1)])
    mixed.apply(model)
    mixed.verify(model)
    assert mixed.penalty(model) > 0
    assert mixed.last(1) == embedding(model)


def test_making_a_plan_changes_nothing_and_draws_nothing():
    model = network()
    before = [(name, id(parameter)) for name, parameter in model.named_parameters()]
    state = torch.get_rng_state()
    compose(model, parts=[embedding, cross_layer, partial(top_k, k=2)])
    assert [(name, id(parameter)) for name, parameter in model.named_parameters()] == before
    assert torch.equal(torch.get_rng_state(), state)


def test_a_config_allows_the_scopes_that_methods_know():
    assert schema.ROLES == methods.ROLES
