"""Audit one model: its kinds of weight, chance, another seed, its blocks, the candidates and what they save."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.audit.load import Forwards, Subject, count_in_config, is_constant, is_same, sample_of
from bench.runs.worker import one_line
from bench.tying import NotApplicable, Tie, TyingPlan, cross_layer
from bench.tying.apply import parameters_by_name, weight
from bench.tying.errors import BadInput
from bench.tying.gate import check_finite
from bench.tying.methods import Scope, Stack, blocks_of
from bench.tying.penalty import gram
from bench.tying.plan import pattern_of
from bench.tying.similarity import (
    Aligned,
    Outputs,
    across,
    align,
    cka_map,
    cosines,
    distances,
    hidden_of,
    outputs,
    whole,
)
from bench.tying.structure import submodule


@dataclass(frozen=True)
class Kind:
    """Namesakes of one shape along the stack.

    names, places: of its tensors, input first; places as a tie has them, -1 for the block nearest the output. shared:
    index -> that of the first name of the same tensor. products: their `gram`.
    """

    pattern: str
    names: tuple[str, ...]
    places: tuple[int, ...]
    depth: int
    shape: tuple[int, ...]
    numel: int
    shared: tuple[int, ...]
    products: Tensor

    @property
    def blocks(self) -> tuple[int, ...]:
        """Counted from 0 at the input."""
        return tuple(place % self.depth for place in self.places)

    def cosine(self, one: int, other: int) -> float:
        return float(cosines(self.products)[one, other])

    def distance(self, one: int, other: int) -> float:
        return float(distances(self.products)[one, other])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Indices of two tensors, each pair once, but for those that are one tensor already."""
        for one in range(len(self.names)):
            for other in range(one + 1, len(self.names)):
                if self.shared[one] != self.shared[other]:
                    yield one, other


def kinds_of(model: nn.Module, stack: Stack = None, scope: Scope = "weights") -> tuple[Kind, ...]:
    """Every kind within the scope (`bench.tying.cross_layer`, and its errors). Nothing of the model is kept."""
    depth = len(blocks_of(model, stack))
    found = []
    check_finite(parameters_by_name(model), "to be compared")
    for tie in cross_layer(model, stack=stack, scope=scope).ties:
        tensors = [weight(model, name) for name in tie.names]
        first: dict[int, int] = {}
        found.append(
            Kind(
                pattern=pattern_of(tie.names),
                names=tie.names,
                places=tie.blocks,
                depth=depth,
                shape=tuple(tensors[0].shape),
                numel=tensors[0].numel(),
                shared=tuple(first.setdefault(id(tensor), at) for at, tensor in enumerate(tensors)),
                products=gram(tensors),
            )
        )
    return tuple(found)


def block_cosines(kinds: Sequence[Kind]) -> list[list[float | None]]:
    """[depth][depth] over all kinds; None where two blocks have nothing in common."""
    return whole(kinds[0].depth, [(kind.blocks, kind.products) for kind in kinds])


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
        reason = f"{type(error).__name__}: {one_line(error)}"
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
    inside = submodule(model, block)
    return tuple((name, axis, tuple(weight(inside, name).shape)) for name, axis in axes)


def _told(measure: Callable[[], Aligned]) -> Aligned | str:
    try:
        return measure()
    except NotApplicable as reason:
        return str(reason)


SEED = 20_240_229
"""Of the network at random initialisation."""


@dataclass(frozen=True)
class Audit:
    """What was found in a model.

    num_params: its distinct parameters; num_params_tied: with all candidates tied. blocks: cosines over all kinds;
    alike: what blocks have in common beyond that.
    floors: names of a kind -> (mean, highest) cosine of its pairs at random initialisation; empty with `no_floor`, the
    reason. seeds: names -> mean cosine of the same tensor in the other model; empty without one.
    """

    name: str
    num_params: int
    num_params_tied: int
    depth: int
    threshold: float
    kinds: tuple[Kind, ...]
    blocks: list[list[float | None]]
    alike: Blocks
    floors: Mapping[tuple[str, ...], tuple[float, float]]
    no_floor: str
    seeds: Mapping[tuple[str, ...], float]
    candidates: tuple[Candidate, ...]
    plan: TyingPlan

    @property
    def savings(self) -> float:
        """The share of the parameters that the candidates would save, 0 to 1."""
        return 1 - self.num_params_tied / self.num_params


def audit(
    asked: Subject,
    threshold: float,
    stack: Stack = None,
    scope: Scope = "weights",
    other: Subject | None = None,
    sample: str | None = None,
) -> Audit:
    """Raises BadInput where a model or the sample cannot be loaded, has no stack to compare along, or does not fit.

    One model is in memory at a time, but for the comparison with `other`.
    """
    forwards = asked.forwards(sample)
    model = asked.trained()
    try:
        kinds, names = kinds_of(model, stack, scope), blocks_of(model, stack)
    except NotApplicable as reason:
        refusal = f"{asked.name} cannot be audited: {reason}"
        if (uses := count_in_config(model, "num_hidden_layers") or 1) > 1:
            raise TiedAlready(
                f"{refusal}; its config uses it {uses} times, so it is tied already"
            ) from reason
        raise BadInput(refusal) from reason
    seen = read(model, names, forwards)
    trained = neighbours(model, names, kinds, seen)
    seeds, pairs = ({}, None) if other is None else _same_in(other, model, kinds, names, forwards, seen)
    floors, random, no_floor = {}, None, ""
    num_params = sum(parameter.numel() for parameter in model.parameters())
    known = {name: sample_of(weight(model, name)) for kind in kinds for name in kind.names}
    del model
    gc.collect()
    cka = cka_map(seen) if seen else None
    del seen
    try:
        floors, random = _floors(asked, stack, scope, forwards, known)
    except NotApplicable as reason:
        no_floor = str(reason)
    found = candidates(kinds, {names: highest for names, (_, highest) in floors.items()}, threshold)
    return Audit(
        name=asked.name,
        num_params=num_params,
        num_params_tied=num_params - sum(each.saved for each in found),
        depth=kinds[0].depth,
        threshold=threshold,
        kinds=kinds,
        blocks=block_cosines(kinds),
        alike=Blocks(trained, cka, random, pairs),
        floors=floors,
        no_floor=no_floor,
        seeds=seeds,
        candidates=tuple(found),
        plan=TyingPlan(tuple(each.tie for each in found)),
    )


class TiedAlready(BadInput):
    """A model has no blocks to compare: it is one block that is used several times."""


def _floors(
    asked: Subject, stack: Stack, scope: Scope, forwards: Forwards | None, known: Mapping[str, Tensor]
) -> tuple[dict[tuple[str, ...], tuple[float, float]], Neighbours]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = asked.fresh()
    found = {}
    kinds, names = kinds_of(fresh, stack, scope), blocks_of(fresh, stack)
    _check_is_chance(fresh, kinds, known)
    for kind in kinds:
        if pairs := [kind.cosine(*pair) for pair in kind.pairs()]:
            found[kind.names] = (sum(pairs) / len(pairs), max(pairs))
    return found, neighbours(fresh, names, kinds, read(fresh, names, forwards), chance=True)


def _check_is_chance(fresh: torch.nn.Module, kinds: Sequence[Kind], known: Mapping[str, Tensor]) -> None:
    """NotApplicable where the network before training is another one, or all its weights are those of after training.

    known: a sample of the trained weights. One tensor of a kind that stayed makes no pair, and one kind that stayed may
    be made so, as the decays of state space models are: its pairs are then as alike as chance can be.
    """
    there = {name for kind in kinds for name in kind.names}
    if missing := sorted(known.keys() - there):
        raise NotApplicable(f"the network that is made anew has no {missing[0]}")
    compared = [[name for name in kind.names if name in known] for kind in kinds]

    def stayed_as(name: str) -> bool:
        values = weight(fresh, name)
        return not is_constant(values) and is_same(sample_of(values), known[name])

    stayed = [list(filter(stayed_as, names)) for names in compared]
    if all(len(names) > 1 for names in stayed):
        raise NotApplicable(f"{' and '.join(stayed[0][:2])} hold before training what they hold after it")


def _same_in(
    other: Subject,
    model: torch.nn.Module,
    kinds: tuple[Kind, ...],
    names: tuple[str, ...],
    forwards: Forwards | None,
    seen: Sequence[Outputs],
) -> tuple[dict[tuple[str, ...], float], Twins]:
    """Per kind the mean cosine of a tensor and the tensor of its name in the other model; and block by block."""
    second = other.trained()
    theirs, ours = parameters_by_name(second), parameters_by_name(model)
    found = {}
    for kind in kinds:
        values = []
        for name in kind.names:
            if name not in theirs or theirs[name].shape != ours[name].shape:
                raise BadInput(
                    f"{other.name} has no {name} of shape {kind.shape}: compare models of one architecture"
                )
            values.append(float(cosines(gram([weight(model, name), weight(second, name)]))[0, 1]))
        found[kind.names] = sum(values) / len(values)
    return found, twins(model, second, names, seen, read(second, names, forwards))
