"""A tensor as int8 and one scale per channel."""

import torch
from torch import Tensor

LARGEST = 127
"""Symmetric: -128 is not used, so that a weight and its negative are rounded alike."""


@torch.no_grad()
def rounded(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """(int8 of weight's shape, scale in weight's dtype, of length 1 along all axes but `axis`).

    int8 * scale is the weight to within half a scale. The largest magnitude of a channel becomes 127; a channel of
    zeros stays zero. Source: Jacob et al. 2018, "Quantization and training of neural networks", section 2, without a
    zero point; Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 3.1, for a scale per channel.
    """
    others = [at for at in range(weight.ndim) if at != axis]
    scale = weight.abs().amax(others, keepdim=True) / LARGEST
    scale = torch.where(scale > 0, scale, 1)
    # bfloat16 and float16 would round the quotient before it is rounded.
    exact = weight if weight.dtype == torch.float64 else weight.float()
    return (exact / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale
