"""A student beside a frozen teacher of the same shape."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.errors import BadInput
from bench.tying.structure import Parts

NETWORKS = 2
"""The teacher and its student."""


class Taught(nn.Module):
    """Pictures [B, C, H, W] float -> logits [B, num_classes], by the student alone.

    The stack is the teacher and the student, each with one hidden layer. The teacher's weights are frozen, so that
    `soft` with scope all draws the student's layers to the teacher's. Both begin from weights of their own; the task
    trains the teacher (`bench.tasks.distillation`).

    Args:
        picture: (H, W).
        depth: The networks, 2.
        width: Hidden units of each.

    Raises:
        BadInput: A size is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = NETWORKS,
        width: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, width=width)
        check_sides(picture=picture)
        check_dropout(dropout)
        if depth != NETWORKS:
            raise BadInput(f"model.depth={depth} is not allowed: a teacher and its student are 2 networks")
        self.picture = tuple(picture)
        pixels = in_channels * math.prod(picture)
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(pixels, width), nn.ReLU(), nn.Dropout(share), nn.Linear(width, num_classes)
            )
            for share in (0.0, dropout)
        )
        self.teacher.requires_grad_(False)

    @property
    def teacher(self) -> nn.Module:
        return self.networks[0]

    @property
    def parts(self) -> Parts:
        stack = tuple(f"networks.{index}" for index in range(NETWORKS))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        check_picture(pictures, self.picture)
        return self.networks[1](pictures.flatten(1))


def _role(name: str) -> str:
    return "bias" if name.endswith("bias") else "feed_forward"
