"""Inner products of copies of one weight, and how many copies they amount to."""

from collections.abc import Sequence

import torch
from torch import Tensor

SLICE = 1 << 20
"""Numbers that are looked at together: tensors of any size are compared in a few MiB."""


@torch.no_grad()
def gram(tensors: Sequence[Tensor]) -> Tensor:
    """[n][n] float64 on the CPU: inner products of n tensors of one shape, summed in float64.

    That is enough digits for distances down to 1e-7 of the norm, in one pass over the weights.
    """
    rows = [tensor.detach().reshape(-1) for tensor in tensors]
    total, width = torch.zeros(len(rows), len(rows), dtype=torch.float64), max(1, SLICE // len(rows))
    for start in range(0, rows[0].numel(), width):
        part = torch.stack([row[start : start + width] for row in rows]).double().cpu()
        total += part @ part.T
    return total


def effective_copies(products: Tensor) -> float:
    """(tr G)^2 / tr(G^2) of a `gram` of n tensors, from 1 to n: n where orthogonal and of one norm, 1 where equal.

    The participation ratio of its eigenvalues (Gao et al. 2017, "A theory of multineuronal dimensionality"): a
    tensor that is a multiple of another adds nothing, whatever its sign. Orthogonal tensors of unlike norms count less
    than n: blocks that nothing ties, too, amount to fewer where some are larger. All zero they are equal: 1.
    """
    trace = products.trace()
    if trace == 0:
        return 1.0
    scaled = products / trace  # its squares neither overflow nor vanish
    return float((1 / scaled.square().sum()).clamp(1, len(products)))
