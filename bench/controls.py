"""Controls of a tying: an untied network of as many parameters, and a tied one of as many as the untied network.

Depth stays, and with it what can be tied. Width decides, and the feed-forward width inside the blocks makes up for
what whole widths leave. The embedding counts like all else, so with a large vocabulary much of what tying saves in the
blocks is taken from, or given to, the rows of the embedding.
"""

import bisect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from bench import assembly
from bench.errors import BadInput
from bench.worker import DoesNotApply

Config = Mapping[str, Any]

FINE = (0.5, 2.0)
"""Of its own feed-forward width at its new width, how much less and how much more a network may get."""


def controlled(config: Config, shapes: Mapping[str, int]) -> tuple[Config, dict[str, Any] | None]:
    """The config of the network that its `control` stands for, and that network's size as records have it.

    params: the untied network with about as many parameters as the tied one. respend: the tied network with about
    as many as the untied one. First the nearest width at the network's own ratio of feed-forward width to width,
    then the nearest feed-forward width. Nothing is built but shapes. The config itself and None without a control.

    The size: kind, width, feed_forward (None where the network has no such width to set), target_params, num_params,
    ratio (num_params / target_params) and untied_params, those of the untied network at its own width. Raises
    DoesNotApply where the tying does, or saves nothing, and BadInput where width does not change a network's size.
    """
    kind = config.get("control")
    if kind is None:
        return config, None
    plain, tied = untied(config), {**config, "control": None}
    untied_params, tied_params = num_params(plain, shapes), num_params(tied, shapes)
    if tied_params == untied_params:
        raise DoesNotApply("this tying shares no tensor, so its control is `none` itself")
    base, target = (plain, tied_params) if kind == "params" else (tied, untied_params)
    sized = _sized(base, shapes, target)
    found = num_params(sized, shapes)
    return sized, {
        "kind": kind,
        "width": sized["model"]["width"],
        "feed_forward": _feed_forward(sized, shapes),
        "target_params": target,
        "num_params": found,
        "ratio": found / target,
        "untied_params": untied_params,
    }


def num_params(config: Config, shapes: Mapping[str, int]) -> int:
    """Elements of the distinct parameters of the network that the config asks for, once it is tied."""
    model = _outline(config, shapes)
    return assembly.plan_for(config, model).num_params(model)


def nearest(numbers: range, target: int, count: Callable[[int], int]) -> int:
    """The number whose count is nearest to `target`, the lower of two as near; `count` rises with the numbers."""
    above = bisect.bisect_left(numbers, target, key=count)
    around = numbers[max(0, above - 1) : above + 1]
    return min(around, key=lambda number: abs(count(number) - target))


def _sized(base: Config, shapes: Mapping[str, int], target: int) -> Config:
    @cache
    def count(width: int, feed_forward: int | None = None) -> int:
        return num_params(_with(base, width, feed_forward), shapes)

    width, step = base["model"]["width"], getattr(_outline(base, shapes), "width_step", 1)
    if count(width) == count(width + step):
        raise BadInput(
            "control changes model.width, which changes no size here: leave sizes out of model.config, or control=null"
        )
    widest = width
    while count(widest) < target:
        widest += width
    width = nearest(range(step, widest + 1, step), target, count)
    own = _feed_forward(_with(base, width), shapes)
    if own is None:
        return _with(base, width)
    fine = range(max(1, round(FINE[0] * own)), round(FINE[1] * own) + 1)
    return _with(base, width, nearest(fine, target, lambda feed_forward: count(width, feed_forward)))


def _with(config: Config, width: int, feed_forward: int | None = None) -> Config:
    """At this width; what the config sets as feed-forward width keeps its ratio to it, unless one is given."""
    model = {**config["model"], "width": width}
    if feed_forward is None and model.get("feed_forward") is not None:
        feed_forward = max(1, round(model["feed_forward"] * width / config["model"]["width"]))
    if feed_forward is not None:
        model["feed_forward"] = feed_forward
    return {**config, "model": model}


def untied(config: Config) -> Config:
    """The same network without any tie, and no control."""
    return {**config, "control": None, "tying": {**config["tying"], "parts": {}}}


def _feed_forward(config: Config, shapes: Mapping[str, int]) -> int | None:
    return getattr(_outline(config, shapes), "feed_forward", None)


def _outline(config: Config, shapes: Mapping[str, int]) -> nn.Module:
    """The network without its numbers, which takes no memory."""
    with torch.device("meta"):
        return assembly.network(config, shapes, dropout=0.0)
