"""Build transformers of the `transformers` package from a config: a language model and a text classifier."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from bench.models.checks import check_dropout, check_injection, check_positive
from bench.tying.errors import BadInput
from bench.tying.structure import Parts, parts_inside

# What configs call the width inside a block's feed-forward layers.
_NAMES = ("intermediate_size", "n_inner", "ffn_dim", "d_ff")


def with_feed_forward(
    architecture: str, config: Mapping[str, Any] | None, width: int | None
) -> dict[str, Any]:
    """Return `config`, and the feed-forward width in it under the architecture's own name; as it is for None.

    Raises BadInput where the architecture has no such width that we know, or `config` sets it already.
    """
    if width is None:
        return dict(config or {})
    check_positive(feed_forward=width)
    name = _name(architecture)
    if name is None or name in (config or {}):
        raise BadInput(
            f"architecture {architecture} has no feed-forward width left to set: "
            "leave out model.feed_forward, or its own key in model.config"
        )
    return {**(config or {}), name: width}


def feed_forward_of(model: PreTrainedModel, config: Mapping[str, Any] | None) -> int | None:
    """Return the network's feed-forward width; None where there is none to set beside `config`."""
    name = _name(model.config.model_type)
    if name is None or name in (config or {}):
        return None
    return getattr(model.config, name) or 4 * model.config.hidden_size  # n_inner=None means that


def width_step(model: PreTrainedModel, heads: int) -> int:
    """Return what a width must be a multiple of: rotary positions turn the dimensions of a head in pairs."""
    rotary = any("rope" in key or "rotary" in key for key in model.config.to_dict())
    return 2 * heads if rotary else heads


def _name(architecture: str) -> str | None:
    if architecture not in CONFIG_MAPPING:
        return None
    fields = AutoConfig.for_model(architecture)
    known = set(fields.to_dict()) | set(fields.attribute_map)
    return next((name for name in _NAMES if name in known), None)


# What a config declares for heads that a network of ours does not have.
_OTHER_HEADS = ("classifier", "summary")


def own_names(
    architecture: str,
    sizes: Mapping[str, int],
    dropout: float,
    config: Mapping[str, Any] | None,
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """Return arguments of the architecture's config class: `sizes`, `fixed`, `dropout` in each dropout field, `config`.

    sizes: vocab_size, window, depth, width, heads. What comes later in that order replaces what came before.
    Raises BadInput for an unknown architecture or config key, sizes out of range or that do not fit together,
    and dropout on an architecture that has none.
    """
    check_positive(**sizes)
    check_dropout(dropout)
    if sizes["width"] % sizes["heads"]:
        raise BadInput(
            f"width {sizes['width']} does not divide into {sizes['heads']} heads: set model.width to a multiple"
        )
    fields = _fields(architecture)
    known = set(fields.to_dict()) | set(fields.attribute_map)
    wanted = {key: size for key, size in _sizes(**sizes).items() if key in known}
    wanted |= fixed
    wanted |= _dropouts(architecture, fields, dropout)
    wanted |= _extra(architecture, fields, config or {}, known)
    # Under the config's own names, which it checks, and so that a key from `config` replaces a size,
    # not doubles it.
    return {fields.attribute_map.get(key, key): value for key, value in wanted.items()}


def built(auto: Any, architecture: str, wanted: Mapping[str, Any]) -> PreTrainedModel:
    """Build the network that `auto`, one of transformers' Auto classes, makes of a config; BadInput where it cannot."""
    try:
        return auto.from_config(AutoConfig.for_model(architecture, **wanted))
    except (StrictDataclassError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"architecture {architecture} cannot be built from these sizes: {reason}: "
            "correct model.depth, model.width, model.heads or model.config"
        ) from error


def _fields(architecture: str) -> PretrainedConfig:
    """Return the architecture's config at its defaults: the list of the keys it knows."""
    if architecture not in CONFIG_MAPPING:
        raise BadInput(
            f"architecture {architecture!r} is unknown to transformers; allowed is a model_type of a "
            "network of its kind: set model.architecture=gpt2 or llama for a language model, bert for a classifier"
        )
    return AutoConfig.for_model(architecture)


def _sizes(vocab_size: int, window: int, depth: int, width: int, heads: int) -> dict[str, int]:
    """Return our sizes under the names that most configs have, and the others know as aliases (attribute_map)."""
    return {
        "vocab_size": vocab_size,
        "max_position_embeddings": window,
        "num_hidden_layers": depth,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
        "intermediate_size": 4 * width,
    }


def _dropouts(architecture: str, fields: PretrainedConfig, dropout: float) -> dict[str, float]:
    names = [
        name
        for name, value in fields.to_dict().items()
        if ("dropout" in name or "pdrop" in name)
        and isinstance(value, float)
        and not name.startswith(_OTHER_HEADS)
    ]
    if dropout > 0 and not names:
        raise BadInput(f"architecture {architecture} has no dropout: set dropout=0 or another architecture")
    return dict.fromkeys(names, float(dropout))


def _extra(
    architecture: str, fields: PretrainedConfig, config: Mapping[str, Any], known: set[str]
) -> dict[str, Any]:
    for key in config:
        if key not in known:
            raise BadInput(
                f"config key {key!r} is unknown to architecture {architecture}; allowed are the fields "
                f"of {type(fields).__name__}: correct or remove model.config.{key}"
            )
    return dict(config)


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
    `injection`: "add" adds what the first block reads again before each block after it.
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
        injection: str = "none",
    ) -> None:
        super().__init__()
        check_injection(injection)
        sizes = {"vocab_size": vocab_size, "window": window, "depth": depth, "width": width, "heads": heads}
        given = with_feed_forward(architecture, config, feed_forward)
        own = own_names(architecture, sizes, dropout, given, _FIXED)
        self.model = _build(architecture, own)
        if injection == "add":
            Injection().into([self.get_submodule(name) for name in self.parts.stack])
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
        """Return what makes logits of `hidden`; None where the architecture does more (caps or scales its logits)."""
        return self.model.get_output_embeddings() if _is_linear_at_its_end(self) else None

    def hidden(self, tokens: Tensor, state: None = None, last: int = 0) -> tuple[Tensor, None]:
        """Return what the output layer reads [B, S, width], of the last S = `last` positions (0: of all); no state."""
        hidden = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        return hidden[:, -last:], None

    def decode(self, tokens: Tensor, past: Any = None) -> tuple[Tensor, Any]:
        """Return logits [B, 1, vocab] of the token after these, and the cache to go on from with the next one.

        The cache is the architecture's own, and grows in place; None where it has none.
        """
        out = self.model(input_ids=tokens, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1:], out.past_key_values

    def forward(self, tokens: Tensor, state: None = None, last: int = 0) -> tuple[Tensor, None]:
        """`last`: logits of so many last positions only (0: of all), which spares the output layer the rest."""
        logits = self.model(input_ids=tokens, use_cache=False, logits_to_keep=last).logits
        return logits[:, -last:], None  # -0: all; and architectures that ignore logits_to_keep are cut here


class Injection:
    """Adds what the first of some blocks reads to what each block after it reads, before it does.

    Blocks take hidden states as their first argument by position. The hooks are methods, so that a deep copy of the
    network has an injection of its own.
    """

    def __init__(self) -> None:
        self.embedded: Tensor | None = None

    def into(self, blocks: Sequence[nn.Module]) -> None:
        """Register the hooks; nothing is added to a stack of one block."""
        if len(blocks) > 1:
            blocks[0].register_forward_pre_hook(self._keep)
            for block in blocks[1:]:
                block.register_forward_pre_hook(self._add)
            blocks[-1].register_forward_hook(self._drop)

    def _keep(self, block: nn.Module, given: tuple[Any, ...]) -> None:
        self.embedded = given[0]

    def _add(self, block: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return given[0] + self.embedded, *given[1:]

    def _drop(self, *_: Any) -> None:
        self.embedded = None  # it holds the graph of a whole step


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
    """Raise BadInput if a later token changes an earlier logit: its perplexity would be no perplexity."""
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
    """Return whether logits are the output matrix times the last hidden states, seen on two tokens."""
    layer, was_training = model.model.get_output_embeddings(), model.training
    tokens = torch.tensor([[0, 1]], device=layer.weight.device)
    model.eval()
    logits, hidden = model(tokens)[0], model.hidden(tokens)[0]
    model.train(was_training)
    same_width = hidden.shape[-1] == layer.weight.shape[1]
    return same_width and torch.allclose(layer(hidden), logits, rtol=1e-4, atol=1e-5)


PAD_ID = 0
"""What fills a row after its text; no text has it."""

# The defaults of the others may lie outside a small vocabulary.
_FIXED_OF_ENCODER = {"pad_token_id": PAD_ID, "bos_token_id": PAD_ID, "eos_token_id": PAD_ID}
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
        self.encoder = built(
            AutoModel, architecture, own_names(architecture, sizes, dropout, given, _FIXED_OF_ENCODER)
        )
        self.feed_forward = feed_forward_of(self.encoder, config)
        self.width_step = width_step(self.encoder, heads)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # weights that nothing here reads
        self.classifier = self.made_classifier(width, num_classes)
        if self.encoder.device.type != "meta":  # shapes alone, of which nothing can be computed
            _need_a_window(self, architecture, window)

    @property
    def parts(self) -> Parts:
        return parts_inside(self, "encoder")

    def made_classifier(self, width: int, num_classes: int) -> nn.Module:
        """Return what reads the mean of a row [B, width]; its small weights put the first loss at ln(num_classes)."""
        classifier = nn.Linear(width, num_classes)
        nn.init.normal_(classifier.weight, std=_HEAD_STD)
        nn.init.zeros_(classifier.bias)
        return classifier

    def forward(self, tokens: Tensor) -> Tensor:
        real = tokens != PAD_ID
        hidden = self.encoder(input_ids=tokens, attention_mask=real.long()).last_hidden_state
        weights = real.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return self.classifier(mean)


@torch.no_grad()
def _need_a_window(model: TextClassifier, architecture: str, window: int) -> None:
    """Raise BadInput unless it reads a row of `window` tokens, and sees the last of them."""
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
