"""A network for each of several tasks, side by side."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.errors import BadInput
from bench.tying.structure import Parts

DIGITS = 10
"""Classes of a task."""


class Networks(nn.Module):
    """Pictures of a task each, [B, depth, H, W] float -> logits [B, depth, 10], each by the network of its task.

    The stack is the networks, so that `soft` draws the weights of the tasks together (Duong et al. 2015) and
    `cross_layer` with scope all is one network for all tasks (Baxter 1997 shares its hidden layers).

    Args:
        picture: (H, W).
        depth: The networks, one for each channel of the data.
        width: Hidden units of each of the two hidden layers of a network.

    Raises:
        BadInput: A size is out of range, or the data do not have `depth` channels and digits.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = 2,
        width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(depth=depth, width=width)
        check_sides(picture=picture)
        check_dropout(dropout)
        if (in_channels, num_classes) != (depth, DIGITS**depth):
            raise BadInput(
                f"model.depth={depth} networks need a channel and a digit of the label each, and the data have "
                f"{in_channels} channels and {num_classes} classes: set model.depth=2 data=two_views"
            )
        self.picture = tuple(picture)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(math.prod(picture), width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width, DIGITS),
            )
            for _ in range(depth)
        )

    @property
    def parts(self) -> Parts:
        stack = tuple(f"networks.{index}" for index in range(len(self.networks)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        check_picture(pictures, self.picture)
        return torch.stack(
            [network(x.flatten(1)) for network, x in zip(self.networks, pictures.unbind(1), strict=True)], 1
        )


def _role(name: str) -> str:
    return "bias" if name.endswith("bias") else "feed_forward"
