"""Which tensors are alike enough to be one, and what that would save."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.audit.kinds import Kind
from bench.tying import Tie, TyingPlan


@dataclass(frozen=True)
class Candidate:
    """Tensors of one kind of which every two are alike: at least the threshold, and more than any at random.

    cosine: the lowest of its pairs. distance: the largest. saved: parameters that one tensor for all would spare.
    """

    kind: Kind
    members: tuple[int, ...]
    cosine: float
    distance: float
    saved: int

    @property
    def blocks(self) -> tuple[int, ...]:
        return tuple(self.kind.blocks[at] for at in self.members)

    @property
    def tie(self) -> Tie:
        names = tuple(self.kind.names[at] for at in self.members)
        return Tie(names, blocks=tuple(self.kind.places[at] for at in self.members))


def candidates(
    kinds: Sequence[Kind], floors: Mapping[tuple[str, ...], float], threshold: float
) -> list[Candidate]:
    """The groups of each kind, those that save most first.

    floors: names of a kind -> the highest cosine of its pairs at random initialisation, which alike ones must exceed.
    Groups grow by complete linkage, the most alike first: every two members of one are alike.
    """
    found = []
    for kind in kinds:
        for members in _groups(kind, threshold, floors.get(kind.names, -1.0)):
            pairs = [(a, b) for a in members for b in members if a < b and kind.shared[a] != kind.shared[b]]
            distinct = len({kind.shared[at] for at in members})
            found.append(
                Candidate(
                    kind,
                    members,
                    min(kind.cosine(*pair) for pair in pairs),
                    max(kind.distance(*pair) for pair in pairs),
                    (distinct - 1) * kind.numel,
                )
            )
    return sorted(found, key=lambda each: (-each.saved, -each.cosine, each.kind.pattern))


def plan_of(found: Sequence[Candidate]) -> TyingPlan:
    return TyingPlan(tuple(each.tie for each in found))


def _groups(kind: Kind, threshold: float, floor: float) -> list[tuple[int, ...]]:
    """Groups of two distinct tensors or more, of which every two are alike."""
    group_of = {
        at: frozenset(other for other in range(len(kind.names)) if kind.shared[other] == kind.shared[at])
        for at in range(len(kind.names))
    }
    for one, other in sorted(kind.pairs(), key=lambda pair: -kind.cosine(*pair)):
        left, right = group_of[one], group_of[other]
        if left != right and all(threshold <= kind.cosine(a, b) > floor for a in left for b in right):
            group_of |= dict.fromkeys(left | right, left | right)
    groups = {tuple(sorted(group)) for group in group_of.values()}
    return sorted(group for group in groups if len({kind.shared[at] for at in group}) > 1)
