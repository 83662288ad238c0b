"""Make plans: the named tying methods, functions of any model that return a TyingPlan."""

import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from numbers import Real

from torch import nn
from torch.nn import Parameter

from bench.tying.apply import is_factor, parameters_by_name, weight
from bench.tying.errors import BadInput
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.structure import (
    Parts,
    adapters_of,
    class_name,
    expand,
    joined,
    modules_by_name,
    parts_of,
    spelled,
    submodule,
)
from bench.tying.tie import Tie, is_integer
from bench.tying.view import View

ROLES = ("attention", "feed_forward", "recurrent", "input", "conv", "norm", "bias", "adapter", "other")

Scope = str | Sequence[str]
Stack = str | Sequence[str] | None


def none(model: nn.Module) -> TyingPlan:
    """Tie nothing."""
    return TyingPlan()


def embedding(model: nn.Module) -> TyingPlan:
    """Tie the input embedding to the output matrix (Press & Wolf 2017, section 3; Inan et al. 2017).

    Raises NotApplicable where the network lacks one of them or their shapes differ (tying changes no shape).
    """
    parts = _parts(model)
    ends = {"input": parts.embedding, "output": parts.unembedding}
    for end, name in ends.items():
        if name is None:
            raise NotApplicable(f"no {end} embedding in this network")
    shapes = {name: tuple(weight(model, name).shape) for name in dict.fromkeys(ends.values())}
    if len(set(shapes.values())) > 1:
        both = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise NotApplicable(f"the input and output embeddings differ in shape: {both}")
    return TyingPlan((Tie(tuple(shapes)),))


def cross_layer(model: nn.Module, *, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """Tie each parameter of a block with its namesakes of the same shape, in modules of one class, along the stack.

    scope: "weights" (every parameter with two dimensions or more), "all" (norms and biases too), or a role or
        list of roles out of ROLES. Adapters are what each use has of its own: they are tied by their role alone.
    stack: which blocks; by default those that repeat (`bench.tying.structure.stack_of`). Blocks that differ
        share what they have alike.
    Raises BadInput for an unknown scope or block; NotApplicable for fewer than two blocks, for a role that no
    parameter of the blocks has, and where no two blocks have a parameter of one name and shape.

    Source: Lan et al. 2020 (ALBERT), section 3.1, which shares "all".
    """
    roles, parts = _roles(scope), _parts(model)
    blocks = _blocks(model, parts, stack)
    _refuse_missing_roles(model, blocks, parts, roles)
    is_adapter = adapters_of(model)

    def wanted(name: str, parameter: Parameter) -> bool:
        if roles:
            return parts.role(name) in roles
        return (scope == "all" or parameter.ndim >= 2) and not is_adapter(name)

    namesakes: dict[tuple, list[tuple[str, int]]] = defaultdict(list)
    for position, block in enumerate(blocks):
        owners = modules_by_name(submodule(model, block))
        for name, parameter in _inside(model, block):
            if wanted(f"{block}.{name}", parameter):
                owner = owners.get(name.rpartition(".")[0])
                kind = (name, tuple(parameter.shape), owner and class_name(owner))
                namesakes[kind].append((f"{block}.{name}", position - len(blocks)))
    ties = (tuple(zip(*places, strict=True)) for places in namesakes.values())
    plan = TyingPlan(tuple(Tie(names, blocks=where) for names, where in ties))
    if plan == TyingPlan():
        raise NotApplicable(
            f"no two of {len(blocks)} blocks ({spelled(blocks)}) share a name and shape within scope {scope!r}"
        )
    return plan


def top_k(
    model: nn.Module,
    *,
    k: int | None = None,
    fraction: float | None = None,
    scope: Scope = "weights",
    stack: Stack = None,
) -> TyingPlan:
    """`cross_layer` among the k blocks nearest the output; k = 1 ties nothing, k = depth the whole stack.

    k: how many blocks, 1 to depth.
    fraction: the share of the depth, above 0 and up to 1, rounded up to whole blocks and to at least 2.
    Raises BadInput unless exactly one of the two is given, and in range. Raises NotApplicable as
    `cross_layer` does, and where the last k blocks, k >= 2, have nothing to share.
    """
    depth = len(blocks_of(model, stack))
    k = counted("top_k", depth, k, fraction)
    plan = cross_layer(model, scope=scope, stack=stack).last(k)
    if k > 1 and plan == TyingPlan():  # or it would run as `none` under another name
        raise NotApplicable(f"the last {k} of {depth} blocks share no name and shape within scope {scope!r}")
    return plan


def soft(model: nn.Module, *, strength: float, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """`cross_layer` as a penalty: strength 0 ties nothing, math.inf is `cross_layer` itself.

    Source: Goodfellow, Bengio & Courville 2016, section 7.9 (parameter tying by a penalty, and sharing).
    """
    return cross_layer(model, scope=scope, stack=stack).soften(strength)


def soft_embedding(model: nn.Module, *, strength: float) -> TyingPlan:
    """`embedding` as a penalty: strength 0 ties nothing, math.inf is `embedding` itself."""
    return embedding(model).soften(strength)


def gates(model: nn.Module) -> TyingPlan:
    """Share one matrix of input weights between the gates of each GRU or LSTM; each gate keeps its recurrent weights.

    Raises NotApplicable where the network has neither.
    """
    kinds = {nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}
    ties = []
    for path, module in modules_by_name(model).items():
        count = next((count for kind, count in kinds.items() if isinstance(module, kind)), None)
        own = dict(module.named_parameters(recurse=False)) if count else {}
        for leaf, parameter in own.items():
            if leaf.startswith("weight_ih"):
                rows, width = parameter.shape
                view = View((rows // count, width), (("expand", 0, count), ("reshape", rows, width)))
                ties.append(Tie((joined(path, leaf),), views=(view,)))
    if not ties:
        raise NotApplicable("no GRU or LSTM in this network, whose gates could share their input weights")
    return TyingPlan(tuple(ties))


def hashed(model: nn.Module, *, fraction: float, scope: Scope = "weights", stack: Stack = None) -> TyingPlan:
    """Draw the entries of each weight of the blocks, with random signs, from a `fraction` as many shared ones.

    fraction: of a weight's entries, above 0 and up to 1, at least one. Which entries share follows from the weight's
        name alone. scope, stack: as `cross_layer` has them.
    Raises BadInput for a fraction or scope out of range; NotApplicable where no parameter of the blocks is in scope.

    Source: Chen et al. 2015 (HashedNets), sections 4.1 and 4.3; here the buckets of a weight are of one size.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < fraction <= 1:
        raise BadInput(f"fraction is {fraction!r}; it must be a number above 0 and up to 1")
    roles, parts = _roles(scope), _parts(model)
    blocks, is_adapter = _blocks(model, parts, stack), adapters_of(model)
    ties = []
    for position, block in enumerate(blocks):
        for leaf, parameter in _inside(model, block):
            name, shape = f"{block}.{leaf}", tuple(parameter.shape)
            wanted = parts.role(name) in roles if roles else scope == "all" or parameter.ndim >= 2
            if wanted and (roles or not is_adapter(name)):
                buckets = max(1, round(fraction * parameter.numel()))
                size = (1, buckets) if parameter.ndim > 1 else (buckets,)
                view = View(size, (("hash", zlib.crc32(name.encode()), *shape),))
                ties.append(Tie((name,), blocks=(position - len(blocks),), views=(view,)))
    if not ties:
        raise NotApplicable(f"no parameter of the blocks ({spelled(blocks)}) is within scope {scope!r}")
    return TyingPlan(tuple(ties))


def compose(model: nn.Module, *, parts: Sequence[Callable[[nn.Module], TyingPlan]]) -> TyingPlan:
    """The sum of several plans; NotApplicable as soon as one of them is."""
    return sum((part(model) for part in parts), TyingPlan())


def _roles(scope: Scope) -> tuple[str, ...]:
    """The roles that a scope asks for; none for "weights" and "all"."""
    if scope in ("weights", "all"):
        return ()
    roles = (scope,) if isinstance(scope, str) else tuple(scope or ())
    if not roles or not set(roles) <= set(ROLES):
        allowed = ", ".join(ROLES)
        raise BadInput(f"scope is {scope!r}; allowed are weights, all, or one or a list of: {allowed}")
    return roles


def counted(strategy: str, depth: int, k: int | None, fraction: float | None) -> int:
    """The number of blocks that k, or fraction as a share of the depth, stands for; BadInput as `top_k` says."""
    if (k is None) == (fraction is None):
        raise BadInput(
            f"{strategy} takes exactly one of k and fraction, not k={k!r} and fraction={fraction!r}"
        )
    k = _blocks_in(fraction, depth) if k is None else k
    if not is_integer(k) or not 1 <= k <= depth:
        raise BadInput(f"k is {k!r}; the network has {depth} blocks: k must be an integer from 1 to {depth}")
    return k


def blocks_of(model: nn.Module, stack: Stack = None) -> tuple[str, ...]:
    """Module names of the blocks, input first: `stack`, or the model's own. BadInput where one is no module of it,
    NotApplicable where there are fewer than two."""
    return _blocks(model, _parts(model), stack)


def _parts(model: nn.Module) -> Parts:
    """`parts_of` a model that the library takes; BadInput for any other."""
    parameters_by_name(model)
    return parts_of(model)


def _blocks(model: nn.Module, parts: Parts, stack: Stack) -> tuple[str, ...]:
    blocks = expand(model, parts.stack if stack is None else stack)
    if len(blocks) < 2:
        looked_at = f" ({spelled(blocks)})" if blocks else ""
        raise NotApplicable(
            f"the network is no stack of blocks to share across: it has {len(blocks)}{looked_at}"
        )
    return blocks


def _inside(model: nn.Module, block: str) -> list[tuple[str, Parameter]]:
    """The block's parameters, named relative to it."""
    found = parameters_by_name(submodule(model, block))
    return [(name, parameter) for name, parameter in found.items() if not is_factor(name, found)]


def _refuse_missing_roles(
    model: nn.Module, blocks: tuple[str, ...], parts: Parts, roles: tuple[str, ...]
) -> None:
    there = {parts.role(f"{block}.{name}") for block in blocks for name, _ in _inside(model, block)}
    for role in roles:
        if role not in there:
            has = ", ".join(sorted(there))
            raise NotApplicable(
                f"no {role} parameters in the blocks of this network ({spelled(blocks)}); it has: {has}"
            )


def _blocks_in(fraction: float, depth: int) -> int:
    """A share of the depth as whole blocks, rounded up, at least 2."""
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < fraction <= 1:
        raise BadInput(f"fraction is {fraction!r}; it must be a number above 0 and up to 1")
    # 0.07 * 100 is 7.000000000000001 in floats, and 7 blocks must stay 7.
    return max(2, math.ceil(fraction * depth - 1e-9))


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
