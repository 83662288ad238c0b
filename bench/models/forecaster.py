"""A forecaster of time series on a stack of one-layer GRUs with residual connections."""

import torch
from torch import Tensor, nn

from bench.anatomy import Parts
from bench.models.gru import GRUBlock, role
from bench.models.parts import check_dropout, check_positive

BOUND = 3.0
"""Of the log-variance, either way: a price that stood still for months must not make its next jump cost without end."""


class GRUForecaster(nn.Module):
    """Changes [B, T, C] -> (mean, log-variance), each [B, T, C]: a Gaussian for the change after each of them.

    Mean and variance by one network trained on the likelihood: Nix and Weigend 1994. The forecast is the last value
    plus the mean, so that an output of 0 is the naive forecast, near which every network starts. The log-variance
    lies within -3 and 3. Every layer has the same width, so any block can share with any other.
    """

    def __init__(self, channels: int, depth: int = 4, width: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(channels=channels, depth=depth, width=width)
        check_dropout(dropout)
        self.projection = nn.Linear(channels, width)
        self.projection_dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(GRUBlock(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output_dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, 2 * channels)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        return Parts(stack=stack, embedding=None, unembedding=None, role=role)

    def forward(self, changes: Tensor) -> tuple[Tensor, Tensor]:
        # Time first through the stack, as nn.GRU computes.
        x = self.projection_dropout(self.projection(changes.transpose(0, 1)))
        for block in self.blocks:
            x, _ = block(x, None)
        outputs = self.output(self.output_dropout(self.norm(x))).transpose(0, 1)
        mean, spread = outputs.chunk(2, dim=-1)
        return mean, BOUND * torch.tanh(spread / BOUND)
