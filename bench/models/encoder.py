"""A text classifier: an encoder of the `transformers` package, built from a config and from nothing else."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from bench.anatomy import Parts, parts_inside
from bench.errors import BadInput
from bench.models.feed_forward import feed_forward_of, width_step, with_feed_forward
from bench.models.pretrained_configs import built, own_names

PAD_ID = 0
"""What fills a row after its text; no text has it."""

# The defaults of the others may lie outside a small vocabulary.
_FIXED = {"pad_token_id": PAD_ID, "bos_token_id": PAD_ID, "eos_token_id": PAD_ID}
# BERT's second kind of segment would be a row of weights that no text here ever reads.
_ONE_SEGMENT = {"type_vocab_size": 1}
_HEAD_STD = 0.02


class TextClassifier(nn.Module):
    """Tokens [B, T] long, T <= window, rows filled up with PAD_ID -> logits [B, num_classes].

    The last hidden states are averaged over a row's tokens and read by one linear layer. Not BERT's pooler: that
    reads the first position, a [CLS] token which pre-training teaches to stand for the whole, and adds a layer.
    Padding is masked in attention and left out of the average. `architecture` is the `model_type` of an encoder
    in `transformers`; `config` holds further keys of its config class. Weights are random, nothing is downloaded.
    `dropout` goes to every dropout field of the config. `feed_forward` as `CausalLM` has it. Raises BadInput
    for an unknown architecture or config key, sizes that do not fit together, dropout or feed_forward on an
    architecture that has none, and one that cannot read T = window tokens.

    Source: Devlin et al. 2019 (BERT), section 3, for the encoder; Reimers and Gurevych 2019 (Sentence-BERT),
    section 3, for the mean over tokens.
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int,
        window: int,
        architecture: str = "bert",
        depth: int = 4,
        width: int = 128,
        heads: int = 4,
        dropout: float = 0.0,
        config: Mapping[str, Any] | None = None,
        feed_forward: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {"vocab_size": vocab_size, "window": window, "depth": depth, "width": width, "heads": heads}
        if architecture == "bert":
            config = _ONE_SEGMENT | dict(config or {})
        given = with_feed_forward(architecture, config, feed_forward)
        self.encoder = built(AutoModel, architecture, own_names(architecture, sizes, dropout, given, _FIXED))
        self.feed_forward = feed_forward_of(self.encoder, config)
        self.width_step = width_step(self.encoder, heads)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # weights that nothing here reads
        self.classifier = nn.Linear(width, num_classes)
        # A small classifier puts the first loss at ln(num_classes).
        nn.init.normal_(self.classifier.weight, std=_HEAD_STD)
        nn.init.zeros_(self.classifier.bias)
        if self.encoder.device.type != "meta":  # shapes alone, of which nothing can be computed
            _need_a_window(self, architecture, window)

    @property
    def parts(self) -> Parts:
        return parts_inside(self, "encoder")

    def forward(self, tokens: Tensor) -> Tensor:
        real = tokens != PAD_ID
        hidden = self.encoder(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        weights = real.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return self.classifier(mean)


@torch.no_grad()
def _need_a_window(model: TextClassifier, architecture: str, window: int) -> None:
    """Raises BadInput unless it reads a row of `window` tokens, and sees the last of them."""
    tokens = torch.ones(1, window, dtype=torch.long)
    model.eval()
    try:
        model(tokens)
    except (IndexError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"architecture {architecture} does not encode rows of {window} tokens: {reason}: set "
            "model.architecture=bert, or +model.config.max_position_embeddings where it counts positions otherwise"
        ) from error
    model.train()
