"""Find, check and share the parameters of a model by name, hard ties and relaxed ones."""

import contextlib
import gc
import math
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from bench.tying import gate, low_rank
from bench.tying.classes import is_made, kept_whole, resolved, soft_classes
from bench.tying.errors import BadInput, spelled_like
from bench.tying.low_rank import FACTORS, LowRank, factor, is_relaxed
from bench.tying.own import added
from bench.tying.structure import (
    CONVOLUTIONS,
    joined,
    modules_by_name,
    named_buffers,
    named_parameters,
    submodule,
    wrappers,
)
from bench.tying.tie import Tie, closure
from bench.tying.view import MAP, Made, View, lifted, unread

INT8, SCALE = "_int8", "_scale"
"""What the name of a quantised weight gets: `weight` becomes the parameters `weight_int8` and `weight_scale`."""


class Parameters(dict[str, Parameter]):
    """Every name of every parameter, and the parameter.

    stacks: names of those of three dimensions or more that belong to no convolution: each is a stack of matrices over
        its last two dimensions, as those of experts are.
    views: of each name whose weight is made of a shared tensor, which is the parameter, its view.
    """

    stacks: frozenset[str] = frozenset()
    views: Mapping[str, View] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the weight that the module reads."""
        return self.views[name].result if name in self.views else tuple(self[name].shape)


def parameters_by_name(model: nn.Module) -> Parameters:
    """Every plain name of every parameter, shared ones under each of their names.

    The shared part of a relaxed weight has the name that the weight had; each of its factors has one of its own.
    Raises BadInput for a model whose weights have no names or no shapes (`bench.tying.gate`).
    """
    gate.check_model(model)
    named = Parameters(named_parameters(model))
    gate.check_shaped(named)
    named.views = dict(_views(model))
    deep = [name for name, parameter in named.items() if parameter.ndim > 2 and name not in named.views]
    named.stacks = frozenset(name for name in deep if not _is_of_convolution(model, name))
    return named


def _views(model: nn.Module) -> Iterator[tuple[str, View]]:
    for path, module in modules_by_name(model).items():
        of_module = module.parametrizations if parametrize.is_parametrized(module) else {}
        for leaf, parametrizations in of_module.items():
            if isinstance(parametrizations[0], Made):
                yield joined(path, leaf), parametrizations[0].view


def _is_of_convolution(model: nn.Module, name: str) -> bool:
    # The original of a parametrization of several tensors belongs to no module that is named as its own.
    path = (
        name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
    )
    return isinstance(submodule(model, path), CONVOLUTIONS)


def place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that reads the parameter, and as what."""
    path, _, leaf = name.rpartition(".")
    return submodule(model, path), leaf


def as_stored(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> list[Tie]:
    """The ties of a quantised model: of its int8 weights one of the values and one of the scales; the others as given.

    A weight that is not quantised keeps its tie, so that those of any other model come back as they are.
    """
    stored: list[Tie] = []
    for tie in ties:
        quantised = all(name not in parameters and name + INT8 in parameters for name in tie.names)
        for suffix in (INT8, SCALE) if quantised else ("",):
            stored.append(replace(tie, names=tuple(name + suffix for name in tie.names), blocks=tie.blocks))
    return stored


def weight(model: nn.Module, name: str) -> Tensor:
    """What the network computes with under this name: of a relaxed weight the shared tensor and its difference."""
    return getattr(*place(model, name))


def is_factor(name: str, parameters: Mapping[str, Parameter]) -> bool:
    """Whether it is one of the two that a relaxed weight of these parameters, or a learned map's, has of its own."""
    path, _, rest = name.rpartition("parametrizations.")
    leaf, _, which = rest.partition(".0.")
    pair = next((pair for pair in (FACTORS, MAP) if which in pair), None)
    return bool(pair) and f"{path}{leaf}" in parameters and factor(f"{path}{leaf}", pair[0]) in parameters


def members(tie: Tie, parameters: Mapping[str, Parameter]) -> list[Parameter]:
    """The tie's distinct tensors, in its order."""
    return list({id(parameters[name]): parameters[name] for name in tie.names}.values())


def check(ties: Iterable[Tie], parameters: Parameters) -> None:
    """BadInput unless every name exists and each tie has one shape, one dtype and one device.

    Of a tie with views each must give the shape of its weight, and all together read the whole shared tensor.
    """
    for tie in ties:
        for name in tie.names:
            if name not in parameters:
                like = spelled_like(name, parameters, cutoff=0.6)
                hint = f"; did you mean {like}?" if like else ""
                raise BadInput(f"the plan ties {name}, and the model has no parameter of that name{hint}")
        first, like = tie.names[0], parameters[tie.names[0]]
        for name in tie.names[1:]:
            other = parameters[name]
            shapes = () if tie.views else (("shape", parameters.shape(first), parameters.shape(name)),)
            for kind, a, b in (
                *shapes,
                ("dtype", like.dtype, other.dtype),
                ("device", like.device, other.device),
            ):
                if a != b:
                    raise BadInput(f"cannot tie {first} with {name}: {kind} {a} and {b}; one {kind} per tie")
        for name, view in tie.uses() if tie.views else ():
            if view.result != parameters.shape(name):
                raise BadInput(
                    f"the view of {name} ({view.spelled}) makes a weight of shape {view.result}, and that is "
                    f"{parameters.shape(name)}: correct its steps or the shape {view.shape} that it begins with"
                )
        if tie.views and (lost := unread(tie.views)):
            raise BadInput(
                f"{lost} entries of the tensor of shape {tie.views[0].shape} that {first} shares are read by no use: "
                "make it smaller, or give the views that read them"
            )


def check_named(ties: Iterable[Tie], model: nn.Module, parameters: Mapping[str, Parameter]) -> None:
    """BadInput where a tie names what is no parameter for a reason that can be told: a buffer, a packed weight."""
    buffers = dict(named_buffers(model))
    for name in (name for tie in ties for name in tie.names if name not in parameters):
        path, _, leaf = name.rpartition(".")
        owner = modules_by_name(model).get(path)
        if name in buffers:
            raise BadInput(f"the plan ties {name}, which is a buffer; only parameters can be tied")
        packed = callable(getattr(owner, leaf, None)) and leaf not in owner._modules  # torch's own way
        if packed or name + INT8 in parameters:  # or ours
            raise BadInput(f"the plan ties {name}, which is quantised and packed; tie first, quantise after")


def check_shareable(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> None:
    """BadInput where a parameter cannot follow the others of its tie: quantised, sparse, in a hard one frozen alone."""
    for tie in ties:
        gate.check_tied(tie.names, parameters)
        frozen = [name for name in tie.names if not parameters[name].requires_grad]
        if frozen and len(frozen) < len(tie.names) and (tie.is_hard or tie.views):
            free = next(name for name in tie.names if parameters[name].requires_grad)
            raise BadInput(
                f"the plan ties {frozen[0]}, which is frozen, with {free}, which is not: freeze both or neither, "
                "leave one of them out of the tie, or soften it, which draws the other to the frozen one"
            )
        if frozen and tie.views:
            raise BadInput(
                f"the plan makes {frozen[0]} of a shared tensor, and it is frozen: its values would change; make it "
                "trainable, or leave it out"
            )


def check_unmerged(ties: Iterable[Tie], model: nn.Module) -> None:
    """BadInput where an adapter is merged into a weight of a hard tie, or will be: it would change every use.

    peft's layers say so by `merged`. Those of loralib merge whenever they are evaluated, unless `merge_weights` is off.
    """
    modules = modules_by_name(model)
    for name in (name for tie in ties if tie.is_hard for name in tie.names):
        owner = name.rpartition(".")[0]
        around = owner.rpartition(".")[0]
        for module in (modules[path] for path in (owner, around) if path in modules):
            is_adapter = any(part.startswith("lora_") for part in (*module._modules, *module._parameters))
            if is_adapter and any(
                getattr(module, flag, False) is True for flag in ("merged", "merge_weights")
            ):
                raise BadInput(
                    f"the adapter of {name} is merged into it, or will be when the model is evaluated, and as that is "
                    "tied all its uses would get it: unmerge it (merge_weights=False), and merge in untied(model)"
                )


def redirected(tie: Tie, parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The names that are to read the tensor of the tie's first name, and that tensor.

    Names outside the tie that share a tensor inside it move along: a tie that the model came with is kept.
    """
    first = parameters[tie.names[0]]
    replaced = {id(parameters[name]) for name in tie.names} - {id(first)}
    return {name: first for name, parameter in parameters.items() if id(parameter) in replaced}


def when_shared(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters by name as they will be once the ties are applied, of a model that stays as it is."""
    after = dict(parameters)
    for tie in ties:
        after |= redirected(tie, after)
    return after


def put(model: nn.Module, name: str, parameter: Parameter) -> None:
    """Have the module read this parameter under this name; of a relaxed weight it is the shared part."""
    module, leaf = place(model, name)
    if parametrize.is_parametrized(module, leaf):
        module.parametrizations[leaf].original = parameter
    else:  # setattr and not _parameters: nn.GRU keeps a second list of its weights, which follows setattr only
        setattr(module, leaf, parameter)


def _sizes_when_shared(ties: Sequence[Tie], parameters: Parameters) -> list[int]:
    """Elements of each distinct parameter, each of these ties counted as one tensor and without differences."""
    whole, with_views = resolved(ties, parameters)
    apart = {name for tie in with_views for name in tie.names}
    size = {id(p): p.numel() for name, p in parameters.items() if name not in apart}
    for group in closure([id(parameters[name]) for name in tie.names] for tie in whole):
        for identity in list(group)[1:]:
            del size[identity]
    return [*size.values(), *(math.prod(tie.views[0].shape) for tie in with_views)]


def count_when_shared(ties: Sequence[Tie], parameters: Parameters) -> int:
    """Elements of all distinct parameters, each of these ties counted as one tensor with what its uses own."""
    return sum(_sizes_when_shared(ties, parameters)) + sum(numel for _, numel in added(ties, parameters))


def tensors_when_shared(ties: Sequence[Tie], parameters: Parameters) -> int:
    """How many distinct parameters there are, each of these ties counted as one and two for each difference."""
    return len(_sizes_when_shared(ties, parameters)) + 2 * sum(1 for _ in added(ties, parameters))


def check_shared(ties: Iterable[Tie], parameters: Parameters) -> None:
    """RuntimeError, naming the pair, where two names of a tie are not one Parameter, or one lacks its difference.

    One storage is not enough: two Parameters over it get two gradients and two optimizer states. Of a tie with views
    each weight must be made by its own.
    """
    whole, with_views = resolved(ties, parameters)
    for tie in whole:
        first = tie.names[0]
        for name in tie.names[1:]:
            if parameters[name] is not parameters[first]:
                raise RuntimeError(
                    f"the tie is broken: {first} and {name} are no longer one tensor "
                    "(load_state_dict(assign=True) and to_empty() do this; apply the plan again after them)"
                )
        for name, _ in added([tie], parameters):
            raise RuntimeError(f"the tie is broken: {name} has no difference of rank {tie.rank} beside it")
    for tie in with_views:
        if not is_made(tie, parameters):
            names = " and ".join(dict.fromkeys((tie.names[0], tie.names[-1])))
            raise RuntimeError(f"the tie is broken: {names} are not made of one shared tensor by their views")


Merge = Literal["first", "mean", "least_squares"]


def check_relaxed(ties: Iterable[Tie], model: nn.Module, parameters: Parameters) -> None:
    """BadInput where a tie's difference cannot be put beside a weight.

    It has one already that is not this tie's, or the weight is also read under a name, or by a module, that is to have
    none or another, or no matrix of all these ties has such a rank.
    """
    ties = [tie for tie in ties if tie.is_hard]
    for name, view in (use for tie in ties for use in (tie.uses() if tie.views else ())):
        module, leaf = place(model, name)
        if not view.is_whole and parametrize.is_parametrized(module, leaf) and name not in parameters.views:
            kinds = ", ".join(
                type(parametrization).__name__ for parametrization in module.parametrizations[leaf]
            )
            raise BadInput(f"{name} is parametrised already ({kinds}): a view must be made before that")
    ties = [tie for tie in ties if not tie.views]
    for tie in ties:
        owners: dict[tuple[int, str], str] = {}
        for name in tie.names:
            module, leaf = place(model, name)
            difference = low_rank.of(module, leaf) if tie.rank or is_relaxed(name, parameters) else None
            if difference is not None and difference.rank != tie.rank:
                raise BadInput(
                    f"{name} has a difference of rank {difference.rank} already; the plan gives it {tie.rank}"
                )
            other = owners.setdefault((id(module), leaf), name)
            if tie.rank and other != name:
                raise BadInput(f"{other} and {name} are one module's; relax modules that are apart")
        if tie.rank:
            _refuse_others(tie, parameters)
    _refuse_too_high([tie for tie in ties if tie.rank], parameters)


def _refuse_others(tie: Tie, parameters: Parameters) -> None:
    inside = {id(parameters[name]): name for name in tie.names}
    for name, parameter in parameters.items():
        if id(parameter) in inside and name not in tie.names:
            raise BadInput(
                f"the plan relaxes {inside[id(parameter)]}, which the model also reads as {name}: relax both or neither"
            )


def _refuse_too_high(ties: Sequence[Tie], parameters: Parameters) -> None:
    """Where a matrix has no such rank it is shared whole; but one at least must be relaxed."""
    highest = {tie: _highest_rank(tie.names[0], parameters) for tie in ties}
    matrices = [tie for tie in ties if highest[tie]]
    if matrices and all(tie.rank > highest[tie] for tie in matrices):
        best = max(matrices, key=highest.__getitem__)
        shape = " x ".join(map(str, parameters[best.names[0]].shape))
        raise BadInput(
            f"rank is {best.rank}; a weight of {shape} has rank {highest[best]} at most: give that or less"
        )


def _highest_rank(name: str, parameters: Parameters) -> int:
    return low_rank.highest_rank(parameters[name].shape, name in parameters.stacks)


@torch.no_grad()
def relaxed(
    tie: Tie, model: nn.Module, parameters: Parameters, merge: Merge
) -> tuple[Tensor | None, dict[str, LowRank]]:
    """What the shared tensor is to hold (None: what it holds), and each name's difference from it.

    Nothing of the model changes, and what is relaxed already stays as it is. BadInput for values without arithmetic.
    """
    first, is_stack = tie.names[0], tie.names[0] in parameters.stacks
    new = [name for name in tie.names if not is_relaxed(name, parameters)]
    rank = tie.rank if low_rank.size(parameters[first].shape, tie.rank, is_stack) else 0
    if rank:
        gate.check_finite({name: parameters[name] for name in new}, "for a difference of low rank")
    elif merge != "first":
        gate.check_values({name: parameters[name] for name in new}, "for a mean")
    own = {name: weight(model, name).detach().clone() for name in new}
    merged = None
    if len(new) == len(tie.names) and merge != "first":
        merged = low_rank.least_squares(list(own.values()), rank if merge == "least_squares" else 0, is_stack)
    shared = parameters[first].detach() if merged is None else merged
    differences = {}
    for name in new if rank else ():
        difference = LowRank(*low_rank.nearest(own[name] - shared, rank, is_stack))
        differences[name] = difference.requires_grad_(parameters[name].requires_grad)
    return merged, differences


def check_none(ties: Iterable[Tie], model: nn.Module, parameters: Parameters) -> None:
    """BadInput where an optimizer holds a parameter that sharing these hard ties would take out of the model.

    Nobody keeps a list of optimizers, but Python's collector of garbage knows them all. That takes a tenth of a second,
    so it is asked only where more holds such a parameter than the model; optimizers that are garbage themselves are
    collected before one is blamed. DistributedDataParallel holds the parameters that it was made of in the same way.
    """
    whole, with_views = resolved(ties, parameters)
    replaced = {
        id(member): name
        for tie in whole
        for member in members(tie, parameters)[1:]
        for name in tie.names
        if parameters[name] is member
    }
    for tie in (tie for tie in with_views if not is_made(tie, parameters)):
        kept = kept_whole(tie, parameters)
        replaced |= {id(parameters[name]): name for name in tie.names if name != kept}
    for name in replaced.values():
        if parameters[name]._backward_hooks or parameters[name]._post_accumulate_grad_hooks:
            raise BadInput(f"the plan ties {name}, whose hook on its gradient would be lost: add it after")
    if replaced and any(isinstance(wrapper, DistributedDataParallel) for wrapper in wrappers(model)):
        raise BadInput(_refusal(next(iter(replaced.values())), DistributedDataParallel))
    if replaced and _others_hold(replaced, model, parameters) and _held(replaced):
        gc.collect()
        if held := _held(replaced):
            raise BadInput(_refusal(*held))


def _refusal(name: str, holder: type) -> str:
    if issubclass(holder, Optimizer):
        return (
            f"the plan ties {name}, which an optimizer holds already; apply the plan, then make the optimizer"
        )
    return f"the plan ties {name}, which {holder.__name__} holds already; apply the plan, then wrap the model"


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


def _held(replaced: Mapping[int, str]) -> tuple[str, type] | None:
    """One of these parameters that a living optimizer or DistributedDataParallel has, and the class of that."""
    for instance in gc.get_objects():
        kind = type(instance)  # not isinstance: that asks lazy modules for their class
        if issubclass(kind, Optimizer):
            held = [p for group in getattr(instance, "param_groups", ()) for p in group["params"]]
        elif issubclass(kind, DistributedDataParallel):
            held = list(instance.parameters())
        else:
            continue
        if name := next((replaced[id(parameter)] for parameter in held if id(parameter) in replaced), None):
            return name, kind
    return None


Init = Literal["own", "shared"]


@dataclass(frozen=True)
class Changes:
    """What a plan does to one model.

    values: parameters and what they are to hold. shared: each name that is to read another parameter, and which.
    differences: each name that is to have a difference of low rank, and that. made: each name whose weight is to be
    made of another parameter, with the view and that.
    """

    values: tuple[tuple[Parameter, Tensor], ...]
    shared: dict[str, Parameter]
    differences: dict[str, LowRank]
    made: dict[str, tuple[View, Parameter]]

    @torch.no_grad()
    def make(self, model: nn.Module) -> None:
        """Change the model. Where it fails in the middle, the model is as it was."""
        with restored(model, [parameter for parameter, _ in self.values], after_success=False):
            for parameter, value in self.values:
                parameter.copy_(value)
            for name, parameter in self.shared.items():
                put(model, name, parameter)
            for name, difference in self.differences.items():
                low_rank.register(*place(model, name), difference)
            for name, (view, shared) in self.made.items():
                _make(model, name, view, shared)


def _make(model: nn.Module, name: str, view: View, shared: Parameter) -> None:
    """Have the module read what the view makes of `shared`."""
    module, leaf = place(model, name)
    if parametrize.is_parametrized(module, leaf):
        if module.parametrizations[leaf][0].view != view:  # a learned map goes on
            module.parametrizations[leaf][0] = Made(view, shared)
    elif not view.is_whole:
        parametrization = Made(view, shared)
        # In the place of the module's own Parameter, which torch would overwrite with the shared values.
        module._parameters[leaf] = Parameter(parametrization(shared).detach().clone())
        low_rank.register(module, leaf, parametrization)
    put(model, name, shared)


@torch.no_grad()
def changes_of(
    ties: Sequence[Tie], model: nn.Module, parameters: Parameters, init: Init, merge: Merge
) -> Changes:
    """What these ties change, in their order, in a model that is not touched. They are checked already.

    Raises BadInput where the values of a parameter do not allow the arithmetic that is asked for.
    """
    after, values = dict(parameters), _Values()
    differences: dict[str, LowRank] = {}
    whole, with_views = resolved(ties, parameters)
    for tie in whole:
        if tie.rank:
            merged, new_differences = relaxed(tie, model, parameters, merge)
            differences |= new_differences
            if merged is not None:
                values.put(after[tie.names[0]], merged)
        elif merge != "first":
            values.put_mean(tie.names[0], members(tie, after))
        after |= redirected(tie, after)
    made_of: dict[str, tuple[View, Parameter]] = {}
    for tie in (tie for tie in with_views if not is_made(tie, parameters)):
        named = {name: parameters[name] for name in tie.names}
        gate.check_in_memory(named, "to be made of a shared tensor")
        if merge != "first" or any(view.mapped for view in tie.views):
            gate.check_values(named, "for a mean" if merge != "first" else "for a learned map")
        value = lifted([(v, weight(model, n).detach()) for n, v in tie.uses()], mean=merge != "first")
        kept = kept_whole(tie, parameters)
        shared = Parameter(value) if kept is None else parameters[kept]
        if kept is not None:
            values.put(shared, value)
        made_of |= {name: (view, shared) for name, view in tie.uses() if name != kept}
    soft, classes = soft_classes(ties, parameters) if init == "shared" else ([], [])
    for group, _ in classes:
        for tensor, value in group.as_one(by_mean=merge != "first"):
            values.put(tensor, value)
    for tie in soft:
        tensors = sorted(members(tie, after), key=lambda tensor: tensor.requires_grad)  # frozen ones first
        if merge != "first":
            values.put_mean(tie.names[0], tensors)
        for other in tensors[1:]:
            if other.requires_grad or not tensors[-1].requires_grad:
                values.put(other, values.of(tensors[0]))
    shared = {name: after[name] for name in parameters if after[name] is not parameters[name]}
    return Changes(values.items(), shared, differences, made_of)


class _Values:
    """What parameters will hold, while the model still holds what it held."""

    def __init__(self) -> None:
        self._new: dict[int, tuple[Parameter, Tensor]] = {}

    def of(self, parameter: Parameter) -> Tensor:
        return self._new.get(id(parameter), (parameter, parameter.detach()))[1]

    def put(self, parameter: Parameter, value: Tensor) -> None:
        self._new[id(parameter)] = (parameter, value)

    def put_mean(self, name: str, members: Sequence[Parameter]) -> None:
        """Of the members into the first of them, which is called `name`; nothing where only some are frozen."""
        if len(members) > 1 and not gate.is_anchored(members):
            gate.check_values({name: members[0]}, "for a mean")
            first, *others = (self.of(member) for member in members)
            # From differences: members that are equal stay what they are, to the bit.
            self.put(members[0], first + sum(other - first for other in others) / len(members))

    def items(self) -> tuple[tuple[Parameter, Tensor], ...]:
        return tuple(self._new.values())


@contextlib.contextmanager
def restored(model: nn.Module, written: Iterable[Tensor], after_success: bool = True) -> Iterator[None]:
    """Have the model's modules, and the values of what is `written`, as they were: after a failure, or always.

    Modules may get other parameters, submodules, attributes or classes meanwhile.
    """
    modules = [(module, type(module), dict(vars(module))) for module in model.modules()]
    lists = [
        (held, held.copy())
        for _, _, state in modules
        for held in state.values()
        if type(held) in (dict, list, set, OrderedDict)
    ]
    values = [(tensor, tensor.detach().clone()) for tensor in written]

    def restore() -> None:
        for held, content in lists:
            held.clear()
            held.extend(content) if isinstance(held, list) else held.update(content)
        for module, kind, state in modules:
            module.__class__ = kind
            vars(module).clear()
            vars(module).update(state)
        with torch.no_grad():
            for tensor, value in values:
                tensor.copy_(value)

    try:
        yield
    except BaseException:
        restore()
        raise
    if after_success:
        restore()
