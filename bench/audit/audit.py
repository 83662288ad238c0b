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
        """Yield the indices of each two tensors once, unless they are one tensor already."""
        for one in range(len(self.names)):
            for other in range(one + 1, len(self.names)):
                if self.shared[one] != self.shared[other]:
                    yield one, other


def kinds_of(model: nn.Module, stack: Stack = None, scope: Scope = "weights") -> tuple[Kind, ...]:
    """Return every kind within the scope (`bench.tying.cross_layer`, and its errors). Nothing of the model is kept."""
    depth = len(blocks_of(model, stack))
    kinds = []
    check_finite(parameters_by_name(model), "to be compared")
    for tie in cross_layer(model, stack=stack, scope=scope).ties:
        tensors = [weight(model, name) for name in tie.names]
        first: dict[int, int] = {}
        kinds.append(
            Kind(
                pattern=pattern_of(tie.names),
                names=tie.names,
                places=tie.blocks,
                depth=depth,
                shape=tuple(tensors[0].shape),
                numel=tensors[0].numel(),
                shared=tuple(first.setdefault(id(tensor), index) for index, tensor in enumerate(tensors)),
                products=gram(tensors),
            )
        )
    return tuple(kinds)


def block_cosines(kinds: Sequence[Kind]) -> list[list[float | None]]:
    """Return cosines [depth][depth] over all kinds; None where two blocks have nothing in common."""
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
        return tuple(self.kind.blocks[member] for member in self.members)

    @property
    def tie(self) -> Tie:
        names = tuple(self.kind.names[member] for member in self.members)
        return Tie(names, blocks=tuple(self.kind.places[member] for member in self.members))


def candidates(
    kinds: Sequence[Kind], floors: Mapping[tuple[str, ...], float], threshold: float
) -> list[Candidate]:
    """Return the groups of each kind, those that save most first.

    floors: names of a kind -> the highest cosine of its pairs at random initialisation, which alike ones must exceed.
    Groups grow by complete linkage, the most alike first: every two members of one are alike.
    """
    groups = []
    for kind in kinds:
        for members in _groups(kind, threshold, floors.get(kind.names, -1.0)):
            pairs = [(a, b) for a in members for b in members if a < b and kind.shared[a] != kind.shared[b]]
            distinct = len({kind.shared[member] for member in members})
            groups.append(
                Candidate(
                    kind,
                    members,
                    min(kind.cosine(*pair) for pair in pairs),
                    max(kind.distance(*pair) for pair in pairs),
                    (distinct - 1) * kind.numel,
                )
            )
    return sorted(groups, key=lambda group: (-group.saved, -group.cosine, group.kind.pattern))


def _groups(kind: Kind, threshold: float, floor: float) -> list[tuple[int, ...]]:
    """Return the groups of two distinct tensors or more, of which every two are alike."""
    group_of = {
        one: frozenset(other for other in range(len(kind.names)) if kind.shared[other] == kind.shared[one])
        for one in range(len(kind.names))
    }
    for one, other in sorted(kind.pairs(), key=lambda pair: -kind.cosine(*pair)):
        left, right = group_of[one], group_of[other]
        if left != right and all(threshold <= kind.cosine(a, b) > floor for a in left for b in right):
            group_of |= dict.fromkeys(left | right, left | right)
    groups = {tuple(sorted(group)) for group in group_of.values()}
    return sorted(group for group in groups if len({kind.shared[index] for index in group}) > 1)


@dataclass(frozen=True)
class Neighbours:
    """How alike the neighbouring blocks of one network are.

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
    """How alike blocks are. random: before training, None where none can be made anew. cka: [depth][depth] or None."""

    trained: Neighbours
    cka: list[list[float | None]] | None
    random: Neighbours | None = None
    twins: Twins | None = None


def read(model: nn.Module, stack: Sequence[str], forwards: Forwards | None) -> list[Outputs]:
    """Return the outputs of the blocks on the sample, [] without one. BadInput where the model cannot read it."""
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
    activations: Sequence[Outputs],
    chance: bool = False,
) -> Neighbours:
    """Compare each block with the next. chance: pairs of one shape differ by chance alone; one is aligned for all."""
    cosines = block_cosines(kinds)
    return Neighbours(
        cosine=tuple(cosines[index][index + 1] for index in range(len(stack) - 1)),
        aligned=_aligned(model, stack, chance),
        cka=tuple(across(activations[:-1], activations[1:])),
        influence=tuple(output.influence for output in activations),
    )


def twins(
    model: nn.Module,
    other: nn.Module,
    stack: Sequence[str],
    ours: Sequence[Outputs],
    theirs: Sequence[Outputs],
) -> Twins:
    return Twins(
        tuple(_or_reason(lambda block=block: align(model, block, block, other)) for block in stack),
        tuple(across(ours, theirs)),
    )


def _aligned(model: nn.Module, stack: Sequence[str], chance: bool) -> tuple[Aligned | str, ...]:
    by_shapes: dict[tuple, Aligned | str] = {}
    alignments = []
    for one, other in zip(stack[:-1], stack[1:], strict=True):
        shapes = (_shapes(model, one), _shapes(model, other)) if chance else (one, other)
        if shapes not in by_shapes:
            by_shapes[shapes] = _or_reason(lambda one=one, other=other: align(model, one, other))
        alignments.append(by_shapes[shapes])
    return tuple(alignments)


def _shapes(model: nn.Module, block: str) -> tuple:
    """Return what a block's alignment depends on, its numbers aside."""
    try:
        axes = hidden_of(model, block).axes
    except NotApplicable:
        return (block,)
    inside = submodule(model, block)
    return tuple((name, axis, tuple(weight(inside, name).shape)) for name, axis in axes)


def _or_reason(measure: Callable[[], Aligned]) -> Aligned | str:
    try:
        return measure()
    except NotApplicable as reason:
        return str(reason)


SEED = 20_240_229
"""Seed of the network at random initialisation."""


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
    subject: Subject,
    threshold: float,
    stack: Stack = None,
    scope: Scope = "weights",
    other: Subject | None = None,
    sample: str | None = None,
) -> Audit:
    """Audit a model. BadInput where it or the sample cannot be loaded, has no stack to compare along, or does not fit.

    One model is in memory at a time, but for the comparison with `other`.
    """
    forwards = subject.forwards(sample)
    model = subject.trained()
    try:
        kinds, names = kinds_of(model, stack, scope), blocks_of(model, stack)
    except NotApplicable as reason:
        refusal = f"{subject.name} cannot be audited: {reason}"
        if (uses := count_in_config(model, "num_hidden_layers") or 1) > 1:
            raise TiedAlready(
                f"{refusal}; its config uses it {uses} times, so it is tied already"
            ) from reason
        raise BadInput(refusal) from reason
    activations = read(model, names, forwards)
    trained = neighbours(model, names, kinds, activations)
    seeds, twin = ({}, None) if other is None else _same_in(other, model, kinds, names, forwards, activations)
    floors, random, no_floor = {}, None, ""
    num_params = sum(parameter.numel() for parameter in model.parameters())
    samples = {name: sample_of(weight(model, name)) for kind in kinds for name in kind.names}
    del model
    gc.collect()
    cka = cka_map(activations) if activations else None
    del activations
    try:
        floors, random = _floors(subject, stack, scope, forwards, samples)
    except NotApplicable as reason:
        no_floor = str(reason)
    groups = candidates(kinds, {names: highest for names, (_, highest) in floors.items()}, threshold)
    return Audit(
        name=subject.name,
        num_params=num_params,
        num_params_tied=num_params - sum(group.saved for group in groups),
        depth=kinds[0].depth,
        threshold=threshold,
        kinds=kinds,
        blocks=block_cosines(kinds),
        alike=Blocks(trained, cka, random, twin),
        floors=floors,
        no_floor=no_floor,
        seeds=seeds,
        candidates=tuple(groups),
        plan=TyingPlan(tuple(group.tie for group in groups)),
    )


class TiedAlready(BadInput):
    """A model has no blocks to compare: it is one block that is used several times."""


def _floors(
    subject: Subject, stack: Stack, scope: Scope, forwards: Forwards | None, samples: Mapping[str, Tensor]
) -> tuple[dict[tuple[str, ...], tuple[float, float]], Neighbours]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = subject.fresh()
    floors = {}
    kinds, names = kinds_of(fresh, stack, scope), blocks_of(fresh, stack)
    _check_is_chance(fresh, kinds, samples)
    for kind in kinds:
        if pairs := [kind.cosine(*pair) for pair in kind.pairs()]:
            floors[kind.names] = (sum(pairs) / len(pairs), max(pairs))
    return floors, neighbours(fresh, names, kinds, read(fresh, names, forwards), chance=True)


def _check_is_chance(fresh: torch.nn.Module, kinds: Sequence[Kind], samples: Mapping[str, Tensor]) -> None:
    """Raise NotApplicable where the network before training is another one, or all its weights are the trained ones.

    samples: of the trained weights, by name. One tensor of a kind that stayed makes no pair, and one kind that stayed
    may be made so, as the decays of state space models are: its pairs are then as alike as chance can be.
    """
    fresh_names = {name for kind in kinds for name in kind.names}
    if missing := sorted(samples.keys() - fresh_names):
        raise NotApplicable(f"the network that is made anew has no {missing[0]}")
    compared = [[name for name in kind.names if name in samples] for kind in kinds]

    def stayed_as(name: str) -> bool:
        values = weight(fresh, name)
        return not is_constant(values) and is_same(sample_of(values), samples[name])

    stayed = [list(filter(stayed_as, names)) for names in compared]
    if all(len(names) > 1 for names in stayed):
        raise NotApplicable(f"{' and '.join(stayed[0][:2])} hold before training what they hold after it")


def _same_in(
    other: Subject,
    model: torch.nn.Module,
    kinds: tuple[Kind, ...],
    names: tuple[str, ...],
    forwards: Forwards | None,
    activations: Sequence[Outputs],
) -> tuple[dict[tuple[str, ...], float], Twins]:
    """Return per kind the mean cosine of a tensor and the tensor of its name in the other model; and block by block."""
    second = other.trained()
    theirs, ours = parameters_by_name(second), parameters_by_name(model)
    means = {}
    for kind in kinds:
        values = []
        for name in kind.names:
            if name not in theirs or theirs[name].shape != ours[name].shape:
                raise BadInput(
                    f"{other.name} has no {name} of shape {kind.shape}: compare models of one architecture"
                )
            values.append(float(cosines(gram([weight(model, name), weight(second, name)]))[0, 1]))
        means[kind.names] = sum(values) / len(values)
    return means, twins(model, second, names, activations, read(second, names, forwards))
