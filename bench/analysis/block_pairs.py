"""Pair similarity with cost: runs that tied one pair of blocks of a trained network and went on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.analysis.groups import Section
from bench.analysis.runs import RunRecord, is_finite
from bench.analysis.statistics import Interval, Paired, interval_of_correlations, paired, spearman

LEAST = 4
"""Fewer pairs of a seed than this are not ranked."""
AT_ONCE = "at_once"
"""The measure that trained models alone have."""
ELSEWHERE = "cost at the other seeds"
"""The predictor that is no measure: how far costs repeat. No measure can predict much better."""


@dataclass(frozen=True)
class Measure:
    """A measure of likeness. `sign` is 1 where a higher value is more alike, -1 where a lower one is."""

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
    Measure(AT_ONCE, "metric as tied, before any training", 1),
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
"""Seed -> its tied pairs; `complete` keeps the pairs that every seed has."""


@dataclass(frozen=True)
class Prediction:
    """What one measure, or ELSEWHERE, says of the cost: `rank`, and the cost of its first choice against the mean."""

    label: str
    pairs: int
    rank: Interval
    choice: Paired


def tied_pairs(section: Section) -> Seeds:
    """Return the runs that tied one pair, of the seeds at which `none` went on too; {} for fewer than LEAST pairs."""
    pairs: dict[int, list[Tied]] = defaultdict(list)
    sign = -1 if section.metric.higher_is_better else 1
    for cell in section.cells:
        untied = section.untied(cell)
        costs, without = cell.metric(), untied.metric() if untied else {}
        for run in cell.done:
            likeness = run.number("start", "likeness") or {}
            blocks = likeness.get("blocks") or ()
            if len(blocks) == 1 and run.seed in without:
                first, second = blocks[0]
                cost = sign * (costs[run.seed] - without[run.seed])
                known = {**likeness, "apart": second - first, AT_ONCE: _at_once(run, -sign)}
                pairs[run.seed].append(Tied((first, second), known, cost))
    return complete(pairs)


def _at_once(run: RunRecord, sign: int) -> float | None:
    """Return the test metric of a trained model as tied, before any step; None for a run that began from a run."""
    start = run.number("start") or {}
    return sign * start["test"][run.metric.name] if "model" in start else None


def complete(pairs: Seeds) -> Seeds:
    """Keep the pairs that every seed has, in order; {} for fewer than LEAST.

    A pair that was tied in several ways counts at its least cost.
    """
    costliest_first = {seed: sorted(pairs[seed], key=lambda tied: -tied.cost) for seed in sorted(pairs)}
    by_blocks = {seed: {tied.blocks: tied for tied in ranked} for seed, ranked in costliest_first.items()}
    shared = set.intersection(*map(set, by_blocks.values())) if by_blocks else set()
    if len(shared) < LEAST:
        return {}
    return {seed: [tied[blocks] for blocks in sorted(shared)] for seed, tied in by_blocks.items()}


def predictions(seeds: Seeds) -> list[Prediction]:
    """Return what each measure that all pairs have says, and what the pairs cost at the other seeds."""
    if not seeds:
        return []
    alike = {
        measure.label: {s: [t.alike(measure) for t in pairs] for s, pairs in seeds.items()}
        for measure in MEASURES
    }
    if len(seeds) > 1:
        alike[ELSEWHERE] = {seed: [-cost for cost in _costs_elsewhere(seeds, seed)] for seed in seeds}
    return [row for label, values in alike.items() if (row := _prediction(label, seeds, values))]


def _costs_elsewhere(seeds: Seeds, seed: int) -> list[float]:
    """Return the mean cost of each pair of a seed at the other seeds."""
    others = zip(*(pairs for other, pairs in seeds.items() if other != seed), strict=True)
    return [fmean(tied.cost for tied in same_pair) for same_pair in others]


def _prediction(label: str, seeds: Seeds, alike: Mapping[int, list[float | None]]) -> Prediction | None:
    ranks, chosen, mean, known = [], {}, {}, []
    for seed, pairs in seeds.items():
        known = [(v, tied.cost) for v, tied in zip(alike[seed], pairs, strict=True) if v is not None]
        rank = spearman([value for value, _ in known], [-cost for _, cost in known])
        if rank is None or len(known) < LEAST:
            return None
        ranks.append(rank)
        chosen[seed] = max(known, key=lambda pair: pair[0])[1]
        mean[seed] = fmean(cost for _, cost in known)
    return Prediction(label, len(known), interval_of_correlations(ranks), paired(chosen, mean))
