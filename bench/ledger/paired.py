"""Tests that compare two selections of runs, seed by seed."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.ledger.parts import Measure, Part
from bench.ledger.select import absent, by_seed, chosen, grouped, metric_of, named
from bench.records import Status
from bench.report.rows import Metric
from bench.stats.statistics import paired

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
