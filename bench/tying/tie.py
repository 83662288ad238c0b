"""A tie as data, and the normal form of a set of ties. No model is touched here."""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TypeVar

from bench.tying.errors import BadInput
from bench.tying.structure import plain_name

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
    Raises BadInput.
    """

    names: tuple[str, ...]
    strength: float = HARD
    blocks: tuple[int | None, ...] = ()
    rank: int = 0

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
        ordered = sorted(block_of, key=lambda name: _from_the_input(block_of[name], name))
        on_stack = any(block is not None for block in block_of.values())
        object.__setattr__(self, "names", tuple(ordered))
        object.__setattr__(self, "strength", checked_strength(self.strength))
        object.__setattr__(self, "blocks", tuple(block_of[name] for name in ordered) if on_stack else ())

    @property
    def is_hard(self) -> bool:
        return self.strength == HARD

    def placed(self) -> Iterable[tuple[str, int | None]]:
        """Each name with its block."""
        return zip(self.names, self.blocks or (None,) * len(self.names), strict=True)


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

    - Ties of strength 0, and of fewer than two names, say nothing and vanish.
    - Ties of one strength that overlap are one tie.
    - A hard class that a soft tie touches is pulled wholly into the names of that tie. Inside the penalty it
      stays one member, because members are tensors and not names.
    - A soft tie inside one hard class costs nothing but is kept: dropping it would forget its strength, and
      then (a + b) + c could be accepted where a + (b + c) is refused.

    Raises BadInput where soft ties of two finite strengths, or hard ties of two ranks, meet in one parameter: neither
    can be meant.
    """
    ties = [tie for tie in ties if tie.strength > 0 and len(tie.names) > 1]
    block_of = merge_blocks(pair for tie in ties for pair in tie.placed())
    hard = closure(tie.names for tie in ties if tie.is_hard)
    classes = [(HARD, names) for names in hard]
    rank_of = _rank_of(ties)
    for strength in sorted({tie.strength for tie in ties if not tie.is_hard}):
        soft = [tie.names for tie in ties if tie.strength == strength]
        touched = set().union(*soft)
        classes += [(strength, names) for names in closure([*hard, *soft]) if names & touched]
    _refuse_two_strengths(classes)
    normal = [
        Tie(tuple(names), strength, tuple(block_of[n] for n in names), _rank(strength, names, rank_of))
        for strength, names in classes
    ]
    return tuple(sorted(normal, key=lambda tie: (tie.names, tie.strength)))


def _rank(strength: float, names: set[str], rank_of: dict[str, int]) -> int:
    return rank_of[next(iter(names))] if strength == HARD else 0


def _rank_of(ties: Iterable[Tie]) -> dict[str, int]:
    """Of each hard tied name; BadInput where one would have two."""
    found: dict[str, int] = {}
    for tie in ties:
        for name in tie.names if tie.is_hard else ():
            if found.setdefault(name, tie.rank) != tie.rank:
                raise BadInput(
                    f"{name} is tied with rank {found[name]} and with rank {tie.rank}; use one rank where ties overlap"
                )
    return found


def _refuse_two_strengths(classes: list[tuple[float, set[str]]]) -> None:
    strength_of: dict[str, float] = {}
    for strength, names in classes:
        for name in sorted(names) if strength != HARD else ():
            if name in strength_of:
                raise BadInput(
                    f"{name} is softly tied with two strengths, {strength_of[name]:g} and {strength:g}, "
                    "directly or through a hard tie; use one strength for ties that overlap"
                )
            strength_of[name] = strength
