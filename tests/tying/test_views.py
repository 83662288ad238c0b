"""The laws of ties with views: how each use is made of what is shared."""

import copy
import functools
import json
import math
import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from bench.tying import HARD, Tie, TyingPlan, View, untied
from bench.tying.apply import parameters_by_name, weight
from bench.tying.checkpoint import as_data, from_data, load, save
from bench.tying.classes import partition, size_of
from bench.tying.errors import BadInput
from bench.tying.int8 import quantize
from bench.tying.view import STEPS, gather, lifted


class Net(nn.Module):
    """A weight for each kind of view, all of them read."""

    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(6, 4), nn.Linear(4, 6)
        self.heads, self.hash = nn.Linear(6, 8), nn.Linear(8, 6)
        self.gru, self.conv = nn.GRU(6, 2, batch_first=True), nn.Conv2d(2, 4, 3, padding=1)
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        y = self.dec(torch.tanh(self.enc(x))) + self.hash(torch.tanh(self.heads(x)))
        y = y + self.b(torch.tanh(self.a(y)))
        z = self.conv(y.repeat(1, 3).view(-1, 2, 3, 3)).flatten(1)
        return y.sum(1) + z.sum(1) + self.gru(y[:, None])[0].sum((1, 2))


def net(seed=1):
    torch.manual_seed(seed)
    return Net().double()


X = torch.linspace(-1, 1, 18, dtype=torch.float64).view(3, 6)
SHAPES = {name: tuple(parameter.shape) for name, parameter in Net().named_parameters()}


def of_one(name, shape, *steps, strength=HARD):
    return TyingPlan((Tie((name,), strength, views=(View(shape, steps),)),))


def pair(one, other, shape, *steps):
    return TyingPlan((Tie((one, other), views=(View(shape), View(shape, steps))),))


ROTATED = ("stack", 1, *((("rot90", turns),) for turns in range(4)))
SIGNS = gather(torch.tensor([[0, 1, 2, 2, 1, 0]] * 4), torch.tensor([[1, 1, 0, -1, 1, -1]] * 4))
PLANS = {
    "transpose": pair("enc.weight", "dec.weight", (4, 6), ("permute", 1, 0)),
    "heads": of_one("heads.weight", (2, 2, 6), ("expand", 1, 2), ("reshape", 8, 6)),
    "hash": of_one("hash.weight", (1, 12), ("hash", 3, 6, 8)),
    "gates": of_one("gru.weight_ih_l0", (2, 6), ("expand", 0, 3), ("reshape", 6, 6)),
    "rotations": of_one("conv.weight", (1, 2, 3, 3), ROTATED, ("reshape", 4, 2, 3, 3)),
    "rolled": of_one("conv.bias", (2,), ("cat", 0, (), (("roll", 1, 0), ("negate",)))),
    "rows": of_one("b.weight", (3, 6), ("rows", 0, 0, 1, -1, 2, 1)),
    "nested": pair("a.weight", "enc.weight", (6, 6), ("narrow", 0, 1, 4)),
    "signs": of_one("enc.weight", (3,), SIGNS),
    "symmetric": TyingPlan(
        (Tie(("a.weight",) * 2, views=(View((6, 6)), View((6, 6), (("permute", 1, 0),)))),)
    ),
    "whole": TyingPlan((Tie(("a.weight", "b.weight")),)),
    "soft": of_one("heads.weight", (2, 2, 6), ("expand", 1, 2), ("reshape", 8, 6), strength=0.3),
}
HARD_PLANS = [name for name in PLANS if name != "soft"]

unions = st.lists(st.sampled_from(HARD_PLANS), min_size=1, max_size=4, unique=True).map(
    lambda names: functools.reduce(operator.add, (PLANS[name] for name in names))
)
every_plan = pytest.mark.parametrize("plan", [PLANS[name] for name in HARD_PLANS], ids=HARD_PLANS)


def classes(plan):
    return partition([tie for tie in plan.ties if tie.is_hard], SHAPES)


def pulled_back(plan, gradients):
    """Of each class the sum of the gradients of its entries, with their signs."""
    entries = classes(plan)
    total = torch.zeros(size_of(entries), dtype=torch.float64)
    for name, (label, sign) in entries.items():
        total.index_add_(0, label.flatten(), (gradients[name] * sign).flatten())
    return total


def of_classes(plan, model, read):
    """Of each class what `read` gives at one of its entries, looked up in the parameter that its weight is made of."""
    found = torch.full((size_of(classes(plan)),), math.nan, dtype=torch.float64)
    parameters = parameters_by_name(model)
    for name, (label, sign) in classes(plan).items():
        values = read(parameters[name])
        view = parameters.views.get(name, View(tuple(values.shape)))
        index, own = view.entries()
        real = (sign != 0) & (own != 0)
        found[label[real]] = (values.flatten()[index] * own * sign)[real]
    return found


def steps(model, count=2):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(count):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    return model


@every_plan
def test_every_view_is_a_signed_gather_and_comes_back_from_json(plan):
    for tie in plan.ties:
        for name, view in tie.uses() if tie.views else ():
            shared = torch.randn(view.shape, dtype=torch.float64)
            index, sign = view.entries()
            assert torch.equal(view(shared), shared.flatten()[index] * sign)
            assert view.result == SHAPES[name]
            taken = View((shared.numel(),), (gather(index, sign),))
            assert torch.equal(taken(shared.flatten()), view(shared))
        assert from_data(json.loads(json.dumps(as_data(tie)))) == tie


def test_every_step_is_in_a_plan_above():
    assert STEPS.keys() == {step for step in STEPS if f"'{step}'" in repr(PLANS)}


def test_an_expanded_view_copies_nothing():
    shared = torch.randn(2, 3)
    assert View((2, 3), (("expand", 0, 5),))(shared).untyped_storage().data_ptr() == shared.data_ptr()


@given(st.lists(st.sampled_from(sorted(PLANS)), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_union_is_commutative_associative_and_idempotent(names):
    a, b, c = (PLANS[name] for name in names)
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + a == a == a + TyingPlan()


def test_what_is_one_weight_has_one_view():
    """A whole tie moves into the ties with views that it touches, so that no gather is needed."""
    head = PLANS["heads"].ties[0].views[0]
    both = TyingPlan((Tie(("heads.weight", "other"), views=(head, head)),))
    assert PLANS["heads"] + TyingPlan((Tie(("heads.weight", "other")),)) == both
    assert PLANS["heads"] + TyingPlan((Tie(("other",), views=(head,)),)) != both
    assert both.soften(0.1) == TyingPlan((Tie(both.ties[0].names, 0.1, views=(head, head)),))


def test_views_without_steps_are_a_whole_tie():
    assert Tie(("a", "b"), views=(View((2,)), View((2,)))) == Tie(("a", "b"))


@given(unions)
@settings(max_examples=12, deadline=None)
def test_gradients_are_pulled_back_and_counts_are_those_of_the_classes(plan):
    tied = net()
    predicted = plan.num_params(tied)
    plan.apply(tied)
    plan.verify(tied)
    assert predicted == plan.num_params(tied) == sum(p.numel() for p in tied.parameters())
    assert predicted == size_of(classes(plan))
    assert plan.spread(tied) == 0
    twin = untied(tied)
    assert torch.equal(twin(X), tied(X))
    for model in (tied, twin):
        model(X).square().sum().backward()
    uses = {name: parameter.grad for name, parameter in parameters_by_name(twin).items()}
    got = of_classes(plan, tied, lambda parameter: parameter.grad)
    torch.testing.assert_close(got, pulled_back(plan, uses), rtol=1e-12, atol=1e-12)


@given(unions, st.booleans())
@settings(max_examples=8, deadline=None)
def test_apply_then_lift_is_the_identity_and_it_holds_through_everything(plan, mean):
    tied = plan.apply(net(), merge="mean" if mean else "first")
    before = {name: weight(tied, name).clone() for name in SHAPES}
    plan.apply(tied, merge="mean" if mean else "first")
    assert all(torch.equal(weight(tied, name), before[name]) for name in SHAPES)
    again = net(2)
    with torch.no_grad():
        for name, value in before.items():
            parameters_by_name(again)[name].copy_(value)
    plan.apply(again)
    assert all(torch.equal(weight(again, name), before[name]) for name in SHAPES)
    steps(tied)
    plan.verify(tied)
    assert plan.spread(tied) == 0
    twin = copy.deepcopy(tied)
    plan.verify(twin)
    assert torch.equal(twin(X), tied(X))
    other = plan.apply(net(3))
    other.load_state_dict(tied.state_dict())
    plan.verify(other)
    assert torch.equal(other(X), tied(X))
    plan.verify(twin.float())


@pytest.mark.parametrize(
    "names", [["transpose"], ["heads", "gates", "rows"], ["transpose", "symmetric", "nested"]]
)
def test_a_file_holds_each_shared_tensor_once(tmp_path, names):
    plan = functools.reduce(operator.add, (PLANS[name] for name in names))
    tied = steps(plan.apply(net()))
    save(tied, plan, tmp_path / "tied.safetensors", example={"x": X})
    again, kept = load(tmp_path / "tied.safetensors", net(2))
    assert kept == plan and torch.equal(again(X), tied(X))
    held = sum(p.numel() * 8 for p in tied.parameters())
    assert held <= (tmp_path / "tied.safetensors").stat().st_size < held + 12_000


@pytest.mark.parametrize("name", ["transpose", "heads", "hash", "rotations", "rows", "symmetric"])
def test_a_soft_tie_is_the_penalty_of_the_classes(name):
    plan, model = PLANS[name].soften(0.3), net()
    penalty = plan.penalty(model)
    named = {n for tie in plan.ties for n in tie.names}
    entries = partition(PLANS[name].ties, {n: SHAPES[n] for n in named})
    label, sign, value = (
        torch.cat([part.flatten() for part in parts])
        for parts in zip(*((*entries[n], weight(model, n)) for n in named), strict=True)
    )
    one = (label[:, None] == label) & (sign[:, None] != 0) & (sign != 0)
    apart = (sign * value)[:, None] - sign * value
    pairs = 0.3 * (one * apart.square()).sum() / 2 + 0.3 * value[sign == 0].square().sum()
    torch.testing.assert_close(penalty, pairs, rtol=1e-12, atol=1e-12)
    penalty.backward()
    by_autograd = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    plan.add_penalty_gradient(model)
    for n, gradient in by_autograd.items():
        torch.testing.assert_close(model.get_parameter(n).grad, gradient, rtol=1e-12, atol=1e-12)
    assert PLANS[name].num_params(model) <= plan.effective_params(model) <= plan.num_params(model) + 1e-9
    before = plan.spread(model)
    plan.pull(model, 0.1)
    assert 0 < plan.spread(model) < before


@pytest.mark.parametrize("name", ["transpose", "heads", "hash", "rows"])
def test_a_pull_of_infinite_strength_is_the_hard_tie_at_its_mean(name):
    soft, hard = net(), net()
    bound = PLANS[name].soften(1.0).bind(soft)
    for entries, _ in bound.classes:
        entries.pull(0.1, math.inf)
    PLANS[name].apply(hard, merge="mean")
    for n in SHAPES:
        torch.testing.assert_close(weight(soft, n), weight(hard, n), rtol=1e-14, atol=1e-15)
    assert PLANS[name].spread(soft) == 0
    shared = net()
    PLANS[name].soften(1.0).apply(shared, init="shared")
    PLANS[name].apply(first := net())
    assert all(torch.equal(weight(shared, n), weight(first, n)) for n in SHAPES)


def test_a_soft_tie_over_a_hard_view_draws_what_is_shared():
    hard = PLANS["heads"]
    model = hard.apply(net())
    shape = View((8, 6))
    down = View((8, 6), (("permute", 1, 0),))
    soft = TyingPlan((Tie(("heads.weight", "hash.weight"), 0.5, views=(shape, down)),))
    before = soft.spread(model)
    soft.pull(model, 1.0)
    assert soft.spread(model) < before
    hard.verify(model)
    assert (hard + soft).penalty(model) > 0


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (of_one("heads.weight", (2, 6), ("expand", 1, 2)), r"\(2, 2, 6\), and that is \(8, 6\)"),
        (pair("a.weight", "b.weight", (6, 6), ("negate",)) + PLANS["whole"], r"its own negative at \[0, 0\]"),
        (of_one("heads.weight", (9, 6), ("narrow", 0, 0, 8)), "6 entries .* are read by no use"),
        (of_one("nobody", (9, 6), ("narrow", 0, 0, 8)), "no parameter of that name"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line_and_changes_nothing(plan, message):
    model = net()
    before = {name: id(p) for name, p in model.named_parameters()}
    with pytest.raises(BadInput, match=message) as refusal:
        plan.apply(model)
    assert "\n" not in str(refusal.value)
    assert {name: id(p) for name, p in model.named_parameters()} == before


@pytest.mark.parametrize("step", [("reshape", 7), ("turn", 1), ("rows", 0, 5), ("hash", 0, 2)])
def test_a_step_that_cannot_be_is_refused(step):
    with pytest.raises(BadInput, match="a view (cannot take the|has no) step"):
        View((2, 3), (step,))


def test_weights_that_a_view_cannot_have_are_refused():
    frozen = net()
    frozen.heads.weight.requires_grad_(False)
    with pytest.raises(BadInput, match="heads.weight of a shared tensor, and it is frozen"):
        PLANS["heads"].apply(frozen)
    drawn = TyingPlan((Tie(("a.weight", "b.weight"), 1.0),))
    drawn += of_one("a.weight", (6, 6), ("permute", 1, 0), strength=1.0)
    frozen.b.weight.requires_grad_(False)
    with pytest.raises(BadInput, match="the plan draws b.weight, which is frozen, together"):
        drawn.bind(frozen)
    with pytest.raises(BadInput, match="quantised and packed"):
        PLANS["heads"].apply(quantize(net().float()))
    normed = net()
    parametrizations.spectral_norm(normed.heads)
    with pytest.raises(BadInput, match="parametrised already"):
        PLANS["heads"].apply(normed)
    with pytest.raises(BadInput, match="a view and a rank"):
        PLANS["heads"].relax(1)
    with pytest.raises(BadInput, match="with rank"):
        PLANS["heads"] + TyingPlan((Tie(("heads.weight", "other"), rank=1),))
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(BadInput, match="an optimizer holds already"):
        PLANS["heads"].apply(model)
    assert optimizer


def test_a_broken_tie_is_told():
    model = PLANS["heads"].apply(net())
    model.heads.parametrizations.weight[0].view = View(
        (2, 2, 6), (("roll", 1, 0), *PLANS["heads"].ties[0].views[0].steps)
    )
    with pytest.raises(RuntimeError, match="the tie is broken: heads.weight"):
        PLANS["heads"].verify(model)
    with pytest.raises(RuntimeError, match="the tie is broken"):
        PLANS["heads"].verify(net())


def test_the_blocks_of_a_tie_with_views_can_be_chosen():
    view = PLANS["heads"].ties[0].views[0]
    plan = TyingPlan(
        tuple(Tie((name,), blocks=(block,), views=(view,)) for name, block in (("x", -2), ("y", -1)))
    )
    assert (
        plan.last(1) == TyingPlan((Tie(("y",), blocks=(-1,), views=(view,)),)) == plan.within([0, 1]).last(1)
    )


def test_the_lift_is_the_first_use_or_the_mean():
    view = PLANS["heads"].ties[0].views[0]
    weights = torch.arange(48.0).view(8, 6)
    assert torch.equal(lifted([(view, weights)]), weights.view(2, 2, 2, 6)[:, 0])
    assert torch.equal(lifted([(view, weights)], mean=True), weights.view(2, 2, 2, 6).mean(1))
