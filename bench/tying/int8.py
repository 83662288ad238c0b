"""A tensor as int8 and one scale per channel."""

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.tying import TyingPlan
from bench.tying.apply import INT8, SCALE, as_stored, parameters_by_name
from bench.tying.errors import BadInput
from bench.tying.gate import check_finite, check_model
from bench.tying.low_rank import ReadAnew, forget
from bench.tying.structure import joined, modules_by_name, named_buffers

LARGEST = 127
"""Symmetric: -128 is not used, so that a weight and its negative are rounded alike."""


@torch.no_grad()
def rounded(weight: Tensor, *axes: int) -> tuple[Tensor, Tensor]:
    """(int8 of weight's shape, scale in weight's dtype, of length 1 along all axes but `axes`).

    int8 * scale is the weight to within half a scale, also where a scale is so small that its own dtype rounds it much:
    it is then the next number above. The largest magnitude of a channel becomes 127; a channel of
    zeros stays zero. Source: Jacob et al. 2018, "Quantization and training of neural networks", section 2, without a
    zero point; Krishnamoorthi 2018, "Quantizing deep convolutional networks", section 3.1, for a scale per channel.
    """
    others = [at for at in range(weight.ndim) if at not in axes]
    largest = weight.abs().amax(others, keepdim=True)
    scale = largest / LARGEST
    # In float64, where no quotient of the others is rounded: a scale that was rounded down leaves the largest out.
    short = largest.double() > (LARGEST + 0.5) * scale.double()
    scale = torch.where(short, scale.nextafter(torch.full_like(scale, torch.inf)), scale)
    scale = torch.where(scale > 0, scale, 1)
    # bfloat16 and float16 would round the quotient before it is rounded.
    exact = weight if weight.dtype == torch.float64 else weight.float()
    return (exact / scale).round().clamp(-LARGEST, LARGEST).to(torch.int8), scale


_FIRST = (nn.Linear, nn.Embedding, nn.RNNBase, nn.RNNCellBase, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SECOND = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def channel_axis(module: nn.Module) -> int | None:
    """The axis of a weight's output channels; of an embedding that of its rows. None where the class does not say."""
    if isinstance(module, _FIRST):
        return 0
    # GPT-2's Conv1D multiplies from the left. Told by its name: to import transformers takes seconds.
    names = {f"{kind.__module__}.{kind.__name__}" for kind in type(module).__mro__}
    return 1 if isinstance(module, _SECOND) or "transformers.pytorch_utils.Conv1D" in names else None


def is_norm(module: nn.Module) -> bool:
    """Whether its weights scale what a norm puts out."""
    return "norm" in type(module).__name__.lower()


class Quantised(nn.Module):
    """What a module with int8 weights is an instance of, besides the class that it was of."""

    def __reduce_ex__(self, protocol: int) -> tuple[Any, ...]:
        """Its class is made anew where it is read: pickle finds classes by their names, and this one has none."""
        _, _, *state = super().__reduce_ex__(protocol)
        return _empty, self._made_of, *state


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
    attributes: dict[str, Any] = {name: property(functools.partial(_made, name)) for name in names}
    attributes["_made_of"] = (kind, names, recurrent)
    return type(f"Int8{kind.__name__}", bases, attributes)


def _empty(kind: type[nn.Module], names: tuple[str, ...], recurrent: bool) -> nn.Module:
    derived = _derived(kind, names, recurrent)
    return derived.__new__(derived)


def _made(name: str, module: nn.Module) -> Tensor:
    scale = getattr(module, name + SCALE)
    return getattr(module, name + INT8).to(scale.dtype) * scale


def num_bytes(model: nn.Module) -> int:
    """Bytes of the distinct storages of its parameters and buffers: a shared tensor counts once.

    A sparse tensor is its indices and values. On the meta device it is what the tensors would take.
    """
    tensors = [*parameters_by_name(model).values(), *dict(named_buffers(model)).values()]
    storages = (part.untyped_storage() for tensor in tensors for part in _dense(tensor))
    # By the storage itself: on the meta device none has an address.
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def _dense(tensor: Tensor) -> Iterator[Tensor]:
    tensor = tensor.detach()
    if tensor.layout == torch.strided:
        yield tensor
    elif tensor.layout == torch.sparse_coo:
        yield from (tensor._indices(), tensor._values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        yield from (tensor.crow_indices(), tensor.col_indices(), tensor.values())
    else:
        yield from (tensor.ccol_indices(), tensor.row_indices(), tensor.values())


def quantize(model: nn.Module, plan: TyingPlan | None = None) -> nn.Module:
    """Round the model's weights to int8, in place, freeze the model, and return it.

    Weights are parameters of two dimensions or more, of whatever module, but for those of norms, complex ones, and
    those that would not become smaller. Rounding is symmetric, with a scale per output channel; where a module's
    class does not say which axis that is, as in a stack of experts, with one for each row along the last axis. A
    tensor is rounded once, whatever its number of uses, and all of them read the one int8 tensor and its one scale.
    Biases, norms and whatever else stay as they are; so does the mode. `module.weight` goes on giving the float
    weight, for reading only.
    plan: checked to be applied.

    Raises BadInput, before anything is changed, where the model is quantised already or has no such weight, a tie of
    the plan is several tensors, a weight is parametrised, not in memory or not finite, or two uses of a tensor have
    their channels along two axes.
    """
    check_model(model)
    if is_quantised(model):
        raise BadInput("the model is quantised already: quantise the one that was trained")
    if plan is not None:
        try:
            plan.verify(model)
        except RuntimeError as error:
            raise BadInput(f"{error}: apply the plan before the model is quantised") from error
    halves = {key: _halves(weight) for key, weight in _weights(model).items()}
    for module in modules_by_name(model).values():
        own = module._parameters.items()
        if weights := {name: halves[id(p)] for name, p in own if id(p) in halves}:
            install(module, weights)
    return model.requires_grad_(False)


def is_quantised(model: nn.Module) -> bool:
    return any(isinstance(module, Quantised) for module in model.modules())


def stored_plan(plan: TyingPlan, names: Mapping[str, Any]) -> TyingPlan:
    """The plan of a quantised model that has these names: each tie of its weights as one of int8 and one of scales."""
    return TyingPlan(tuple(as_stored(plan.ties, names)))


@dataclass(frozen=True)
class _Weight:
    """axes: those along which it has a scale for each index. is_known: whether a module's class says so."""

    name: str
    parameter: nn.Parameter
    axes: tuple[int, ...]
    is_known: bool


def _weights(model: nn.Module) -> dict[int, _Weight]:
    """Identity -> each distinct weight to be rounded."""
    parameters_by_name(model)  # BadInput where there are no names or shapes
    weights: dict[int, _Weight] = {}
    for path, module in modules_by_name(model).items():
        if parametrize.is_parametrized(module):
            leaf = next(iter(module.parametrizations))
            raise BadInput(
                f"{joined(path, leaf)} is parametrised (as relaxed weights are), a float sum of several tensors: "
                "quantise a model without"
            )
        for leaf, parameter in module._parameters.items():
            if (
                parameter is None
                or parameter.ndim < 2
                or not parameter.is_floating_point()
                or is_norm(module)
            ):
                continue
            axis = channel_axis(module)
            axes = tuple(range(parameter.ndim - 1)) if axis is None else (axis,)
            weight = _Weight(joined(path, leaf), parameter, axes, axis is not None)
            # A use in a module of another kind reads the same tensor: those that are known say where its channels are.
            other = weights.get(id(parameter))
            if other is None or (weight.is_known and not other.is_known):
                weights[id(parameter)] = weight
            elif weight.is_known and weight.axes != other.axes:
                raise BadInput(
                    f"{other.name} and {weight.name} are one tensor with its output channels along axis "
                    f"{other.axes[0]} in the one and {axis} in the other: one scale cannot fit both, untie them before "
                    "the model is quantised"
                )
    smaller = {key: weight for key, weight in weights.items() if _is_smaller(weight)}
    if not smaller:
        raise BadInput(
            "the model has no weight to quantise: none of two dimensions or more, apart from norms, would be smaller"
        )
    return smaller


def _is_smaller(weight: _Weight) -> bool:
    """Whether int8 and scales take fewer bytes."""
    numel, size = weight.parameter.numel(), weight.parameter.element_size()
    scales = math.prod(weight.parameter.shape[axis] for axis in weight.axes)
    return numel + scales * size < numel * size


def _halves(weight: _Weight) -> tuple[nn.Parameter, nn.Parameter]:
    check_finite({weight.name: weight.parameter}, "to be quantised")
    values, scale = rounded(weight.parameter, *weight.axes)
    return nn.Parameter(values, requires_grad=False), nn.Parameter(scale, requires_grad=False)
