"""Find, check and share the parameters of a model by name, hard ties and relaxed ones."""

import gc
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from bench.tying import low_rank
from bench.tying.errors import BadInput
from bench.tying.structure import plain_name
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


Merge = Literal["first", "mean", "least_squares"]


def check_relaxed(ties: Iterable[Tie], model: nn.Module, parameters: Mapping[str, Parameter]) -> None:
    """BadInput where a tie's difference cannot be put beside a weight: it has one already that is not this tie's, or
    the weight is also read under a name, or by a module, that is to have none or another."""
    for tie in ties:
        if not tie.is_hard:
            continue
        owners: dict[tuple[int, str], str] = {}
        for name in tie.names:
            module, leaf = place(model, name)
            found = low_rank.of(module, leaf) if tie.rank or is_relaxed(name, parameters) else None
            if found is not None and found.rank != tie.rank:
                raise BadInput(
                    f"{name} has a difference of rank {found.rank} already; the plan gives it {tie.rank}"
                )
            other = owners.setdefault((id(module), leaf), name)
            if tie.rank and other != name:
                raise BadInput(f"{other} and {name} are one module's; relax modules that are apart")
        if tie.rank:
            _refuse_others(tie, parameters)
            low_rank.size(parameters[tie.names[0]].shape, tie.rank)


def _refuse_others(tie: Tie, parameters: Mapping[str, Parameter]) -> None:
    inside = {id(parameters[name]): name for name in tie.names}
    for name, parameter in parameters.items():
        if id(parameter) in inside and name not in tie.names:
            raise BadInput(
                f"the plan relaxes {inside[id(parameter)]}, which the model also reads as {name}: relax both or neither"
            )


def factors(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> dict[str, tuple[int, int]]:
    """Names and shapes of the factors that these ties would add."""
    found = {}
    for tie in ties:
        for name, _ in added([tie], parameters):
            out, *rest = parameters[name].shape
            found[factor(name, "left")] = (out, tie.rank)
            found[factor(name, "right")] = (tie.rank, torch.Size(rest).numel())
    return found


@torch.no_grad()
def relax(tie: Tie, model: nn.Module, parameters: dict[str, Parameter], merge: Merge) -> None:
    """Share the tie's tensor and put each name's difference beside it; what is relaxed already stays as it is."""
    new = [name for name in tie.names if not is_relaxed(name, parameters)]
    own = {name: weight(model, name).detach().clone() for name in new}
    if len(new) == len(tie.names):
        parameters[tie.names[0]].copy_(_merged(tie, list(own.values()), merge))
    share(tie, model, parameters)
    shared = parameters[tie.names[0]]
    for name in new if shared.ndim > 1 else ():
        module, leaf = place(model, name)
        low_rank.register(module, leaf, low_rank.nearest(own[name] - shared, tie.rank))
        made = low_rank.of(module, leaf)
        parameters |= {factor(name, which): getattr(made, which) for which in FACTORS}


def _merged(tie: Tie, own: list[Tensor], merge: Merge) -> Tensor:
    if merge == "first":
        return own[0]
    turns = tie.rank if merge == "least_squares" and own[0].ndim > 1 else 0
    return low_rank.least_squares(own, turns)


def check_none(ties: Iterable[Tie], model: nn.Module, parameters: Mapping[str, Parameter]) -> None:
    """BadInput where an optimizer holds a parameter that sharing these hard ties would take out of the model.

    Nobody keeps a list of optimizers, but Python's collector of garbage knows them all. That takes a tenth of a second,
    so it is asked only where more holds such a parameter than the model; optimizers that are garbage themselves are
    collected before one is blamed.
    """
    replaced = {
        id(member): name
        for tie in ties
        for member in members(tie, parameters)[1:]
        for name in tie.names
        if parameters[name] is member
    }
    if replaced and _others_hold(replaced, model, parameters) and _held(replaced):
        gc.collect()
        if held := _held(replaced):
            raise BadInput(
                f"the plan ties {held}, which an optimizer holds already; apply the plan, then make the optimizer"
            )


def _others_hold(replaced: Mapping[int, str], model: nn.Module, parameters: Mapping[str, Parameter]) -> bool:
    """Whether there are references to one of them besides those of the model and of `parameters`."""
    known = Counter(id(parameter) for parameter in parameters.values())
    for module in model.modules():
        own = module.named_parameters(recurse=False, remove_duplicate=False)
        known.update(id(parameter) for _, parameter in own)
        lists = (value for value in vars(module).values() if isinstance(value, list))  # nn.GRU's second list
        known.update(id(item) for items in lists for item in items)
    alone = object()
    mine = sys.getrefcount(alone)  # of a variable and of the call, which are counted below too
    for name in replaced.values():
        parameter = parameters[name]
        if sys.getrefcount(parameter) - mine > known[id(parameter)]:
            return True
    return False


def _held(replaced: Mapping[int, str]) -> str | None:
    """One of these parameters that a living optimizer has in its groups."""
    for thing in gc.get_objects():
        if issubclass(type(thing), Optimizer):  # not isinstance: that asks lazy modules for their class
            for group in getattr(thing, "param_groups", ()):
                for parameter in group["params"]:
                    if id(parameter) in replaced:
                        return replaced[id(parameter)]
    return None
