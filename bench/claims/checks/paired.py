"""Check claims that compare two selections of runs, seed by seed.

In all of them `ours` and `theirs` are expressions of DataFrame.query, `by` are columns that cut both into parts, and
`over` columns that cut ours further, each against the same theirs. Gains are in points of accuracy, or in percent of
perplexity as 100 ln(theirs / ours); above 0 ours is better on test.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from bench.analysis.block_pairs import MEASURES, Prediction, Seeds, Tied, complete, predictions
from bench.analysis.runs import Metric
from bench.analysis.statistics import interval, paired
from bench.claims.evaluate import Measure, Part
from bench.claims.records import by_seed, chosen, grouped, metric_of, missing, named
from bench.runs.store import Status
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame


def gain(
    frame: "DataFrame",
    *,
    ours: str,
    theirs: str,
    by: Sequence[str],
    over: Sequence[str] = (),
    choose: Mapping[str, Sequence[str]] | None = None,
    context: str | None = None,
) -> list[Part]:
    """Measure `gain`: how much better `ours` is than `theirs` on test, paired by seed.

    Args:
        choose: side (`ours`, `theirs`) -> columns over whose values it is searched: the cell with the best mean
            validation metric stands for it, and its test metric is read.
        context: an expression; parts whose runs of ours are all of this kind are shown and decide nothing.
    """
    parts = []
    for name, our_rows, their_rows in pairs(frame, ours, theirs, by, over):
        metric, notes, sides = metric_of(our_rows), [], {"ours": our_rows, "theirs": their_rows}
        for side, columns in (choose or {}).items():
            sides[side] = best_on_validation(sides[side], columns, metric)
        for side, rows in (("ours", our_rows), ("theirs", their_rows)):
            if choose and side in choose and len(sides[side]):
                best = named(choose[side], [sides[side][column].iloc[0] for column in choose[side]])
                notes.append(f"{side}: {best} by validation, best of {len(grouped(rows, choose[side]))}")
        measures = (difference("gain", *sides.values(), metric),)
        parts.append(Part(name, measures, notes, not _is_context(our_rows, context), missing(**sides)))
    return parts


def gains(
    frame: "DataFrame",
    *,
    ours: str,
    theirs: Mapping[str, str],
    by: Sequence[str],
    over: Sequence[str] = (),
    pairs_of_theirs: Mapping[str, Sequence[str]] | None = None,
) -> list[Part]:
    """Measure how much better `ours` is than each of several others on test, paired by seed.

    Args:
        theirs: measure -> expression of what ours is compared with.
        pairs_of_theirs: measure -> (one, other) of the measures in `theirs`: how much better the first is than the
            second.
    """
    their_rows: dict[str, dict[str, DataFrame]] = {}
    our_rows: dict[str, DataFrame] = {}
    for measure, expression in theirs.items():
        for name, rows, other in pairs(frame, ours, expression, by, over):
            our_rows[name] = rows
            their_rows.setdefault(name, {})[measure] = other
    parts = []
    for name, rows in our_rows.items():
        metric, others = metric_of(rows), their_rows[name]
        measures = [difference(measure, rows, other, metric) for measure, other in others.items()]
        for measure, (one, other) in (pairs_of_theirs or {}).items():
            measures.append(difference(measure, others[one], others[other], metric))
        parts.append(Part(name, tuple(measures), lost=missing(ours=rows, **others)))
    return parts


def _is_context(rows: "DataFrame", context: str | None) -> bool:
    """Tell whether the expression holds of every finished run, of which there is one: only these have all columns."""
    done = rows[rows.status == Status.DONE]
    return context is not None and 0 < len(done) == len(chosen(done, context))


def gain_by_size(
    frame: "DataFrame",
    *,
    ours: str,
    theirs: str,
    by: Sequence[str],
    size: str,
    small: str,
    choose: Sequence[str] = (),
) -> list[Part]:
    """Measure `gain` of ours on each size of network, and `more`: that gain minus the gain on the largest network.

    Where `more` is above 0 the largest network loses more than this one does.

    Args:
        size: the column of the size.
        small: an expression of the networks that the claim speaks of; the others are shown and decide nothing.
        choose: columns over whose values ours is searched by the mean validation metric.
    """
    parts = []
    for name, our_rows, their_rows in pairs(frame, ours, theirs, by):
        metric, plain, sides = metric_of(our_rows), grouped(their_rows, [size]), {}
        for value, rows in grouped(our_rows, [size]).items():
            best = best_on_validation(rows, choose, metric) if choose else rows
            sides[value] = best, plain.get(value, frame.iloc[:0])
        seeds = {
            value: differences(*(scores(rows, metric) for rows in both)) for value, both in sides.items()
        }
        largest = seeds[max(seeds)] if seeds else {}
        for value, (best, rows) in sides.items():
            measures = (
                mean_of("gain", seeds[value], unit(metric)),
                measured("more", seeds[value], largest, unit(metric)),
            )
            notes = [f"ours: {named(choose, [best[column].iloc[0] for column in choose])}"] if choose else []
            is_small, lost = len(chosen(best, small)) == len(best), missing(ours=best, theirs=rows)
            parts.append(Part(f"{name}, {named([size], value)}", measures, notes, is_small, lost))
    return parts


def lowering(
    frame: "DataFrame",
    *,
    ours: str,
    theirs: str,
    by: Sequence[str],
    columns: Mapping[str, str],
    share: float,
    unit: str,
    context: Mapping[str, str] | None = None,
) -> list[Part]:
    """Measure how far `ours` is below `theirs` in a column that is better low, paired by seed; a part per column.

    `lower`: the difference. `percent`: the same of the mean of theirs. `beyond`: how far ours is below
    (1 - share) x theirs: where it is below 0, the lowering is smaller than that share.

    Args:
        columns: condition under which the part stands, such as `at the last epoch` -> column.
        context: what else ours is compared with, in words -> expression. These parts decide nothing, and there is none
            where no run is of that kind.
    """
    parts = []
    for words, expression in {"": theirs, **(context or {})}.items():
        for name, our_rows, their_rows in pairs(frame, ours, expression, by):
            if words and not len(their_rows):
                continue
            for condition, column in columns.items():
                low, high = by_seed(our_rows, column), by_seed(their_rows, column)
                less = {seed: (1 - share) * value for seed, value in high.items()}
                both = low.keys() & high.keys()
                total = sum(high[seed] for seed in both)
                percent = 100 * (1 - sum(low[seed] for seed in both) / total) if total > 0 else None
                measures = (
                    measured("lower", high, low, unit),
                    measured("beyond", less, low, unit),
                    Measure("percent", percent, "% of theirs"),
                )
                part = ", ".join(filter(None, (name, condition, words)))
                lost = missing(ours=our_rows, theirs=their_rows)
                parts.append(Part(part, measures, decides=not words, lost=lost))
    return parts


def between(
    frame: "DataFrame", *, ours: str, one: str, other: str, by: Sequence[str], over: Sequence[str] = ()
) -> list[Part]:
    """Measure where `ours` lies between two ends: its gains `over_one` and `over_other`, paired by seed.

    `position` is its mean's place on the way from `one` (0) to `other` (1).
    """
    parts = []
    others = {name: rows for name, _, rows in pairs(frame, ours, other, by, over)}
    for name, our_rows, first in pairs(frame, ours, one, by, over):
        metric, second = metric_of(our_rows), others[name]
        over_one = difference("over_one", our_rows, first, metric)
        way = difference("way", second, first, metric).value
        position = over_one.value / way if over_one.value is not None and way else None
        over_other = difference("over_other", our_rows, second, metric)
        measures = (over_one, over_other, Measure("position", position, "of the way"))
        parts.append(Part(name, measures, lost=missing(ours=our_rows, one=first, other=second)))
    return parts


def interaction(
    frame: "DataFrame",
    *,
    tied: str,
    untied: str,
    axes: Mapping[str, Sequence[float]],
    by: Sequence[str],
    over: Sequence[str] = (),
) -> list[Part]:
    """Measure whether tying gains more beside another regulariser: a difference of differences, paired by seed.

    Per axis, with the others off: `interaction` is (tied on - tied off) - (untied on - untied off) in units of gain,
    and `alone` what that regulariser gains untied.

    Args:
        axes: column -> (off, on).
    """
    parts = []
    for axis, (off, on) in axes.items():
        fixed = "".join(f" and {name} == {values[0]}" for name, values in axes.items() if name != axis)
        for name, tied_rows, untied_rows in pairs(frame, f"({tied}){fixed}", f"({untied}){fixed}", by, over):
            metric = metric_of(tied_rows)
            on_tied, off_tied, on_untied, off_untied = (
                scores(chosen(rows, f"{axis} == {value}"), metric)
                for rows in (tied_rows, untied_rows)
                for value in (on, off)
            )
            alone = differences(on_untied, off_untied)
            measures = (
                measured("interaction", differences(on_tied, off_tied), alone, unit(metric)),
                mean_of("alone", alone, unit(metric)),
            )
            parts.append(Part(f"{name} x {axis}", measures, lost=missing(tied=tied_rows, untied=untied_rows)))
    return parts


def gain_at_size(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], size: str, strength: str, within: float
) -> list[Part]:
    """Measure `gain` of ours over that strength of theirs which is nearest to it in size, paired by seed.

    The size of either is a mean over seeds, and no score is looked at. `ratio` is that of theirs over that of ours.

    Args:
        size: the column of the size of both, such as `effective_params_by_use`.
        strength: the column that theirs is searched over.
        within: where `ratio` is farther from 1 there is nothing to compare: no gain, and the part decides nothing.
    """
    parts = []
    for name, our_rows, their_rows in pairs(frame, ours, theirs, by):
        counts, cells = by_seed(our_rows, size), grouped(their_rows, [strength])
        effective = {values: by_seed(rows, size) for values, rows in cells.items()}
        sizes = {values: fmean(seeds.values()) for values, seeds in effective.items() if seeds}
        gain, ratio, close = Measure("gain", None), None, True
        lost = missing(ours=our_rows, theirs=their_rows)
        if counts and sizes:
            count = fmean(counts.values())
            nearest = min(sizes, key=lambda values: abs(math.log(sizes[values] / count)))
            ratio, rows = sizes[nearest] / count, cells[nearest]
            close = abs(ratio - 1) <= within
            notes = [f"theirs: {named([strength], nearest)}, of {len(sizes)} the nearest in size"]
            if close:
                gain = difference("gain", our_rows, rows, metric_of(our_rows))
            else:
                notes.append(f"n/a: not within {100 * within:g} % of the size of ours")
            lost = missing(ours=our_rows, theirs=rows)
        else:
            notes = [] if sizes or not len(their_rows) else ["theirs: no effective number of parameters"]
        measures = (gain, Measure("ratio", ratio, "x the parameters of ours"))
        parts.append(Part(name, measures, notes, close, lost))
    return parts


def partial(
    frame: "DataFrame", *, ours: str, full: str, none: str, by: Sequence[str], k: str, depth: str
) -> list[Part]:
    """Measure `gain` of partial over full tying, and as context over none.

    `saved`: percent of the weights of its k layers. What k tied layers hold is taken from full tying, which saves all
    but one of `depth` equal blocks: exact where the blocks are equal.

    Args:
        k: the column of the number of tied layers.
        depth: the column of the number of layers.
    """
    parts = []
    for name, rows, full_rows in pairs(frame, ours, full, by, [k]):
        percent = _percent_saved(rows, full_rows, k, depth)
        saved = Measure("saved", percent, "% of the weights of those layers")
        measures = (difference("gain", rows, full_rows, metric_of(rows)), saved)
        parts.append(Part(name, measures, lost=missing(ours=rows, theirs=full_rows)))
    for part in gain(frame, ours=ours, theirs=none, by=by, over=[k]):
        parts.append(replace(part, name=f"{part.name}, against none", decides=False))
    return parts


def _percent_saved(rows: "DataFrame", full: "DataFrame", k: str, depth: str) -> float | None:
    rows, full = rows.dropna(subset=["num_params"]), full.dropna(subset=["num_params"])
    if not len(rows) or not len(full):
        return None
    spared, spared_by_all = (
        float((cell["num_params_untied"] - cell["num_params"]).iloc[0]) for cell in (rows, full)
    )
    of_a_block = spared_by_all / (float(full[depth].iloc[0]) - 1)
    return 100 * (spared / (float(rows[k].iloc[0]) * of_a_block))


def further(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], over: Sequence[str]
) -> list[Part]:
    """Measure how far int8 shrinks tied networks (`ours`) and untied (`theirs`), and what it costs them on test.

    `shrink` and `shrink_untied`: percent of a network's own float bytes; `shrink_of_untied`: what the tied one loses
    in percent of the untied one's float bytes. `lost` and `lost_untied`: percent that the nll rises by; `lost_more`
    their difference paired by seed, below 0 where the tied network loses less. `metric_lost_more`: the same of the
    metric, in points of accuracy or percent of perplexity.
    """
    parts = []
    for name, tied, untied in pairs(frame, ours, theirs, by, over):
        metric = metric_of(tied)
        lost, lost_untied = (_percent_lost(rows) for rows in (tied, untied))
        worse, worse_untied = (
            differences(scores(rows, metric), scores(rows, metric, "int8_test")) for rows in (tied, untied)
        )
        measures = (
            Measure("shrink", _percent_shrunk(tied, tied), "% of its own bytes"),
            Measure("shrink_untied", _percent_shrunk(untied, untied), "% of its own bytes"),
            Measure("shrink_of_untied", _percent_shrunk(tied, untied), "% of the untied bytes"),
            mean_of("lost", lost, "% of nll"),
            mean_of("lost_untied", lost_untied, "% of nll"),
            measured("lost_more", lost, lost_untied, "% of nll"),
            measured("metric_lost_more", worse, worse_untied, unit(metric)),
        )
        parts.append(Part(name, measures, lost=missing(tied=tied, untied=untied)))
    return parts


def _percent_shrunk(rows: "DataFrame", reference: "DataFrame") -> float | None:
    """Return float bytes minus int8 bytes in percent of the float bytes of `reference`. A seed changes none of them."""
    floats, small = by_seed(rows, "int8_bytes_float"), by_seed(rows, "int8_bytes")
    shares = [
        100 * (floats[seed] - small[seed]) / size
        for seed, size in by_seed(reference, "int8_bytes_float").items()
        if seed in small
    ]
    return sum(shares) / len(shares) if shares else None


def _percent_lost(rows: "DataFrame") -> dict[int, float]:
    """Return seed -> percent of its test nll that int8 adds."""
    before, after = by_seed(rows, "test_nll"), by_seed(rows, "int8_test_nll")
    return {seed: 100 * (after[seed] / before[seed] - 1) for seed in before.keys() & after.keys()}


def pairs(
    frame: "DataFrame", ours: str, theirs: str, by: Sequence[str], over: Sequence[str] = ()
) -> Iterator[tuple[str, "DataFrame", "DataFrame"]]:
    """Yield (part, rows of ours, rows of theirs), never two data fingerprints in one part.

    A run that does not apply (no embedding in this network) is no part of what is claimed.
    """
    applies = frame[frame.status != Status.NOT_APPLICABLE]
    others = grouped(chosen(applies, theirs), by)
    for values, rows in grouped(chosen(applies, ours), [*by, *over]).items():
        name, other = named([*by, *over], values), others.get(values[: len(by)], frame.iloc[:0])
        marks = sorted({*rows["fingerprint"].dropna(), *other["fingerprint"].dropna()})
        if len(marks) < 2:
            yield name, rows, other
            continue
        for mark in marks:
            yield f"{name}, {mark}", rows[rows.fingerprint == mark], other[other.fingerprint == mark]


def best_on_validation(rows: "DataFrame", columns: Sequence[str], metric: Metric) -> "DataFrame":
    """Return the rows of the cell whose mean validation metric is best, the first in order among equals.

    A cell with fewer scores than another has, as some of its runs diverged, is not chosen.
    """
    cells = grouped(rows, columns)
    seeds = {values: by_seed(cell, f"val_{metric.name}") for values, cell in cells.items()}
    most = max(map(len, seeds.values()), default=0)
    means = {values: fmean(scores.values()) for values, scores in seeds.items() if len(scores) == most > 0}
    if not means:
        return rows.iloc[:0]
    best = metric.best(list(means.values()))
    return cells[next(values for values, mean in means.items() if mean == best)]


def scores(rows: "DataFrame", metric: Metric, split: str = "test") -> dict[int, float]:
    """Return seed -> metric of a split in a unit in which more is better: points, or 100 ln (of a loss: -100 ln)."""
    values = by_seed(rows, f"{split}_{metric.name}")
    if metric.is_share:
        return {seed: 100 * value for seed, value in values.items()}
    if any(value <= 0 for value in values.values()):
        raise BadInput(f"{metric.name} {min(values.values())} has no logarithm")
    scale = 100 if metric.higher_is_better else -100
    return {seed: scale * math.log(value) for seed, value in values.items()}


def unit(metric: Metric) -> str:
    return "points of accuracy" if metric.is_share else f"% of {metric.name}"


def differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> dict[int, float]:
    return {seed: ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()}


def difference(name: str, ours: "DataFrame", theirs: "DataFrame", metric: Metric) -> Measure:
    return measured(name, scores(ours, metric), scores(theirs, metric), unit(metric))


def measured(name: str, ours: Mapping[int, float], theirs: Mapping[int, float], unit: str) -> Measure:
    """Return the mean of ours - theirs over the seeds of both as a measure."""
    return Measure.of(name, paired(ours, theirs), unit)


def mean_of(name: str, seeds: Mapping[int, float], unit: str) -> Measure:
    return Measure.of(name, interval(seeds[seed] for seed in sorted(seeds)), unit)


BLOCKS = "start_blocks"
"""Column that names the pair of blocks as `0-1`, counted from 0 at the input."""


def rank(frame: "DataFrame", *, ours: str, none: str, by: Sequence[str], measure: str) -> list[Part]:
    """Measure how well `measure` orders the pairs by their cost (`bench.analysis.block_pairs`).

    `rank`: Spearman's correlation of being alike with costing little, over the pairs of a seed, its mean over seeds.
    `weakest`: the smallest such mean where all pairs of one block are left out: an order that one block makes is gone
    without it. `choice`: the cost of the pair that is most alike minus the mean of all, below 0 where it is the better
    choice. The other measures are shown and decide nothing.
    """
    parts = []
    for name, our_rows, their_rows in pairs(frame, ours, none, by):
        seeds = _seeds(our_rows, their_rows)
        all_pairs = _by_label(seeds)
        blocks = sorted({block for tied in next(iter(seeds.values()), ()) for block in tied.blocks})
        without = {block: _by_label(_without(seeds, block)) for block in blocks}
        for candidate in MEASURES:
            label, decides = candidate.label, candidate.name == measure
            prediction = all_pairs.get(label)
            if not (prediction or decides):
                continue
            ranks = {block: by_label[label].rank for block, by_label in without.items() if label in by_label}
            block = min(ranks, key=lambda block: ranks[block].mean, default=None)
            measures = (
                Measure.of("rank", prediction and prediction.rank, "rank correlation"),
                Measure.of("weakest", ranks.get(block), "rank correlation"),
                Measure.of("choice", prediction and prediction.choice, unit(metric_of(our_rows))),
            )
            notes = [] if prediction else ["too few pairs"]
            notes += [f"weakest without block {block + 1} of {len(blocks)}"] if block is not None else []
            parts.append(Part(f"{name}, {label}", measures, notes, decides))
    return parts


def _by_label(seeds: Seeds) -> dict[str, Prediction]:
    return {prediction.label: prediction for prediction in predictions(seeds)}


def _without(seeds: Seeds, block: int) -> Seeds:
    """Return the pairs that do not hold a block; {} where too few are left."""
    return complete({seed: [tie for tie in ties if block not in tie.blocks] for seed, ties in seeds.items()})


def alike(
    frame: "DataFrame", *, ours: str, none: str, by: Sequence[str], measure: str, threshold: float
) -> list[Part]:
    """Measure what tying neighbours costs and saves whose `measure` is above the threshold.

    `candidates`: how many there are over all seeds. `highest`: the largest value of any two neighbours. `cost`: mean
    over a seed's candidates against no tie, paired by seed. `saved`: percent of all parameters that one of them spares.
    """
    parts = []
    for name, our_rows, their_rows in pairs(frame, ours, none, by):
        seeds, values, count, costs = _seeds(our_rows, their_rows), [], 0, {}
        for seed, tied_pairs in seeds.items():
            neighbours = [tied for tied in tied_pairs if tied.likeness["apart"] == 1]
            values += [tied.likeness[measure] for tied in neighbours if tied.likeness[measure] is not None]
            chosen = [tied.cost for tied in neighbours if (tied.likeness[measure] or 0) > threshold]
            count += len(chosen)
            if chosen:
                costs[seed] = fmean(chosen)
        counted = our_rows.dropna(subset=["num_params"])
        share = (1 - counted["num_params"] / counted["num_params_untied"]).mean()
        measures = (
            Measure("candidates", float(count) if seeds else None),
            Measure("highest", max(values, default=None), "cosine", n=len(seeds) or None),
            mean_of("cost", costs, unit(metric_of(our_rows))),
            Measure("saved", 100 * float(share) if len(counted) else None, "% of all parameters"),
        )
        parts.append(Part(name, measures, [] if seeds else ["too few pairs"]))
    return parts


def _seeds(our_rows: "DataFrame", their_rows: "DataFrame") -> Seeds:
    """Return the pairs that every seed has, with their costs in the unit of `unit`, where more is worse."""
    if not len(their_rows) or BLOCKS not in our_rows.columns:
        return {}
    metric, seeds = metric_of(our_rows), {}
    untied = scores(their_rows, metric)
    for (blocks,), rows in grouped(our_rows.dropna(subset=[BLOCKS]), [BLOCKS]).items():
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
