"""Block by block: alike with hidden units matched, alike in what they compute, and how far each moves its input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from bench.audit.kinds import Kind, block_cosines
from bench.audit.samples import Forwards
from bench.errors import BadInput
from bench.similarity import Aligned, align
from bench.similarity.hidden import hidden_of
from bench.similarity.outputs import Outputs, outputs
from bench.similarity.representations import across, cka_map
from bench.tying import NotApplicable


@dataclass(frozen=True)
class Neighbours:
    """Of one network.

    cosine, aligned, cka: of each block and the next, depth - 1; aligned is the reason where there is none.
    influence: of each block. Both last are empty without a sample.
    """

    cosine: tuple[float | None, ...]
    aligned: tuple[Aligned | str, ...]
    cka: tuple[float | None, ...]
    influence: tuple[float | None, ...]


@dataclass(frozen=True)
class Twins:
    """Each block and the block of its place in the other model, on the same data; `cka` is empty without a sample."""

    aligned: tuple[Aligned | str, ...]
    cka: tuple[float | None, ...]


@dataclass(frozen=True)
class Blocks:
    """random: of the network before training, None where it cannot be made anew. cka: [depth][depth] or None."""

    trained: Neighbours
    cka: list[list[float | None]] | None
    random: Neighbours | None = None
    twins: Twins | None = None


def read(model: nn.Module, stack: Sequence[str], forwards: Forwards | None) -> list[Outputs]:
    """What the blocks put out on the sample, [] without one. BadInput where the model cannot read it."""
    if forwards is None:
        return []
    try:
        return outputs(model, stack, lambda: forwards(model))
    except (
        NotApplicable,
        TypeError,
        ValueError,
        RuntimeError,
        IndexError,
        KeyError,
        AttributeError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BadInput(
            f"the sample does not run through the model: {reason}; give data that it reads"
        ) from error


def neighbours(
    model: nn.Module,
    stack: Sequence[str],
    kinds: Sequence[Kind],
    seen: Sequence[Outputs],
    chance: bool = False,
) -> Neighbours:
    """chance: pairs of one shape are alike but for their random numbers, so one of them is aligned for all."""
    cosines = block_cosines(kinds)
    return Neighbours(
        cosine=tuple(cosines[at][at + 1] for at in range(len(stack) - 1)),
        aligned=_aligned(model, stack, chance),
        cka=tuple(across(seen[:-1], seen[1:])),
        influence=tuple(each.influence for each in seen),
    )


def twins(
    model: nn.Module,
    other: nn.Module,
    stack: Sequence[str],
    seen: Sequence[Outputs],
    theirs: Sequence[Outputs],
) -> Twins:
    return Twins(
        tuple(_told(lambda block=block: align(model, block, block, other)) for block in stack),
        tuple(across(seen, theirs)),
    )


def map_of(seen: Sequence[Outputs]) -> list[list[float | None]] | None:
    return cka_map(seen) if seen else None


def _aligned(model: nn.Module, stack: Sequence[str], chance: bool) -> tuple[Aligned | str, ...]:
    known: dict[tuple, Aligned | str] = {}
    found = []
    for one, other in zip(stack[:-1], stack[1:], strict=True):
        shapes = (_shapes(model, one), _shapes(model, other)) if chance else (one, other)
        if shapes not in known:
            known[shapes] = _told(lambda one=one, other=other: align(model, one, other))
        found.append(known[shapes])
    return tuple(found)


def _shapes(model: nn.Module, block: str) -> tuple:
    """What a block's alignment depends on but for its numbers."""
    try:
        axes = hidden_of(model, block).axes
    except NotApplicable:
        return (block,)
    inside = model.get_submodule(block)
    return tuple((name, axis, tuple(inside.get_parameter(name).shape)) for name, axis in axes)


def _told(measure: Callable[[], Aligned]) -> Aligned | str:
    try:
        return measure()
    except NotApplicable as reason:
        return str(reason)
