"""The plain names of a model's modules, parameters and buffers, whatever it is wrapped in.

`torch.compile`, DistributedDataParallel, DataParallel, weight averaging and activation checkpointing put a module
inside another one, and a part of their own into every name below. Here that part is left out, so that a plan or a file
made of a wrapped model fits the model itself, and the other way round.
"""

import copy
import functools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel

from bench.tying.errors import BadInput
from bench.tying.view import Made

_BY_CLASS = {DataParallel: "module", DistributedDataParallel: "module", AveragedModel: "module"}
_BY_NAME = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module")
"""The attributes that hold the inner module: of classes that use a common word for it, and words of torch's (and
Lightning Fabric's) own."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside all wrappers; the module itself where there are none."""
    while inner := _inside(module):
        module = module._modules[inner]
    return module


def wrappers(model: nn.Module) -> Iterator[nn.Module]:
    """Every wrapper in the model, the model itself included."""
    return (module for module in model.modules() if _inside(module))


def modules_by_name(model: nn.Module) -> dict[str, nn.Module]:
    """Plain name -> module, parents first, "" for the model itself; a shared module under each of its names."""
    return dict(_walk(unwrapped(model), ""))


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The module of this plain name. AttributeError where there is none."""
    module = unwrapped(model)
    for part in path.split(".") if path else ():
        child = module._modules.get(part)
        if child is None:
            raise AttributeError(f"{type(module).__name__} has no module {part!r}")
        module = unwrapped(child)
    return module


def named_parameters(model: nn.Module) -> Iterator[tuple[str, Parameter]]:
    """Plain name and parameter, a shared one under each of its names.

    The original of a parametrization has the name by which the module reads the weight.
    """
    for path, module in modules_by_name(model).items():
        for leaf, parameter in module._parameters.items():
            if parameter is not None:
                yield plain_name(joined(path, leaf)), parameter


def named_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Plain name and buffer, kept in the state or not, a shared one under each of its names."""
    for path, module in modules_by_name(model).items():
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                yield plain_name(joined(path, leaf)), buffer


def plain_name(name: str) -> str:
    """The name without the parts that torch's wrappers and parametrizations of one tensor put into it."""
    if name.startswith("_") or "._" in name:
        name = ".".join(part for part in name.split(".") if part not in _BY_NAME)
    return _ORIGINAL.sub(r"\1\2", name)


def joined(*parts: str) -> str:
    """The parts with dots between them, empty ones left out."""
    return ".".join(filter(None, parts))


def slots_of(value: Any) -> dict[str, Any]:
    """What an object holds in the `__slots__` of its classes, by name."""
    slots = (vars(kind).get("__slots__", ()) for kind in type(value).__mro__)
    names = (name for names in slots for name in ((names,) if isinstance(names, str) else names))
    return {
        name: getattr(value, name) for name in names if not name.startswith("__") and hasattr(value, name)
    }


def tensors_kept(value: Any, looked_at: set[int]) -> Iterator[Tensor]:
    """Yield the tensors in containers, records, partial functions, methods and closures, however deep.

    Modules are not entered.
    """
    if isinstance(value, Tensor):
        yield value
        return
    if id(value) in looked_at:
        return
    looked_at.add(id(value))
    inside: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        inside = value
    elif isinstance(value, functools.partial):
        inside = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        inside = (value.__self__, value.__func__)
    elif isinstance(value, SimpleNamespace) or (
        is_dataclass(value) and not isinstance(value, (type, nn.Module))
    ):
        inside = (getattr(value, "__dict__", {}) | slots_of(value)).values()
    elif isinstance(value, FunctionType):
        inside = (cell.cell_contents for cell in value.__closure__ or () if cell != CellType())
    for part in inside:
        yield from tensors_kept(part, looked_at)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy. Of a tensor that a module computed and keeps (as torch's weight_norm and pruning do) the values.

    torch itself refuses to copy a model with such a tensor.
    """
    kept = (tensor for module in model.modules() for tensor in tensors_kept(vars(module), set()))
    values = {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}
    return copy.deepcopy(model, values)


_ORIGINAL = re.compile(r"(^|\.)parametrizations\.([^.]+)\.original$")


def _walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    yield path, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(unwrapped(child), joined(path, name))


def _inside(module: nn.Module) -> str | None:
    """The attribute that holds what this module wraps; None for what is no wrapper."""
    if attribute := _of_class(type(module)):
        return attribute
    return next((word for word in _BY_NAME if module._modules.get(word) is not None), None)


@functools.cache
def _of_class(kind: type[nn.Module]) -> str | None:
    return next((attribute for known, attribute in _BY_CLASS.items() if issubclass(kind, known)), None)


_FEED_FORWARD = ("mlp", "fc", "feed_forward", "feedforward", "ffn")
_FEED_FORWARD += ("intermediate.dense", "output.dense")  # BERT's
_FEED_FORWARD += ("densereludense", "densegatedactdense")  # T5's
_ATTENTION = ("attn", "attention")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ADAPTED = (nn.Linear, nn.Embedding, *CONVOLUTIONS)


@dataclass(frozen=True)
class Parts:
    """Names of a network's parts, all of them resolvable in the network that gave them.

    stack: module names of the blocks in depth order, input first.
    embedding, unembedding: parameter names of the input embedding and of the output matrix, or None.
    role: parameter name -> attention | feed_forward | recurrent | input | conv | norm | bias |
        adapter | other.
    """

    stack: tuple[str, ...]
    embedding: str | None
    unembedding: str | None
    role: Callable[[str], str]


def parts_of(model: nn.Module) -> Parts:
    """`model.parts` where the network names its parts itself; else what can be seen of it.

    Seen: `stack_of`, `role_of`, and the embeddings that a `transformers` model gives, or those that `_ends_seen` finds
    in any other. Names are plain (`bench.tying.structure`).
    """
    model = unwrapped(model)
    named = getattr(model, "parts", None)
    if isinstance(named, Parts):
        return named
    stack = stack_of(model)
    if hasattr(model, "get_input_embeddings"):
        ends = (_weight_name(model, "get_input_embeddings"), _weight_name(model, "get_output_embeddings"))
    else:
        ends = _ends_seen(model, stack)
    return Parts(stack, *ends, role_of(model))


def parts_inside(model: nn.Module, child: str) -> Parts:
    """The parts of a child module, under the names that they have in `model`."""
    parts = parts_of(model.get_submodule(child))
    ends = (None if end is None else f"{child}.{end}" for end in (parts.embedding, parts.unembedding))
    return Parts(tuple(f"{child}.{block}" for block in parts.stack), *ends, role_of(model))


def stack_of(model: nn.Module) -> tuple[str, ...]:
    """Module names of the blocks, input first; () where nothing repeats.

    A stack is what repeats in structure. Looked at are the children of each list of modules, and children that are
    numbered (`layer1`, `layer2`); lists at one place of several blocks, as the layers of a CNN's stages, count as one.
    Modules without parameters are no blocks, and of unlike modules those are that are alike (`_alike_most`). The stack
    is the list whose blocks have most in common: elements of weights that have a namesake of their shape. Where it lies
    inside the blocks of another list that have half of their weights in common, it is that list. Where nothing has a
    namesake it is the list that holds most. An encoder-decoder has two stacks, of which this is one.
    """
    modules = modules_by_name(model)
    stacks = [_alike_most(modules, blocks) for blocks in _lists(modules).values()]
    sizes = [(_in_common(modules, blocks), _held(modules, blocks)) for blocks in stacks]
    if not any(stacks):
        return ()
    best = stacks[sizes.index(max(sizes))]
    for blocks, (common, held) in zip(stacks, sizes, strict=True):  # an outer list before those inside it
        around = tuple(f"{block}." for block in blocks)
        if blocks and 2 * common >= held and all(block.startswith(around) for block in best):
            return blocks
    return best


def expand(model: nn.Module, stack: str | Sequence[str]) -> tuple[str, ...]:
    """Module names of the blocks that `stack` asks for, input first.

    stack: the name of a module list ("model.layers"), a pattern in which `*` stands for one part of a name
        ("encoder.stages.*.layers.*"), or the blocks' names themselves. Of a list or a pattern, modules without
        parameters, and those unlike the rest, are left out as `stack_of` does.
    Raises BadInput where there is no such module, naming the module lists there are.
    """
    modules = modules_by_name(model)
    if not isinstance(stack, str):
        if not isinstance(stack, Sequence) or not all(isinstance(name, str) for name in stack):
            raise BadInput(
                f"stack is {stack!r}; give the name of a module list, a pattern, or a list of names"
            )
        names = tuple(plain_name(name) for name in stack)
        unknown = [name for name in names if name not in modules]
        repeated = [] if len(set(names)) == len(names) else list(names)
        _refuse_unknown(modules, unknown or repeated, stack)
        return names
    wanted = plain_name(stack if "*" in stack else f"{stack}.*")
    pattern = re.compile("[^.]+".join(re.escape(part) for part in wanted.split("*")))
    matching = [name for name in modules if pattern.fullmatch(name)]
    _refuse_unknown(modules, [] if matching else [stack], stack)
    return _alike_most(modules, matching)


def spelled(blocks: Sequence[str]) -> str:
    """The blocks in a word or two, as a message names them: `encoder.layer.*`, or the first and the last."""
    kinds = dict.fromkeys(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", block) for block in blocks)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(blocks) if len(blocks) < 4 else f"{blocks[0]} ... {blocks[-1]}"


_BASES = ("base", "base_layer")
"""What an adapter, peft's own among them, calls the layer that it adapts."""


def adapters_of(model: nn.Module) -> Callable[[str], bool]:
    """Whether a parameter's name is one of an adapter (LoRA, Hu et al. 2021) and not of the layer that is adapted.

    An adapter is a module beside whose own parameters stands that layer, as its child `base` or `base_layer`, or what
    is called `lora_...`.
    """
    inside = []
    for path, module in modules_by_name(model).items():
        base = next((child for child in _BASES if isinstance(module._modules.get(child), _ADAPTED)), None)
        if base:
            prefix = f"{path}." if path else ""
            inside.append((prefix, f"{prefix}{base}."))

    def is_adapter(name: str) -> bool:
        if any(name.startswith(adapter) and not name.startswith(base) for adapter, base in inside):
            return True
        return "lora_" in name and any(part.startswith("lora_") for part in name.split("."))

    return is_adapter


def role_of(model: nn.Module) -> Callable[[str], str]:
    """`Parts.role` by the kinds of the model's modules and, for attention and feed-forward, the names they have."""

    is_adapter = adapters_of(model)

    def role(name: str) -> str:
        path, _, parameter = name.rpartition(".")
        if is_adapter(name):
            return "adapter"
        owner, called = submodule(model, path), path.lower()
        last = called.rpartition(".")[2]
        if "norm" in last or "norm" in type(owner).__name__.lower() or last.startswith("ln"):
            return "norm"
        if parameter.startswith("bias") or parameter.endswith("bias"):
            return "bias"
        if isinstance(owner, (nn.RNNBase, nn.RNNCellBase)):
            return "recurrent" if "_hh" in parameter else "input"
        if isinstance(owner, CONVOLUTIONS):
            return "conv"
        if any(word in called for word in _ATTENTION):
            return "attention"
        return "feed_forward" if any(word in called for word in _FEED_FORWARD) else "other"

    return role


def _weight_name(model: nn.Module, getter: str) -> str | None:
    """The name of `weight` of the module that a `transformers` model gives when asked; None where it has none."""
    try:
        module = getattr(model, getter)()
    except (AttributeError, NotImplementedError):
        return None
    if module is None or not _has_weight(module):
        return None
    module = unwrapped(module)
    places = (name for name, candidate in modules_by_name(model).items() if candidate is module)
    name = next(places, None)
    return None if name is None else joined(name, "weight")


_NOT_OF_TOKENS = ("pos", "wpe", "type", "seg")
"""Words in the names of embeddings that hold places or kinds of tokens."""


def _ends_seen(model: nn.Module, stack: Sequence[str]) -> tuple[str | None, str | None]:
    """The names of the input embedding and the output matrix in a network that does not say which they are.

    Outside of the blocks these are the embedding with the most rows, names of positions and segments aside, and the one
    linear layer that has as many outputs. Without such a layer an embedding that is alone is the input.

    Returns:
        None for each end that cannot be told: where two embeddings or two layers fit, none is taken.
    """
    inside = tuple(f"{block}." for block in stack)
    names: dict[nn.Module, str] = {}
    for name, module in modules_by_name(model).items():
        if not f"{name}.".startswith(inside) and _has_weight(module):
            names.setdefault(module, name)
    rows = {
        name: module.num_embeddings
        for module, name in names.items()
        if isinstance(module, nn.Embedding) and not any(word in name.lower() for word in _NOT_OF_TOKENS)
    }
    most = max(rows.values(), default=0)
    largest = [joined(name, "weight") for name, count in rows.items() if count == most]
    heads = [
        joined(name, "weight")
        for module, name in names.items()
        if isinstance(module, nn.Linear) and module.out_features == most
    ]
    if len(largest) == len(heads) == 1:
        return largest[0], heads[0]
    return (largest[0] if len(rows) == 1 else None), None


def _has_weight(module: nn.Module) -> bool:
    """Whether it reads a Parameter `weight`, or one that a view makes of a shared tensor."""
    if parametrize.is_parametrized(module, "weight"):
        return isinstance(module.parametrizations.weight[0], Made)
    return isinstance(getattr(module, "weight", None), nn.Parameter)


def _lists(modules: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Place -> modules that stand in one list there, in their order; a place has `*` for each number in its name."""
    lists: dict[str, list[str]] = {}
    for path, module in modules.items():
        place = re.sub(r"\d+(?=\.|$)", "*", path)
        for child in module._modules:
            if isinstance(module, (nn.ModuleList, nn.Sequential)):
                lists.setdefault(joined(place, "*"), []).append(joined(path, child))
            elif child[-1].isdecimal():
                numbered = joined(place, re.sub(r"\d+$", "*", child))
                lists.setdefault(numbered, []).append(joined(path, child))
    present = {place: [name for name in names if name in modules] for place, names in lists.items()}
    return {
        place: names
        for place, names in present.items()
        if len(names) > 1 or place.endswith(".*") or place == "*"
    }


def _alike_most(modules: Mapping[str, nn.Module], names: Sequence[str]) -> tuple[str, ...]:
    """Of these modules the largest set of alike ones, in their order; those without parameters belong to none.

    Two are alike where they are of one class, or where at least half of the parameters of one have a namesake in the
    other that belongs to a module of the same class; and so are two that are both like a third. A container is like
    another by what it holds alone. The largest set is that with most in common, then that which holds most.
    """
    structures = {name: frozenset(_structure(modules[name])) for name in names}
    sets: list[list[str]] = []
    for name in names:
        if not structures[name]:
            continue
        joining = [
            group for group in sets if any(_is_alike(modules, structures, name, other) for other in group)
        ]
        apart = [group for group in sets if group not in joining]
        sets = [*apart, [*(n for group in joining for n in group), name]]
    order = {name: at for at, name in enumerate(names)}
    sets.sort(key=lambda group: min(order[name] for name in group))
    best = max(sets, key=lambda group: (_in_common(modules, group), _held(modules, group)), default=[])
    return tuple(sorted(best, key=order.__getitem__))


def _is_alike(
    modules: Mapping[str, nn.Module], structures: Mapping[str, frozenset], one: str, other: str
) -> bool:
    ours, theirs = structures[one], structures[other]
    kind = class_name(modules[one])
    if kind == class_name(modules[other]) and not isinstance(modules[one], _CONTAINERS):
        return True
    return 2 * len(ours & theirs) >= min(len(ours), len(theirs))


def _structure(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Of each parameter inside, its name and the class of the module it belongs to."""
    owners = modules_by_name(module)
    for name, _ in named_parameters(module):
        yield name, class_name(owners[name.rpartition(".")[0]])


def class_name(module: nn.Module) -> str:
    """The name of the module's class as it was before any of its weights was parametrised."""
    return parametrize.type_before_parametrizations(module).__name__


def _held(modules: Mapping[str, nn.Module], blocks: Sequence[str]) -> int:
    distinct = {id(p): p.numel() for block in blocks for _, p in named_parameters(modules[block])}
    return sum(distinct.values())


def _in_common(modules: Mapping[str, nn.Module], blocks: Sequence[str]) -> int:
    """Elements of the blocks' weights (two dimensions or more) that have a namesake of their shape."""
    sizes: dict[tuple, list[int]] = {}
    for block in blocks:
        for name, parameter in named_parameters(modules[block]):
            if parameter.ndim >= 2:
                sizes.setdefault((name, tuple(parameter.shape)), []).append(parameter.numel())
    return sum(sum(namesakes) for namesakes in sizes.values() if len(namesakes) > 1)


def _refuse_unknown(modules: Mapping[str, nn.Module], unknown: list[str], stack: str | Sequence[str]) -> None:
    if unknown:
        there = ", ".join(place.removesuffix(".*") for place in _lists(modules) if place != "*")
        raise BadInput(
            f"the stack {stack!r} must list modules of the model, each once; unknown: {unknown}; "
            f"its module lists are: {there or 'none'}"
        )
