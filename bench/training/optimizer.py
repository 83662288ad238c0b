"""Set up AdamW: which parameters decay, and the learning rate over the steps."""

import math
from collections import Counter
from typing import Any

from torch import nn

from bench.tying.apply import parameters_by_name
from bench.tying.structure import plain_name


def decay_groups(model: nn.Module, weight_decay: float) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return optimizer groups by ndim, and the names in each: parameters with ndim >= 2 decay, shared ones once.

    Rules by module class would change the decayed set when a tie is made (nanoGPT, configure_optimizers).
    """
    named = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    decayed = {name: p for name, p in named.items() if p.ndim >= 2}
    undecayed = {name: p for name, p in named.items() if p.ndim < 2}
    groups = [
        {"params": list(decayed.values()), "weight_decay": weight_decay},
        {"params": list(undecayed.values()), "weight_decay": 0.0},
    ]
    return groups, {"decayed": sorted(decayed), "undecayed": sorted(undecayed)}


def divided_by_uses(groups: list[dict[str, Any]], model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Split optimizer groups by how often the network uses a parameter: one of g uses gets the rate lr / sqrt(g).

    The gradient of a shared tensor is the sum of those of its uses. Parameters of one use come first: the first
    group has the rate `lr`.

    Args:
        model: The tied network: each use of a shared tensor is a name of its own. A view uses it as often as the weight
            that it makes has more entries.
    """
    named, uses = parameters_by_name(model), Counter()
    for name, parameter in named.items():
        uses[parameter] += math.prod(named.shape(name)) / max(1, parameter.numel())
    return [
        {**group, "params": members, "lr": lr / math.sqrt(count)}
        for count in sorted(set(uses.values()))
        for group in groups
        if (members := [parameter for parameter in group["params"] if uses[parameter] == count])
    ]


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Return the share of the learning rate at `step` of `steps`: linear warm-up, then cosine to zero."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
