"""Look up, check and share the parameters of a model by name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from torch import nn
from torch.nn import Parameter

from bench.errors import BadInput
from bench.tying.tie import Tie, closure


def parameters_by_name(model: nn.Module) -> dict[str, Parameter]:
    """Every name of every parameter, shared ones under each of their names."""
    return dict(model.named_parameters(remove_duplicate=False))


def members(tie: Tie, parameters: Mapping[str, Parameter]) -> list[Parameter]:
    """The tie's distinct tensors, in its order."""
    return list({id(parameters[name]): parameters[name] for name in tie.names}.values())


def check(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> None:
    """BadInput unless every name exists and each tie has one shape, one dtype and one device."""
    for tie in ties:
        for name in tie.names:
            if name not in parameters:
                like = get_close_matches(name, parameters, 1)
                hint = f"; did you mean {like[0]}?" if like else ""
                raise BadInput(f"the plan ties {name}, and the model has no parameter of that name{hint}")
        first, like = tie.names[0], parameters[tie.names[0]]
        for name in tie.names[1:]:
            other = parameters[name]
            for what, a, b in (
                ("shape", tuple(like.shape), tuple(other.shape)),
                ("dtype", like.dtype, other.dtype),
                ("device", like.device, other.device),
            ):
                if a != b:
                    raise BadInput(f"cannot tie {first} with {name}: {what} {a} and {b}; one {what} per tie")


def check_named(ties: Iterable[Tie], model: nn.Module, parameters: Mapping[str, Parameter]) -> None:
    """BadInput where a tie names what is no parameter for a reason that can be told: a buffer, a packed weight."""
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for name in (name for tie in ties for name in tie.names if name not in parameters):
        path, _, leaf = name.rpartition(".")
        owner = dict(model.named_modules(remove_duplicate=False)).get(path)
        if name in buffers:
            raise BadInput(f"the plan ties {name}, which is a buffer; only parameters can be tied")
        if callable(getattr(owner, leaf, None)):
            raise BadInput(f"the plan ties {name}, which is quantised and packed; tie first, quantise after")


def check_trainable(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> None:
    """BadInput where a tie holds a parameter that could not follow the others: quantised, or frozen."""
    for tie in ties:
        for name in tie.names:
            if not parameters[name].is_floating_point():
                kind = str(parameters[name].dtype).removeprefix("torch.")
                raise BadInput(f"the plan ties {name}, which holds {kind}; tie first, quantise after")
            if not parameters[name].requires_grad:
                raise BadInput(f"the plan ties {name}, which is frozen; tie trainable parameters only")


def share(tie: Tie, model: nn.Module, parameters: dict[str, Parameter]) -> None:
    """Make all names of a tie the parameter of its first name, and keep `parameters` up to date.

    Names outside the tie that share a tensor inside it move along: a tie that the model came with is kept.
    """
    first = parameters[tie.names[0]]
    replaced = {id(parameters[name]) for name in tie.names} - {id(first)}
    for name in [name for name, parameter in parameters.items() if id(parameter) in replaced]:
        path, _, leaf = name.rpartition(".")
        # setattr and not _parameters: nn.GRU keeps a second list of its weights, which follows setattr only.
        setattr(model.get_submodule(path), leaf, first)
        parameters[name] = first


def count_when_shared(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> int:
    """Elements of all distinct parameters, each of these ties counted as one tensor."""
    size = {id(parameter): parameter.numel() for parameter in parameters.values()}
    shared = closure([id(parameters[name]) for name in tie.names] for tie in ties)
    spared = sum(sum(size[one] for one in group) - size[next(iter(group))] for group in shared)
    return sum(size.values()) - spared


def tensors_when_shared(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> int:
    """How many distinct parameters there are, each of these ties counted as one."""
    shared = closure([id(parameters[name]) for name in tie.names] for tie in ties)
    return len({id(p) for p in parameters.values()}) - sum(len(group) - 1 for group in shared)


def check_shared(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> None:
    """RuntimeError, naming the pair, where two names of a tie are not one Parameter.

    One storage is not enough: two Parameters over it get two gradients and two optimizer states.
    """
    for tie in ties:
        first = tie.names[0]
        for name in tie.names[1:]:
            if parameters[name] is not parameters[first]:
                raise RuntimeError(
                    f"the tie is broken: {first} and {name} are no longer one tensor "
                    "(load_state_dict(assign=True) and to_empty() do this; apply the plan again after them)"
                )
