"""Whether similarity of blocks predicts the cost of tying them, on runs that tied one pair each (`start.likeness`)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.analysis.block_pairs import MEASURES, Seeds, Tied, complete, predictions
from bench.claims.checks.paired import measured, pairs, scores, unit
from bench.claims.parts import Measure, Part
from bench.claims.records import by_seed, grouped, metric_of

if TYPE_CHECKING:
    from pandas import DataFrame


BLOCKS = "start_blocks"
"""Column that names the pair of blocks as `0-1`, counted from 0 at the input."""


def rank(frame: "DataFrame", *, ours: str, none: str, by: Sequence[str], measure: str) -> list[Part]:
    """How well `measure` orders the pairs by their cost (`bench.analysis.block_pairs`); the other measures are context.

    `rank`: Spearman's correlation of being alike with costing little, over the pairs of a seed, its mean over seeds.
    `choice`: the cost of the pair that is most alike minus the mean of all, below 0 where it is the better choice.
    """
    found = []
    for name, mine, other in pairs(frame, ours, none, by):
        seeds, said = _seeds(mine, other), unit(metric_of(mine))
        for each in MEASURES:
            known = [one for one in predictions(seeds) if one.label == each.label]
            wanted = each.name == measure
            if not known and not wanted:
                continue
            numbers = (
                _numbers(known[0], said) if known else (Measure("rank", None), Measure("choice", None, said))
            )
            found.append(Part(f"{name}, {each.label}", numbers, "" if known else "too few pairs", wanted))
    return found


def alike(
    frame: "DataFrame", *, ours: str, none: str, by: Sequence[str], measure: str, threshold: float
) -> list[Part]:
    """What tying neighbours costs and saves whose `measure` is above the threshold.

    `candidates`: how many there are over all seeds. `highest`: the largest value of any two neighbours. `cost`: mean
    over a seed's candidates against no tie, paired by seed. `saved`: percent of all parameters that one of them spares.
    """
    found = []
    for name, mine, other in pairs(frame, ours, none, by):
        seeds, said = _seeds(mine, other), unit(metric_of(mine))
        near = {
            seed: [each for each in of if each.blocks[1] == each.blocks[0] + 1] for seed, of in seeds.items()
        }
        values = [
            each.likeness[measure]
            for of in near.values()
            for each in of
            if each.likeness[measure] is not None
        ]
        chosen = {
            seed: [each.cost for each in of if (each.likeness[measure] or 0) > threshold]
            for seed, of in near.items()
        }
        costs = {seed: sum(of) / len(of) for seed, of in chosen.items() if of}
        measures = (
            Measure("candidates", float(sum(map(len, chosen.values()))) if seeds else None),
            Measure("highest", max(values, default=None), "cosine", n=len(seeds) or None),
            measured("cost", costs, dict.fromkeys(costs, 0.0), said),
            Measure("saved", _saved(mine), "% of all parameters"),
        )
        found.append(Part(name, measures, "" if seeds else "too few pairs"))
    return found


def _numbers(known: object, said: str) -> tuple[Measure, Measure]:
    rank, choice = known.rank, known.choice
    return (
        Measure("rank", rank.mean, "rank correlation", rank.low, rank.high, rank.n),
        Measure("choice", choice.mean, said, choice.low, choice.high, choice.n),
    )


def _seeds(mine: "DataFrame", other: "DataFrame") -> Seeds:
    """The pairs that every seed has, with their costs in the unit of `unit`, where more is worse."""
    if not len(other) or BLOCKS not in mine.columns:
        return {}
    metric, found = metric_of(mine), {}
    without = scores(other, metric)
    for (blocks,), rows in grouped(mine.dropna(subset=[BLOCKS]), [BLOCKS]).items():
        if blocks.count("-") != 1:
            continue
        one, two = map(int, blocks.split("-"))
        with_it = scores(rows, metric)
        for seed in with_it.keys() & without.keys():
            tied = Tied(
                (one, two), _likeness(rows, seed) | {"apart": two - one}, without[seed] - with_it[seed]
            )
            found.setdefault(seed, []).append(tied)
    return complete(found)


def _likeness(rows: "DataFrame", seed: int) -> Mapping[str, float | None]:
    names = [each.name for each in MEASURES if f"start_{each.name}" in rows.columns]
    return {name: by_seed(rows, f"start_{name}").get(seed) for name in names}


def _saved(rows: "DataFrame") -> float | None:
    counted = rows.dropna(subset=["num_params"])
    if not len(counted):
        return None
    return 100 * float((1 - counted["num_params"] / counted["num_params_untied"]).mean())
