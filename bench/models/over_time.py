"""Language models that can share over time: a recurrent network with a cell for each step, and a trellis network."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.checks import check_dropout, check_positive
from bench.tying.errors import BadInput
from bench.tying.structure import Parts

_STD = 0.5
"""Of the embedding, the output matrix and the first state. At 0.1 a trellis network learns slower by far, for its gates
begin half shut."""


class OverTime(nn.Module):
    """(tokens [B, T] long, state: not read) -> (logits [B, T, vocab], None: no state is carried).

    What is shared over time is for `tying` to decide: the stack has weights of its own for each use. A learned vector
    is the state before the first use.
    """

    def __init__(self, vocab_size: int, depth: int, width: int, dropout: float) -> None:
        super().__init__()
        check_positive(vocab_size=vocab_size, depth=depth, width=width)
        check_dropout(dropout)
        self.embedding = nn.Embedding(vocab_size, width)
        self.embedding_dropout = nn.Dropout(dropout)
        self.start = nn.Parameter(torch.empty(width))
        self.stack = nn.ModuleList(self.made_block(width) for _ in range(depth))
        self.output_dropout = nn.Dropout(dropout)
        self.output_layer = nn.Linear(width, vocab_size)
        for weight in (self.embedding.weight, self.output_layer.weight, self.start):
            nn.init.normal_(weight, std=_STD)

    @property
    def parts(self) -> Parts:
        stack = tuple(f"stack.{index}" for index in range(len(self.stack)))
        return Parts(stack, embedding="embedding.weight", unembedding="output_layer.weight", role=self.role)

    def forward(self, tokens: Tensor, state: None = None, last: int = 0) -> tuple[Tensor, None]:
        """`last`: logits of so many last positions only (0: of all)."""
        return self.output_layer(self.hidden(tokens, state, last)[0]), None

    def hidden(self, tokens: Tensor, state: None = None, last: int = 0) -> tuple[Tensor, None]:
        """Return what the output layer reads [B, S, width], of the last S = `last` positions (0: all); no state."""
        states = self.states(self.embedding_dropout(self.embedding(tokens)))
        return self.output_dropout(states[:, -last:]), None  # -0: all

    def made_block(self, width: int) -> nn.Module:
        """Return one module of the stack."""
        raise NotImplementedError

    def states(self, embedded: Tensor) -> Tensor:
        """Return the state at each position [B, T, width] after the stack has read the embedded tokens."""
        raise NotImplementedError

    @staticmethod
    def role(name: str) -> str:
        """Return what a parameter of this name is for, as `Parts` has it."""
        raise NotImplementedError


class UnrolledGRU(OverTime):
    """A recurrent network untied in time: a GRU cell of its own for each of the `depth` positions of a window.

    With one cell for all positions (`cross_layer` with scope all) it is an ordinary GRU, which begins each window anew.

    Raises:
        BadInput: A window is longer than the stack.

    Source: Goodfellow, Bengio & Courville 2016, section 10.1 (unfolding, and sharing over time).
    """

    def __init__(self, vocab_size: int, depth: int = 16, width: int = 32, dropout: float = 0.0) -> None:
        super().__init__(vocab_size, depth, width, dropout)

    def made_block(self, width: int) -> nn.Module:
        return nn.GRUCell(width, width)

    def states(self, embedded: Tensor) -> Tensor:
        steps = embedded.shape[1]
        if steps > len(self.stack):
            raise BadInput(
                f"a window has {steps} tokens, and the network {len(self.stack)} cells, one a token: set "
                f"model.depth={steps}"
            )
        # A copy: in inference mode an expanded parameter would still ask for a gradient, and the counter of operations
        # would fail.
        state, states = self.start.repeat(len(embedded), 1), []
        for cell, token in zip(self.stack, embedded.unbind(1), strict=False):
            state = cell(token, state)
            states.append(state)
        return torch.stack(states, 1)

    @staticmethod
    def role(name: str) -> str:
        kinds = {"bias_ih": "bias", "bias_hh": "bias", "weight_ih": "input", "weight_hh": "recurrent"}
        return kinds.get(name.rpartition(".")[2], "other")


class TrellisNet(OverTime):
    """A causal convolution of width 2 at each of `depth` levels, with an LSTM's gates and the tokens at each level.

    A position sees itself and the `depth` positions before it. With one convolution for all levels (`cross_layer` with
    scope all) it is a trellis network, which shares over depth as it does over time.

    Source: Bai, Kolter & Koltun 2019 (Trellis Networks for Sequence Modeling), section 3 and equation 3.
    """

    def __init__(self, vocab_size: int, depth: int = 6, width: int = 24, dropout: float = 0.0) -> None:
        super().__init__(vocab_size, depth, width, dropout)

    def made_block(self, width: int) -> nn.Module:
        return nn.Conv1d(2 * width, 4 * width, kernel_size=2)

    def states(self, embedded: Tensor) -> Tensor:
        tokens = embedded.transpose(1, 2)
        state, memory = self.start[:, None].expand_as(tokens), torch.zeros_like(tokens)
        for level in self.stack:
            read = F.pad(torch.cat([tokens, state], 1), (1, 0))
            kept, new, shown, candidate = level(read).chunk(4, 1)
            before = F.pad(memory, (1, 0))[..., :-1]
            memory = torch.sigmoid(kept) * before + torch.sigmoid(new) * torch.tanh(candidate)
            state = torch.sigmoid(shown) * torch.tanh(memory)
        return state.transpose(1, 2)

    @staticmethod
    def role(name: str) -> str:
        if name.endswith("bias"):
            return "bias"
        return "conv" if name.startswith("stack") else "other"
