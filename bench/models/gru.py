"""Stack one-layer GRUs with residual connections: a language model and a forecaster of time series."""

import torch
from torch import Tensor, nn

from bench.models.checks import check_dropout, check_injection, check_positive
from bench.tying.structure import Parts


class GRULanguageModel(nn.Module):
    """(tokens [B, T] long, state [depth, B, width] or None for zeros) -> (logits [B, T, vocab], state).

    The state carries the past from one window to the next; detach it between windows (truncated
    back-propagation through time, Mikolov et al. 2010). Every layer has the same width, so any block can
    share with any other. `injection`: "add" adds the embedded input again before each block after the first.
    `init_scale`: what the weights of the blocks are multiplied by at the start, biases and norms not.
    """

    def __init__(
        self,
        vocab_size: int,
        depth: int = 4,
        width: int = 128,
        dropout: float = 0.0,
        injection: str = "none",
        init_scale: float = 1,
    ) -> None:
        super().__init__()
        check_positive(vocab_size=vocab_size, depth=depth, width=width)
        check_dropout(dropout)
        check_injection(injection)
        self.injects = injection == "add"
        self.embedding = nn.Embedding(vocab_size, width)
        self.embedding_dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(GRUBlock(width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output_dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, vocab_size)
        # One small scale for both ends, as in GPT-2: whether or not the two share, the first logits are near
        # 0 and the first loss near ln(vocab_size). Reading the embedding at sqrt(width) times that (Vaswani
        # et al. 2017, section 3.4) helped an untied model by 3 % and cost a tied one 3 %: left out.
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)
        with torch.no_grad():
            for weight in self.blocks.parameters():
                if weight.ndim >= 2:
                    weight.mul_(init_scale)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"blocks.{index}" for index in range(len(self.blocks)))
        return Parts(stack=stack, embedding="embedding.weight", unembedding="output.weight", role=role)

    @property
    def output_layer(self) -> nn.Linear:
        """Return the layer that makes logits of `hidden`."""
        return self.output

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden, state = self.hidden(tokens, state)
        return self.output(hidden), state

    def decode(self, tokens: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits [B, 1, vocab] of the token after these, and the state to go on from with the next one."""
        hidden, past = self.hidden(tokens, past, last=1)
        return self.output(hidden), past

    def hidden(self, tokens: Tensor, state: Tensor | None = None, last: int = 0) -> tuple[Tensor, Tensor]:
        """Return what the output layer reads [B, S, width], of the last S = `last` positions (0: all), and a state."""
        # Time first through the stack, as nn.GRU computes: batch_first would transpose twice in every layer.
        embedded = x = self.embedding_dropout(self.embedding(tokens.t()))
        states = []
        for index, block in enumerate(self.blocks):
            if self.injects and index:
                x = x + embedded
            x, hidden = block(x, None if state is None else state[index : index + 1])
            states.append(hidden)
        # Batch first again before the output, where it is small; from a transposed input the largest tensor
        # of the network would be made twice.
        hidden = self.output_dropout(self.norm(x[-last:])).transpose(0, 1).contiguous()  # -0: all
        return hidden, torch.cat(states)


class GRUBlock(nn.Module):
    """(x [T, B, width], hidden [1, B, width] or None) -> (x + dropout(GRU(norm(x))), last hidden state)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gru = nn.GRU(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        y, hidden = self.gru(self.norm(x), hidden)
        return x + self.dropout(y), hidden


def role(name: str) -> str:
    """`Parts.role` of a network of these blocks."""
    owner, _, parameter = name.rpartition(".")
    if owner.endswith("norm"):
        return "norm"
    if parameter.startswith("bias"):
        return "bias"
    return {"weight_ih_l0": "input", "weight_hh_l0": "recurrent"}.get(parameter, "other")


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
