"""What applying a plan does to a model, and what it refuses."""

import copy
import io

import pytest
import torch
from torch import nn

from bench.tying.errors import BadInput
from bench.tying.plan import TyingPlan
from bench.tying.tie import Tie


class Stack(nn.Module):
    """`depth` one-layer blocks with residual connections, linear or recurrent, all of one width."""

    def __init__(self, kind="linear", depth=3, width=4):
        super().__init__()
        make = {"linear": nn.Linear, "gru": lambda *sizes: nn.GRU(*sizes, batch_first=True)}[kind]
        self.blocks = nn.ModuleList(make(width, width) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            y = block(x)
            x = x + (y[0] if isinstance(y, tuple) else y).tanh()
        return x


class Ends(nn.Module):
    """An embedding and an output matrix of one shape."""

    def __init__(self, vocab=7, width=4):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.output = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens):
        return self.output(self.embedding(tokens).tanh())


def along(leaf, strength=float("inf"), depth=3):
    return Tie(tuple(f"blocks.{i}.{leaf}" for i in range(depth)), strength, tuple(range(-depth, 0)))


X = torch.linspace(-1, 1, 40).reshape(2, 5, 4)
CASES = {
    "linear": (lambda: Stack(), TyingPlan((along("weight"),)), X),
    "gru": (lambda: Stack("gru"), TyingPlan((along("weight_ih_l0"), along("weight_hh_l0"))), X),
    "ends": (lambda: Ends(), TyingPlan((Tie(("embedding.weight", "output.weight")),)), torch.arange(7)[None]),
}


@pytest.fixture(params=CASES)
def case(request):
    make, plan, x = CASES[request.param]
    torch.manual_seed(0)
    return make().double(), plan, x.double() if x.is_floating_point() else x


def step(model, x):
    model.zero_grad()
    model(x).square().sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def reloaded(model, like, **options):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    like.load_state_dict(torch.load(buffer), **options)
    return like


def snapshot(model):
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {n: (id(p), p.detach().clone(), p.requires_grad) for n, p in parameters.items()}


def same(before, after):
    return before.keys() == after.keys() and all(
        before[n][0] == after[n][0] and torch.equal(before[n][1], after[n][1]) for n in before
    )


def test_a_tie_holds_after_a_step_a_copy_a_cast_and_a_reload(case):
    model, plan, x = case
    first, second = plan.ties[0].names[:2]
    value = model.get_parameter(first).detach().clone()
    with pytest.raises(RuntimeError, match="no longer one tensor"):
        plan.verify(model)
    fresh = copy.deepcopy(model)
    assert plan.apply(model) is model
    assert torch.equal(model.get_parameter(second), value)
    plan.verify(model)
    step(model, x)
    plan.verify(model)
    assert not torch.equal(model.get_parameter(second), value)
    plan.verify(copy.deepcopy(model))
    again = reloaded(model, plan.apply(fresh))
    plan.verify(again)
    assert torch.equal(again(x), model(x))
    step(again, x)
    step(model, x)
    assert torch.equal(again(x), model(x))
    plan.verify(model.to(torch.float32))
    assert model.get_parameter(second).dtype == torch.float32


def test_assigning_a_state_dict_breaks_the_tie_and_verify_says_so(case):
    model, plan, _ = case
    plan.apply(model)
    reloaded(model, model, assign=True)
    first, second = plan.ties[0].names[:2]
    with pytest.raises(RuntimeError, match=f"{first} and {second}"):
        plan.verify(model)
    plan.verify(plan.apply(model))


def test_the_gradient_of_a_tied_tensor_is_the_sum_over_its_uses(case):
    model, plan, x = case
    twin = copy.deepcopy(plan.apply(model))
    for tie in plan.ties:  # equal values, separate tensors
        for name in tie.names:
            path, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(path), leaf, nn.Parameter(twin.get_parameter(name).detach().clone()))
    with pytest.raises(RuntimeError):
        plan.verify(twin)
    for network in (model, twin):
        network(x).square().sum().backward()
    for tie in plan.ties:
        uses = [twin.get_parameter(name).grad for name in tie.names]
        assert not torch.allclose(uses[0], uses[1])
        tied = model.get_parameter(tie.names[0]).grad
        assert torch.allclose(tied, sum(uses), rtol=1e-12, atol=1e-12)


def test_num_params_is_predicted_before_and_right_after(case):
    model, plan, _ = case
    untied = sum(p.numel() for p in model.parameters())
    assert TyingPlan().num_params(model) == untied
    predicted = plan.num_params(model)
    assert predicted < untied
    plan.apply(model)
    assert predicted == plan.num_params(model) == sum(p.numel() for p in model.parameters())
    assert TyingPlan().num_params(model) == predicted


def test_num_params_in_the_head_falls_with_every_block():
    plan, model = TyingPlan((along("weight"),)), Stack()
    # three blocks of 4 x 4 weights and 4 biases: 60; every block tied saves 16
    assert [plan.last(k).num_params(model) for k in (1, 2, 3)] == [60, 44, 28]
    assert plan.soften(1.0).num_params(model) == 60


def test_num_tensors_is_predicted_before_and_right_after(case):
    model, plan, _ = case
    untied = len(list(model.parameters()))
    assert TyingPlan().num_tensors(model) == untied == plan.soften(1.0).num_tensors(model)
    predicted = plan.num_tensors(model)
    assert predicted == untied - sum(len(tie.names) - 1 for tie in plan.ties)
    plan.apply(model)
    assert predicted == plan.num_tensors(model) == len(list(model.parameters()))


def test_num_tensors_in_the_head_counts_a_tie_of_overlapping_ties_once():
    plan, model = TyingPlan((along("weight"),)), Stack()
    assert [plan.last(k).num_tensors(model) for k in (1, 2, 3)] == [6, 5, 4]
    model.blocks[2].weight = model.blocks[1].weight
    assert TyingPlan().num_tensors(model) == 5
    assert plan.last(2).num_tensors(model) == 5
    assert plan.num_tensors(model) == 4


def test_a_gru_runs_on_the_shared_tensor():
    torch.manual_seed(0)
    model, plan, x = Stack("gru"), CASES["gru"][1], X
    untied = copy.deepcopy(model)
    plan.apply(model)
    untied.load_state_dict(model.state_dict())
    for block in model.blocks:  # looked at before a forward pass, which repairs the list
        assert any(weight is model.blocks[0].weight_hh_l0 for weight in block._flat_weights)
        assert [id(w) for w in block._flat_weights] == [id(p) for p in block.parameters()]
    assert torch.equal(model(x), untied(x))


def test_ties_that_the_model_came_with_are_kept():
    model = Stack(depth=4)
    model.blocks[3].weight = model.blocks[1].weight
    plan = TyingPlan((Tie(("blocks.0.weight", "blocks.1.weight"), blocks=(-4, -3)),))
    assert plan.num_params(model) == 2 * 16 + 4 * 4
    kept = model.blocks[0].weight
    plan.apply(model)
    assert [block.weight is kept for block in model.blocks] == [True, True, False, True]
    assert plan.num_params(model) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("tie", "message"),
    [
        (Tie(("blocks.1.weight", "blocks.9.weight")), "blocks.9.weight"),
        (Tie(("blocks.1.bias", "blocks.1.weight")), r"blocks.1.bias .*blocks.1.weight.*\(4,\) and \(4, 4\)"),
        (Tie(("blocks.1.weight", "short")), "float32 and torch.float16"),
        (Tie(("blocks.1.weight", "meta")), "device cpu and meta"),
        (Tie(("blocks.1.weight", "frozen")), "frozen"),
    ],
)
def test_a_refused_plan_leaves_the_model_as_it_was(tie, message):
    model = Stack()
    model.short = nn.Parameter(torch.ones(4, 4, dtype=torch.float16))
    model.meta = nn.Parameter(torch.ones(4, 4, device="meta"))
    model.frozen = nn.Parameter(torch.ones(4, 4), requires_grad=False)
    parameters = dict(model.named_parameters())
    values = {name: p.detach().clone() for name, p in parameters.items() if not p.is_meta}
    plan = TyingPlan((Tie(("blocks.0.weight", "blocks.2.weight")), tie))
    with pytest.raises(BadInput, match=message):
        plan.apply(model, init="shared")
    after = dict(model.named_parameters(remove_duplicate=False))
    assert [(n, id(p)) for n, p in after.items()] == [(n, id(p)) for n, p in parameters.items()]
    assert all(torch.equal(after[name], value) for name, value in values.items())


@pytest.mark.parametrize("init", ["own", "shared"])
@pytest.mark.parametrize("merge", ["first", "mean"])
def test_a_soft_tie_draws_to_what_is_frozen_and_may_begin_there(init, merge):
    model = Stack()
    model.frozen = nn.Parameter(torch.randn(4, 4), requires_grad=False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    plan = TyingPlan((Tie(("blocks.1.weight", "frozen", "blocks.2.weight"), 0.5),))
    plan.apply(model, init=init, merge=merge)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == ({"blocks.1.weight", "blocks.2.weight"} if init == "shared" else set())
    for _ in range(50):
        plan.bind(model).pull(1.0)
    assert torch.equal(model.frozen, before["frozen"])
    for at in (1, 2):
        torch.testing.assert_close(model.blocks[at].weight.detach(), model.frozen)
    with pytest.raises(BadInput, match="frozen, which is frozen, with blocks"):
        plan.soften(float("inf")).apply(model)


def test_an_unknown_init_is_refused():
    model = Stack()
    before = snapshot(model)
    with pytest.raises(BadInput, match="'own' and 'shared'"):
        TyingPlan((along("weight"),)).apply(model, init="mean")
    assert same(before, snapshot(model))


def test_a_soft_tie_keeps_tensors_apart_and_can_start_from_one_value():
    plan, model = TyingPlan((along("weight", 0.1),)), Stack()
    before = snapshot(model)
    state = torch.get_rng_state()
    assert same(before, snapshot(plan.apply(model)))
    plan.apply(model, init="shared")
    weights = [block.weight for block in model.blocks]
    assert len({id(weight) for weight in weights}) == 3
    assert all(torch.equal(weight, before["blocks.0.weight"][1]) for weight in weights)
    assert torch.equal(model.blocks[1].bias, before["blocks.1.bias"][1])
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_trained_apart_merge_into_their_mean():
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(3)))
    for layer, value in zip(model, (1.0, 2.0, 6.0), strict=True):
        nn.init.constant_(layer.weight, value)
    names = ("0.weight", "1.weight", "2.weight")
    soft = TyingPlan((Tie(names, 0.5),))
    assert [p.item() for p in soft.apply(copy.deepcopy(model), merge="mean").parameters()] == [1, 2, 6]
    together = soft.apply(copy.deepcopy(model), init="shared", merge="mean")
    assert [p.item() for p in together.parameters()] == [3, 3, 3]
    plan = TyingPlan((Tie(names),))
    assert plan.apply(copy.deepcopy(model)).get_parameter("2.weight").item() == 1
    merged = plan.apply(model, merge="mean")
    assert [p.item() for p in merged.parameters()] == [3]
    plan.apply(merged, merge="mean")  # once more changes nothing
    assert merged.get_parameter("1.weight").item() == 3


def test_equal_layers_keep_their_bits_when_they_merge():
    layer = nn.Linear(5, 5)
    model = nn.Sequential(*(copy.deepcopy(layer) for _ in range(3)))
    TyingPlan((Tie(("0.weight", "1.weight", "2.weight")),)).apply(model, merge="mean")
    assert model[0].weight.equal(layer.weight)


def test_another_merge_is_refused():
    with pytest.raises(BadInput, match="merge is 'median'; allowed are 'first', 'mean', 'least_squares'"):
        TyingPlan().apply(nn.Linear(1, 1), merge="median")
