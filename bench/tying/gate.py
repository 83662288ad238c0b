"""Which models and tensors the library takes: one gate, asked before anything is done with them.

Shared whole is whatever can be shared. Counting takes tensors without values (on the meta device). What reads values
takes real and complex numbers in memory; a complex number counts as the two real ones that it is made of.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.parameter import UninitializedTensorMixin

from bench.tying.errors import BadInput

_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def check_model(model: nn.Module) -> None:
    """BadInput where the names of the model's weights, or their shapes, cannot be known."""
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise BadInput(f"the model is {kind}, no torch.nn.Module: give the network itself")
    _refuse_cycle(model, set(), set())
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise BadInput(
                "the model is a TorchScript module, whose weights are fixed in it: give the one that it was made of"
            )
        if any(kind.__name__ in _SHARDED for kind in type(module).__mro__):
            raise BadInput(
                "the model is sharded by FSDP, which ties cannot cross: tie it before, and use DDP"
            )


def _refuse_cycle(module: nn.Module, around: set[nn.Module], known: set[nn.Module]) -> None:
    """BadInput where a module is inside itself. around: those that this one is inside of. known: seen to be none."""
    if module in around:
        raise BadInput(
            f"a {type(module).__name__} is a module inside itself, so that its weights have endless names: keep the "
            "reference to it in a list"
        )
    if module not in known:
        for child in module._modules.values():
            if child is not None:
                _refuse_cycle(child, around | {module}, known)
        known.add(module)


def is_anchored(tensors: Iterable[Tensor]) -> bool:
    """Whether some of them are frozen and others are not: a soft tie then draws these to those."""
    return len({tensor.requires_grad for tensor in tensors}) > 1


def check_shaped(parameters: Mapping[str, Tensor]) -> None:
    """BadInput where a parameter has no shape yet, or none of its own."""
    for name, parameter in parameters.items():
        if parameter.is_nested:
            raise BadInput(f"{name} is a nested tensor, of parts that differ in shape: make each a parameter")
        if any(kind.__name__ == "DTensor" for kind in type(parameter).__mro__):
            raise BadInput(f"{name} is distributed over processes (DTensor): tie before, and use DDP")
        if isinstance(parameter, UninitializedTensorMixin):
            raise BadInput(f"{name} has no shape yet (a lazy module): run a batch through the model first")


def check_tied(names: Iterable[str], parameters: Mapping[str, Parameter]) -> None:
    """BadInput where one of these names is a parameter that cannot be shared, whatever is tied to it."""
    for name in names:
        parameter = parameters[name]
        if parameter.layout != torch.strided:
            raise BadInput(f"the plan ties {name}, which is sparse; only dense parameters can be tied")
        if parameter.is_inference() and not torch.is_inference_mode_enabled():
            raise BadInput(
                f"the plan ties {name}, which was made in torch.inference_mode() and cannot be changed: build or load "
                "the model outside of it"
            )
        if not (parameter.is_floating_point() or parameter.is_complex()):
            raise BadInput(f"the plan ties {name}, which holds {_kind(parameter)}; tie first, quantise after")


def check_in_memory(tensors: Mapping[str, Tensor], purpose: str) -> None:
    """BadInput where a tensor has no values in memory, or does not have them one beside the other.

    purpose: what asks for them, as the message says it: "to be saved", "for a mean".
    """
    check_shaped(tensors)
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise BadInput(f"{name} is on the meta device and has no values, which it needs {purpose}")
        if tensor.layout != torch.strided:
            raise BadInput(f"{name} is sparse; it must be dense {purpose}")


def check_values(tensors: Mapping[str, Tensor], purpose: str) -> None:
    """`check_in_memory`, and BadInput where the values cannot be added and multiplied."""
    check_in_memory(tensors, purpose)
    for name, tensor in tensors.items():
        if not (tensor.is_floating_point() or tensor.is_complex()) or is_coded(tensor.dtype):
            raise BadInput(
                f"{name} holds {_kind(tensor)}, which torch cannot calculate with: convert it {purpose}"
            )
        if any(size > 1 and not stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
            raise BadInput(f"{name} has elements that lie in one place (of expand): clone it {purpose}")


def check_finite(tensors: Mapping[str, Tensor], purpose: str) -> None:
    """`check_values`, and BadInput where a value is infinite or not a number."""
    check_values(tensors, purpose)
    for name, tensor in tensors.items():
        if not bool(tensor.detach().isfinite().all()):
            raise BadInput(f"{name} holds a value that is not finite: there must be none {purpose}")


def is_coded(dtype: torch.dtype) -> bool:
    """Whether numbers of this type are only stored: float8 and float4 can be neither added nor multiplied."""
    return dtype.is_floating_point and dtype.itemsize < 2


def as_real(tensor: Tensor) -> Tensor:
    """A view in which a complex number is its two real ones; a real tensor itself."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
