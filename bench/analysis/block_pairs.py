"""Pair similarity with cost: runs that tied one pair of blocks of a trained network and went on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.analysis.groups import Section
from bench.analysis.runs import is_finite
from bench.analysis.statistics import Interval, Paired, interval, paired, spearman

LEAST = 4
"""Pairs of a seed that are ranked."""
ELSEWHERE = "cost at the other seeds"
"""The predictor that is none: how far costs repeat, which none can exceed by much."""


@dataclass(frozen=True)
class Measure:
    """`sign` is 1 where more of it is more alike, -1 where less."""

    name: str
    label: str
    sign: int


MEASURES = (
    Measure("cosine", "cosine of raw weights", 1),
    Measure("distance", "distance of raw weights", -1),
    Measure("aligned", "cosine, hidden units matched", 1),
    Measure("cka", "CKA of outputs", 1),
    Measure("influence", "influence of the two blocks", -1),
    Measure("apart", "blocks apart", -1),
)


@dataclass(frozen=True)
class Tied:
    """One pair of blocks, counted from 0 at the input, tied at one seed. `cost` is positive where tying was worse."""

    blocks: tuple[int, int]
    likeness: Mapping[str, float | None]
    cost: float

    def alike(self, measure: Measure) -> float | None:
        value = self.likeness.get(measure.name)
        return measure.sign * value if is_finite(value) else None


Seeds = Mapping[int, Sequence[Tied]]
"""Seed -> its pairs, those alone that every seed has."""


@dataclass(frozen=True)
class Prediction:
    """What one measure, or ELSEWHERE, says of the cost: `rank`, and the cost of its first choice against the mean."""

    label: str
    pairs: int
    rank: Interval
    choice: Paired


def tied_pairs(section: Section) -> Seeds:
    """The runs that tied one pair, of the seeds at which `none` went on too; {} for fewer than LEAST pairs."""
    found: dict[int, list[Tied]] = {}
    sign = 1 if section.metric.mode == "min" else -1
    for cell in section.cells:
        plain = section.untied(cell)
        costs, without = cell.metric(), plain.metric() if plain else {}
        for run in cell.done:
            likeness = run.number("start", "likeness") or {}
            blocks = likeness.get("blocks") or ()
            if len(blocks) == 1 and run.seed in without:
                one, other = blocks[0]
                known = {**likeness, "apart": other - one}
                cost = sign * (costs[run.seed] - without[run.seed])
                found.setdefault(run.seed, []).append(Tied((one, other), known, cost))
    return complete(found)


def complete(found: Seeds) -> Seeds:
    """The pairs that every seed has, in order; {} for fewer than LEAST."""
    by_pair = {seed: {each.blocks: each for each in pairs} for seed, pairs in found.items()}
    shared = set.intersection(*map(set, by_pair.values())) if by_pair else set()
    if len(shared) < LEAST:
        return {}
    return {seed: [by_pair[seed][pair] for pair in sorted(shared)] for seed in sorted(by_pair)}


def predictions(seeds: Seeds) -> list[Prediction]:
    """Of each measure that all pairs have, and of what the pairs cost at the other seeds."""
    if not seeds:
        return []
    found = [
        _prediction(measure.label, seeds, lambda _, each, m=measure: each.alike(m)) for measure in MEASURES
    ]
    if len(seeds) > 1:
        found.append(_prediction(ELSEWHERE, seeds, lambda seed, each: -_elsewhere(seeds, seed, each)))
    return [each for each in found if each]


def _elsewhere(seeds: Seeds, seed: int, tied: Tied) -> float:
    return fmean(
        o.cost for s, others in seeds.items() for o in others if s != seed and o.blocks == tied.blocks
    )


def _prediction(label: str, seeds: Seeds, alike: Callable[[int, Tied], float | None]) -> Prediction | None:
    ranks, chosen, mean, count = [], {}, {}, 0
    for seed, pairs in seeds.items():
        known = [(value, each.cost) for each in pairs if (value := alike(seed, each)) is not None]
        rank = spearman([value for value, _ in known], [-cost for _, cost in known])
        if rank is None or len(known) < LEAST:
            return None
        ranks.append(rank)
        chosen[seed] = max(known, key=lambda one: one[0])[1]
        mean[seed] = fmean(cost for _, cost in known)
        count = len(known)
    return Prediction(label, count, interval(ranks), paired(chosen, mean))
