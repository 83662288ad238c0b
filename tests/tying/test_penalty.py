"""The arithmetic of soft tying, on numbers done in the head and against autograd."""

import math

import pytest
import torch
from torch import nn

from bench.tying import penalty
from bench.tying.errors import BadInput
from bench.tying.plan import TyingPlan
from bench.tying.tie import Tie


def members(*values, dtype=torch.float64):
    return [nn.Parameter(torch.tensor([float(value)], dtype=dtype)) for value in values]


def random_members(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(3, 4, dtype=torch.float64, generator=generator)) for _ in range(n)]


def test_penalty_in_the_head():
    # pairs of 0, 1, 5: 1 + 25 + 16 = 42
    assert penalty.penalty(members(0, 1, 5), 0.5).item() == pytest.approx(21)


def test_penalty_is_the_sum_over_pairs():
    tensors = random_members(4)
    pairs = sum((a - b).square().sum() for i, a in enumerate(tensors) for b in tensors[:i])
    assert penalty.penalty(tensors, 0.3).item() == pytest.approx(0.3 * pairs.item(), rel=1e-12)


@pytest.mark.parametrize("start", [None, 7.0])
def test_closed_form_gradient_equals_autograd(start):
    tensors = random_members(5)
    expected = torch.autograd.grad(penalty.penalty(tensors, 0.3), tensors)
    for tensor in tensors:
        tensor.grad = None if start is None else torch.full_like(tensor, start)
    penalty.add_gradient(tensors, 0.3)
    for tensor, gradient in zip(tensors, expected, strict=True):
        assert torch.allclose(tensor.grad, gradient + (start or 0), rtol=1e-12, atol=1e-12)


def test_gradient_makes_only_the_missing_grads():
    a, b = members(0, 4)
    a.grad = torch.ones_like(a)
    penalty.add_gradient([a, b], 0.25)  # 2 * 2 * 0.25 * (-2, 2)
    assert (a.grad.item(), b.grad.item()) == (-1, 2)


@pytest.mark.parametrize(
    ("lr", "strength", "expected"),
    [
        (0.5, 0.5, (1, 3)),  # 1 + 2 * 2 * 0.5 * 0.5 = 2: half way to the mean of 0 and 4
        (0.25, 3.0, (1.5, 2.5)),  # 1 + 2 * 2 * 0.25 * 3 = 4: a quarter is left
        (0.5, 0.0, (0, 4)),
        (0.0, 3.0, (0, 4)),
        (0.0, math.inf, (0, 4)),  # a warm-up that starts at rate 0 moves nothing
        (0.5, math.inf, (2, 2)),
    ],
)
def test_pull_in_the_head(lr, strength, expected):
    tensors = members(0, 4)
    penalty.pull(tensors, lr, strength)
    assert tuple(tensor.item() for tensor in tensors) == pytest.approx(expected)


@pytest.mark.parametrize("frozen", [(1,), (0, 3), (0, 1, 2)])
def test_frozen_members_stay_and_the_others_take_the_penaltys_own_step(frozen):
    """After a pull each trained member is where it was less lr times the gradient there: the proximal condition."""
    tensors = random_members(4)
    for at in frozen:
        tensors[at].requires_grad_(False)
    before = [tensor.detach().clone() for tensor in tensors]
    penalty.pull(tensors, 0.3, 0.7)
    trained = [tensor for tensor in tensors if tensor.requires_grad]
    expected = torch.autograd.grad(penalty.penalty(tensors, 0.7), trained)
    penalty.add_gradient(tensors, 0.7)
    for tensor, gradient in zip(trained, expected, strict=True):
        torch.testing.assert_close(tensor.grad, gradient)
    for tensor, start in zip(tensors, before, strict=True):
        if tensor.requires_grad:
            torch.testing.assert_close(tensor + 0.3 * tensor.grad, start)
        else:
            assert torch.equal(tensor, start) and tensor.grad is None


@pytest.mark.parametrize("lr", [-0.1, math.nan])
def test_pull_refuses_a_wrong_rate(lr):
    with pytest.raises(BadInput, match="lr"):
        penalty.pull(members(0, 4), lr, 1.0)


def test_pull_keeps_the_mean_and_infinity_makes_all_members_equal_to_the_bit():
    tensors = random_members(3)
    mean = torch.stack(list(tensors)).mean(0)
    penalty.pull(tensors, 0.1, 0.7)
    assert torch.allclose(torch.stack(list(tensors)).mean(0), mean, rtol=0, atol=1e-14)
    penalty.pull(tensors, 0.1, math.inf)
    assert torch.equal(tensors[0], tensors[1])
    assert torch.equal(tensors[0], tensors[2])
    assert torch.allclose(tensors[0], mean, rtol=0, atol=1e-14)


def test_infinite_pull_at_n_times_the_rate_is_hard_tying_under_sgd():
    target = random_members(3, seed=1)
    start = random_members(1, seed=2)[0].detach()
    shared = nn.Parameter(start.clone())
    copies = [nn.Parameter(start.clone()) for _ in target]
    hard, decoupled = torch.optim.SGD([shared], lr=0.01), torch.optim.SGD(copies, lr=3 * 0.01)
    for _ in range(5):
        for optimizer, weights in ((hard, [shared] * 3), (decoupled, copies)):
            optimizer.zero_grad()
            sum((w * t).sin().sum() for w, t in zip(weights, target, strict=True)).backward()
            optimizer.step()
        penalty.pull(copies, 0.03, math.inf)
    assert not torch.equal(shared, start)
    assert all(torch.allclose(copy, shared, rtol=0, atol=1e-14) for copy in copies)


def test_equal_members_have_no_deviation_at_all():
    value = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    tensors = [nn.Parameter(value.clone()) for _ in range(3)]
    penalty.add_gradient(tensors, 1.0)
    assert all(not tensor.grad.any() for tensor in tensors)
    assert penalty.penalty(tensors, 1.0).item() == 0
    penalty.pull(tensors, 0.1, 1.0)
    assert all(torch.equal(tensor, value) for tensor in tensors)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_gradient_is_right_in_single_precision_where_members_are_close(n):
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(64, 64, generator=generator)
    tensors = [nn.Parameter(base + 1e-5 * torch.randn(64, 64, generator=generator)) for _ in range(n)]
    penalty.add_gradient(tensors, 1.0)
    exact = torch.stack(list(tensors)).detach().double()
    expected = 2 * n * (exact - exact.mean(0))
    got = torch.stack([tensor.grad for tensor in tensors]).double()
    assert (got - expected).norm() < 1e-6 * expected.norm()


def test_spread_in_the_head():
    # (3, 5): mean 4, deviations 1 and 1, over 9 + 25; (1, 1): none, over 2: sqrt(2 / 36)
    pieces = [penalty.squares(members(3, 5)), penalty.squares(members(1, 1))]
    assert penalty.spread(pieces) == pytest.approx(math.sqrt(2 / 36))
    assert penalty.spread([penalty.squares(members(0, 0))]) == 0


def test_spread_is_right_in_single_precision_where_members_are_close():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(256, 256, generator=generator)
    tensors = [base + 1e-5 * torch.randn(256, 256, generator=generator) for _ in range(4)]
    exact = torch.stack(tensors).double()
    expected = ((exact - exact.mean(0)).square().sum() / exact.square().sum()).sqrt().item()
    assert expected == pytest.approx(1e-5, rel=0.2)
    assert penalty.spread([penalty.squares(tensors)]) == pytest.approx(expected, rel=1e-4)


def test_spread_of_half_precision_is_taken_in_single():
    tensors = members(1, 1, 2, dtype=torch.bfloat16)  # the mean, 4 / 3, is no bfloat16
    assert penalty.squares(tensors) == pytest.approx((2 / 3, 6), rel=1e-6)


def test_strength_zero_leaves_a_training_curve_bit_identical():
    def curve(plan):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        optimizer = torch.optim.Adam(plan.apply(model).parameters(), lr=0.1)
        bound, losses = plan.bind(model), []
        for _ in range(5):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 4)).square().sum()
            loss.backward()
            bound.add_gradient()
            optimizer.step()
            bound.pull(0.1)
            losses.append(loss.item())
        return losses

    plan = TyingPlan((Tie(("0.weight", "2.weight"), 1.0),))
    assert curve(plan.soften(0)) == curve(TyingPlan())
    assert curve(plan) != curve(TyingPlan())


@pytest.mark.parametrize("shape", [(5, 7), (1, 35)])
@pytest.mark.parametrize("transposed", [False, True])
def test_slices_give_the_same_bits(monkeypatch, shape, transposed):
    """35 numbers in slices of 8: four whole ones and a rest; what is not in one piece is not sliced."""

    def made():
        torch.manual_seed(0)
        tensors = [torch.randn(*shape) for _ in range(4)]
        tensors = [(t.T if transposed else t).requires_grad_() for t in tensors]
        for tensor in tensors:
            tensor.grad = torch.randn_like(tensor)
        return tensors

    def results():
        pushed, pulled, merged = made(), made(), made()
        penalty.add_gradient(pushed, 0.3)
        penalty.pull(pulled, 0.1, 0.3)
        penalty.pull(merged, 0.1, math.inf)
        return [*(tensor.grad for tensor in pushed), *pulled, *merged], penalty.squares(made())

    whole, squares = results()
    monkeypatch.setattr(penalty, "BLOCK", 8)
    sliced, of_slices = results()
    assert all(a.equal(b) for a, b in zip(sliced, whole, strict=True))
    assert of_slices == pytest.approx(squares)  # which are sums
