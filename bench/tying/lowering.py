"""Lower a tied network: give it the smaller modules that compute the same, where a view alone saves no time.

Heads that share keys and values are lowered by `bench.tying.attention.grouped_query`.
"""

import torch
from torch import nn

from bench.tying.apply import weight
from bench.tying.plan import NotApplicable
from bench.tying.structure import copied, joined, modules_by_name
from bench.tying.tie import is_integer


@torch.no_grad()
def convolutional(model: nn.Module) -> nn.Module:
    """Return the same network with an `nn.Conv2d` for each layer that has one filter for all positions.

    Such a layer is what `over_positions` ties: it has `positions`, `kernel`, a weight [positions, out, in, *kernel] and
    a bias [positions, out]. `model` is not changed, and a training of either gives the other's weights.

    Raises:
        NotApplicable: The network has no such layer, or one has different filters.
    """
    paths = [path for path, module in modules_by_name(model).items() if _is_local(module)]
    if not paths:
        raise NotApplicable(
            "no layer in this network has a filter for each position, with a kernel of two sides"
        )
    lowered = copied(model)
    for path in paths:
        filters, biases = (weight(model, joined(path, leaf)) for leaf in ("weight", "bias"))
        if not all(bool((values == values[:1]).all()) for values in (filters, biases)):
            raise NotApplicable(f"{path} has different filters: tie them by over_positions first")
        _, out_channels, in_channels, *kernel = filters.shape
        with torch.random.fork_rng(devices=[]):  # its first weights are replaced at once
            layer = nn.Conv2d(in_channels, out_channels, kernel).to(filters)
        layer.weight.copy_(filters[0])
        layer.bias.copy_(biases[0])
        parent, _, leaf = path.rpartition(".")
        setattr(lowered.get_submodule(parent), leaf, layer)
    return lowered


def _is_local(module: nn.Module) -> bool:
    return is_integer(getattr(module, "positions", None)) and len(getattr(module, "kernel", ())) == 2
