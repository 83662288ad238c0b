"""What a learned map behind a view promises: each use has its own, and what is shared is one tensor all the same."""

import copy
import itertools
import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.models.gru import GRULanguageModel
from bench.tying import (
    HARD,
    NotApplicable,
    Tie,
    TyingPlan,
    View,
    embedding,
    joint_embedding,
    soft_embedding,
    untied,
)
from bench.tying.apply import parameters_by_name, weight
from bench.tying.checkpoint import as_data, from_data, load, save
from bench.tying.errors import BadInput
from bench.tying.gradients import of_uses
from bench.tying.int8 import quantize

ROWS, WIDTH = 11, 4
TOKENS = torch.arange(10).view(2, 5)
ENDS = ("embedding.weight", "output.weight")


def language_model(seed=1):
    torch.manual_seed(seed)
    return GRULanguageModel(ROWS, depth=2, width=WIDTH).double()


def trained(model, count=3):
    """After so many steps, from a map that is not the one it began with."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(count):
        optimizer.zero_grad()
        F.cross_entropy(model(TOKENS)[0].flatten(0, 1), TOKENS.flatten()).backward()
        optimizer.step()
    return model


def the_map(model):
    return model.output.parametrizations.weight[0]


def test_the_output_matrix_is_the_map_of_the_embedding():
    model = language_model()
    before = model.embedding.weight.detach().clone()
    plan = joint_embedding(model)
    plan.apply(model, example=TOKENS)
    assert torch.equal(model.embedding.weight, before) and torch.equal(model.output.weight, before.tanh())
    trained(model)
    plan.verify(model)
    made = the_map(model)
    assert not torch.equal(made.matrix, torch.eye(WIDTH).double()) and made.bias.count_nonzero() == WIDTH
    by_hand = torch.tanh(model.embedding.weight @ made.matrix.T + made.bias)
    torch.testing.assert_close(model.output.weight, by_hand, rtol=1e-12, atol=0)
    assert plan.spread(model) == 0 and joint_embedding(model) == plan


def test_it_costs_a_map_more_than_the_tied_embedding():
    model = language_model()
    plan, tied = joint_embedding(model), embedding(model).num_params(model)
    assert plan.num_params(model) == tied + WIDTH * WIDTH + WIDTH
    assert plan.differences(model).values() and set(plan.differences(model).values()) == {(4, 4), (4,)}
    tensors, table = plan.num_tensors(model), str(plan.summary(model))
    assert "whole learned map" in table and f"{ROWS * WIDTH * 2} -> {ROWS * WIDTH + 20}" in table
    plan.apply(model)
    assert plan.num_params(model) == sum(p.numel() for p in model.parameters()) == tied + 20
    assert plan.num_tensors(model) == tensors == len(list(model.parameters()))
    assert plan.differences(model) == {} and plan.effective_params(model) == tied + 20


def test_the_shared_gradient_is_the_sum_of_the_uses_through_the_map():
    model = language_model()
    plan = joint_embedding(model)
    trained(plan.apply(model)).zero_grad()
    twin, made = untied(model), the_map(model)  # whose output matrix is a Parameter of its own
    for network in (model, twin):
        network(TOKENS)[0].square().sum().backward()
    of_input, of_output = twin.embedding.weight.grad, twin.output.weight.grad
    inner = of_output * (1 - model.output.weight.detach().square())
    torch.testing.assert_close(model.embedding.weight.grad, of_input + inner @ made.matrix)
    torch.testing.assert_close(made.matrix.grad, inner.T @ model.embedding.weight.detach())
    torch.testing.assert_close(made.bias.grad, inner.sum(0))
    (uses,) = of_uses(plan, model, lambda network: network(TOKENS)[0].square().sum())
    parts = dict(zip(uses.names, uses.norms, strict=True))
    assert parts[ENDS[0]] == pytest.approx(float(of_input.norm()))
    assert parts[ENDS[1]] == pytest.approx(float((inner @ made.matrix.detach()).norm()))


def test_it_holds_through_a_copy_a_cast_a_reload_and_being_applied_again():
    model = language_model()
    plan = joint_embedding(model)
    trained(plan.apply(model))
    twin = copy.deepcopy(model)
    plan.verify(twin)
    assert twin.output.parametrizations.weight.original is twin.embedding.weight
    other = plan.apply(language_model(2))
    other.load_state_dict(model.state_dict())
    for again in (twin, other, plan.apply(copy.deepcopy(model)), plan.apply(twin, merge="mean")):
        plan.verify(again)
        assert torch.equal(again(TOKENS)[0], model(TOKENS)[0])
    plan.verify(twin.float())


def test_what_joins_later_leaves_a_trained_map_as_it_is():
    model = language_model()
    model.head = nn.Linear(WIDTH, ROWS).double()
    trained(joint_embedding(model).apply(model))
    matrix = the_map(model).matrix.detach().clone()
    more = joint_embedding(model) + TyingPlan((Tie((ENDS[0], "head.weight")),))
    predicted = more.num_params(model)
    more.apply(model)
    more.verify(model)
    assert model.head.weight is model.embedding.weight and torch.equal(the_map(model).matrix, matrix)
    assert predicted == sum(p.numel() for p in model.parameters())


def test_a_file_holds_the_shared_tensor_once_and_the_map(tmp_path):
    model = language_model()
    plan = joint_embedding(model)
    trained(plan.apply(model))
    save(model, plan, tmp_path / "joint.safetensors", example={"tokens": TOKENS})
    again, kept = load(tmp_path / "joint.safetensors", language_model(2))
    assert kept == plan and torch.equal(again(TOKENS)[0], model(TOKENS)[0])
    held = sum(p.numel() * 8 for p in model.parameters())
    assert held < (tmp_path / "joint.safetensors").stat().st_size < held + 5_000
    assert all(from_data(json.loads(json.dumps(as_data(tie)))) == tie for tie in plan.ties)


def test_a_model_of_transformers_is_built_again_from_the_file(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, vocab_size=ROWS
    )
    model = transformers.LlamaForCausalLM(config)
    plan = joint_embedding(model)
    plan.apply(model, example={"input_ids": TOKENS})
    assert joint_embedding(model) == plan
    save(model, plan, tmp_path / "joint.safetensors", example={"input_ids": TOKENS})
    again, kept = load(tmp_path / "joint.safetensors")
    assert kept == plan
    assert torch.equal(again(TOKENS).logits, model.eval()(TOKENS).logits)


SHARED, OTHER = View((ROWS, WIDTH)), View((ROWS, WIDTH), mapped=True)


def test_each_use_has_a_map_of_its_own():
    """Two names of one view are one weight elsewhere; here a third tie of the one says nothing of the other."""
    joint = TyingPlan((Tie(("a", "b"), views=(SHARED, OTHER)), Tie(("a", "c"), views=(SHARED, OTHER))))
    assert joint.ties == (Tie(("a", "b", "c"), views=(SHARED, OTHER, OTHER)),)
    assert joint + joint == joint == joint + TyingPlan((Tie(("a", "b"), views=(SHARED, OTHER)),))
    whole = TyingPlan((Tie(("a", "d")),))
    assert whole + joint == joint + whole == TyingPlan((*joint.ties, *whole.ties))
    assert {name for tie in (whole + joint).ties for name in tie.names} == set("abcd")
    parts = (*(TyingPlan((Tie(("a", name), views=(SHARED, OTHER)),)) for name in "bc"), whole)
    assert {sum(order, TyingPlan()) for order in itertools.permutations(parts)} == {joint + whole}
    assert joint.soften(0) == TyingPlan() and joint.soften(HARD) == joint


def test_a_map_stands_behind_the_steps_and_reads_what_they_make():
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 5)).double()
    view = View((3, 5), (("permute", 1, 0),), mapped=True)
    plan = TyingPlan((Tie(("0.weight", "1.weight"), views=(View((3, 5)), view)),))
    assert plan.num_params(net) == 15 + 3 * 3 + 3 + 3 + 5
    plan.apply(net, example=torch.ones(1, 5).double())
    torch.testing.assert_close(net[1].weight, net[0].weight.T.tanh())
    assert sum(p.numel() for p in net.parameters()) == plan.num_params(net) and view.spelled in str(
        plan.summary(net)
    )


def refused(message, make):
    model = language_model()
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    with pytest.raises(BadInput, match=message) as refusal:
        make(model)
    assert "\n" not in str(refusal.value)
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before


def test_what_cannot_be_meant_is_refused_in_one_line():
    refused("strength 0.1 has a learned map", lambda model: joint_embedding(model).soften(0.1))
    refused("a view and a rank", lambda model: joint_embedding(model).relax(1))
    for other in (embedding, lambda model: soft_embedding(model, strength=0.1)):
        refused(
            "output.weight is made .* by a learned map, and tied in another way too",
            lambda model, other=other: joint_embedding(model) + other(model),
        )
    refused("reads rows of numbers", lambda model: View((), mapped=True))
    turned = TyingPlan(
        (Tie((ENDS[0],), views=(View((ROWS, 1), (("expand", 1, WIDTH), ("reshape", 11, 4))),)),)
    )
    refused(
        "a tensor that other views share too", lambda model: (joint_embedding(model) + turned).apply(model)
    )
    refused("is frozen", lambda model: joint_embedding(model).apply(model.requires_grad_(False)))


def test_a_model_that_has_a_map_already_is_told_apart():
    model = language_model()
    joint_embedding(model).apply(model)
    for other in (embedding(model), soft_embedding(model, strength=0.1)):
        with pytest.raises(BadInput, match="by a learned map, and tied in another way too"):
            other.apply(model, init="shared")
    with pytest.raises(BadInput, match="is parametrised"):
        quantize(model)
    plain = untied(model)
    assert set(parameters_by_name(plain)) == set(parameters_by_name(language_model()))
    assert torch.equal(plain(TOKENS)[0], model(TOKENS)[0])
    assert torch.equal(weight(plain, ENDS[1]), weight(model, ENDS[1]))


def test_a_network_without_two_ends_has_none():
    with pytest.raises(NotApplicable, match="no input embedding"):
        joint_embedding(nn.Linear(2, 2))
