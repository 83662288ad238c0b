"""A network with a filter of its own at each position: the untied twin of a convolutional one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.errors import BadInput
from bench.tying.structure import Parts


class LocallyConnected(nn.Module):
    """[B, in, H, W] -> [B, out, H', W'], a filter and a bias for each of the H' x W' `positions`, without padding.

    With one filter for all positions it is `nn.Conv2d`. weight: [positions, out, in, *kernel]; bias: [positions, out].
    """

    def __init__(
        self, picture: Sequence[int], in_channels: int, out_channels: int, kernel: Sequence[int]
    ) -> None:
        super().__init__()
        self.kernel = tuple(kernel)
        self.made = tuple(side - length + 1 for side, length in zip(picture, kernel, strict=True))
        if min(self.made) < 1:
            raise BadInput(
                f"a kernel of {kernel[0]} x {kernel[1]} does not fit into {picture[0]} x {picture[1]}: lower "
                "model.kernel or model.depth, or enlarge model.picture"
            )
        self.positions = math.prod(self.made)
        self.weight = nn.Parameter(torch.empty(self.positions, out_channels, in_channels, *kernel))
        self.bias = nn.Parameter(torch.zeros(self.positions, out_channels))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (in_channels * math.prod(kernel))))

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, self.kernel)
        y = torch.einsum("bip,poi->bop", patches, self.weight.flatten(2)) + self.bias.t()
        return y.unflatten(2, self.made)


class LocalNet(nn.Module):
    """Pictures [B, C, H, W] float -> logits [B, num_classes], by `depth` locally connected layers.

    Args:
        picture: (H, W).
        kernel: (h, w) of each layer. A sequence is a picture of one row, whose kernels are (1, w).
        width, feed_forward: The channels of the first layer, and of each layer after it: by default twice as many.
        pool: "max" gives the classifier the largest value of each channel over all positions, "none" all values.

    Raises:
        BadInput: A size is out of range, or the kernels do not fit into the picture.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        kernel: Sequence[int],
        depth: int = 2,
        width: int = 16,
        pool: str = "none",
        dropout: float = 0.0,
        feed_forward: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        check_sides(picture=picture, kernel=kernel)
        check_dropout(dropout)
        if pool not in ("max", "none"):
            raise BadInput(f"model.pool={pool} is not allowed: it must be max or none")
        self.picture, self.pool = tuple(picture), pool
        self.feed_forward = None if depth == 1 else 2 * width if feed_forward is None else feed_forward
        self.layers, channels = nn.ModuleList(), in_channels
        for index in range(depth):
            made = self.feed_forward if index else width
            check_positive(feed_forward=made)
            self.layers.append(LocallyConnected(picture, channels, made, kernel))
            picture, channels = self.layers[-1].made, made
        self.dropout = nn.Dropout(dropout)
        values = channels if pool == "max" else channels * math.prod(picture)
        self.classifier = nn.Linear(values, num_classes)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"layers.{index}" for index in range(len(self.layers)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        check_picture(pictures, self.picture)
        x = pictures
        for layer in self.layers:
            x = F.relu(layer(x))
        x = x.amax((2, 3)) if self.pool == "max" else x.flatten(1)
        return self.classifier(self.dropout(x))


def _role(name: str) -> str:
    if name.endswith("bias"):
        return "bias"
    return "conv" if name.startswith("layers") else "other"
