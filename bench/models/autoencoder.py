"""An autoencoder of pictures, whose decoder may be its encoder transposed."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from bench.models.checks import check_dropout, check_picture, check_positive, check_sides
from bench.tying.structure import Parts


class Autoencoder(nn.Module):
    """Pictures [B, C, H, W] float -> pictures [B, C, H, W], through a code of `width` numbers.

    `depth` layers down, a tanh after each, and as many up, a tanh between them. num_classes, which every data set of
    pictures has, is not read. picture: (H, W).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        picture: Sequence[int],
        depth: int = 1,
        width: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, depth=depth, width=width)
        check_sides(picture=picture)
        check_dropout(dropout)
        self.picture = tuple(picture)
        sizes = [in_channels * math.prod(picture), *[width] * depth]
        self.encoder = nn.Sequential(*_layers(sizes))
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Sequential(*_layers(sizes[::-1])[:-1])

    @property
    def parts(self) -> Parts:
        return Parts(stack=(), embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        check_picture(pictures, self.picture)
        code = self.encoder(pictures.flatten(1))
        return self.decoder(self.dropout(code)).view_as(pictures)


def _layers(sizes: Sequence[int]) -> list[nn.Module]:
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [layer for before, after in pairs for layer in (nn.Linear(before, after), nn.Tanh())]


def _role(name: str) -> str:
    return "bias" if name.endswith("bias") else "feed_forward"
