"""One model's audit: its kinds of weight, chance, another seed, the candidates, and what they would save together."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bench.audit.candidates import Candidate, candidates, plan_of
from bench.audit.kinds import Kind, block_cosines, kinds_of
from bench.audit.subjects import Subject
from bench.errors import BadInput
from bench.tying import NotApplicable, TyingPlan
from bench.tying.similarity import cosines, gram
from bench.tying.strategies import Scope, Stack

SEED = 20_240_229
"""Of the network at random initialisation."""


@dataclass(frozen=True)
class Audit:
    """What was found in a model.

    num_params: its distinct parameters; num_params_tied: with all candidates tied.
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
) -> Audit:
    """Raises BadInput where a model cannot be loaded, has no stack to compare along, or `other` is of another kind.

    One model is in memory at a time, but for the comparison with `other`.
    """
    model = asked.trained()
    try:
        kinds = kinds_of(model, stack, scope)
    except NotApplicable as reason:
        raise BadInput(f"{asked.name} cannot be audited: {reason}") from reason
    seeds = {} if other is None else _same_in(other, model, kinds)
    floors, no_floor = {}, ""
    num_params = sum(parameter.numel() for parameter in model.parameters())
    del model
    gc.collect()
    try:
        floors = _floors(asked, stack, scope)
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
        floors=floors,
        no_floor=no_floor,
        seeds=seeds,
        candidates=tuple(found),
        plan=plan_of(found),
    )


def _floors(asked: Subject, stack: Stack, scope: Scope) -> dict[tuple[str, ...], tuple[float, float]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        fresh = asked.fresh()
    found = {}
    for kind in kinds_of(fresh, stack, scope):
        if pairs := [kind.cosine(*pair) for pair in kind.pairs()]:
            found[kind.names] = (sum(pairs) / len(pairs), max(pairs))
    return found


def _same_in(other: Subject, model: torch.nn.Module, kinds: tuple[Kind, ...]) -> dict[tuple[str, ...], float]:
    """Per kind the mean cosine of a tensor and the tensor of its name in the other model."""
    theirs, ours = (dict(m.named_parameters(remove_duplicate=False)) for m in (other.trained(), model))
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
    return found
