"""Cross-entropy of a linear output layer, without a matrix of logits in full precision. Knows tensors only.

The output layer of a word-level language model is most of its operations, and its logits most of its memory: an
N x V matrix that plain autograd makes three times (logits, log-probabilities, their gradient), in float32. Here it is
made once, in the precision of the product, and overwritten by its own gradient, a block of rows at a time.
`F.linear_cross_entropy` (torch 2.13) does the like and was slower than the plain form on a CPU at each shape that
`python -m bench.perf --only output` measures.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_BLOCK = {"cpu": 2**18, "cuda": 2**26}
"""Logits in a block of rows: on a CPU 1 MiB of float32, which stays in the cache; on a GPU enough to fill it."""

_ROWS = 128
"""At least so many where a block is a product of its own: a smaller one reads the matrix too often."""


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the mean nats of targets int64 [N] (-100: not scored) under hidden [N, W] @ weight [V, W].T + bias [V].

    A scalar that backward() can be asked of once. `dtype`: precision of the three products; what is between them,
    the sum, and bias are in float32 at least. bfloat16 rounds logits and their gradients to 8 bits, as autocast does.
    -100 is what `F.cross_entropy` ignores too. Not a number where nothing is scored.
    """
    return _LinearCrossEntropy.apply(hidden, weight, bias, targets, dtype)


@torch.no_grad()
def score(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, bins: Tensor | None = None
) -> dict[str, Tensor]:
    """Return `tallied` of the logits of N positions, in weight's precision."""
    sums: dict[str, Tensor] = {}
    with torch.autocast(hidden.device.type, enabled=False):
        for rows in _blocks(len(hidden), len(weight), hidden.device, at_least=_ROWS):
            logits = F.linear(hidden[rows].to(weight.dtype), weight, bias)
            for name, value in tallied(logits, targets[rows], bins).items():
                sums[name] = sums.get(name, 0) + value
    return sums


def tallied(logits: Tensor, targets: Tensor, bins: Tensor | None = None) -> dict[str, Tensor]:
    """Return sums over rows of logits [N, V] whose target in [N] is not -100: nll (float64, nats), correct, count.

    Args:
        bins: The number of the bin of each target, int64 [V]: then bin_nll and bin_count, a sum for each bin, too.
    """
    sums = {
        "nll": F.cross_entropy(logits, targets, reduction="sum").double(),
        "correct": (logits.argmax(-1) == targets).sum(),
        "count": (targets >= 0).sum(),
    }
    if bins is not None:
        scored = targets >= 0
        nll, members = (
            F.cross_entropy(logits[scored], targets[scored], reduction="none"),
            bins[targets[scored]],
        )
        size = int(bins.max()) + 1
        sums["bin_nll"] = members.bincount(nll.double(), minlength=size)
        sums["bin_count"] = members.bincount(minlength=size)
    return sums


@torch.no_grad()
def scores_of_rows(
    outputs: Tensor, targets: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return of each of N rows its nll (float64, nats) and whether its target is the likeliest, in weight's precision.

    Args:
        outputs: Hidden states [N, W], or logits [N, V] where there is no weight.
        targets: int64 [N], all of them scored.
        weight: [V, W].
    """
    nll, correct = [], []
    with torch.autocast(outputs.device.type, enabled=False):
        for part, of in zip(outputs.split(_ROWS), targets.split(_ROWS), strict=True):
            logits = part if weight is None else F.linear(part.to(weight.dtype), weight, bias)
            nll.append(F.cross_entropy(logits, of, reduction="none").double())
            correct.append(logits.argmax(-1) == of)
    return torch.cat(nll), torch.cat(correct)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            inputs, matrix = hidden.to(dtype), weight.to(dtype)
            logits = _product(inputs, matrix.t())
            scored = targets >= 0
            count, nll, summed = scored.sum(), weight.new_zeros(()), None
            for rows in _blocks(*logits.shape, logits.device):
                block = logits[rows]
                exact = block.to(weight.dtype)
                nll = nll + _softmax(exact, bias, targets[rows], scored[rows])
                if bias is not None:
                    part = exact.sum(0)
                    summed = part if summed is None else summed.add_(part)
                if exact is not block:
                    block.copy_(exact)
        ctx.save_for_backward(logits, inputs, matrix, summed, count)
        ctx.dtypes = hidden.dtype, weight.dtype
        return nll / count

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, inputs, matrix, summed, count = ctx.saved_tensors
        of_hidden, of_weight = ctx.dtypes
        scale = upstream / count
        return (
            (_product(gradient, matrix).to(of_weight) * scale).to(of_hidden),
            _product(gradient.t(), inputs).to(of_weight).mul_(scale),
            None if summed is None else summed * scale,
            None,
            None,
        )


def _softmax(logits: Tensor, bias: Tensor | None, targets: Tensor, scored: Tensor) -> Tensor:
    """Return the summed nll of a block of rows; its gradient, softmax - one-hot, takes the place of the logits."""
    if bias is not None:
        logits.add_(bias)
    at = targets.clamp(min=0).unsqueeze(1)
    told = logits.gather(1, at)
    total = logits.logsumexp(-1, keepdim=True)
    logits.sub_(total).exp_()
    logits.scatter_add_(1, at, torch.full_like(told, -1.0))
    logits.mul_(scored.unsqueeze(1))
    return ((total - told).squeeze(1) * scored).sum()


def _blocks(rows: int, columns: int, device: torch.device, at_least: int = 1) -> Iterator[slice]:
    length = max(at_least, _BLOCK.get(device.type, _BLOCK["cuda"]) // columns)
    return (slice(start, start + length) for start in range(0, rows, length))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b. A processor that cannot multiply bfloat16 multiplies float32, and rounds as the others do."""
    if a.dtype == torch.bfloat16 and a.device.type == "cpu" and not _multiplies_bfloat16():
        return (a.float() @ b.float()).to(torch.bfloat16)
    return a @ b


def _multiplies_bfloat16() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
