"""A CIFAR-style residual network whose blocks stand in one flat list."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.checks import check_dropout, check_positive
from bench.tying.errors import BadInput
from bench.tying.structure import Parts


class ResNet(nn.Module):
    """Images [B, C, H, W] float -> logits [B, num_classes].

    `depth` blocks in `stages` stages of widths w, 2w, 4w ...; the first block of each later stage halves
    the image (He et al. 2016, "Deep residual learning", section 4.2). Dropout sits between the two
    convolutions of a block (Zagoruyko and Komodakis 2016, section 2.4) and before the classifier.
    `feed_forward` is the channels between those two in the last stage, half as many, rounded up, in each
    stage before it; by default as many as the block gives. Raises BadInput if depth is not a multiple of
    stages, or norm is neither "batch" nor "group".
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        depth: int = 9,
        stages: int = 3,
        width: int = 16,
        norm: str = "batch",
        dropout: float = 0.0,
        feed_forward: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(in_channels=in_channels, num_classes=num_classes)
        check_positive(depth=depth, stages=stages, width=width)
        check_dropout(dropout)
        self.feed_forward = width * 2 ** (stages - 1) if feed_forward is None else feed_forward
        check_positive(feed_forward=self.feed_forward)
        if depth % stages:
            below = depth - depth % stages
            allowed = " or ".join(str(d) for d in (below, below + stages) if d)
            raise BadInput(
                f"depth {depth} does not divide into {stages} stages; depth is the number of blocks "
                f"in total, a multiple of stages: set model.depth={allowed}"
            )
        self.stem = _conv3x3(in_channels, width)
        self.stem_norm = _norm(norm, width)
        self.blocks = nn.ModuleList()
        channels = width
        for index in range(depth):
            stage, place = divmod(index, depth // stages)
            stride = 2 if stage > 0 and place == 0 else 1
            inner = math.ceil(self.feed_forward / 2 ** (stages - 1 - stage))
            self.blocks.append(ResidualBlock(channels, inner, width * 2**stage, stride, norm, dropout))
            channels = width * 2**stage
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        # A small classifier puts the first loss at ln(num_classes).
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=_role)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(images)))
        # Channels last is 1.1 times as fast on a CPU. Only for the activations: weights that are not
        # contiguous cannot be viewed as vectors.
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.dropout(x.mean(dim=(2, 3))))


class ResidualBlock(nn.Module):
    """[B, in, H, W] -> [B, out, H / stride, W / stride]: two 3x3 convolutions, `inner` between, beside a shortcut."""

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, stride: int, norm: str, dropout: float
    ) -> None:
        super().__init__()
        self.stride = stride
        self.extra_channels = out_channels - in_channels
        self.conv1 = _conv3x3(in_channels, inner, stride)
        self.norm1 = _norm(norm, inner)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _conv3x3(inner, out_channels)
        self.norm2 = _norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(self.dropout(y)))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        # Parameter-free (option A of He et al.): a 1x1 convolution would be a weight that only the first
        # block of a stage has, without a namesake to share with, and every block would no longer hold the
        # same list of names.
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.extra_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))
        return x


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """No bias, because a norm follows; He et al. 2015 initialisation."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    raise BadInput(f"norm {kind!r} is unknown; allowed are batch and group: set model.norm=batch")


def _role(name: str) -> str:
    owner = name.split(".")[-2]
    if "norm" in owner:
        return "norm"
    if name.endswith("bias"):
        return "bias"
    return "conv" if owner.startswith(("conv", "stem")) else "other"
