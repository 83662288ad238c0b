"""A network of depth without end, cut off: blocks that read the picture again, each the next step to a fixed point."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.structure import Parts

STEP = 0.5
"""How far each block moves the state, of the way to what it makes of it."""


class ImplicitNet(nn.Module):
    """Pictures [B, C, H, W] float -> logits [B, num_classes], by `depth` blocks that read the picture again.

    Block k makes z + STEP (tanh(W_k z + b_k + U x) - z) of the state z, which begins as U x. With one block for all
    (`cross_layer` with scope all) these are the first steps of a damped iteration to the fixed point
    z = tanh(W z + b + U x), which a deep equilibrium model solves for; they are Euler steps of the neural ODE
    dz/dt = tanh(W z + b + U x) - z too, to the time STEP x depth. Nothing is solved here, and gradients go through
    all steps.

    Args:
        picture: (H, W).

    Source: Bai, Kolter & Koltun 2019 (Deep Equilibrium Models), section 3; Chen et al. 2018 (Neural Ordinary
    Differential Equations), equations 1 and 2.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = 8,
        width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        check_sides(picture=picture)
        check_dropout(dropout)
        self.picture = tuple(picture)
        self.injection = nn.Linear(in_channels * math.prod(picture), width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        *_, state = self.states(pictures)
        return self.classifier(self.dropout(state))

    def states(self, pictures: Tensor) -> Iterator[Tensor]:
        """Yield the state [B, width] before the first block and after each: how it moves is how far the end is."""
        check_picture(pictures, self.picture)
        injected = state = self.injection(pictures.flatten(1))
        yield state
        for block in self.blocks:
            state = state + STEP * (torch.tanh(block(state) + injected) - state)
            yield state


def _role(name: str) -> str:
    if name.endswith("bias"):
        return "bias"
    return "feed_forward" if name.startswith("blocks") else "other"
