"""One model's audit: its kinds of weight, chance, another seed, the candidates, and what they would save together."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bench.audit.blocks import Blocks, Neighbours, Twins, map_of, neighbours, read, twins
from bench.audit.candidates import Candidate, candidates, plan_of
from bench.audit.kinds import Kind, block_cosines, kinds_of
from bench.audit.samples import Forwards
from bench.audit.subjects import Subject
from bench.errors import BadInput
from bench.similarity.outputs import Outputs
from bench.tying import NotApplicable, TyingPlan
from bench.tying.similarity import cosines, gram
from bench.tying.strategies import Scope, Stack, blocks_of

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
        raise BadInput(f"{asked.name} cannot be audited: {reason}") from reason
    seen = read(model, names, forwards)
    trained = neighbours(model, names, kinds, seen)
    seeds, pairs = ({}, None) if other is None else _same_in(other, model, kinds, names, forwards, seen)
    floors, random, no_floor = {}, None, ""
    num_params = sum(parameter.numel() for parameter in model.parameters())
    del model
    gc.collect()
    cka = map_of(seen)
    del seen
    try:
        floors, random = _floors(asked, stack, scope, forwards)
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
        plan=plan_of(found),
    )


def _floors(
    asked: Subject, stack: Stack, scope: Scope, forwards: Forwards | None
) -> tuple[dict[tuple[str, ...], tuple[float, float]], Neighbours]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = asked.fresh()
    found = {}
    kinds, names = kinds_of(fresh, stack, scope), blocks_of(fresh, stack)
    for kind in kinds:
        if pairs := [kind.cosine(*pair) for pair in kind.pairs()]:
            found[kind.names] = (sum(pairs) / len(pairs), max(pairs))
    return found, neighbours(fresh, names, kinds, read(fresh, names, forwards), chance=True)


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
    theirs, ours = (dict(m.named_parameters(remove_duplicate=False)) for m in (second, model))
    found = {}
    for kind in kinds:
        values = []
        for name in kind.names:
            if name not in theirs or theirs[name].shape != ours[name].shape:
                raise BadInput(
                    f"{other.name} has no {name} of shape {kind.shape}: compare models of one architecture"
                )
            values.append(float(cosines(gram([ours[name], theirs[name]]))[0, 1]))
        found[kind.names] = sum(values) / len(values)
    return found, twins(model, second, names, seen, read(second, names, forwards))
