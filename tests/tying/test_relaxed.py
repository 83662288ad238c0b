"""Relaxed sharing: one tensor, and a difference of low rank for each use of it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_strategies import network
from torch import nn
from torch.nn.utils import parametrizations

from bench.tying import HARD, NotApplicable, Tie, TyingPlan, cross_layer, cycle, low_rank, relaxed
from bench.tying.apply import parameters_by_name, weight
from bench.tying.errors import BadInput
from bench.tying.gradients import of_uses
from bench.tying.low_rank import LowRank, ReadAnew


class Stack(nn.Module):
    """Three square matrices with biases, one after the other; and at either end what could be tied as well."""

    def __init__(self, width=6, depth=3, kind=nn.Linear):
        super().__init__()
        self.blocks = nn.ModuleList(kind(width, width) for _ in range(depth))

    def forward(self, x):
        for block in self.blocks:
            found = block(x)
            x = found[0] if isinstance(found, tuple) else found
        return x


WEIGHTS = tuple(f"blocks.{at}.weight" for at in range(3))
X = torch.linspace(-1, 1, 12).view(2, 6)


def stack(seed=1, **sizes):
    torch.manual_seed(seed)
    return Stack(**sizes)


def own(model):
    return [weight(model, name).detach().clone() for name in WEIGHTS]


def test_rank_0_is_hard_tying():
    assert relaxed(stack(), rank=0) == cross_layer(stack())
    assert relaxed(stack(), rank=0, groups=2) == cycle(stack(), groups=2)
    assert cross_layer(stack()).relax(0) == cross_layer(stack())


def test_full_rank_changes_no_output():
    free, tied = stack(), stack()
    relaxed(tied, rank=6).apply(tied)
    torch.testing.assert_close(tied(X), free(X))


@pytest.mark.parametrize("merge", ["first", "mean", "least_squares"])
def test_the_error_falls_with_the_rank_and_ends_at_none(merge):
    weights, errors = own(stack()), []
    for rank in range(7):
        model = stack()
        relaxed(model, rank=rank).apply(model, merge=merge)
        errors.append(sum((a - b).square().sum().item() for a, b in zip(own(model), weights, strict=True)))
    assert all(after < before for before, after in zip(errors, errors[1:], strict=False))
    assert errors[-1] == pytest.approx(0, abs=1e-9)


@given(st.integers(1, 5), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_least_squares_is_never_worse_than_the_mean(rank, count, seed):
    torch.manual_seed(seed)
    members = list(torch.randn(count, 6, 6))

    def error(shared):
        kept = [low_rank.difference(low_rank.nearest(member - shared, rank), shared) for member in members]
        return sum((m - shared - k).square().sum().item() for m, k in zip(members, kept, strict=True))

    assert error(low_rank.least_squares(members, rank)) <= error(sum(members) / count) * (1 + 1e-5)


def test_two_that_differ_by_twice_the_rank_are_kept_whole_by_least_squares():
    """diag(1, 1) and diag(-1, -1): with rank 1 each, one shared tensor lies within reach of both."""
    one, two = stack(width=2, depth=2), stack(width=2, depth=2)
    for model in (one, two):
        for block, sign in zip(model.blocks, (1.0, -1.0), strict=True):
            block.weight.data = sign * torch.diag(torch.tensor([2.0, 1.0]))
    relaxed(one, rank=1).apply(one, merge="least_squares")
    relaxed(two, rank=1).apply(two, merge="mean")
    left_over = [
        sum(
            (weight(model, f"blocks.{at}.weight") - sign * torch.diag(torch.tensor([2.0, 1.0])))
            .square()
            .sum()
            .item()
            for at, sign in ((0, 1.0), (1, -1.0))
        )
        for model in (one, two)
    ]
    assert left_over[1] == pytest.approx(2.0)  # the mean is 0: of each the smaller value, 1, is lost
    assert left_over[0] <= 2.0


def test_the_parameters_are_one_tensor_and_two_factors_a_use():
    model = stack()
    plan = relaxed(model, rank=2)
    assert plan.num_params(model) == 36 + 3 * 2 * (6 + 6) + 3 * 6  # shared, differences, biases
    assert plan.num_tensors(model) == 1 + 6 + 3
    plan.apply(model)
    assert sum(p.numel() for p in model.parameters()) == plan.num_params(model) == 126
    assert len(list(model.parameters())) == plan.num_tensors(model) == 10
    assert "rank 2 {0-2}" in str(plan.summary(stack())) and "126 -> 126" not in str(plan.summary(stack()))


def test_biases_are_shared_whole():
    model = stack()
    relaxed(model, rank=1, scope="all").apply(model)
    assert model.blocks[0].bias is model.blocks[2].bias
    assert sum(p.numel() for p in model.parameters()) == 36 + 3 * 12 + 6


@pytest.mark.parametrize("kind", [nn.Linear, nn.GRU])
def test_the_gradients_are_those_of_the_sum(kind):
    """The shared tensor receives the sum over uses, a factor the use's own gradient through the other."""
    free, tied = stack(kind=kind).double(), stack(kind=kind).double()
    plan = relaxed(tied, rank=2).apply(tied) and relaxed(stack(kind=kind), rank=2)
    for tie in plan.ties:
        for name in tie.names:
            with torch.no_grad():
                weight(free, name).copy_(weight(tied, name))
    free(X.double()).square().sum().backward()
    tied(X.double()).square().sum().backward()
    named, untied = parameters_by_name(tied), parameters_by_name(free)
    for tie in plan.ties:
        of = [untied[name].grad for name in tie.names]
        torch.testing.assert_close(named[tie.names[0]].grad, sum(of))
        for name, gradient in zip(tie.names, of, strict=True):
            module, leaf = tied.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            left, right = low_rank.of(module, leaf).left, low_rank.of(module, leaf).right
            torch.testing.assert_close(left.grad, gradient @ right.T)
            torch.testing.assert_close(right.grad, left.T @ gradient)


def test_of_equal_layers_each_can_still_go_its_own_way():
    """Differences of zero: their right factor is not, or no gradient would ever reach them."""
    model = stack()
    for block in model.blocks:
        block.weight.data.fill_(0.1)
    relaxed(model, rank=1).apply(model)
    model(X).square().sum().backward()
    factors = [low_rank.of(block, "weight") for block in model.blocks]
    assert all(each.left.count_nonzero() == 0 and each.left.grad.count_nonzero() > 0 for each in factors)


@pytest.mark.parametrize("kind", [nn.Linear, nn.GRU])
def test_it_holds_through_a_step_a_copy_a_cast_and_a_reload(kind):
    model = stack(kind=kind)
    plan = relaxed(model, rank=2)
    plan.apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()
    twin = copy.deepcopy(model)
    plan.verify(twin)
    assert torch.equal(twin(X), model(X))
    other = stack(seed=2, kind=kind)
    plan.apply(other)
    other.load_state_dict(model.state_dict())
    plan.verify(other)
    assert torch.equal(other(X), model(X))
    plan.verify(copy.deepcopy(model.double()))
    torch.testing.assert_close(model(X.double()).float(), twin(X))


def test_applying_it_again_changes_nothing():
    model = stack()
    plan = relaxed(model, rank=2)
    plan.apply(model)
    before = copy.deepcopy(model.state_dict())
    plan.apply(model)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert plan == relaxed(model, rank=2)  # and a strategy sees the network that it was


def test_uses_have_their_gradients_and_the_network_stays_as_it_is():
    model = stack()
    plan = relaxed(model, rank=1)
    plan.apply(model)
    (uses,) = of_uses(plan, model, lambda network: network(X).square().sum())
    assert uses.names == WEIGHTS and all(norm > 0 for norm in uses.norms)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_spread_is_that_of_what_the_network_computes_with():
    model = stack()
    plan = relaxed(model, rank=6)
    before = cross_layer(model).spread(model)
    plan.apply(model)
    assert plan.spread(model) == pytest.approx(before)


def test_the_algebra_keeps_ranks():
    hard = Tie(WEIGHTS, HARD, (-3, -2, -1), rank=2)
    plan = TyingPlan((hard,))
    assert plan + plan == plan and plan.relax(2) == plan
    assert plan.last(2).ties[0].rank == plan.within((0, 0, 1)).ties[0].rank == 2
    assert plan.soften(0.5).ties[0].rank == 0 and plan.soften(0.5).relax(3) == plan.soften(0.5)
    with pytest.raises(
        BadInput, match="rank 2 and with rank 0; use one rank|rank 0 and with rank 2; use one rank"
    ):
        plan + plan.relax(0)


@pytest.mark.parametrize("rank", [-1, 1.5, True, "2"])
def test_a_rank_is_a_whole_number(rank):
    with pytest.raises(BadInput, match="it must be an integer from 0"):
        relaxed(stack(), rank=rank)


def test_a_soft_tie_has_no_rank():
    with pytest.raises(BadInput, match="only hard ties are relaxed"):
        Tie(WEIGHTS, 0.5, rank=2)


def refused(model, plan, match):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BadInput, match=match):
        plan.apply(model)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_cannot_be_relaxed_is_refused_and_the_model_left_as_it_was():
    refused(stack(), relaxed(stack(), rank=7), "a weight of 6 x 6 has rank 6 at most")
    normed = stack()
    parametrizations.spectral_norm(normed.blocks[1])
    refused(normed, TyingPlan((Tie(WEIGHTS, rank=1),)), "parametrised already")
    other = stack()
    relaxed(other, rank=2).apply(other)
    refused(other, relaxed(other, rank=3), "has a difference of rank 2 already; the plan gives it 3")
    refused(other, cross_layer(other), "has a difference of rank 2 already; the plan gives it 0")
    outside = stack()
    outside.head = nn.Linear(6, 6)
    outside.head.weight = outside.blocks[2].weight
    refused(outside, relaxed(stack(), rank=1), "also reads as head.weight: relax both or neither")
    one = stack()
    one.blocks[2] = one.blocks[0]
    refused(one, TyingPlan((Tie(WEIGHTS, rank=1),)), "are one module's; relax modules that are apart")


def test_without_a_matrix_there_is_nothing_to_relax():
    with pytest.raises(NotApplicable, match="no matrix is shared within scope 'bias'"):
        relaxed(stack(), rank=1, scope="bias")
    with pytest.raises(NotApplicable):
        relaxed(network((4,)), rank=1)


def test_a_gru_reads_its_weights_anew_and_keeps_no_graph():
    model = stack(kind=nn.GRU)
    relaxed(model, rank=2).apply(model)
    first = model(X)
    with torch.no_grad():
        model.blocks[0].parametrizations.weight_hh_l0[0].left.add_(1.0)
    assert not torch.equal(model(X), first)
    assert isinstance(low_rank.of(model.blocks[0], "weight_hh_l0"), LowRank)
    copy.deepcopy(model)  # a kept sum could not be


def test_torchs_recurrent_modules_still_have_what_is_replaced():
    """ReadAnew stands on names inside nn.RNNBase: where this fails, see whether it still does what it is for."""
    replaced = {name for name in vars(ReadAnew) if not name.startswith("__")}
    assert replaced == {
        "_flat_weights",
        "_init_flat_weights",
        "_update_flat_weights",
        "flatten_parameters",
    }
    assert replaced | {"_flat_weights_names"} <= set(dir(nn.GRU(2, 2)))
    assert "_flat_weights" in vars(nn.GRU(2, 2))
