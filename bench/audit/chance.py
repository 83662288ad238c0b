"""Tell whether the values of a tensor are new ones: what an audit calls chance must not be the trained weights."""

import torch
from torch import Tensor

from bench.tying.gate import as_real

SAMPLE, FEW, ALIKE = 4096, 8, 0.99
"""Values that a tensor is known by, so many that correlate by chance, and the correlation from which two are one."""


def sample_of(tensor: Tensor) -> Tensor:
    """float64 on the CPU: the first values of a tensor, enough to know it by."""
    return as_real(tensor.detach()).flatten()[:SAMPLE].double().cpu()


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two samples are of one tensor, which at most was scaled or hardly moved.

    Means are left out: magnitudes, which are all positive, are not one tensor for that.
    """
    if len(one) <= FEW:
        return one.equal(other)
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > ALIKE


def is_constant(tensor: Tensor) -> bool:
    """Whether all values are equal, as those that a norm begins with."""
    values = as_real(tensor.detach()).flatten()
    return bool((values == values[:1]).all())
