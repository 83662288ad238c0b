"""A tie is proven on data: a module that goes on with a weight of its own is found, however it keeps it."""

import copy
import functools
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.tying import NotApplicable, Tie, TyingPlan, cross_layer, embedding, relaxed
from bench.tying.errors import BadInput

X = torch.linspace(-1, 1, 8).view(2, 4)


class Partial(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.apply_weight = functools.partial(F.linear, weight=self.weight)

    def forward(self, x):
        return self.apply_weight(x)


class Closure(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        weight = self.weight
        self.apply_weight = lambda x: F.linear(x, weight)

    def forward(self, x):
        return self.apply_weight(x)


class View(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.cache = self.weight.detach().t()

    def forward(self, x):
        return x @ self.cache


class Copy(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.cache = self.weight.detach().t().clone()

    def forward(self, x):
        return x @ self.cache


class Deep(nn.Linear):
    """Keeps it deep in containers of every kind, one of which holds itself."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.kept = {"weights": [({"own": (self.weight.view(-1),)},)]}
        self.kept["self"] = self.kept

    def forward(self, x):
        return F.linear(x, self.kept["weights"][0][0]["own"][0].view(4, 4))


class Buffer(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("cache", self.weight.detach().t(), persistent=False)

    def forward(self, x):
        return x @ self.cache


class Slot(nn.Linear):
    """Keeps it in a record, in an attribute that `vars` does not show."""

    __slots__ = ("kept",)

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.kept = types.SimpleNamespace(weight=self.weight)

    def forward(self, x):
        return F.linear(x, self.kept.weight)


class Listed(nn.Sequential):
    """The parent keeps the weights, and never calls its layers."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.weights = [layer.weight for layer in layers]

    def forward(self, x):
        for weight in self.weights:
            x = F.linear(x, weight).tanh()
        return x


def chain(kind=nn.Linear, around=nn.Sequential, depth=3):
    torch.manual_seed(0)
    return around(*(kind(4, 4) for _ in range(depth)))


KEEPERS = {
    "partial": lambda: chain(Partial),
    "closure": lambda: chain(Closure),
    "view": lambda: chain(View),
    "copy": lambda: chain(Copy),
    "list": lambda: chain(around=Listed),
    "dictionary": lambda: chain(Deep),
    "slot": lambda: chain(Slot),
    "buffer": lambda: chain(Buffer),
}


def state(model):
    return {name: (id(p), p.detach().clone()) for name, p in model.named_parameters(remove_duplicate=False)}


def unchanged(before, after):
    return before.keys() == after.keys() and all(
        before[name][0] == after[name][0] and before[name][1].equal(after[name][1]) for name in before
    )


@pytest.mark.parametrize("kind", KEEPERS)
def test_a_module_that_keeps_its_weight_elsewhere_is_found(kind):
    model = KEEPERS[kind]()
    plan, before, answered, stream = cross_layer(model), state(model), model(X), torch.get_rng_state()
    with pytest.raises(
        BadInput, match=r"by name alone: \d.weight is shared, and what the model answers"
    ) as error:
        plan.apply(model, example=X)
    assert "\n" not in str(error.value)
    assert unchanged(before, state(model)) and model(X).equal(answered)
    assert torch.get_rng_state().equal(stream)
    if kind != "copy":  # the one that only an example shows
        with pytest.raises(BadInput, match=r"by name alone: .* keeps \d.weight, or a view of it") as error:
            plan.apply(model)
        assert "\n" not in str(error.value)
        assert unchanged(before, state(model)) and model(X).equal(answered)
    for name in plan.ties[0].names[1:]:
        model.get_submodule(name[0]).weight = model[0].weight
    plan.verify(model)
    assert not (torch.get_rng_state() - stream).any()
    with pytest.raises(RuntimeError, match="the tie is not proven: .* does not depend on"):
        plan.prove(model, X)


def test_a_tensor_that_is_taken_out_has_no_part_in_the_answer():
    """A hook reads the old weight beside the shared one, where the model keeps nothing that could be looked at."""
    model = chain()
    for layer in model:
        weight = layer.weight
        layer.register_forward_pre_hook(lambda _, given, weight=weight: (given[0] @ weight,))
    before = state(model)
    with pytest.raises(
        BadInput, match="1.weight is shared, and what the model answers still depends on the tensor"
    ):
        cross_layer(model).apply(model, example=X)
    assert unchanged(before, state(model))


class ByAnotherName(nn.Module):
    """Has its weight in a list of parameters too, and reads it there."""

    def __init__(self, *sizes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(sizes))
        self.all = nn.ParameterList([self.weight])

    def forward(self, x):
        return x @ self.all[0]


def test_a_weight_that_is_read_by_another_of_its_names_is_proven():
    model = chain(ByAnotherName)
    plan = cross_layer(model)
    plan.apply(model, example=X)
    assert len({id(parameter) for parameter in model.parameters()}) == 1


class Twice(nn.Module):
    """An embedding and what reads its weight in a way of its own."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, tokens):
        return F.linear(self.words(tokens), self.head.weight)


class Unread(nn.Module):
    """The model answers by the first position alone, which no other position of the last layer reaches."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        rest = x
        for block in self.blocks:
            x, rest = x + rest.sum(), block(rest)
        return x


GOOD = {
    "unread": (Unread, cross_layer, X),
    "linear": (lambda: chain(), cross_layer, X),
    "gru": (
        lambda: nn.ModuleDict({"layers": nn.ModuleList(nn.GRU(4, 4) for _ in range(2))}),
        cross_layer,
        None,
    ),
    "relaxed": (lambda: chain(), functools.partial(relaxed, rank=1), X),
    "functional": (
        Twice,
        lambda model: TyingPlan((Tie(("words.weight", "head.weight")),)),
        torch.arange(3)[None],
    ),
    "batch norm": (
        lambda: nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2))),
        functools.partial(cross_layer, scope="all"),
        X,
    ),
    "zeros behind": (lambda: zeroed(chain()), cross_layer, X),
}


def zeroed(model):
    """A network that answers with zeros, as one whose last layer starts at zero."""
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    return model


class Chained(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        for layer in self.inner["layers"]:
            x, _ = layer(x)
        return x


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("training", [True, False])
def test_a_tie_that_holds_is_proven_and_nothing_else_changes(kind, training):
    make, strategy, example = GOOD[kind]
    model = make()
    if example is None:
        model, example = Chained(model), X
    model.train(training)
    plan, stream = strategy(model), torch.get_rng_state()
    free = plan.apply(copy.deepcopy(model))
    assert plan.apply(model, example=example) is model
    plan.prove(model, example)
    buffers = dict(free.named_buffers())
    for name, parameter in model.named_parameters():
        assert parameter.equal(free.get_parameter(name)) and parameter.grad is None
    assert all(buffer.equal(buffers[name]) for name, buffer in model.named_buffers())
    assert all(module.training == training for module in model.modules())
    assert torch.get_rng_state().equal(stream)


class Experts(nn.Module):
    """The example reaches the first of its experts alone."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        return self.experts[0](x)


def test_what_the_example_does_not_reach_is_let_through_and_not_called_proven():
    model = Experts()
    plan = cross_layer(model)
    plan.apply(model, example=X)
    plan.verify(model)
    with pytest.raises(
        RuntimeError, match="experts.1.weight, experts.2.weight: the example does not reach it"
    ):
        plan.prove(model, X)


class Noisy(nn.Linear):
    calls = 0

    def forward(self, x):
        Noisy.calls += 1
        return super().forward(x) + Noisy.calls


@pytest.mark.parametrize(
    ("make", "example", "words"),
    [
        (chain, torch.ones(2, 5), "does not run through the model"),
        (chain, {"images": X}, "does not run through the model"),
        (lambda: chain(Noisy), X, "answers one example in two ways"),
        (lambda: nn.Sequential(*chain(), nn.Threshold(torch.inf, torch.nan)), X, "with no number"),
    ],
)
def test_an_example_that_proves_nothing_is_one_line_and_the_model_as_it_was(make, example, words):
    model = make().train()
    before = state(model)
    with pytest.raises(BadInput, match=words) as error:
        cross_layer(model).apply(model, example=example)
    assert "\n" not in str(error.value)
    assert unchanged(before, state(model)) and all(module.training for module in model.modules())


def test_a_tie_of_the_model_itself_is_no_second_use():
    """head reads what `out` shares with it already: that `out` is not reached keeps nobody from proving head."""
    model = Twice()
    model.out = nn.Linear(4, 5, bias=False)
    model.out.weight = model.head.weight
    plan = TyingPlan((Tie(("words.weight", "head.weight")),))
    plan.apply(model, example=torch.arange(3)[None])
    assert model.out.weight is model.words.weight
    with pytest.raises(NotApplicable):
        embedding(model)


def hooked(kind):
    return chain(lambda *sizes: kind(nn.Linear(*sizes)))


FOLLOWING = {
    "linear": chain,
    "gru": lambda: nn.Sequential(*(nn.GRU(4, 4) for _ in range(3))),
    "spectral norm": lambda: hooked(nn.utils.spectral_norm),
    "parametrized": lambda: hooked(nn.utils.parametrizations.orthogonal),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(chain()),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", FOLLOWING)
def test_what_follows_its_parameters_is_tied_without_an_example(kind):
    model = FOLLOWING[kind]()
    plan = cross_layer(model, scope="all")
    plan.apply(model)
    plan.verify(model)


def test_a_weight_that_the_tie_leaves_in_place_may_be_kept():
    """The first name's tensor is the one that all share; with a difference beside it, what is kept is another."""
    model = chain()
    model.first = [model[0].weight]
    cross_layer(model).apply(model)
    model = chain()
    model[0].kept = [model[0].weight]
    with pytest.raises(BadInput, match="0.kept keeps 0.weight"):
        relaxed(model, rank=1).apply(model)
