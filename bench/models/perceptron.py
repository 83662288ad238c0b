"""A multilayer perceptron of pictures."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.structure import Parts


class Perceptron(nn.Module):
    """Pictures [B, C, H, W] float -> logits [B, num_classes], by `depth` hidden layers of `width` units.

    picture: (H, W). The stack is the hidden layers, of which the first reads the picture.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = 1,
        width: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        check_sides(picture=picture)
        check_dropout(dropout)
        self.picture = tuple(picture)
        sizes = [in_channels * math.prod(picture), *[width] * depth]
        self.layers = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"layers.{index}" for index in range(len(self.layers)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        check_picture(pictures, self.picture)
        x = pictures.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.classifier(self.dropout(x))


def _role(name: str) -> str:
    if name.endswith("bias"):
        return "bias"
    return "feed_forward" if name.startswith("layers") else "other"
