"""The hidden units inside a block, whose order is free: which of its parameters have an axis of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from bench.anatomy import parts_of
from bench.tying import NotApplicable

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORM = (_NormBase, nn.GroupNorm, nn.LayerNorm)
Layer = tuple[str, nn.Module]


@dataclass(frozen=True)
class Hidden:
    """axes: (name of a parameter inside the block, its dimension that counts the hidden units)."""

    units: int
    axes: tuple[tuple[str, int], ...]

    def rows(self, block: nn.Module) -> Iterator[Tensor]:
        """[units, ...] of each parameter: what enters or leaves a hidden unit through it."""
        for name, axis in self.axes:
            yield block.get_parameter(name).detach().movedim(axis, 0).reshape(self.units, -1)


def hidden_of(model: nn.Module, block: str) -> Hidden:
    """The units between the two layers of a block's feed-forward part, or between its two convolutions.

    Permuting them in all these axes alike leaves the block's function as it is: their activation function acts on
    each of them alone. A feed-forward part is one layer into the units, or a gate and one, and one layer out of
    them, in the order of their registration; layers whose role is unknown are one only where the two widths differ.
    A batch norm between convolutions has a scale and a shift for each unit, which are left out here: scales start at
    1 for every unit and would make all blocks alike. The state of a GRU is no such axis: it is added to the residual
    stream, whose order all blocks share. Raises NotApplicable, with the reason, for any other block.
    """
    role, inside = parts_of(model).role, list(model.get_submodule(block).named_modules())
    linear = [(name, module) for name, module in inside if _width_in(module) is not None]
    roles = {name: role(_joined(block, name, "weight")) for name, _ in linear}
    named = [layer for layer in linear if roles[layer[0]] == "feed_forward"]
    if named:
        return _feed_forward(named)
    unnamed = [layer for layer in linear if roles[layer[0]] == "other"]
    if len(unnamed) == 2 and _width_out(unnamed[0][1]) != _width_out(unnamed[1][1]):
        return _feed_forward(unnamed)
    if any(isinstance(module, _CONV) for _, module in inside):
        return _convolutions(inside)
    raise NotApplicable("the block has no feed-forward layers with hidden units between them")


def _feed_forward(layers: list[Layer]) -> Hidden:
    *into, (last, out) = layers
    units = _width_in(out)
    if not 1 <= len(into) <= 2 or any(_width_out(layer) != units for _, layer in into):
        shapes = ", ".join(f"{name} {_width_in(layer)} -> {_width_out(layer)}" for name, layer in layers)
        raise NotApplicable(f"the feed-forward layers are no chain through hidden units: {shapes}")
    axes = [axis for name, layer in into for axis in _leaving(name, layer)]
    return Hidden(units, (*axes, (_joined(last, "weight"), 0 if _is_transposed(out) else 1)))


def _convolutions(inside: list[Layer]) -> Hidden:
    convolutions = [at for at, (_, module) in enumerate(inside) if isinstance(module, _CONV)]
    if len(convolutions) != 2:
        raise NotApplicable(
            f"the block has {len(convolutions)} convolutions, not one into hidden units and one out"
        )
    first, last = convolutions
    (one, into), (other, out) = inside[first], inside[last]
    between = [module for _, module in inside[first:last]]
    if any(isinstance(module, _NORM) and not isinstance(module, _BatchNorm) for module in between):
        raise NotApplicable("the norm between the convolutions treats channels by their order")
    if into.groups != 1 or out.groups != 1 or into.out_channels != out.in_channels:
        raise NotApplicable("the convolutions are no chain through hidden units")
    return Hidden(into.out_channels, (*_leaving(one, into), (_joined(other, "weight"), 1)))


def _leaving(name: str, layer: nn.Module) -> list[tuple[str, int]]:
    """The axes of a layer's own outputs."""
    bias = [(_joined(name, "bias"), 0)] if layer.bias is not None else []
    return [(_joined(name, "weight"), 1 if _is_transposed(layer) else 0), *bias]


def _is_transposed(layer: nn.Module) -> bool:
    """Whether the weight is [in, out], as in the `Conv1D` of transformers, which is a linear layer."""
    return type(layer).__name__ == "Conv1D"


def _width_in(layer: nn.Module) -> int | None:
    """None for what is no linear layer."""
    if not isinstance(layer, nn.Linear) and not (_is_transposed(layer) and layer.weight.ndim == 2):
        return None
    return layer.weight.shape[0 if _is_transposed(layer) else 1]


def _width_out(layer: nn.Module) -> int:
    return layer.weight.shape[1 if _is_transposed(layer) else 0]


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))
