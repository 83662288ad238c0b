"""Slot attention with an update rule of its own for each slot: the untied twin of the usual one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.errors import BadInput
from bench.tying.structure import Parts

DIGITS = 10
"""Classes of what a slot holds."""


class Slot(nn.Module):
    """How one slot asks for its part of the picture, takes it in, and says which digit it is."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.update = nn.GRUCell(width, width)
        self.residual = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, DIGITS))

    def forward(self, slot: Tensor, read: Tensor) -> Tensor:
        slot = self.update(read, slot)
        return slot + self.residual(slot)


class SlotAttention(nn.Module):
    """Pictures [B, C, H, W] float -> logits [B, depth, 10], a digit for each slot, in no set order.

    Slots compete for the places of the picture: the attention of a place sums to 1 over the slots (Locatello et al.
    2020, algorithm 1). The stack is the slots, so that `cross_layer` with scope all gives them the one rule of the
    paper; what a slot begins as is learned, and its own.

    Args:
        picture: (H, W).
        depth: The slots.
        width: Numbers of a slot, and channels of the encoder.
        rounds: How often a slot is updated.

    Raises:
        BadInput: A size is out of range, or the data do not have `depth` digits.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = 3,
        width: int = 32,
        rounds: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, depth=depth, width=width, rounds=rounds)
        check_sides(picture=picture)
        check_dropout(dropout)
        if num_classes != DIGITS**depth:
            raise BadInput(
                f"model.depth={depth} slots need a digit of the label each, and the data have {num_classes} classes: "
                "set data=digit_canvases model.depth to its data.source.count"
            )
        self.picture, self.rounds, self.scale = tuple(picture), rounds, width**-0.5
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1)
        )
        places = -(-picture[0] // 2) * -(-picture[1] // 2)
        self.position = nn.Parameter(0.1 * torch.randn(places, width))
        self.norm = nn.LayerNorm(width)
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.start = nn.Parameter(torch.randn(depth, width))
        self.slots = nn.ModuleList(Slot(width, dropout) for _ in range(depth))

    @property
    def parts(self) -> Parts:
        stack = tuple(f"slots.{index}" for index in range(len(self.slots)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        check_picture(pictures, self.picture)
        features = self.norm(self.encoder(pictures).flatten(2).transpose(1, 2) + self.position)
        keys, values = self.key(features), self.value(features)
        states = [start.expand(len(pictures), -1) for start in self.start]
        for _ in range(self.rounds):
            queries = [slot.query(slot.norm(state)) for slot, state in zip(self.slots, states, strict=True)]
            attention = (torch.stack(queries, 1) @ keys.transpose(1, 2) * self.scale).softmax(1) + 1e-8
            reads = (attention / attention.sum(-1, keepdim=True)) @ values
            states = [
                slot(state, read)
                for slot, state, read in zip(self.slots, states, reads.unbind(1), strict=True)
            ]
        return torch.stack(
            [slot.classifier(state) for slot, state in zip(self.slots, states, strict=True)], 1
        )


def _role(name: str) -> str:
    if not name.startswith("slots"):
        return "other"
    if "norm" in name or ".residual.0." in name:
        return "norm"
    if name.rpartition(".")[2].startswith("bias"):
        return "bias"
    if "query" in name:
        return "attention"
    return "recurrent" if "update" in name else "feed_forward"
