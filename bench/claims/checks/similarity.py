"""Check whether similarity of blocks predicts the cost of tying them, on runs that tied one pair of blocks each."""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from bench.analysis.block_pairs import MEASURES, Seeds, Tied, complete, predictions
from bench.claims.checks.paired import mean_of, pairs, scores, unit
from bench.claims.parts import Measure, Part
from bench.claims.records import by_seed, grouped, metric_of

if TYPE_CHECKING:
    from pandas import DataFrame


BLOCKS = "start_blocks"
"""Column that names the pair of blocks as `0-1`, counted from 0 at the input."""


def rank(frame: "DataFrame", *, ours: str, none: str, by: Sequence[str], measure: str) -> list[Part]:
    """Measure how well `measure` orders the pairs by their cost (`bench.analysis.block_pairs`).

    `rank`: Spearman's correlation of being alike with costing little, over the pairs of a seed, its mean over seeds.
    `choice`: the cost of the pair that is most alike minus the mean of all, below 0 where it is the better choice.
    The other measures are shown and decide nothing.
    """
    parts = []
    for name, mine, other in pairs(frame, ours, none, by):
        known = {prediction.label: prediction for prediction in predictions(_seeds(mine, other))}
        for candidate in MEASURES:
            prediction, decides = known.get(candidate.label), candidate.name == measure
            if prediction or decides:
                measures = (
                    Measure.of("rank", prediction and prediction.rank, "rank correlation"),
                    Measure.of("choice", prediction and prediction.choice, unit(metric_of(mine))),
                )
                notes = [] if prediction else ["too few pairs"]
                parts.append(Part(f"{name}, {candidate.label}", measures, notes, decides))
    return parts


def alike(
    frame: "DataFrame", *, ours: str, none: str, by: Sequence[str], measure: str, threshold: float
) -> list[Part]:
    """Measure what tying neighbours costs and saves whose `measure` is above the threshold.

    `candidates`: how many there are over all seeds. `highest`: the largest value of any two neighbours. `cost`: mean
    over a seed's candidates against no tie, paired by seed. `saved`: percent of all parameters that one of them spares.
    """
    parts = []
    for name, mine, other in pairs(frame, ours, none, by):
        seeds, values, count, costs = _seeds(mine, other), [], 0, {}
        for seed, tied_pairs in seeds.items():
            near = [tied for tied in tied_pairs if tied.likeness["apart"] == 1]
            values += [tied.likeness[measure] for tied in near if tied.likeness[measure] is not None]
            chosen = [tied.cost for tied in near if (tied.likeness[measure] or 0) > threshold]
            count += len(chosen)
            if chosen:
                costs[seed] = fmean(chosen)
        counted = mine.dropna(subset=["num_params"])
        share = (1 - counted["num_params"] / counted["num_params_untied"]).mean()
        measures = (
            Measure("candidates", float(count) if seeds else None),
            Measure("highest", max(values, default=None), "cosine", n=len(seeds) or None),
            mean_of("cost", costs, unit(metric_of(mine))),
            Measure("saved", 100 * float(share) if len(counted) else None, "% of all parameters"),
        )
        parts.append(Part(name, measures, [] if seeds else ["too few pairs"]))
    return parts


def _seeds(mine: "DataFrame", other: "DataFrame") -> Seeds:
    """Return the pairs that every seed has, with their costs in the unit of `unit`, where more is worse."""
    if not len(other) or BLOCKS not in mine.columns:
        return {}
    metric, seeds = metric_of(mine), {}
    untied = scores(other, metric)
    for (blocks,), rows in grouped(mine.dropna(subset=[BLOCKS]), [BLOCKS]).items():
        if blocks.count("-") != 1:
            continue
        one, two = map(int, blocks.split("-"))
        columns = {m.name: f"start_{m.name}" for m in MEASURES if f"start_{m.name}" in rows.columns}
        values = {name: by_seed(rows, column) for name, column in columns.items()}
        for seed, score in scores(rows, metric).items():
            if seed in untied:
                likeness = {name: of_seed.get(seed) for name, of_seed in values.items()} | {
                    "apart": two - one
                }
                seeds.setdefault(seed, []).append(Tied((one, two), likeness, untied[seed] - score))
    return complete(seeds)
