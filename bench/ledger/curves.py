"""Which of two networks is sooner at the same validation loss, from their curves."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.ledger.costs import cost_of, disturbed
from bench.ledger.paired import missing, pairs, said
from bench.ledger.parts import Measure, Part
from bench.records import Status
from bench.stats.statistics import Interval, interval

if TYPE_CHECKING:
    from pandas import DataFrame

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
