"""What can change about the sizes of a network of `transformers`: its feed-forward width, and its width in steps."""

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedModel

from bench.errors import BadInput
from bench.models.parts import check_positive

# What configs call the width inside a block's feed-forward layers.
_NAMES = ("intermediate_size", "n_inner", "ffn_dim", "d_ff")


def with_feed_forward(
    architecture: str, config: Mapping[str, Any] | None, width: int | None
) -> dict[str, Any]:
    """`config`, and the feed-forward width in it under the architecture's own name; as it is for None.

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
    """The network's feed-forward width; None where there is none to set beside `config`."""
    name = _name(model.config.model_type)
    if name is None or name in (config or {}):
        return None
    return getattr(model.config, name) or 4 * model.config.hidden_size  # n_inner=None means that


def width_step(model: PreTrainedModel, heads: int) -> int:
    """What a width must be a multiple of: rotary positions turn the dimensions of a head in pairs."""
    rotary = any("rope" in key or "rotary" in key for key in model.config.to_dict())
    return 2 * heads if rotary else heads


def _name(architecture: str) -> str | None:
    if architecture not in CONFIG_MAPPING:
        return None
    fields = AutoConfig.for_model(architecture)
    known = set(fields.to_dict()) | set(fields.attribute_map)
    return next((name for name in _NAMES if name in known), None)
