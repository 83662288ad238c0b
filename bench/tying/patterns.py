"""Which blocks of a stack share with which: groupings along depth, and the plans that they cut from `cross_layer`.

A grouping is one label per block, input first; blocks of one label share. Functions of whole numbers make it; the
strategies below them make plans, with the errors of `cross_layer`, BadInput for numbers that do not fit the stack,
and NotApplicable where a grouping that joins blocks joins none that have parameters of one name and shape.
"""

from collections.abc import Callable, Sequence

from torch import nn

from bench.errors import BadInput
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.sharing import weight
from bench.tying.strategies import Scope, Stack, blocks_of, counted, cross_layer
from bench.tying.tie import is_integer

Grouping = tuple[int, ...]


def in_sequence(depth: int, groups: int) -> Grouping:
    """Neighbours share: (0, 0, 0, 1, 1, 1) for 6 blocks in 2 groups.

    Where groups do not divide the depth, their sizes differ by one at most (Takase & Kiyono 2021, algorithm 1, makes
    more groups then than are asked for).
    """
    return tuple(block * groups // depth for block in range(depth))


def in_cycles(depth: int, groups: int) -> Grouping:
    """The same few blocks again and again: (0, 1, 0, 1, 0, 1). Takase & Kiyono 2021, CYCLE."""
    return tuple(block % groups for block in range(depth))


def in_reversed_cycles(depth: int, groups: int) -> Grouping:
    """As `in_cycles`, the last cycle backwards: (0, 1, 0, 1, 1, 0). Takase & Kiyono 2021, CYCLE (REV)."""
    forwards = groups * max(1, -(-depth // groups) - 1)
    return tuple(at % groups if at < forwards else groups - 1 - at % groups for at in range(depth))


def in_sandwich(depth: int) -> Grouping:
    """All but the first and the last block share: (0, 1, 1, 1, 1, 2). Reid et al. 2021 (Subformer)."""
    return tuple(min(block, 1) + (block == depth - 1 > 0) for block in range(depth))


def in_repeats(depth: int, repeats: int) -> Grouping:
    """Each block is used so many times in a row: (0, 0, 1, 1, 2, 2). Liu et al. 2024 (MobileLLM)."""
    return tuple(block // repeats for block in range(depth))


def in_the_first(depth: int, k: int) -> Grouping:
    """The k blocks nearest the input share: (0, 0, 0, 1, 2, 3)."""
    return tuple(max(0, block - k + 1) for block in range(depth))


def sequence(model: nn.Module, *, groups: int, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """`in_sequence`: one group is `cross_layer`, as many groups as blocks tie nothing."""
    return _cut(model, in_sequence, "groups", groups, scope, stack)


def cycle(model: nn.Module, *, groups: int, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """`in_cycles`: one group is `cross_layer`, as many groups as blocks tie nothing."""
    return _cut(model, in_cycles, "groups", groups, scope, stack)


def cycle_rev(model: nn.Module, *, groups: int, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """`in_reversed_cycles`: one group is `cross_layer`, as many groups as blocks tie nothing."""
    return _cut(model, in_reversed_cycles, "groups", groups, scope, stack)


def block_wise(model: nn.Module, *, repeats: int, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """`in_repeats`: one repeat ties nothing, as many as blocks are `cross_layer`."""
    return _cut(model, in_repeats, "repeats", repeats, scope, stack)


def sandwich(model: nn.Module, *, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """`in_sandwich`; NotApplicable below four blocks, where no two lie between the first and the last."""
    depth = len(blocks_of(model, stack))
    if depth < 4:
        raise NotApplicable(f"of {depth} blocks no two lie between the first and the last")
    return grouped(model, grouping=in_sandwich(depth), scope=scope, stack=stack)


def bottom_k(
    model: nn.Module,
    *,
    k: int | None = None,
    fraction: float | None = None,
    scope: Scope = "weights",
    stack: Stack = None,
) -> TyingPlan:
    """`in_the_first` k blocks: `top_k` from the other end, with its arguments and errors."""
    depth = len(blocks_of(model, stack))
    labels = in_the_first(depth, counted("bottom_k", depth, k, fraction))
    return grouped(model, grouping=labels, scope=scope, stack=stack)


def grouped(
    model: nn.Module, *, grouping: Sequence[int], scope: Scope = "weights", stack: Stack = None
) -> TyingPlan:
    """Blocks of one label share. grouping: one label per block, input first.

    A label that blocks of different shapes carry shares within each shape. Raises BadInput for another number of
    labels than blocks, and labels that are no whole numbers.
    """
    labels, depth = tuple(grouping or ()), len(blocks_of(model, stack))
    if len(labels) != depth or not all(is_integer(label) for label in labels):
        raise BadInput(
            f"grouping is {grouping!r}; the network has {depth} blocks: give a whole number for each, input first"
        )
    plan = cross_layer(model, scope=scope, stack=stack).within(labels)
    if len(set(labels)) < depth and plan == TyingPlan():  # or it would run as `none` under another name
        raise NotApplicable(f"no two blocks of one label in {labels} share a name and shape within {scope!r}")
    return plan


def relaxed(
    model: nn.Module, *, rank: int, groups: int | None = None, scope: Scope = "weights", stack: Stack = None
) -> TyingPlan:
    """`cycle` in which each block adds its own difference of this rank to what it shares; rank 0 is `cycle` itself.

    groups: None is one, the whole stack. Raises NotApplicable where no shared parameter is a matrix, and BadInput, at
    the latest when it is applied, for a rank that a matrix cannot have.

    Source: Bae et al. 2025 (Relaxed Recursive Transformers), section 2.
    """
    plan = cycle(model, groups=1 if groups is None else groups, scope=scope, stack=stack).relax(rank)
    if rank and not any(weight(model, tie.names[0]).ndim > 1 for tie in plan.ties):
        raise NotApplicable(
            f"no matrix is shared within scope {scope!r}, which a difference of low rank could relax"
        )
    return plan


def _cut(
    model: nn.Module,
    pattern: Callable[[int, int], Grouping],
    name: str,
    number: int,
    scope: Scope,
    stack: Stack,
) -> TyingPlan:
    depth = len(blocks_of(model, stack))
    if not is_integer(number) or not 1 <= number <= depth:
        raise BadInput(
            f"{name} is {number!r}; the network has {depth} blocks: {name} must be an integer from 1 to {depth}"
        )
    return grouped(model, grouping=pattern(depth, number), scope=scope, stack=stack)
