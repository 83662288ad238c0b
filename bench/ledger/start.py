"""The scale of activations and gradients by depth before the first step, tied against untied."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.ledger import networks
from bench.ledger.parts import Measure, Part
from bench.stats.statistics import interval


def scales(tasks: Sequence[str], tying: str, seeds: int) -> list[Part]:
    """Ratios tied over untied, geometric means over seeds with the interval of their logarithms.

    `activation`: root mean square of what the last block gives; `gradient`: of the loss's gradient with respect
    to what the first block gives; `weight`: of the gradient of the blocks' weights, which a shared tensor gets
    from all its uses. One random batch a seed, in float64. One part per network of the bench.
    """
    found = []
    for task in tasks:
        logs: dict[str, list[float]] = {"activation": [], "gradient": [], "weight": []}
        for seed in range(1, seeds + 1):
            model = networks.network(task, seed, torch.float64)
            tied = _scales(networks.tied(model, task, tying), task, seed)
            untied = _scales(model, task, seed)
            for name in logs:
                logs[name].append(math.log(tied[name] / untied[name]))
        found.append(Part(task, tuple(_ratio(name, values) for name, values in logs.items())))
    return found


def _ratio(name: str, logs: list[float]) -> Measure:
    mean, low, high, n = interval(logs)
    ends = [None if end is None else math.exp(end) for end in (low, high)]
    return Measure(name, math.exp(mean), "x the untied", *ends, n, is_ratio=True)


def _scales(model: nn.Module, task: str, seed: int) -> dict[str, float]:
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)
        outputs[-1].retain_grad()

    blocks = [model.get_submodule(name) for name in model.parts.stack]
    for block in blocks:
        block.register_forward_hook(keep)
    networks.loss(model, *networks.batch(task, seed, torch.float64)).backward()
    weights = {id(p): p for block in blocks for p in block.parameters() if p.ndim >= 2}
    return {
        "activation": _rms([outputs[-1]]),
        "gradient": _rms([outputs[0].grad]),
        "weight": _rms([weight.grad for weight in weights.values()]),
    }


def _rms(tensors: Sequence[Tensor]) -> float:
    total = sum(float(tensor.detach().square().sum()) for tensor in tensors)
    return math.sqrt(total / sum(tensor.numel() for tensor in tensors))
