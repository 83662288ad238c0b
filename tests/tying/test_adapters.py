"""Adapters on tied weights: the adapted weights are one tensor, and each use has an adapter of its own."""

import copy

import pytest
import torch
from torch import nn

from bench.tying import cross_layer, untied
from bench.tying.apply import parameters_by_name
from bench.tying.checkpoint import save
from bench.tying.errors import BadInput
from bench.tying.structure import adapters_of

X = torch.linspace(-1, 1, 8).view(2, 4)


class Wrapped(nn.Module):
    """A LoRA module whose factors are parameters of its own."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(2, base.in_features))
        self.B = nn.Parameter(torch.randn(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ (self.B @ self.A).T

    def merged(self):
        self.base.weight.data += self.B @ self.A
        return self.base


class AsPeft(nn.Module):
    """A LoRA module laid out as peft lays it out."""

    def __init__(self, base):
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, base.out_features, bias=False)})

    def forward(self, x):
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))

    def merged(self):
        self.base_layer.weight.data += self.lora_B["default"].weight @ self.lora_A["default"].weight
        return self.base_layer


kinds = pytest.mark.parametrize("kind", [Wrapped, AsPeft])


def network(depth=3):
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(depth)]
    return nn.ModuleDict({"layers": nn.ModuleList(blocks)})


def answer(model, x=X):
    for layer in model["layers"]:
        x = layer(x)
    return x


def wrapped(model, kind):
    for layer in model["layers"]:
        layer[0] = kind(layer[0])
    return model


def names_of(plan):
    return {name for tie in plan.ties for name in tie.names}


@kinds
@pytest.mark.parametrize("scope", ["weights", "all"])
def test_a_plan_ties_what_is_adapted_and_no_adapter(kind, scope):
    plain, model = network(), wrapped(network(), kind)
    adapters = {name for name in parameters_by_name(model) if adapters_of(model)(name)}
    assert len(adapters) == 2 * 3
    plan = cross_layer(model, scope=scope)
    assert not names_of(plan) & adapters
    assert len(names_of(plan)) == len(names_of(cross_layer(plain, scope=scope)))
    assert names_of(cross_layer(model, scope="adapter")) == adapters
    assert not any(adapters_of(plain)(name) for name in parameters_by_name(plain))


@kinds
def test_adapters_on_tied_weights_keep_the_tie_and_train_apart(kind):
    model = network()
    cross_layer(model).apply(model)
    wrapped(model, kind)
    plan = cross_layer(model)
    plan.verify(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    answer(model).square().mul(torch.arange(4.0)).sum().backward()
    optimizer.step()
    plan.verify(model)
    for name, parameter in model.named_parameters():
        is_base = name.split(".")[-2] in ("base", "base_layer")
        assert parameter.equal(before[name]) == is_base


@kinds
def test_merging_in_an_untied_copy_changes_no_answer_and_leaves_the_model_alone(kind):
    model = network()
    cross_layer(model).apply(model)
    wrapped(model, kind)
    before, answered = copy.deepcopy(model.state_dict()), answer(model)
    plain = untied(model)
    for layer in plain["layers"]:
        layer[0] = layer[0].merged()
    torch.testing.assert_close(answer(plain), answered)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    cross_layer(model).verify(model)


@kinds
def test_adapters_are_tied_by_name_where_that_is_asked_for(kind):
    model = wrapped(network(), kind)
    plan = cross_layer(model) + cross_layer(model, scope="adapter")
    plan.apply(model)
    plan.verify(model)
    distinct = {id(p) for name, p in parameters_by_name(model).items() if adapters_of(model)(name)}
    assert len(distinct) == 2


def test_what_is_called_base_and_is_no_adapted_layer_makes_no_adapter():
    model = nn.ModuleDict({"base": network(), "head": nn.Linear(4, 4)})
    assert not any(adapters_of(model)(name) for name in parameters_by_name(model))


@pytest.mark.parametrize("flag", ["merged", "merge_weights"])
def test_an_adapter_that_is_merged_into_a_tied_weight_is_refused(flag, tmp_path):
    apart, tied = wrapped(network(), AsPeft), network()
    plan = cross_layer(tied)
    plan.apply(tied)
    wrapped(tied, AsPeft)
    for model in (apart, tied):
        setattr(model["layers"][1][0], flag, True)
    plan = cross_layer(apart)
    before = dict(apart.named_parameters())
    for use in (
        lambda: plan.apply(apart),
        lambda: plan.verify(tied),
        lambda: save(tied, plan, tmp_path / "tied.safetensors"),
    ):
        with pytest.raises(BadInput, match=r"layers\.1\.0\.base_layer\.weight.*untied\(model\)"):
            use()
    assert all(before[name] is parameter for name, parameter in apart.named_parameters())
    assert list(tmp_path.iterdir()) == []
    setattr(tied["layers"][1][0], flag, False)
    plan.verify(tied)
