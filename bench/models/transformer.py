"""A causal language model of the `transformers` package, built from a config and from nothing else."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from bench.anatomy import Parts, parts_inside
from bench.errors import BadInput
from bench.models.feed_forward import feed_forward_of, width_step, with_feed_forward
from bench.models.pretrained_configs import built, own_names

# Special tokens mean nothing here, but the defaults (GPT-2's 50256) lie outside a small vocabulary, and a
# padding token would freeze one row of the embedding.
_FIXED = {
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
    "tie_word_embeddings": False,
    "use_cache": False,
}


class CausalLM(nn.Module):
    """Tokens [B, T] long, T <= window -> (logits [B, T, vocab], None: no state is carried).

    `architecture` is the `model_type` of any causal language model in `transformers`; `config` holds
    further keys of its config class, under that class's own names. Weights are random, nothing is
    downloaded, and the input embedding and the output matrix are two tensors: whoever wants them as one
    ties them afterwards. `dropout` goes to every dropout field of the config. `feed_forward` is the width
    inside the blocks' feed-forward layers; None leaves it at 4 * width, or as the architecture has it.
    Raises BadInput for an unknown architecture or config key, sizes that do not fit together, and dropout
    or feed_forward on an architecture that has none.
    """

    def __init__(
        self,
        vocab_size: int,
        window: int,
        architecture: str = "gpt2",
        depth: int = 4,
        width: int = 128,
        heads: int = 4,
        dropout: float = 0.0,
        config: Mapping[str, Any] | None = None,
        feed_forward: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "window": window, "depth": depth, "width": width, "heads": heads}
        given = with_feed_forward(architecture, config, feed_forward)
        own = own_names(architecture, sizes, dropout, given, _FIXED)
        self.model = _build(architecture, own)
        self.feed_forward = feed_forward_of(self.model, config)
        self.width_step = width_step(self.model, heads)
        if self.model.device.type == "meta":  # shapes alone, of which nothing can be computed
            return
        _refuse_a_view_of_the_future(self, architecture, min(window, 2), vocab_size)

    @property
    def parts(self) -> Parts:
        return parts_inside(self, "model")

    @functools.cached_property
    def output_layer(self) -> nn.Linear | None:
        """What makes logits of `hidden`; None where the architecture does more (caps or scales its logits)."""
        return self.model.get_output_embeddings() if _is_linear_at_its_end(self) else None

    def hidden(self, tokens: Tensor, state: None = None, last: int = 0) -> tuple[Tensor, None]:
        """What the output layer reads [B, S, width], of the last S = `last` positions (0: of all); no state."""
        hidden = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        return hidden[:, -last:], None

    def decode(self, tokens: Tensor, past: Any = None) -> tuple[Tensor, Any]:
        """Logits [B, 1, vocab] of the token after these, and the cache to go on from with the next one.

        The cache is the architecture's own, and grows in place; None where it has none.
        """
        out = self.model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1:], out.past_key_values

    def forward(self, tokens: Tensor, state: None = None, last: int = 0) -> tuple[Tensor, None]:
        """`last`: logits of so many last positions only (0: of all), which spares the output layer the rest."""
        logits = self.model(input_ids=tokens, use_cache=False, logits_to_keep=last).logits
        return logits[:, -last:], None  # -0: all; and architectures that ignore logits_to_keep are cut here


def _build(architecture: str, wanted: dict[str, Any]) -> PreTrainedModel:
    model = built(AutoModelForCausalLM, architecture, wanted)
    if model.get_input_embeddings().weight is model.get_output_embeddings().weight:
        raise BadInput(
            f"architecture {architecture} always shares its embedding with its output, which is for "
            "tying to decide: choose another model.architecture"
        )
    return model


@torch.no_grad()
def _refuse_a_view_of_the_future(model: CausalLM, architecture: str, length: int, vocab_size: int) -> None:
    """Raises BadInput if a later token changes an earlier logit: its perplexity would be no perplexity."""
    tokens = torch.zeros(2, length, dtype=torch.long)
    tokens[1, -1] = vocab_size - 1
    model.eval()
    first = model(tokens)[0][:, 0]
    model.train()
    if length > 1 and not torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-5):
        raise BadInput(
            f"architecture {architecture} sees later tokens: as configured it is no causal language model: "
            "set +model.config.is_decoder=true where it has that key, or another model.architecture"
        )


@torch.no_grad()
def _is_linear_at_its_end(model: CausalLM) -> bool:
    """Whether logits are the output matrix times the last hidden states, seen on two tokens."""
    layer, was_training = model.model.get_output_embeddings(), model.training
    tokens = torch.tensor([[0, 1]], device=layer.weight.device)
    model.eval()
    logits, hidden = model(tokens)[0], model.hidden(tokens)[0]
    model.train(was_training)
    same_width = hidden.shape[-1] == layer.weight.shape[1]
    return same_width and torch.allclose(layer(hidden), logits, rtol=1e-4, atol=1e-5)
