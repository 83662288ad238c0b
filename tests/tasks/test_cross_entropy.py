"""The output layer's cross-entropy against the plain form: numbers, gradients, memory, precision."""

import math

import pytest
import torch
from torch.nn import functional as F

from bench.meters.memory import peak_bytes
from bench.tasks import cross_entropy
from bench.tasks.cross_entropy import linear_cross_entropy, score


def made(n=37, width=8, vocab=50, dtype=torch.float64, bias=True):
    torch.manual_seed(0)
    hidden = torch.randn(n, width, dtype=dtype, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(vocab, width, dtype=dtype))
    bias = torch.nn.Parameter(torch.randn(vocab, dtype=dtype)) if bias else None
    targets = torch.randint(vocab, (n,))
    targets[::5] = -100
    return hidden, weight, bias, targets


def gradients(loss, *tensors):
    (3 * loss).backward()
    found = [t.grad for t in tensors if t is not None]
    for tensor in tensors:
        if tensor is not None:
            tensor.grad = None
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("block", [1, 120, 10**6])
def test_it_is_the_plain_form(monkeypatch, bias, block):
    monkeypatch.setitem(cross_entropy._BLOCK, "cpu", block)
    hidden, weight, bias, targets = made(bias=bias)
    plain = F.cross_entropy(F.linear(hidden, weight, bias), targets)
    ours = linear_cross_entropy(hidden, weight, bias, targets, torch.float64)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    expected = gradients(plain, hidden, weight, bias)
    for one, other in zip(gradients(ours, hidden, weight, bias), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_weight_that_is_input_embedding_too_gets_both_gradients():
    table = torch.nn.Parameter(torch.randn(6, 3, dtype=torch.float64))
    targets, found = torch.tensor([1, 2, 3]), []
    for loss in (
        lambda x: linear_cross_entropy(x, table, None, targets, torch.float64),
        lambda x: F.cross_entropy(F.linear(x, table), targets),
    ):
        table.grad = None
        loss(F.embedding(torch.tensor([0, 1, 2]), table)).backward()
        found.append(table.grad)
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary():
    hidden, weight = torch.zeros(4, 2), torch.zeros(16, 2)
    targets = torch.tensor([3, -100, 0, 15])
    for dtype in (torch.float32, torch.bfloat16):
        assert linear_cross_entropy(hidden, weight, None, targets, dtype).item() == pytest.approx(
            math.log(16)
        )
    sums = score(hidden, weight, None, targets)
    assert sums["nll"].item() == pytest.approx(3 * math.log(16)) and sums["count"] == 3
    assert (
        sums["nll"].dtype == torch.float64 and sums["correct"] == 1
    )  # of equal logits the first is the guess


def test_where_nothing_is_scored_there_is_no_number():
    hidden, weight, _, targets = made()
    assert linear_cross_entropy(hidden, weight, None, targets.fill_(-100), torch.float64).isnan()


@pytest.mark.parametrize("vocab", [30, 300])
def test_scores_do_not_depend_on_the_blocks(monkeypatch, vocab):
    hidden, weight, bias, targets = made(n=300, vocab=vocab)
    logits = F.linear(hidden, weight, bias)
    monkeypatch.setattr(cross_entropy, "_ROWS", 7)
    sums = score(hidden, weight, bias, targets)
    assert sums["nll"].item() == pytest.approx(
        F.cross_entropy(logits, targets, reduction="sum").item(), rel=1e-12
    )
    assert sums["correct"] == (logits.argmax(-1) == targets).sum() and sums["count"] == (targets >= 0).sum()


def test_bfloat16_rounds_and_no_more():
    hidden, weight, bias, targets = made(n=512, width=64, vocab=500, dtype=torch.float32)
    weight.data.mul_(0.1)
    exact = linear_cross_entropy(hidden, weight, bias, targets, torch.float32)
    rough = linear_cross_entropy(hidden, weight, bias, targets, torch.bfloat16)
    assert 0 < abs(rough.item() - exact.item()) < 2**-9 * exact.item()
    expected = gradients(exact, hidden, weight, bias)
    for one, other in zip(gradients(rough, hidden, weight, bias), expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 2**-6 * other.norm()


def test_a_processor_without_bfloat16_gets_the_same_rounding(monkeypatch):
    hidden, weight, bias, targets = made(n=64, width=32, vocab=100, dtype=torch.float32)
    found = []
    for supported in (True, False):
        monkeypatch.setattr(cross_entropy, "_multiplies_bfloat16", lambda supported=supported: supported)
        loss = linear_cross_entropy(hidden, weight, bias, targets, torch.bfloat16)
        found.append((loss.item(), *gradients(loss, hidden, weight, bias)))
    (one, *grads), (other, *others) = found
    assert one == pytest.approx(other, rel=1e-3)
    for a, b in zip(grads, others, strict=True):
        assert (a - b).norm() < 2**-7 * b.norm()


def test_autocast_does_not_choose_the_precision():
    hidden, weight, bias, targets = made(dtype=torch.float32)
    outside = linear_cross_entropy(hidden, weight, bias, targets, torch.float32)
    scored = score(hidden, weight, bias, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert score(hidden, weight, bias, targets) == scored
        assert linear_cross_entropy(hidden, weight, bias, targets, torch.float32) == outside


class Head(torch.nn.Module):
    def __init__(self, loss):
        super().__init__()
        self.layer, self.loss = torch.nn.Linear(16, 5000), loss

    def forward(self, hidden):
        return self.loss(hidden, self.layer.weight, self.layer.bias, torch.arange(256))


def peak(loss) -> int:
    head, hidden = Head(loss), torch.randn(256, 16, requires_grad=True)

    def step():
        head.zero_grad()
        head(hidden).backward()

    return peak_bytes(head, None, step)["total"]


@pytest.mark.parametrize(("multiplies", "most"), [(True, 0.3), (False, 0.6)])
def test_the_peak_of_a_step_is_a_fraction_of_the_plain_one(monkeypatch, multiplies, most):
    """A processor that cannot multiply bfloat16 holds the product in float32 too, before it is rounded."""
    monkeypatch.setattr(cross_entropy, "_multiplies_bfloat16", lambda: multiplies)
    monkeypatch.setitem(
        cross_entropy._BLOCK, "cpu", 8 * 5000
    )  # small beside all 256 rows, as it is at real sizes
    plain = peak(lambda h, w, b, y: F.cross_entropy(F.linear(h, w, b), y))
    single, half = (
        peak(lambda *given, dtype=dtype: linear_cross_entropy(*given, dtype))
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert half < most * plain and single < 0.5 * plain
    assert not multiplies or half < single
