"""A tensor as int8 and one scale per channel."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.tying import Tie, TyingPlan
from bench.tying.errors import BadInput
from bench.tying.low_rank import ReadAnew, forget

LARGEST = 127
"""Symmetric: -128 is not used, so that a weight and its negative are rounded alike."""


@torch.no_grad()
def rounded(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """(int8 of weight's shape, scale in weight's dtype, of length 1 along all axes but `axis`).

    int8 * scale is the weight to within half a scale. The largest magnitude of a channel becomes 127; a channel of
    zeros stays zero. Source: Jacob et al. 2018, "Quantization and training of neural networks", section 2, without a
    zero point; Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 3.1, for a scale per channel.
    """
    others = [at for at in range(weight.ndim) if at != axis]
    scale = weight.abs().amax(others, keepdim=True) / LARGEST
    scale = torch.where(scale > 0, scale, 1)
    # bfloat16 and float16 would round the quotient before it is rounded.
    exact = weight if weight.dtype == torch.float64 else weight.float()
    return (exact / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


INT8, SCALE = "_int8", "_scale"
"""What a weight's name gets: `weight` becomes the frozen parameters `weight_int8` and `weight_scale`."""

_FIRST = (nn.Linear, nn.Embedding, nn.RNNBase, nn.RNNCellBase, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SECOND = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

KINDS = "Linear, Embedding, convolutions, GRU, LSTM or transformers' Conv1D"


def channel_axis(module: nn.Module) -> int | None:
    """The axis of a weight's output channels; of an embedding that of its rows. None for a kind that is left alone."""
    if isinstance(module, _FIRST):
        return 0
    # GPT-2's Conv1D multiplies from the left. Told by its name: to import transformers takes seconds.
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(module).__mro__}
    return 1 if isinstance(module, _SECOND) or "transformers.pytorch_utils.Conv1D" in names else None


class Quantised(nn.Module):
    """What a module with int8 weights is an instance of, besides the class that it was of."""


def install(module: nn.Module, weights: Mapping[str, tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Replace the parameters of these names by (int8, scale), in place: `module.weight` is then made of them.

    Parameters and not buffers: `.to(device)` keeps a shared parameter one, of a shared buffer it makes one per use.
    """
    recurrent = isinstance(module, nn.RNNBase)
    for name, (values, scale) in weights.items():
        delattr(module, name)
        module.register_parameter(name + INT8, values)
        module.register_parameter(name + SCALE, scale)
    if recurrent:
        forget(module)
        for bias in module.parameters(recurse=False):
            if bias.untyped_storage().nbytes() > bias.nbytes:
                bias.data = bias.data.clone()  # cuDNN's is a view into all weights of the layer
    module.__class__ = _derived(type(module), tuple(weights), recurrent)


@functools.cache
def _derived(kind: type[nn.Module], names: tuple[str, ...], recurrent: bool) -> type[nn.Module]:
    bases = (Quantised, ReadAnew, kind) if recurrent else (Quantised, kind)
    made: dict[str, Any] = {name: property(functools.partial(_made, name)) for name in names}
    return type(f"Int8{kind.__name__}", bases, made)


def _made(name: str, module: nn.Module) -> Tensor:
    scale = getattr(module, name + SCALE)
    return getattr(module, name + INT8).to(scale.dtype) * scale


def num_bytes(model: nn.Module) -> int:
    """Bytes of the distinct storages of its parameters and buffers: a shared tensor counts once."""
    storages = (tensor.untyped_storage() for tensor in [*model.parameters(), *model.buffers()])
    return sum({(str(s.device), s.data_ptr()): s.nbytes() for s in storages}.values())


def quantize(model: nn.Module, plan: TyingPlan | None = None) -> nn.Module:
    """Round the weights (two dimensions or more) of KINDS to int8, in place, freeze the model, and return it.

    Symmetric, with a scale per output channel. A tensor is rounded once, whatever its number of uses, and all of them
    read the one int8 tensor and its one scale. Biases, norms and whatever else stay as they are; so does the mode.
    `module.weight` goes on giving the float weight, for reading only. plan: checked to be applied.

    Raises BadInput, before anything is changed, where the model is quantised already or has no such weight, a tie of
    the plan is several tensors, a weight is parametrised or not finite, or two uses of a tensor have their channels
    along two axes.
    """
    if is_quantised(model):
        raise BadInput("the model is quantised already: quantise the one that was trained")
    if plan is not None:
        try:
            plan.verify(model)
        except RuntimeError as error:
            raise BadInput(f"{error}: apply the plan before the model is quantised") from error
    found = _weights(model)
    halves = {key: _halves(*weight) for key, weight in found.items()}
    # A use in a module of another kind reads the same tensor: the kinds that we know say where its channels are.
    for module in model.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        if weights := {name: halves[id(p)] for name, p in own if id(p) in halves}:
            install(module, weights)
    return model.requires_grad_(False)


def is_quantised(model: nn.Module) -> bool:
    return any(isinstance(module, Quantised) for module in model.modules())


def stored_plan(plan: TyingPlan, names: Collection[str]) -> TyingPlan:
    """The plan of a quantised model that has these names: each tie of its weights as one of int8 and one of scales."""
    ties: list[Tie] = []
    for tie in plan.ties:
        quantised = all(name not in names and name + INT8 in names for name in tie.names)
        for suffix in (INT8, SCALE) if quantised else ("",):
            ties.append(replace(tie, names=tuple(name + suffix for name in tie.names)))
    return TyingPlan(tuple(ties))


def _weights(model: nn.Module) -> dict[int, tuple[str, nn.Parameter, int]]:
    """Identity -> first name, parameter and channel axis of each distinct weight to be rounded."""
    found: dict[int, tuple[str, nn.Parameter, int]] = {}
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            leaf = next(iter(module.parametrizations))
            raise BadInput(
                f"{path}.{leaf} is parametrised (as relaxed weights are), a float sum of several tensors: quantise a "
                "model without"
            )
        axis = channel_axis(module)
        for leaf, parameter in module.named_parameters(path, recurse=False, remove_duplicate=False):
            if axis is None or parameter.ndim < 2 or not parameter.is_floating_point():
                continue
            first, _, other = found.setdefault(id(parameter), (leaf, parameter, axis))
            if other != axis:
                raise BadInput(
                    f"{first} and {leaf} are one tensor with its output channels along axis {other} in the one and "
                    f"{axis} in the other: one scale cannot fit both, untie them before the model is quantised"
                )
    if not found:
        raise BadInput(f"the model has no weight to quantise: none belongs to {KINDS}")
    return found


def _halves(name: str, weight: nn.Parameter, axis: int) -> tuple[nn.Parameter, nn.Parameter]:
    if not weight.isfinite().all():
        raise BadInput(f"{name} holds a value that is not finite: such a weight cannot be quantised")
    values, scale = rounded(weight, axis)
    return nn.Parameter(values, requires_grad=False), nn.Parameter(scale, requires_grad=False)
