"""Look up, check and share the parameters of a model by name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize

from bench.anatomy import plain_name
from bench.errors import BadInput
from bench.tying import low_rank
from bench.tying.tie import Tie, closure

FACTORS = ("left", "right")
"""Of the difference of a relaxed weight (`bench.tying.low_rank.LowRank`)."""


def parameters_by_name(model: nn.Module) -> dict[str, Parameter]:
    """Every name of every parameter, shared ones under each of their names.

    The shared part of a relaxed weight has the name that the weight had; each of its factors has one of its own.
    """
    return {plain_name(name): p for name, p in model.named_parameters(remove_duplicate=False)}


def place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that reads the parameter, and as what."""
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def weight(model: nn.Module, name: str) -> Tensor:
    """What the network computes with under this name: of a relaxed weight the shared tensor and its difference."""
    return getattr(*place(model, name))


def factor(name: str, which: str) -> str:
    """The name of one factor ("left", "right") of the difference of a relaxed weight."""
    path, dot, leaf = name.rpartition(".")
    return f"{path}{dot}parametrizations.{leaf}.0.{which}"


def is_factor(name: str, parameters: Mapping[str, Parameter]) -> bool:
    """Whether it is one of the two of a relaxed weight of these parameters."""
    path, _, rest = name.rpartition("parametrizations.")
    leaf, _, which = rest.partition(".0.")
    return which in FACTORS and f"{path}{leaf}" in parameters and is_relaxed(f"{path}{leaf}", parameters)


def is_relaxed(name: str, parameters: Mapping[str, Parameter]) -> bool:
    return factor(name, "left") in parameters


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
        if callable(getattr(owner, leaf, None)) or f"{name}_int8" in parameters:  # torch's own way, or ours
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
        put(model, name, first)
        parameters[name] = first


def when_shared(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters by name as `share` would leave them, of a model that stays as it is."""
    found = dict(parameters)
    for tie in ties:
        first, replaced = found[tie.names[0]], {id(found[name]) for name in tie.names}
        found |= {name: first for name, parameter in found.items() if id(parameter) in replaced}
    return found


def put(model: nn.Module, name: str, parameter: Parameter) -> None:
    """Have the module read this parameter under this name; of a relaxed weight it is the shared part."""
    module, leaf = place(model, name)
    if parametrize.is_parametrized(module, leaf):
        module.parametrizations[leaf].original = parameter
    else:  # setattr and not _parameters: nn.GRU keeps a second list of its weights, which follows setattr only
        setattr(module, leaf, parameter)


def added(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> Iterator[tuple[str, int]]:
    """Names to which these ties would give a difference that they have not yet, and its number of elements."""
    for tie in ties:
        for name in tie.names if tie.rank else ():
            numel = low_rank.size(parameters[name].shape, tie.rank)
            if numel and not is_relaxed(name, parameters):
                yield name, numel


def count_when_shared(ties: Sequence[Tie], parameters: Mapping[str, Parameter]) -> int:
    """Elements of all distinct parameters, each of these ties counted as one tensor and its differences."""
    size = {id(parameter): parameter.numel() for parameter in parameters.values()}
    shared = closure([id(parameters[name]) for name in tie.names] for tie in ties)
    spared = sum(sum(size[one] for one in group) - size[next(iter(group))] for group in shared)
    return sum(size.values()) - spared + sum(numel for _, numel in added(ties, parameters))


def tensors_when_shared(ties: Sequence[Tie], parameters: Mapping[str, Parameter]) -> int:
    """How many distinct parameters there are, each of these ties counted as one and two for each difference."""
    shared = closure([id(parameters[name]) for name in tie.names] for tie in ties)
    distinct = len({id(p) for p in parameters.values()}) - sum(len(group) - 1 for group in shared)
    return distinct + 2 * sum(1 for _ in added(ties, parameters))


def check_shared(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> None:
    """RuntimeError, naming the pair, where two names of a tie are not one Parameter, or one lacks its difference.

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
        for name, _ in added([tie], parameters):
            raise RuntimeError(f"the tie is broken: {name} has no difference of rank {tie.rank} beside it")
