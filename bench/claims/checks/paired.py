"""Check claims that compare two selections of runs, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.analysis.runs import Metric
from bench.analysis.statistics import paired
from bench.claims.parts import Measure, Part
from bench.claims.records import absent, by_seed, chosen, grouped, metric_of, named
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
    """How much better `ours` is than `theirs` on test: `gain`, above 0 is better, paired by seed.

    ours, theirs, context: expressions of DataFrame.query. by: columns that cut both into parts; over: columns that
    cut ours further, each against the same theirs. choose: side (`ours`, `theirs`) -> columns over whose values it
    is searched: the cell with the best mean validation metric stands for it, and its test metric is read. context:
    parts whose runs of ours are all of this kind are shown and decide nothing.
    Unit: points of accuracy, or percent of perplexity as 100 ln(theirs / ours).
    """
    parts = []
    for name, mine, other in pairs(frame, ours, theirs, by, over):
        aside = context is not None and _all_are(mine, context)
        metric, notes, sides = metric_of(mine), [], []
        for side, rows in (("ours", mine), ("theirs", other)):
            columns = (choose or {}).get(side)
            kept = rows if not columns else best_on_validation(rows, columns, metric)
            if columns:
                notes.append(searched(side, rows, kept, columns))
            notes.append(missing(side, kept))
            sides.append(kept)
        parts.append(Part(name, (difference("gain", *sides, metric),), said(notes), not aside))
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
) -> list[Part]:
    """How far `ours` is below `theirs` in columns that are better low, paired by seed.

    columns: name of the measure -> column. Beside each: `NAME_percent` of the mean of theirs, and `NAME_beyond`,
    how far ours is below (1 - share) x theirs: where it is below 0, the lowering is smaller than that share.
    """
    parts = []
    for name, mine, other in pairs(frame, ours, theirs, by):
        measures: list[Measure] = []
        for short, column in columns.items():
            low, high = by_seed(mine, column), by_seed(other, column)
            less = {seed: (1 - share) * value for seed, value in high.items()}
            for key, reference in ((short, high), (f"{short}_beyond", less)):
                measures.append(measured(key, reference, low, unit))
            both = low.keys() & high.keys()
            total = sum(high[seed] for seed in both)
            percent = 100 * (1 - sum(low[seed] for seed in both) / total) if total > 0 else None
            measures.append(Measure(f"{short}_percent", percent, "% of theirs"))
        parts.append(Part(name, tuple(measures), said([missing("ours", mine), missing("theirs", other)])))
    return parts


def between(
    frame: "DataFrame", *, ours: str, one: str, other: str, by: Sequence[str], over: Sequence[str] = ()
) -> list[Part]:
    """Where `ours` lies between two ends: its gains over each of them (`over_one`, `over_other`), paired by seed.

    `position` is its mean's place on the way from `one` (0) to `other` (1).
    """
    parts = []
    others = {name: rows for name, _, rows in pairs(frame, ours, other, by, over)}
    for name, mine, first in pairs(frame, ours, one, by, over):
        metric, second = metric_of(mine), others[name]
        moved = difference("over_one", mine, first, metric)
        whole = difference("other_over_one", second, first, metric).value
        place = moved.value / whole if moved.value is not None and whole else None
        position = Measure("position", place, "of the way")
        notes = [missing("ours", mine), missing("one", first), missing("other", second)]
        measures = (moved, difference("over_other", mine, second, metric), position)
        parts.append(Part(name, measures, said(notes)))
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
    """Whether tying gains more beside another regulariser: difference of differences, paired by seed.

    axes: column -> (off, on). Per axis, with the others off: (tied on - tied off) - (untied on - untied off) as
    `interaction` in units of gain, and `alone`, what that regulariser gains untied.
    """
    parts = []
    for axis, (off, on) in axes.items():
        held = (
            " and ".join(f"{name} == {values[0]}" for name, values in axes.items() if name != axis)
            or "seed >= 0"
        )
        for name, mine, other in pairs(frame, f"({tied}) and {held}", f"({untied}) and {held}", by, over):
            metric = metric_of(mine)
            cells = [chosen(rows, f"{axis} == {at}") for rows in (mine, other) for at in (on, off)]
            on_tied, off_tied, on_untied, off_untied = (scores(rows, metric) for rows in cells)
            moved = {s: on_tied[s] - off_tied[s] for s in on_tied.keys() & off_tied.keys()}
            alone = {s: on_untied[s] - off_untied[s] for s in on_untied.keys() & off_untied.keys()}
            measures = (
                measured("interaction", moved, alone, unit(metric)),
                measured("alone", on_untied, off_untied, unit(metric)),
            )
            notes = [missing("tied", mine), missing("untied", other)]
            parts.append(Part(f"{name} x {axis}", measures, said(notes)))
    return parts


def pairs(
    frame: "DataFrame", ours: str, theirs: str, by: Sequence[str], over: Sequence[str] = ()
) -> list[tuple[str, "DataFrame", "DataFrame"]]:
    """(part, rows of ours, rows of theirs), never two data fingerprints in one part.

    A run that does not apply (no embedding in this network) is no part of what is claimed.
    """
    applies = frame[frame.status != Status.NOT_APPLICABLE]
    mine, other = chosen(applies, ours), grouped(chosen(applies, theirs), by)
    found = []
    for values, rows in grouped(mine, [*by, *over]).items():
        name, against = named([*by, *over], values), other.get(values[: len(by)], frame.iloc[:0])
        marks = sorted({*rows["fingerprint"].dropna(), *against["fingerprint"].dropna()})
        if len(marks) < 2:
            found.append((name, rows, against))
        for mark in marks * (len(marks) > 1):
            cut = (rows[rows.fingerprint == mark], against[against.fingerprint == mark])
            found.append((f"{name}, {mark}", *cut))
    return found


def best_on_validation(rows: "DataFrame", columns: Sequence[str], metric: Metric) -> "DataFrame":
    """The rows of the cell whose mean validation metric is best; the first in order among equals."""
    means = {}
    for values, cell in grouped(rows, columns).items():
        scores = by_seed(cell, f"val_{metric.name}")
        if scores:
            means[values] = sum(scores.values()) / len(scores)
    if not means:
        return rows.iloc[:0]
    best = metric.best(list(means.values()))
    winner = next(values for values, mean in means.items() if mean == best)
    return grouped(rows, columns)[winner]


def _all_are(rows: "DataFrame", context: str) -> bool:
    """Of the finished ones, as only they have all columns."""
    done = rows[rows.status == Status.DONE]
    return len(done) > 0 and len(chosen(done, context)) == len(done)


def searched(side: str, rows: "DataFrame", kept: "DataFrame", columns: Sequence[str]) -> str:
    if not len(kept):
        return ""
    values = named(columns, [kept[column].iloc[0] for column in columns])
    return f"{side}: {values} by validation, best of {len(grouped(rows, columns))}"


def scores(rows: "DataFrame", metric: Metric, split: str = "test") -> dict[int, float]:
    """Seed -> metric of a split in a unit in which more is better: points, or -100 ln of the metric."""
    found = by_seed(rows, f"{split}_{metric.name}")
    if metric.is_share:
        return {seed: 100 * value for seed, value in found.items()}
    if any(value <= 0 for value in found.values()):
        raise BadInput(f"{metric.name} {min(found.values())} has no logarithm")
    return {seed: -100 * math.log(value) for seed, value in found.items()}


def unit(metric: Metric) -> str:
    return "points of accuracy" if metric.is_share else f"% of {metric.name}"


def difference(name: str, ours: "DataFrame", theirs: "DataFrame", metric: Metric) -> Measure:
    return measured(name, scores(ours, metric), scores(theirs, metric), unit(metric))


def measured(name: str, ours: Mapping[int, float], theirs: Mapping[int, float], unit: str) -> Measure:
    """The mean of ours - theirs as a measure; not known where no seed has both."""
    found = paired(ours, theirs)
    if found is None:
        return Measure(name, None, unit)
    return Measure(name, found.mean, unit, found.low, found.high, found.n)


def missing(side: str, rows: "DataFrame") -> str:
    if not len(rows):
        return f"no runs of {side}"
    return f"{side}: {text}" if (text := absent(rows)) else ""


def said(notes: Sequence[str]) -> str:
    return "; ".join(note for note in notes if note)


SIZE = "x the parameters of ours"


def gain_at_size(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], strength: str, within: float
) -> list[Part]:
    """`gain` of ours over that strength of theirs which is nearest to it in size, paired by seed.

    strength: the column that theirs is searched over. The size of theirs is `effective_params`, a mean over seeds, that
    of ours its `num_params`; no score is looked at. `ratio`: the one over the other; where it is farther from 1 than
    `within`, there is nothing to compare: no gain, and the part decides nothing.
    """
    return [
        _part(name, mine, other, strength, within) for name, mine, other in pairs(frame, ours, theirs, by)
    ]


def _part(name: str, mine: "DataFrame", other: "DataFrame", strength: str, within: float) -> Part:
    counts, metric = list(by_seed(mine, "num_params").values()), metric_of(mine)
    sizes = _sizes(other, strength)
    if not counts or not sizes:
        notes = [
            missing("ours", mine),
            missing("theirs", other) or "theirs: no effective number of parameters",
        ]
        return Part(name, (Measure("gain", None), Measure("ratio", None, SIZE)), said(notes))
    chosen = min(sizes, key=lambda values: abs(math.log(sizes[values] / counts[0])))
    rows, ratio = grouped(other, [strength])[chosen], sizes[chosen] / counts[0]
    nearest = f"theirs: {named([strength], chosen)}, of {len(sizes)} the nearest in size"
    close = abs(ratio - 1) <= within
    gain = difference("gain", mine, rows, metric) if close else Measure("gain", None)
    far = "" if close else f"n/a: not within {100 * within:g} % of the size of ours"
    notes = [nearest, far, missing("ours", mine), missing("theirs", rows)]
    return Part(name, (gain, Measure("ratio", ratio, SIZE)), said(notes), decides=close)


def _sizes(rows: "DataFrame", strength: str) -> dict[tuple, float]:
    """Mean effective number of parameters for each strength that has one, in order."""
    found = {
        values: by_seed(cell, "effective_params").values()
        for values, cell in grouped(rows, [strength]).items()
    }
    return {values: sum(counts) / len(counts) for values, counts in found.items() if counts}


def partial(
    frame: "DataFrame", *, ours: str, full: str, none: str, by: Sequence[str], k: str, depth: str
) -> list[Part]:
    """`gain` of partial over full tying, and as context over none; `saved`: percent of the weights of its k layers.

    k, depth: columns that hold them. What k tied layers hold is taken from full tying, which saves all but one
    of `depth` equal blocks: exact where the blocks are equal.
    """
    found = []
    for part, (_, rows, whole) in zip(
        gain(frame, ours=ours, theirs=full, by=by, over=[k]), pairs(frame, ours, full, by, [k]), strict=True
    ):
        found.append(replace(part, measures=(*part.measures, _saved(rows, whole, k, depth))))
    for part in gain(frame, ours=ours, theirs=none, by=by, over=[k]):
        found.append(replace(part, name=f"{part.name}, against none", decides=False))
    return found


def _saved(rows: "DataFrame", whole: "DataFrame", k: str, depth: str) -> Measure:
    counted, full = rows.dropna(subset=["num_params"]), whole.dropna(subset=["num_params"])
    unit = "% of the weights of those layers"
    if not len(counted) or not len(full):
        return Measure("saved", None, unit)
    blocks = float(full[depth].iloc[0])
    of_a_block = float((full["num_params_untied"] - full["num_params"]).iloc[0]) / (blocks - 1)
    spared = float((counted["num_params_untied"] - counted["num_params"]).iloc[0])
    share = spared / (float(counted[k].iloc[0]) * of_a_block)
    return Measure("saved", 100 * share, unit)


def further(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], over: Sequence[str]
) -> list[Part]:
    """How far int8 shrinks tied networks (`ours`) and untied (`theirs`), and what it costs them on test.

    `shrink` and `shrink_untied`: percent of a network's own float bytes; `shrink_of_untied`: what the tied one loses
    in percent of the untied one's float bytes. `lost` and `lost_untied`: percent that the nll rises by; `lost_more`
    their difference paired by seed, below 0 where the tied network loses less. `metric_lost_more`: the same of the
    metric, in points of accuracy or percent of perplexity.
    """
    parts = []
    for name, mine, other in pairs(frame, ours, theirs, by, over):
        tied, untied = _lost(mine), _lost(other)
        whole = by_seed(other, "int8_bytes_float")
        measures = (
            _shrink("shrink", mine, by_seed(mine, "int8_bytes_float"), "% of its own bytes"),
            _shrink("shrink_untied", other, whole, "% of its own bytes"),
            _shrink("shrink_of_untied", mine, whole, "% of the untied bytes"),
            _mean("lost", tied),
            _mean("lost_untied", untied),
            measured("lost_more", tied, untied, "% of nll"),
            _metric_lost_more(mine, other, metric_of(mine)),
        )
        parts.append(Part(name, measures, said([missing("tied", mine), missing("untied", other)])))
    return parts


def _shrink(name: str, rows: "DataFrame", whole: Mapping[int, float], unit: str) -> Measure:
    """Float bytes minus int8 bytes, in percent of `whole`. A seed changes none of them."""
    floats, small = by_seed(rows, "int8_bytes_float"), by_seed(rows, "int8_bytes")
    shares = [100 * (floats[seed] - small[seed]) / whole[seed] for seed in small if seed in whole]
    return Measure(name, sum(shares) / len(shares) if shares else None, unit)


def _lost(rows: "DataFrame") -> dict[int, float]:
    """Seed -> percent of its test nll that int8 adds."""
    before, after = by_seed(rows, "test_nll"), by_seed(rows, "int8_test_nll")
    return {seed: 100 * (after[seed] / before[seed] - 1) for seed in before.keys() & after.keys()}


def _mean(name: str, lost: Mapping[int, float]) -> Measure:
    return measured(name, lost, dict.fromkeys(lost, 0.0), "% of nll")


def _metric_lost_more(mine: "DataFrame", other: "DataFrame", metric: Metric) -> Measure:
    tied, untied = (_points_lost(rows, metric) for rows in (mine, other))
    return measured("metric_lost_more", tied, untied, unit(metric))


def _points_lost(rows: "DataFrame", metric: Metric) -> dict[int, float]:
    before, after = scores(rows, metric), scores(rows, metric, "int8_test")
    return {seed: before[seed] - after[seed] for seed in before.keys() & after.keys()}
