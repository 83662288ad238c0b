"""Take a language model that somebody else wrote, so that it is trained and scored as those of the suite."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.tying.errors import BadInput
from bench.tying.structure import Parts, parts_inside

STATES = ("state", "hidden", "hx")
"""What a second argument is called that takes the state after the window before."""


class OwnLanguageModel(nn.Module):
    """(tokens [B, T] long, state or None) -> (logits [B, T, vocab], state or None), of a model of any class.

    The model is called with tokens, and with the state where its second argument is called `state`, `hidden` or `hx`.
    It returns logits, or a tuple that begins with them, or what holds them as `logits`. The state is the second of a
    tuple, a tensor or a pair of equal shapes as nn.LSTM has it; without that argument nothing is carried.

    Raises:
        BadInput: On a few tokens the model fails, gives no such logits, or sees later tokens or other rows.
    """

    output_layer = None
    """How its logits come about is not looked at."""

    def __init__(self, model: nn.Module, vocab_size: int) -> None:
        super().__init__()
        self.model = model
        arguments = list(inspect.signature(model.forward).parameters)
        self.carries = len(arguments) > 1 and arguments[1] in STATES
        self.is_paired = False  # `_check` finds out
        if all(parameter.device.type != "meta" for parameter in model.parameters()):
            self._check(type(model).__name__, vocab_size)

    @property
    def parts(self) -> Parts:
        return parts_inside(self, "model")

    def forward(
        self, tokens: Tensor, state: Tensor | None = None, last: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """`last`: logits of so many last positions only (0: of all)."""
        given = (tuple(state) if state is not None and self.is_paired else state,) if self.carries else ()
        answer = self.model(tokens, *given)
        logits, state = self._read(answer)
        return logits[:, -last:] if last else logits, state

    def _read(self, answer: Any) -> tuple[Tensor, Tensor | None]:
        """Return logits and state of what the model gave; a pair of states as one tensor."""
        logits = getattr(answer, "logits", answer)
        if not isinstance(logits, tuple):
            return logits, None
        state = logits[1] if self.carries and len(logits) > 1 else None
        self.is_paired = isinstance(state, tuple)
        return logits[0], torch.stack(state) if isinstance(state, tuple) else state

    @torch.no_grad()
    def _check(self, name: str, vocab_size: int) -> None:
        """Refuse what would be scored as something else. One token is changed: who sees it?"""
        tokens = torch.zeros(2, 3, dtype=torch.long)
        changed = tokens.clone()
        changed[0, 1] = vocab_size - 1
        was_training = self.training
        self.eval()
        try:
            first, second = self(tokens)[0], self(changed)[0]
        except Exception as error:  # whatever somebody's own model raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadInput(f"{name} cannot read tokens [batch, time]: {reason}") from error
        self.train(was_training)
        shape = tuple(getattr(first, "shape", ()))
        if shape != (*tokens.shape, vocab_size):
            raise BadInput(
                f"{name} gives {list(shape)} for tokens {list(tokens.shape)}; it must give logits "
                f"[batch, time, vocab_size], here {[*tokens.shape, vocab_size]}"
            )
        if not torch.allclose(first[1], second[1], rtol=1e-4, atol=1e-5):
            raise BadInput(
                f"{name} answers a row by what another row holds: tokens are [batch, time], so recurrent modules need "
                "batch_first=True"
            )
        if not torch.allclose(first[0, 0], second[0, 0], rtol=1e-4, atol=1e-5):
            raise BadInput(f"{name} sees later tokens: its perplexity would be none; mask them")


def taken(model: nn.Module, shapes: Mapping[str, int]) -> nn.Module:
    """Return a network as its task calls it: a language model that was not written for that inside of one that is."""
    # Not hasattr: `output_layer` as a property may read numbers, and a network of shapes alone has none.
    is_known = "output_layer" in dir(model)
    of_text = set(shapes) == {"vocab_size"}
    return OwnLanguageModel(model, shapes["vocab_size"]) if of_text and not is_known else model
