"""A causal language model of the `transformers` package, built from a config and from nothing else."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from bench.errors import BadInput
from bench.models.parts import Parts, check_dropout, check_positive

# What a config declares for heads that a causal language model does not have.
_OTHER_HEADS = ("classifier", "summary")
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
    ties them afterwards. `dropout` goes to every dropout field of the config. Raises BadInput for an
    unknown architecture or config key, sizes that do not fit together, and dropout on an architecture that
    has none.
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
    ) -> None:
        super().__init__()
        check_positive(vocab_size=vocab_size, window=window, depth=depth, width=width, heads=heads)
        check_dropout(dropout)
        if width % heads:
            raise BadInput(f"width {width} does not divide into {heads} heads: set model.width to a multiple")
        fields = _fields(architecture)
        known = set(fields.to_dict()) | set(fields.attribute_map)
        sizes = _sizes(vocab_size, window, depth, width, heads)
        wanted = {key: size for key, size in sizes.items() if key in known} | _FIXED
        wanted |= _dropouts(architecture, fields, dropout)
        wanted |= _extra(architecture, fields, config or {}, known)
        # Under the config's own names, which it checks, and so that a key from `config` replaces a size,
        # not doubles it.
        own = {fields.attribute_map.get(key, key): value for key, value in wanted.items()}
        self.model = _build(architecture, own)
        _refuse_a_view_of_the_future(self, architecture, min(window, 2), vocab_size)

    @property
    def parts(self) -> Parts:
        return Parts(
            stack=_stack(self),
            embedding=_name_of(self, self.model.get_input_embeddings().weight),
            unembedding=_name_of(self, self.model.get_output_embeddings().weight),
            role=_role,
        )

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


def _fields(architecture: str) -> PretrainedConfig:
    """The architecture's config at its defaults: the list of the keys it knows."""
    if architecture not in CONFIG_MAPPING:
        raise BadInput(
            f"architecture {architecture!r} is unknown to transformers; allowed is a model_type of a "
            "causal language model: set model.architecture=gpt2 or model.architecture=llama"
        )
    return AutoConfig.for_model(architecture)


def _sizes(vocab_size: int, window: int, depth: int, width: int, heads: int) -> dict[str, int]:
    """Our sizes under the names that most configs have, and the others know as aliases (attribute_map)."""
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


def _build(architecture: str, wanted: dict[str, Any]) -> PreTrainedModel:
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **wanted))
    except (StrictDataclassError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"architecture {architecture} cannot be built from these sizes: {reason}: "
            "correct model.depth, model.width, model.heads or model.config"
        ) from error
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


def _stack(model: nn.Module) -> tuple[str, ...]:
    """Module names of the blocks: the module list that holds most parameters."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    largest = max(lists, key=lambda name: sum(p.numel() for p in lists[name].parameters()))
    return tuple(f"{largest}.{index}" for index in range(len(lists[largest])))


def _name_of(model: nn.Module, weight: Tensor) -> str:
    """The first name, in module order, of a parameter."""
    return next(name for name, parameter in model.named_parameters() if parameter is weight)


def _role(name: str) -> str:
    owners, _, parameter = name.rpartition(".")
    owner = owners.rpartition(".")[2]
    if "norm" in owner or owner.startswith("ln"):
        return "norm"
    if parameter == "bias":
        return "bias"
    if "attn" in owners or "attention" in owners:
        return "attention"
    return "feed_forward" if any(word in owners for word in ("mlp", "fc", "feed_forward")) else "other"
