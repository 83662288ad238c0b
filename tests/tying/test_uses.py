"""Per-use gradients on networks that can be done in the head, and their law on every task x tying."""

import pytest
import torch
from grid import CELLS, ROWS, applies, build, doubled
from torch import nn

from bench.tying import Tie, TyingPlan
from bench.tying.apply import parameters_by_name
from bench.tying.gradients import of_uses, untied

PAIR = TyingPlan((Tie(("a.weight", "b.weight")),))


def pair(weight=2.0):
    model = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
    nn.init.constant_(model["a"].weight, weight)
    return PAIR.apply(model)


ONE = torch.ones(1, 1)


def test_two_uses_in_a_row_ask_for_the_same():
    # b(a(3)) = 2 * 2 * 3: each use gets 2 * 3 = 6
    (found,) = of_uses(PAIR, pair(), lambda m: m["b"](m["a"](3 * ONE)).sum())
    assert found.names == ("a.weight", "b.weight")
    assert found.norms == (6, 6) and found.cosines == (1, 1)
    assert found.total == 12 and found.agreement == 1


def test_uses_that_cancel_have_no_direction():
    (found,) = of_uses(PAIR, pair(), lambda m: (m["a"](ONE) - m["b"](ONE)).sum())
    assert found.norms == (1, 1) and found.cosines == (None, None) and found.agreement == 0


def test_a_use_against_the_others():
    (found,) = of_uses(PAIR, pair(), lambda m: (3 * m["a"](ONE) - m["b"](ONE)).sum())
    assert found.norms == (3, 1) and found.cosines == (1, -1)
    assert found.total == 2 and found.agreement == 0.5


def test_a_use_that_the_loss_does_not_see():
    (found,) = of_uses(PAIR, pair(), lambda m: m["a"](ONE).sum())
    assert found.norms == (1, 0) and found.cosines == (1, None) and found.agreement == 1
    (found,) = of_uses(PAIR, pair(), lambda m: 0 * m["a"](ONE).sum())
    assert found.agreement is None


def test_the_model_stays_tied_and_without_gradients():
    model = pair()
    twin = untied(model, PAIR)
    assert twin["a"].weight is not twin["b"].weight and model["a"].weight is model["b"].weight
    of_uses(PAIR, model, lambda m: m["a"](ONE).sum())
    assert model["a"].weight.grad is None and model["a"].weight.item() == 2


@pytest.mark.parametrize(("task", "tying"), [*(pair for pair in CELLS if applies(*pair)), *ROWS])
def test_the_uses_sum_to_the_gradient_of_the_shared_tensor(cell, task, tying):
    built = build(cell(task, tying))
    module, batch = doubled(built)

    def loss(twin):
        module.model = twin
        return module.loss(batch)

    model = module.model
    found = of_uses(built.plan, model, loss)
    assert [use.names for use in found] == [tie.names for tie in built.plan.ties if tie.is_hard]
    module.model = model
    module.states = {}
    module.loss(batch).backward()
    parameters = parameters_by_name(model)
    for use in found:
        assert use.total == pytest.approx(float(parameters[use.names[0]].grad.norm()), rel=1e-9)
        assert use.total <= sum(use.norms) * (1 + 1e-9) and all(norm > 0 for norm in use.norms)
