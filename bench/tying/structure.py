"""What a network says about itself, and what can be seen of one that says nothing: stack, embeddings, roles."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from bench.tying.errors import BadInput

_FEED_FORWARD = ("mlp", "fc", "feed_forward", "feedforward", "ffn")
_FEED_FORWARD += ("intermediate.dense", "output.dense")  # BERT's
_FEED_FORWARD += ("densereludense", "densegatedactdense")  # T5's
_ATTENTION = ("attn", "attention")
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Parts:
    """Names of a network's parts, all of them resolvable in the network that gave them.

    stack: module names of the blocks in depth order, input first.
    embedding, unembedding: parameter names of the input embedding and of the output matrix, or None.
    role: parameter name -> attention | feed_forward | recurrent | input | conv | norm | bias | other.
    """

    stack: tuple[str, ...]
    embedding: str | None
    unembedding: str | None
    role: Callable[[str], str]


def parts_of(model: nn.Module) -> Parts:
    """`model.parts` where the network names its parts itself; else what can be seen of it.

    Seen: `stack_of`, `role_of`, and the embeddings that a `transformers` model gives.
    """
    named = getattr(model, "parts", None)
    if isinstance(named, Parts):
        return named
    ends = (_weight_name(model, "get_input_embeddings"), _weight_name(model, "get_output_embeddings"))
    return Parts(stack_of(model), *ends, role_of(model))


def parts_inside(model: nn.Module, child: str) -> Parts:
    """The parts of a child module, under the names that they have in `model`."""
    found = parts_of(model.get_submodule(child))
    ends = (None if end is None else f"{child}.{end}" for end in (found.embedding, found.unembedding))
    return Parts(tuple(f"{child}.{block}" for block in found.stack), *ends, role_of(model))


def stack_of(model: nn.Module) -> tuple[str, ...]:
    """Module names of the blocks: the children of the module list that holds most parameters, or () without one.

    Where these blocks have hardly a weight in common, as the stages of a CNN, the lists inside them are one stack,
    if that has more. An encoder-decoder has two stacks, of which this is the larger.
    """
    # Of equals the outer stays before the inner.
    stacks = sorted(_stacks(model).values(), key=lambda blocks: -_held(model, blocks))
    if not stacks:
        return ()
    around = tuple(f"{block}." for block in stacks[0])
    inside = [blocks for blocks in stacks if all(f"{name}.".startswith(around) for name in blocks)]
    return tuple(next((blocks for blocks in inside if _in_common(model, blocks) >= 0.5), stacks[0]))


def expand(model: nn.Module, stack: str | Sequence[str]) -> tuple[str, ...]:
    """Module names of the blocks that `stack` asks for, input first.

    stack: the name of a module list ("model.layers"), a pattern in which `*` stands for one part of a name
        ("encoder.stages.*.layers.*"), or the blocks' names themselves.
    Raises BadInput where there is no such module, naming the module lists there are.
    """
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    if not isinstance(stack, str):
        names = tuple(stack)
        unknown = [name for name in names if name not in modules]
        _refuse_unknown(model, unknown or ([] if len(set(names)) == len(names) else list(names)), stack)
        return names
    wanted = stack if "*" in stack else f"{stack}.*"
    pattern = re.compile("[^.]+".join(re.escape(part) for part in wanted.split("*")))
    found = tuple(name for name in modules if pattern.fullmatch(name))
    _refuse_unknown(model, [] if found else [stack], stack)
    return found


def role_of(model: nn.Module) -> Callable[[str], str]:
    """`Parts.role` by the kinds of the model's modules and, for attention and feed-forward, the names they have."""

    def role(name: str) -> str:
        path, _, parameter = name.rpartition(".")
        owner, called = model.get_submodule(path), path.lower()
        last = called.rpartition(".")[2]
        if "norm" in last or "norm" in type(owner).__name__.lower() or last.startswith("ln"):
            return "norm"
        if parameter.startswith("bias") or parameter.endswith("bias"):
            return "bias"
        if isinstance(owner, (nn.RNNBase, nn.RNNCellBase)):
            return "recurrent" if "_hh" in parameter else "input"
        if isinstance(owner, _CONV):
            return "conv"
        if any(word in called for word in _ATTENTION):
            return "attention"
        return "feed_forward" if any(word in called for word in _FEED_FORWARD) else "other"

    return role


def plain_name(name: str) -> str:
    """The name by which a module reads a parameter that is kept beneath it as the original of a parametrization."""
    return re.sub(r"(^|\.)parametrizations\.([^.]+)\.original$", r"\1\2", name)


def _weight_name(model: nn.Module, getter: str) -> str | None:
    """The name of `weight` of the module that a `transformers` model gives when asked; None where it has none."""
    try:
        module = getattr(model, getter)()
    except (AttributeError, NotImplementedError):
        return None
    if module is None or not isinstance(getattr(module, "weight", None), nn.Parameter):
        return None
    return next(
        f"{name}.weight" if name else "weight"
        for name, found in model.named_modules(remove_duplicate=False)
        if found is module
    )


def _stacks(model: nn.Module) -> dict[str, list[str]]:
    """Place -> the blocks of the lists of modules there; a place has `*` for the block of an outer list."""
    lists: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            place = re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name)
            lists.setdefault(place, []).extend(
                f"{name}.{child}" if name else child for child, _ in module.named_children()
            )
    return {place: blocks for place, blocks in lists.items() if blocks}


def _held(model: nn.Module, blocks: Sequence[str]) -> int:
    return sum(p.numel() for block in blocks for p in model.get_submodule(block).parameters())


def _in_common(model: nn.Module, blocks: Sequence[str]) -> float:
    """The share of the blocks' weights (two dimensions or more) that have a namesake of their shape."""
    sizes: dict[tuple, list[int]] = {}
    for block in blocks:
        for name, parameter in model.get_submodule(block).named_parameters():
            if parameter.ndim >= 2:
                sizes.setdefault((name, tuple(parameter.shape)), []).append(parameter.numel())
    shared = sum(sum(found) for found in sizes.values() if len(found) > 1)
    return shared / max(1, sum(map(sum, sizes.values())))


def _refuse_unknown(model: nn.Module, unknown: list[str], stack: str | Sequence[str]) -> None:
    if unknown:
        there = ", ".join(filter(None, _stacks(model)))
        raise BadInput(
            f"the stack {stack!r} must list modules of the model, each once; unknown: {unknown}; "
            f"its module lists are: {there or 'none'}"
        )
