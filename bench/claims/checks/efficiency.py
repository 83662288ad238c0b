"""Check claims on cost and speed: cost columns, and who is sooner at one validation loss."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.analysis.runs import is_finite
from bench.analysis.statistics import Interval, interval
from bench.claims.checks.paired import missing, pairs, said
from bench.claims.parts import Measure, Part
from bench.claims.records import chosen, grouped, named
from bench.runs.store import Status
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame


def costs(
    frame: "DataFrame",
    *,
    ours: str,
    theirs: str,
    by: Sequence[str],
    over: Sequence[str],
    cuts: Mapping[str, str],
    batches: Mapping[str, str],
) -> list[Part]:
    """Percent of time that tying cuts, and how many times the largest batch it allows.

    cuts: measure -> a column `X_ratio`, tied by untied in turns in one process; its interval (`X_ratio_low`,
    `_high`) is over turns and not over seeds. batches: measure -> column of the largest batch in a fixed memory.
    """
    untied = grouped(chosen(frame, theirs), by)
    parts = []
    for values, rows in grouped(chosen(frame, ours), [*by, *over]).items():
        if set(rows["status"]) == {Status.NOT_APPLICABLE}:
            continue
        name, other = named([*by, *over], values), untied.get(values[: len(by)])
        measures = [_cut(short, rows, column) for short, column in cuts.items()]
        for short, column in batches.items():
            held, before = cost_of(rows, column), None if other is None else cost_of(other, column)
            measures.append(Measure(short, held / before if held and before else None, "x the untied"))
        parts.append(Part(name, tuple(measures), disturbed(rows)))
    return parts


def _cut(name: str, rows: "DataFrame", column: str) -> Measure:
    ratio, low, high = (cost_of(rows, f"{column}{end}") for end in ("", "_low", "_high"))
    ends = [None if end is None else 100 * (1 - end) for end in (high, low)]
    return Measure(name, None if ratio is None else 100 * (1 - ratio), "% less time", *ends)


def cost_of(rows: "DataFrame", column: str) -> float | None:
    """The number of a cost, which is the same for every run of a tying; none of a time that was disturbed."""
    if column not in rows.columns:
        raise BadInput(f"no column {column!r} in the records")
    if "_ratio" in column and disturbed(rows):
        return None
    found = [float(value) for value in rows[column] if is_finite(value)]
    if len(set(found)) > 1:
        raise BadInput(f"{column} has {len(set(found))} values in one part: cut it further")
    return found[0] if found else None


def disturbed(rows: "DataFrame") -> str:
    """Says that something else used the processor while their cost was measured; empty where nothing did."""
    found = rows["suspect"].dropna() if "suspect" in rows.columns else ()
    return "measured on a busy machine: no times" if any(str(text).strip() for text in found) else ""


COLUMN = "curve_val_nll"
Curve = list[tuple[float, float]]


def race(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], over: Sequence[str] = ()
) -> list[Part]:
    """`steps` and `time` that ours takes of theirs to the worse of the two best validation losses of a seed.

    Ratios, below 1 is sooner: geometric means over seeds with the interval of their logarithms. Steps are
    interpolated between validations; a loss that the first one has is reached at the first. Time is steps times
    `step`, the ratio of the time of a step, which is measured once and not per seed.
    """
    parts = []
    for name, mine, other in pairs(frame, ours, theirs, by, over):
        one, two = _curves(mine), _curves(other)
        steps = interval([_log_ratio(one[seed], two[seed]) for seed in sorted(one.keys() & two.keys())])
        step = cost_of(mine, "train_step_ratio")
        measures = (
            _ratio("steps", steps, 1.0),
            _ratio("time", steps, step),
            Measure("step", step if steps else None, "x the time of a step"),
        )
        notes = [missing("ours", mine), missing("theirs", other), disturbed(mine)]
        parts.append(Part(name, measures, said(notes)))
    return parts


def _ratio(name: str, logs: Interval | None, factor: float | None) -> Measure:
    """Not known where one of them is not."""
    if logs is None or factor is None:
        return Measure(name, None)
    ends = [None if end is None else factor * math.exp(end) for end in (logs.low, logs.high)]
    return Measure(name, factor * math.exp(logs.mean), "x the untied", *ends, logs.n, is_ratio=True)


def _log_ratio(ours: Curve, theirs: Curve) -> float:
    goal = max(min(nll for _, nll in curve) for curve in (ours, theirs))
    return math.log(reached(ours, goal) / reached(theirs, goal))


def reached(curve: Curve, goal: float) -> float:
    """The step at which a curve first is at `goal`, on the straight line between two validations."""
    (before, above), *rest = curve
    if above <= goal:
        return before
    for step, nll in rest:
        if nll <= goal:
            return before + (step - before) * (above - goal) / (above - nll)
        before, above = step, nll
    raise ValueError(f"the curve never is at {goal}")


def _curves(rows: "DataFrame") -> Mapping[int, Curve]:
    """Seed -> (step, validation nll) of a finished run."""
    if COLUMN not in rows.columns:
        raise BadInput(f"no column {COLUMN!r} in the records: make their tables anew with `make tables`")
    found = zip(rows["seed"], rows["status"], rows[COLUMN], strict=True)
    texts = {
        int(seed): text for seed, status, text in found if status == Status.DONE and isinstance(text, str)
    }
    curves = {seed: [_point(point) for point in text.split(";")] for seed, text in texts.items()}
    return {seed: curve for seed, curve in curves.items() if all(math.isfinite(nll) for _, nll in curve)}


def _point(text: str) -> tuple[float, float]:
    step, _, nll = text.partition(":")
    return float(step), float(nll)
