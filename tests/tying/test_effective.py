"""Laws of the effective number of parameters: soft copies counted by how far apart they are."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.tying.errors import BadInput
from bench.tying.penalty import effective_copies, gram
from bench.tying.plan import TyingPlan
from bench.tying.tie import HARD, Tie

NAMES = ("0.weight", "1.weight", "2.weight", "3.weight")
SIZE, REST = 16, 4 * 4
"""Elements of one copy, and of the four biases beside the copies."""


def stack(*weights):
    """Four linear layers with these weights (those of seed 0 where none are given), in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in NAMES)).double()
    for layer, weight in zip(model, weights, strict=False):
        layer.weight.data.copy_(weight)
    return model


def soft(names=NAMES, strength=0.1):
    return TyingPlan((Tie(names, strength),))


def diagonal(*values):
    return torch.diag(torch.tensor(values, dtype=torch.float64))


ORTHOGONAL = [diagonal(*(2.0 * (at == i) for at in range(4))) for i in range(4)]
numbers = st.floats(-10, 10, allow_subnormal=False)
copies = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=5)


@pytest.mark.parametrize(
    "plan", [TyingPlan(), TyingPlan((Tie(NAMES),)), TyingPlan((Tie(NAMES[:2]), Tie(NAMES[2:])))]
)
def test_without_soft_ties_it_is_the_count(plan):
    model = stack()
    before = plan.effective_params(model)
    assert before == plan.num_params(model) == plan.effective_params(plan.apply(model))


def test_equal_copies_count_as_the_hard_plan_does():
    model = stack(*[stack()[0].weight] * 4)
    assert soft().effective_params(model) == pytest.approx(soft().soften(HARD).num_params(model), rel=1e-12)
    assert soft().effective_params(model) == pytest.approx(SIZE + REST)


def test_orthogonal_copies_of_one_norm_count_as_untied():
    assert soft().effective_params(stack(*ORTHOGONAL)) == pytest.approx(TyingPlan().num_params(stack()))


def test_in_the_head():
    """Two equal and one orthogonal of the same norm: (1 + 1 + 1)^2 / (4 ones + 1) = 9 / 5, whatever the sign."""
    a, b = ORTHOGONAL[:2]
    expected = SIZE * 9 / 5 + SIZE + REST
    for sign in (1, -1):
        assert soft(NAMES[:3]).effective_params(stack(a, sign * a, b)) == pytest.approx(expected)
    # (1 + 9)^2 / (1 + 81): the longer one outweighs the other
    assert soft(NAMES[:2]).effective_params(stack(a, 3 * b)) == pytest.approx(
        SIZE * 100 / 82 + 2 * SIZE + REST
    )


@given(copies)
def test_it_lies_between_one_copy_and_all(rows):
    found = effective_copies(gram([torch.tensor(row, dtype=torch.float64) for row in rows]))
    assert 1 <= found <= len(rows)


@given(copies, st.sampled_from([1e-150, 1e-3, -7.0, 1e150]))
def test_a_common_factor_changes_nothing(rows, factor):
    tensors = [torch.tensor(row, dtype=torch.float64) * (max(map(abs, row)) > 1e-3) for row in rows]
    scaled = effective_copies(gram([factor * tensor for tensor in tensors]))
    assert scaled == pytest.approx(effective_copies(gram(tensors)), rel=1e-9)


def test_zero_copies_are_equal_copies():
    zero = torch.zeros(4, 4)
    assert soft().effective_params(stack(*[zero] * 4)) == SIZE + REST
    assert soft(NAMES[:2]).effective_params(stack(zero, torch.ones(4, 4))) == pytest.approx(3 * SIZE + REST)


@pytest.mark.parametrize("applied", [False, True])
def test_a_hard_class_is_one_copy_with_the_value_of_its_first_name(applied):
    """The class of 0 and 1 is one tensor and 2 is orthogonal to it; 1 alone would be 2's equal."""
    a, b = ORTHOGONAL[:2]
    plan, model = TyingPlan((Tie(NAMES[:2]), Tie(NAMES[1:3], 0.1))), stack(a, b, b)
    model = plan.apply(model) if applied else model
    assert plan.effective_params(model) == pytest.approx(3 * SIZE + REST)


def test_ties_that_meet_in_one_tensor_are_one_group():
    """The model came with 1 = 2: of 0 ~ 1 and 2 ~ 3 three tensors are left, all orthogonal; all equal they are one."""
    plan = TyingPlan((Tie(NAMES[:2], 0.1), Tie(NAMES[2:], 0.2)))
    for weights, count in ((ORTHOGONAL, 3), ([ORTHOGONAL[0]] * 4, 1)):
        model = stack(*weights)
        model[2].weight = model[1].weight
        assert plan.effective_params(model) == pytest.approx(count * SIZE + REST)


def test_it_falls_to_the_hard_count_as_copies_are_pulled_together():
    model, found = stack(), []
    for _ in range(4):
        found.append(soft().effective_params(model))
        soft().pull(model, 1.0)
    soft(strength=math.nextafter(math.inf, 0)).pull(model, 1.0)
    found.append(soft().effective_params(model))
    assert found == sorted(found, reverse=True) and found[-1] == pytest.approx(SIZE + REST)


def test_it_refuses_as_the_count_does():
    with pytest.raises(BadInput, match="no parameter of that name"):
        soft(("0.weight", "9.weight")).effective_params(stack())


def test_by_use_hard_and_soft_ties_are_counted_alike():
    """Two of n orthogonal weights that are one tensor leave n^2 / (n + 2), and all of them 1."""
    for tied, copies in ((NAMES[:1], 4), (NAMES[:2], 16 / 6), (NAMES, 1)):
        plan = TyingPlan((Tie(tied),)) if len(tied) > 1 else TyingPlan()
        model = plan.apply(stack(*ORTHOGONAL))
        assert soft().effective_params_by_use(model) == pytest.approx(copies * SIZE + REST)
    assert plan.effective_params_by_use(model) == plan.num_params(model)
    apart = stack(*[torch.randn(4, 4) for _ in NAMES])
    assert soft().effective_params_by_use(apart) == pytest.approx(soft().effective_params(apart))
