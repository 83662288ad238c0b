"""A whole model in int8, each distinct tensor once."""

from collections.abc import Collection
from dataclasses import replace

from torch import nn
from torch.nn.utils import parametrize

from bench.errors import BadInput
from bench.quantize.modules import INT8, KINDS, SCALE, Quantised, channel_axis, install
from bench.quantize.rounding import rounded
from bench.tying import Tie, TyingPlan


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
