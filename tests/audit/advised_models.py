"""Models that the tests of the advisor ask about."""

from torch import nn

from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel


def gru():
    return GRULanguageModel(vocab_size=2000, width=64, depth=4)


def wide():
    return GRULanguageModel(vocab_size=2000, width=512, depth=4)


def convolutions():
    return ResNet(in_channels=1, num_classes=10, depth=6, width=8)


def headless():
    """A stack of GRUs without an embedding."""
    return nn.ModuleList(nn.GRU(8, 8) for _ in range(3))


def flat():
    return nn.Linear(4, 4)
