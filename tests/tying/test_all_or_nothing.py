"""Applying a plan changes all of it or nothing, wherever it is stopped."""

import copy
import functools
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.tying import NotApplicable, cross_layer, relaxed, soft
from bench.tying.apply import parameters_by_name
from bench.tying.errors import BadInput


class Block(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.one, self.two = kind(4, 4), nn.Linear(4, 6)


def network(kind=nn.Linear):
    torch.manual_seed(0)
    return nn.ModuleDict({"blocks": nn.ModuleList(Block(kind) for _ in range(3))})


def picture(model):
    """All that a plan could change: classes, attributes, names, identities and values."""
    modules = {
        path: (type(module), sorted(vars(module)), [id(w) for w in vars(module).get("_flat_weights", ())])
        for path, module in model.named_modules()
    }
    named = dict(model.named_parameters(remove_duplicate=False))
    return modules, {name: (id(p), p.detach().clone()) for name, p in named.items()}


def same(one, other):
    return (
        one[0] == other[0]
        and one[1].keys() == other[1].keys()
        and all(one[1][n][0] == other[1][n][0] and one[1][n][1].equal(other[1][n][1]) for n in one[1])
    )


class Stopped(BaseException):
    """As KeyboardInterrupt or a lack of memory comes: anywhere."""


def lines_of(action, stop_at=None):
    """How many lines of this library and of torch's modules run in `action`; Stopped at one of them."""
    count = 0

    def local(frame, event, _):
        nonlocal count
        if event == "line":
            count += 1
            if count == stop_at:
                raise Stopped
        return local

    def enter(frame, event, _):
        name = frame.f_code.co_filename
        return local if "/bench/tying/" in name or "/torch/nn/" in name else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


PLANS = {
    "shared": (lambda m: cross_layer(m, scope="all"), {}),
    "mean": (cross_layer, {"merge": "mean"}),
    "relaxed": (functools.partial(relaxed, rank=2), {"merge": "mean"}),
    "soft": (functools.partial(soft, strength=0.1), {"init": "shared", "merge": "mean"}),
    "vectors too": (functools.partial(relaxed, rank=1, scope="all"), {"merge": "least_squares"}),
}
COUNTS = {}


def applied(model, kind):
    strategy, options = PLANS[kind]
    strategy(model).apply(model, **options)


@pytest.mark.parametrize("layer", [nn.Linear, nn.GRU])
@pytest.mark.parametrize("kind", PLANS)
@given(share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_wherever_it_is_stopped(kind, layer, share):
    strategy, options = PLANS[kind]
    if (kind, layer) not in COUNTS:
        model = network(layer)
        plan = strategy(model)
        COUNTS[kind, layer] = lines_of(lambda: plan.apply(model, **options))
    model = network(layer)
    plan, before = strategy(model), picture(model)
    done = plan.apply(copy.deepcopy(model), **options)
    with pytest.raises(Stopped):
        lines_of(lambda: plan.apply(model, **options), 1 + int(share * (COUNTS[kind, layer] - 2)))
    after = picture(model)
    if not same(before, after):  # it was stopped behind the last change
        values = {name: p.detach() for name, p in parameters_by_name(done).items()}
        assert all(p.equal(values[name]) for name, p in parameters_by_name(model).items())
        plan.verify(model)


def spoiled(dtype=None, value=None):
    model = network()
    last = model["blocks"][2].two
    if dtype is not None:
        last.weight = nn.Parameter(last.weight.detach().to(dtype))
        for block in model["blocks"]:
            block.two.weight = nn.Parameter(block.two.weight.detach().to(dtype))
    else:
        last.weight.data[0, 0] = value
    return model


BAD = {"nan": {"value": float("nan")}, "inf": {"value": float("inf")}}
BAD |= {str(kind): {"dtype": kind} for kind in (torch.float8_e4m3fn, torch.float8_e5m2)}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("merge", ["first", "mean", "least_squares"])
@pytest.mark.parametrize("rank", [None, 1])
def test_values_that_do_not_allow_the_arithmetic(bad, merge, rank):
    model = spoiled(**BAD[bad])
    plan = cross_layer(model) if rank is None else relaxed(model, rank=rank)
    before = picture(model)
    if rank is None and (merge == "first" or "value" in BAD[bad]):
        plan.apply(model, merge=merge)  # what is shared whole asks for none, and a mean of NaN is NaN
        plan.verify(model)
        return
    with pytest.raises(BadInput, match=r"blocks\.\d\.two\.weight holds") as error:
        plan.apply(model, merge=merge)
    assert "\n" not in str(error.value)
    after = picture(model)
    assert before[0] == after[0] and before[1].keys() == after[1].keys()
    assert all(before[1][name][0] == after[1][name][0] for name in before[1])


def test_a_sparse_gradient_gets_no_part_of_a_penalty():
    model = nn.ModuleDict(
        {
            "first": nn.ModuleList(nn.Linear(4, 4) for _ in range(2)),
            "words": nn.ModuleList(nn.Embedding(9, 4, sparse=True) for _ in range(2)),
        }
    )
    plan = soft(model, strength=0.5, stack="first") + soft(model, strength=0.5, stack="words")
    for part in model["words"]:
        part(torch.tensor([1, 2])).sum().backward()
    before = {name: p.grad for name, p in model.named_parameters()}
    with pytest.raises(BadInput, match="sparse=False"):
        plan.add_penalty_gradient(model)
    assert {name: p.grad for name, p in model.named_parameters()} == before
    assert float(plan.penalty(model).detach()) > 0


def test_all_frozen_ties_and_one_frozen_is_refused():
    model = network().requires_grad_(False)
    plan = relaxed(model, rank=1)
    plan.apply(model)
    plan.verify(model)
    assert not any(p.requires_grad for p in model.parameters())
    mixed = network()
    mixed["blocks"][1].one.weight.requires_grad_(False)
    before = picture(mixed)
    with pytest.raises(BadInput, match=r"blocks\.1\.one\.weight, which is frozen, with blocks\.0"):
        cross_layer(mixed).apply(mixed)
    assert same(before, picture(mixed))
    with pytest.raises(NotApplicable):
        cross_layer(mixed, scope="attention")
