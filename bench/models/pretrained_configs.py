"""What networks of the `transformers` package share: a config from our sizes, and the network from it."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, PreTrainedModel

from bench.errors import BadInput
from bench.models.parts import check_dropout, check_positive

# What a config declares for heads that a network of ours does not have.
_OTHER_HEADS = ("classifier", "summary")


def own_names(
    architecture: str,
    sizes: Mapping[str, int],
    dropout: float,
    config: Mapping[str, Any] | None,
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments of the architecture's config class: `sizes`, `fixed`, `dropout` in every dropout field, `config`.

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
    """The network that `auto`, one of transformers' Auto classes, makes of a config; BadInput where it cannot."""
    try:
        return auto.from_config(AutoConfig.for_model(architecture, **wanted))
    except (StrictDataclassError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(
            f"architecture {architecture} cannot be built from these sizes: {reason}: "
            "correct model.depth, model.width, model.heads or model.config"
        ) from error


def _fields(architecture: str) -> PretrainedConfig:
    """The architecture's config at its defaults: the list of the keys it knows."""
    if architecture not in CONFIG_MAPPING:
        raise BadInput(
            f"architecture {architecture!r} is unknown to transformers; allowed is a model_type of a "
            "network of its kind: set model.architecture=gpt2 or llama for a language model, bert for a classifier"
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
