"""What a bound plan does at every step, on a stack of linear layers."""

import pytest
import torch
from torch import nn

from bench.tying.plan import TyingPlan
from bench.tying.tie import HARD, Tie


def stack():
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))


def along(leaf, strength=HARD):
    return Tie(tuple(f"{i}.{leaf}" for i in range(3)), strength, (-3, -2, -1))


def test_a_hard_class_is_one_member_of_a_penalty():
    model = stack()
    for block, value in zip(model, (0.0, 9.0, 1.0), strict=True):
        nn.init.constant_(block.weight, value)
    names = tuple(f"{i}.weight" for i in range(3))
    plan = TyingPlan((Tie(names[:2]), Tie(names[1:], 0.5)))
    plan.apply(model)
    # two members, 0 and 1, of 16 elements each: 0.5 * 16
    assert plan.penalty(model).item() == pytest.approx(8)
    plan.add_penalty_gradient(model)
    assert model[2].weight.grad[0, 0].item() == pytest.approx(1)
    assert model[0].weight.grad[0, 0].item() == pytest.approx(-1)
    plan.pull(model, 0.5)  # 1 + 2 * 2 * 0.5 * 0.5 = 2
    assert [block.weight[0, 0].item() for block in model] == pytest.approx([0.25, 0.25, 0.75])


def test_a_bound_plan_follows_the_optimizer_and_the_gradient_reaches_the_penalty():
    model, plan = stack().double(), TyingPlan((along("weight", 0.1), along("bias", 0.2)))
    bound = plan.apply(model) and plan.bind(model)
    penalty = bound.penalty()
    expected = torch.autograd.grad(penalty, list(model.parameters()))
    bound.add_gradient()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-12, atol=1e-12)
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    assert bound.penalty() < penalty
    assert bound.penalty().item() == plan.penalty(model).item()


def test_spread_of_shared_untied_and_no_ties():
    plan, model = TyingPlan((along("weight"),)), stack()
    assert TyingPlan().spread(model) is None
    for block, value in zip(model, (1.0, 2.0, 3.0), strict=True):
        nn.init.constant_(block.weight, value)
    # mean 2, deviations 1, 0, 1; squares 1 + 4 + 9
    assert plan.spread(model) == pytest.approx((2 / 14) ** 0.5)
    assert plan.spread(plan.apply(model)) == 0.0


def test_what_is_not_softly_tied_costs_nothing_and_gets_no_gradient():
    model = stack()
    hard = TyingPlan((along("weight"),))
    inside = hard + TyingPlan((along("weight", 0.1),))  # one member, so nothing to draw together
    for plan, network in ((TyingPlan(), model), (hard, model), (inside, inside.apply(stack()))):
        assert plan.penalty(network).item() == 0
        plan.add_penalty_gradient(network)
        plan.pull(network, 0.1)
        assert all(parameter.grad is None for parameter in network.parameters())
