"""A convolutional network whose filters come in fours: the untied twin of one that turns each filter."""

from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.checks import check_dropout, check_positive
from bench.tying.structure import Parts


class FourFilters(nn.Conv2d):
    """3 x 3 convolution with four filters for each of `filters`: outputs [filters x 4], side by side.

    What it has four of is up to training, unless a tie makes them the four turns of one (`bench.tying.symmetry`).

    Args:
        turned_inputs: Whether the inputs are outputs of another such layer, `inputs` x 4.
    """

    rotations = 4

    def __init__(self, inputs: int, filters: int, turned_inputs: bool) -> None:
        super().__init__(inputs * (self.rotations if turned_inputs else 1), filters * self.rotations, 3)
        self.turned_inputs = turned_inputs
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)


class RotatedNet(nn.Module):
    """Pictures [B, C, H, W] float, H = W > 2 x depth -> logits [B, num_classes], by `depth` layers of 4 x `width`.

    No step but the filters tells one direction from another: norms are over the whole picture and without weights, and
    the classifier reads the largest value of each four channels over all positions. With filters that are turns of one
    another the logits of a picture and of its quarter turns are the same.
    """

    def __init__(
        self, in_channels: int, num_classes: int, depth: int = 3, width: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        check_dropout(dropout)
        self.layers = nn.ModuleList(
            FourFilters(width if index else in_channels, width, turned_inputs=index > 0)
            for index in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"layers.{index}" for index in range(len(self.layers)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures
        for layer in self.layers:
            x = F.relu(F.group_norm(layer(x), 1))
        x = x.amax((2, 3)).unflatten(1, (-1, FourFilters.rotations)).amax(-1)
        return self.classifier(self.dropout(x))


def _role(name: str) -> str:
    if name.endswith("bias"):
        return "bias"
    return "conv" if name.startswith("layers") else "other"
