"""The named ways to make a plan: functions of any model, each returning a TyingPlan.

What they tie is found by `bench.anatomy.parts_of`: the blocks of the stack, both embeddings, what a parameter does.
`stack` names other blocks than those found: a module list ("model.layers"), a pattern ("encoder.stages.*.layers.*"),
or the blocks themselves, input first. All raise NotApplicable, with the reason, where the model cannot take the tie,
and BadInput where an argument is wrong. None of them changes the model.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from numbers import Real

from torch import nn
from torch.nn import Parameter

from bench.anatomy import Parts, expand, parts_of
from bench.errors import BadInput
from bench.tying.plan import NotApplicable, Tie, TyingPlan
from bench.tying.sharing import is_factor, parameters_by_name, weight
from bench.tying.tie import is_integer

ROLES = ("attention", "feed_forward", "recurrent", "input", "conv", "norm", "bias")

Scope = str | Sequence[str]
Stack = str | Sequence[str] | None


def none(model: nn.Module) -> TyingPlan:
    """Tie nothing."""
    return TyingPlan()


def embedding(model: nn.Module) -> TyingPlan:
    """Tie the input embedding to the output matrix (Press & Wolf 2017, section 3; Inan et al. 2017).

    Raises NotApplicable where the network lacks one of them or their shapes differ (tying changes no shape).
    """
    parts = parts_of(model)
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
    """Tie each parameter of a block with its namesakes of the same shape along the whole stack.

    scope: "weights" (every parameter with two dimensions or more), "all" (norms and biases too), or a role or
        list of roles out of ROLES.
    stack: which blocks; by default those of the model's largest stack. Blocks that differ share what they have alike.
    Raises BadInput for an unknown scope or block; NotApplicable for fewer than two blocks, for a role that no
    parameter of the blocks has, and where no two blocks have a parameter of one name and shape.

    Source: Lan et al. 2020 (ALBERT), section 3.1, which shares "all".
    """
    roles, parts = _roles(scope), parts_of(model)
    blocks = _blocks(model, parts, stack)
    _refuse_missing_roles(model, blocks, parts, roles)

    def wanted(name: str, parameter: Parameter) -> bool:
        if roles:
            return parts.role(name) in roles
        return scope == "all" or parameter.ndim >= 2

    namesakes: dict[tuple, list[tuple[str, int]]] = defaultdict(list)
    for position, block in enumerate(blocks):
        for name, parameter in _inside(model, block):
            if wanted(f"{block}.{name}", parameter):
                place = (f"{block}.{name}", position - len(blocks))
                namesakes[name, tuple(parameter.shape)].append(place)
    ties = (tuple(zip(*places, strict=True)) for places in namesakes.values())
    plan = TyingPlan(tuple(Tie(names, blocks=where) for names, where in ties))
    if plan == TyingPlan():
        raise NotApplicable(f"no two of {len(blocks)} blocks share a name and shape within scope {scope!r}")
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
    return _blocks(model, parts_of(model), stack)


def _blocks(model: nn.Module, parts: Parts, stack: Stack) -> tuple[str, ...]:
    blocks = expand(model, parts.stack if stack is None else stack)
    if len(blocks) < 2:
        raise NotApplicable(f"the network is no stack of blocks to share across: it has {len(blocks)}")
    return blocks


def _inside(model: nn.Module, block: str) -> list[tuple[str, Parameter]]:
    """The block's parameters, named relative to it."""
    found = parameters_by_name(model.get_submodule(block))
    return [(name, parameter) for name, parameter in found.items() if not is_factor(name, found)]


def _refuse_missing_roles(
    model: nn.Module, blocks: tuple[str, ...], parts: Parts, roles: tuple[str, ...]
) -> None:
    there = {parts.role(f"{block}.{name}") for block in blocks for name, _ in _inside(model, block)}
    for role in roles:
        if role not in there:
            has = ", ".join(sorted(there))
            raise NotApplicable(f"no {role} parameters in the blocks of this network; it has: {has}")


def _blocks_in(fraction: float, depth: int) -> int:
    """A share of the depth as whole blocks, rounded up, at least 2."""
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0 < fraction <= 1:
        raise BadInput(f"fraction is {fraction!r}; it must be a number above 0 and up to 1")
    # 0.07 * 100 is 7.000000000000001 in floats, and 7 blocks must stay 7.
    return max(2, math.ceil(fraction * depth - 1e-9))
