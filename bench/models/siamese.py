"""Two branches that embed a picture each, and a judge of how far apart the embeddings are."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.errors import BadInput
from bench.tying.structure import Parts


class Siamese(nn.Module):
    """Pairs of grey pictures [B, 2, H, W] float -> logits [B, 2], from the distance of their embeddings.

    The stack is the two branches, so that each weight of the one can be that of the other (`cross_layer` with scope
    all): Siamese twins (Bromley et al. 1993). Untied each picture has a branch of its own.

    Class 1 is "the same", and what is near begins as likely to be: a judge that began the other way round would draw
    all embeddings together, where no gradient leads back.

    Args:
        picture: (H, W).
        depth: The branches, 2.
        width: Hidden units of a branch.
        code: Numbers of an embedding.

    Raises:
        BadInput: A size is out of range, or the data or `depth` are not of two pictures.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = 2,
        width: int = 32,
        code: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(width=width, code=code)
        check_sides(picture=picture)
        check_dropout(dropout)
        if (depth, in_channels, num_classes) != (2, 2, 2):
            raise BadInput(
                f"the network has {depth} branches, and the data {in_channels} channels and {num_classes} classes; "
                "each must be 2, for two pictures are the same or not: set model.depth=2 data=digit_pairs"
            )
        self.picture = tuple(picture)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Linear(math.prod(picture), width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width, code),
            )
            for _ in range(depth)
        )
        self.judge = nn.Linear(1, num_classes)
        with torch.no_grad():
            self.judge.weight.copy_(torch.tensor([[0.5], [-0.5]]))
            self.judge.bias.copy_(torch.tensor([-1.0, 1.0]))

    @property
    def parts(self) -> Parts:
        return Parts(stack=("branches.0", "branches.1"), embedding=None, unembedding=None, role=_role)

    def forward(self, pairs: Tensor) -> Tensor:
        check_picture(pairs, self.picture)
        one, other = (branch(pairs[:, at].flatten(1)) for at, branch in enumerate(self.branches))
        return self.judge((one - other).square().sum(1, keepdim=True))


def _role(name: str) -> str:
    if name.endswith("bias"):
        return "bias"
    return "feed_forward" if name.startswith("branches") else "other"
