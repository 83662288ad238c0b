"""A tie as data, and the normal form of a set of ties. No model is touched here."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TypeVar

from bench.tying.errors import BadInput
from bench.tying.structure import plain_name
from bench.tying.view import View

HARD = math.inf

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Tie:
    """Parameters that are one (HARD), one but for a difference of low rank, or drawn together (finite strength).

    names: parameter names of one shape, made plain (`bench.tying.structure`). Kept in the order of `blocks`,
        then by name; repeats collapse.
    strength: math.inf for one shared tensor, else the factor of the penalty (see `bench.tying.penalty`).
    blocks: empty, or one entry per name: the block it sits in, counted from the output end as Python counts
        from the end of a list (-1 nearest the output, -depth nearest the input), or None off the stack.
    rank: of each name's own difference from the shared tensor (`bench.tying.low_rank`); 0 is one tensor, no difference.
    views: empty where every name is the shared tensor itself, or one per name: how its weight is made of the shared
        tensor (`bench.tying.view`). Weights may then differ in shape, one name may stand alone, and a name may stand
        with several views (a symmetric matrix). Views without steps are none.
    Raises BadInput.
    """

    names: tuple[str, ...]
    strength: float = HARD
    blocks: tuple[int | None, ...] = ()
    rank: int = 0
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.names, str) or not all(isinstance(name, str) and name for name in self.names):
            raise BadInput(f"a tie takes a sequence of parameter names, not {self.names!r}")
        names, blocks = tuple(map(plain_name, self.names)), tuple(self.blocks)
        blocks = blocks or (None,) * len(names)
        if len(blocks) != len(names):
            raise BadInput(f"a tie of {len(names)} names has {len(blocks)} blocks; give one per name or none")
        for name, block in zip(names, blocks, strict=True):
            if block is not None and not (is_integer(block) and block < 0):
                raise BadInput(f"the block of {name} is {block!r}; blocks count from the output: -1, -2, ...")
        checked_rank(self.rank)
        if self.rank and checked_strength(self.strength) != HARD:
            raise BadInput(
                f"a tie of strength {self.strength:g} has rank {self.rank}; only hard ties are relaxed"
            )
        block_of = merge_blocks(zip(names, blocks, strict=True))
        views = _checked_views(self, names)
        uses = dict.fromkeys(zip(names, views or (None,) * len(names), strict=True))
        ordered = sorted(uses, key=lambda use: (*_from_the_input(block_of[use[0]], use[0]), repr(use[1])))
        on_stack = any(block is not None for block in block_of.values())
        object.__setattr__(self, "names", tuple(name for name, _ in ordered))
        object.__setattr__(self, "strength", checked_strength(self.strength))
        object.__setattr__(self, "blocks", tuple(block_of[name] for name, _ in ordered) if on_stack else ())
        object.__setattr__(self, "views", tuple(view for _, view in ordered) if views else ())

    @property
    def is_hard(self) -> bool:
        return self.strength == HARD

    def placed(self) -> Iterable[tuple[str, int | None]]:
        """Each name with its block."""
        return zip(self.names, self.blocks or (None,) * len(self.names), strict=True)

    def uses(self) -> Iterable[tuple[str, View]]:
        """Each name with its view, of a tie that has views."""
        return zip(self.names, self.views, strict=True)

    def where(self, is_kept: Callable[[int | None], bool]) -> "Tie":
        """The tie of those names whose block is kept."""
        kept = [at for at, (_, block) in enumerate(self.placed()) if is_kept(block)]

        def picked(items: Sequence[Item]) -> tuple[Item, ...]:
            return tuple(items[at] for at in kept) if items else ()

        return replace(self, names=picked(self.names), blocks=picked(self.blocks), views=picked(self.views))


def _checked_views(tie: Tie, names: Sequence[str]) -> tuple[View, ...]:
    """The tie's views; () where none has a step. BadInput where they do not go with its names or with one another."""
    views = tuple(tie.views)
    if all(view.is_whole for view in views):
        return ()
    if len(views) != len(names):
        raise BadInput(f"a tie of {len(names)} names has {len(views)} views; give one per name or none")
    if len(shapes := list(dict.fromkeys(view.shape for view in views))) > 1:
        raise BadInput(
            f"the views of {names[0]} begin with tensors of shape {shapes[0]} and {shapes[1]}; a tie shares one tensor"
        )
    if tie.rank:
        raise BadInput(
            f"{names[0]} has a view and a rank; a weight that a view makes has no difference of low rank"
        )
    if any(view.mapped for view in views) and 0 < checked_strength(tie.strength) < HARD:
        raise BadInput(
            f"a tie of strength {tie.strength:g} has a learned map; only hard ties have one: what it keeps "
            "apart cannot be drawn together"
        )
    return views


def checked_strength(strength: float) -> float:
    """The strength as a float: zero, positive or math.inf; BadInput for anything else."""
    if isinstance(strength, bool) or not isinstance(strength, Real) or not strength >= 0:
        raise BadInput(f"strength is {strength!r}; it must be a number from 0 (no tie) to inf (one tensor)")
    return float(strength)


def checked_rank(rank: int) -> int:
    """The rank itself, an integer from 0; BadInput for anything else."""
    if not is_integer(rank) or rank < 0:
        raise BadInput(f"rank is {rank!r}; it must be an integer from 0 (one tensor, no difference)")
    return rank


def is_integer(value: object) -> bool:
    """An int and not a bool, which Python counts among the ints."""
    return isinstance(value, int) and not isinstance(value, bool)


def merge_blocks(placed: Iterable[tuple[str, int | None]]) -> dict[str, int | None]:
    """One block per name, a known block winning over None; BadInput where a name sits in two blocks."""
    block_of: dict[str, int | None] = {}
    for name, block in placed:
        known = block_of.get(name)
        if known is not None and block is not None and known != block:
            raise BadInput(f"{name} is said to sit in block {known} and in block {block}; give it one block")
        block_of[name] = block if known is None else known
    return block_of


def _from_the_input(block: int | None, name: str) -> tuple[float, str]:
    return (math.inf if block is None else block, name)


def closure(groups: Iterable[Iterable[Item]]) -> list[set[Item]]:
    """The groups, joined wherever they overlap."""
    group_of: dict[Item, set[Item]] = {}
    for group in groups:
        joined = set(group)
        joined = joined.union(*(group_of[item] for item in joined if item in group_of))
        group_of.update(dict.fromkeys(joined, joined))
    return list({id(group): group for group in group_of.values()}.values())


def normal_form(ties: Iterable[Tie]) -> tuple[Tie, ...]:
    """The one way to write what these ties say together, so that equal plans are equal tuples.

    - Ties of strength 0, and of fewer than two names without a view, say nothing and vanish.
    - Ties of one strength that overlap are one tie.
    - A hard class that a soft tie touches is pulled wholly into the names of that tie. Inside the penalty it
      stays one member, because members are tensors and not names.
    - A soft tie inside one hard class costs nothing but is kept: dropping it would forget its strength, and
      then (a + b) + c could be accepted where a + (b + c) is refused.
    - Of ties with views see `_with_views`.

    Raises BadInput where soft ties of two finite strengths, or hard ties of two ranks, meet in one parameter, or a
    weight that a learned map makes is tied in another way too: neither can be meant.
    """
    ties = [tie for tie in ties if tie.strength > 0 and (len(tie.names) > 1 or tie.views)]
    block_of = merge_blocks(pair for tie in ties for pair in tie.placed())
    _refuse_two_strengths(ties)
    refuse_beside_a_map(ties)
    rank_of = _rank_of(ties)
    whole = [tie for tie in ties if not tie.views]
    hard = closure(tie.names for tie in whole if tie.is_hard)
    classes = [(HARD, names) for names in hard]
    for strength in sorted({tie.strength for tie in whole if not tie.is_hard}):
        soft = [tie.names for tie in whole if tie.strength == strength]
        classes += [(strength, names) for names in touched_by(soft, [*hard, *soft])]
    classes, groups = _with_views(classes, [tie for tie in ties if tie.views])

    def blocks(names: Iterable[str]) -> tuple[int | None, ...]:
        return tuple(block_of[name] for name in names)

    normal = [
        Tie(tuple(names), strength, blocks(names), _rank(strength, names, rank_of))
        for strength, names in classes
    ]
    for strength, uses in groups:
        names, views = zip(*uses, strict=True)
        normal.append(Tie(names, strength, blocks(names), views=views))
    return tuple(sorted(normal, key=lambda tie: (tie.names, tie.strength, repr(tie.views))))


def touched_by(groups: Iterable[Iterable[Item]], others: Iterable[Iterable[Item]]) -> list[set[Item]]:
    """The closure of `others`, those that have an item of the groups."""
    touched = set().union(*groups)
    return [group for group in closure(others) if group & touched]


Use = tuple[str, View]
Classes = list[tuple[float, set[str]]]


def _with_views(classes: Classes, ties: Sequence[Tie]) -> tuple[Classes, list[tuple[float, frozenset[Use]]]]:
    """Whole classes that no view touches, and the ties with views by their uses, each joined within its strength.

    - What is one weight with a view's has that view too; two names of one view in one tie are one weight, unless each
      has a learned map of its own.
    - Ties that have a use in common are one tie where its view reads all of the shared tensor, so that the shared
      tensors of both must be one.
    """
    joined: list[tuple[float, frozenset[Use]]] = []
    for strength in dict.fromkeys(tie.strength for tie in ties):
        groups = {frozenset(tie.uses()) for tie in ties if tie.strength == strength}
        whole = [names for of, names in classes if of == strength]
        while groups != (more := _one_round(groups, whole)):
            groups = more
        named = {name for uses in groups for name, _ in uses}
        classes = [(of, names) for of, names in classes if of != strength or not names & named]
        joined += [(strength, uses) for uses in groups]
    return classes, joined


def _one_round(groups: set[frozenset[Use]], whole: Sequence[set[str]]) -> set[frozenset[Use]]:
    alike = [
        {name for name, view in uses if view == common_view and only in (None, name)}
        for uses in groups
        for common_view, only in {(view, name if view.mapped else None) for name, view in uses}
    ]
    class_of = {name: names for names in closure([*whole, *alike]) for name in names}
    spread = [{(other, view) for name, view in uses for other in class_of[name]} for uses in groups]
    # A use whose view leaves a part of the shared tensor out says nothing of that part: it joins no two ties.
    keyed = ({(*use, -1 if use[1].covers else at) for use in uses} for at, uses in enumerate(spread))
    return {frozenset((name, view) for name, view, _ in uses) for uses in closure(keyed)}


def _rank(strength: float, names: set[str], rank_of: dict[str, int]) -> int:
    return rank_of[next(iter(names))] if strength == HARD else 0


def _rank_of(ties: Iterable[Tie]) -> dict[str, int]:
    """Of each hard tied name; BadInput where one would have two."""
    rank_of: dict[str, int] = {}
    for tie in ties:
        for name in tie.names if tie.is_hard else ():
            if rank_of.setdefault(name, tie.rank) != tie.rank:
                raise BadInput(
                    f"{name} is tied with rank {rank_of[name]} and with rank {tie.rank}; use one rank where ties "
                    "overlap"
                )
    return rank_of


def refuse_beside_a_map(ties: Iterable[Tie]) -> None:
    """BadInput where a weight that a learned map makes is tied in another way too."""
    uses = [use for tie in ties for use in zip(tie.names, tie.views or (None,) * len(tie.names), strict=True)]
    mapped = {name: view for name, view in uses if view is not None and view.mapped}
    for name, view in uses:
        if view != mapped.get(name, view):
            raise BadInput(
                f"{name} is made of a shared tensor by a learned map, and tied in another way too; leave one of "
                "them out"
            )


def _refuse_two_strengths(ties: Sequence[Tie]) -> None:
    strength_of: dict[str, float] = {}
    hard = [tie.names for tie in ties if tie.is_hard]
    for strength in sorted({tie.strength for tie in ties if not tie.is_hard}):
        soft = [tie.names for tie in ties if tie.strength == strength]
        for name in sorted(set().union(*touched_by(soft, [*hard, *soft]))):
            if name in strength_of:
                raise BadInput(
                    f"{name} is softly tied with two strengths, {strength_of[name]:g} and {strength:g}, "
                    "directly or through a hard tie; use one strength for ties that overlap"
                )
            strength_of[name] = strength
