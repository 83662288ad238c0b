"""Check claims on cost and speed: cost columns, and who is sooner at one validation loss."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.analysis.runs import is_finite
from bench.analysis.statistics import interval
from bench.claims.checks.paired import pairs
from bench.claims.evaluate import Measure, Part
from bench.claims.records import missing
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
    cut: float,
    shares: Sequence[float],
) -> list[Part]:
    """Measure what tying saves of time, and how many times the largest batch it allows; a part per condition.

    `reached` is percent of what is said: of a cut of time by `cut` percent, and of a batch twice as large.

    A batch is bounded by a memory M, of which what is held from step to step (parameters, gradients and the state of
    the optimizer) takes the share s untied, and r s tied, and each example the rest alike. Thus the batch becomes
    (1 - r s) / (1 - s) times as large, and twice as large from s = 1 / (2 - r) on.

    Args:
        cuts: condition -> a column `X_ratio`, tied by untied in turns in one process; its interval (`X_ratio_low`,
            `_high`) is over turns and not over seeds.
        shares: values of s.
    """
    parts = []
    for name, tied, untied in pairs(frame, ours, theirs, by, over):
        for condition, column in cuts.items():
            ratios = [cost_of(tied, f"{column}{end}") for end in ("", "_high", "_low")]
            saved, low, high = (None if ratio is None else 100 * (1 - ratio) for ratio in ratios)
            of_claim = [None if value is None else 100 * value / cut for value in (saved, low, high)]
            measures = (
                Measure("cut", saved, "% less time", low, high),
                Measure("reached", of_claim[0], "% of what is said", of_claim[1], of_claim[2]),
            )
            parts.append(Part(f"{name}, {condition}", measures, [disturbed(tied)]))
        state = [sum(filter(None, (cost_of(rows, column) for column in HELD))) for rows in (tied, untied)]
        ratio = state[0] / state[1] if all(state) else None
        for share in shares:
            batch = None if ratio is None else (1 - ratio * share) / (1 - share)
            reached = None if batch is None else 100 * (batch - 1)
            measures = (
                Measure("batch", batch, "x the untied"),
                Measure("reached", reached, "% of what is said", reached, reached),
            )
            notes = [f"twice from a share of {100 / (2 - ratio):.0f} % on"] if ratio else []
            parts.append(Part(f"{name}, batch, parameters {100 * share:g} % of memory", measures, notes))
    return parts


HELD = ("state_parameters_bytes", "state_gradients_bytes", "state_optimizer_state_bytes")
"""Columns of what is held from step to step, in bytes."""


def cost_of(rows: "DataFrame", column: str) -> float | None:
    """Return a cost, which is the same for every run of a tying; None for a time that was disturbed."""
    if column not in rows.columns:
        raise BadInput(f"no column {column!r} in the records")
    if "_ratio" in column and disturbed(rows):
        return None
    values = {float(value) for value in rows[column] if is_finite(value)}
    if len(values) > 1:
        raise BadInput(f"{column} has {len(values)} values in one part: cut it further")
    return values.pop() if values else None


def disturbed(rows: "DataFrame") -> str:
    """Return a note where something else used the processor while the costs were measured, else nothing."""
    suspects = rows["suspect"].dropna() if "suspect" in rows.columns else ()
    return "measured on a busy machine: no times" if any(str(text).strip() for text in suspects) else ""


COLUMN = "curve_val_nll"
Curve = list[tuple[float, float]]
"""(step, validation nll) of each validation."""


def race(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], over: Sequence[str] = ()
) -> list[Part]:
    """Measure `steps` and `time` that ours takes of theirs to the worse of the two best validation losses of a seed.

    Ratios, below 1 is sooner: geometric means over seeds with the interval of their logarithms. Steps are
    interpolated between validations; a loss that the first one has is reached at the first. Time is steps times
    `step`, the ratio of the time of a step, which is measured once and not per seed.
    """
    parts = []
    for name, rows, other in pairs(frame, ours, theirs, by, over):
        tied, untied = _curves(rows), _curves(other)
        logs = [_log_ratio(tied[seed], untied[seed]) for seed in sorted(tied.keys() & untied.keys())]
        steps, step = interval(logs), cost_of(rows, "train_step_ratio")
        measures = (
            Measure.ratio("steps", steps),
            Measure.ratio("time", steps, step),
            Measure("step", step if steps else None, "x the time of a step"),
        )
        parts.append(Part(name, measures, [disturbed(rows)], lost=missing(ours=rows, theirs=other)))
    return parts


def _log_ratio(ours: Curve, theirs: Curve) -> float:
    goal = max(min(nll for _, nll in curve) for curve in (ours, theirs))
    return math.log(reached(ours, goal) / reached(theirs, goal))


def reached(curve: Curve, goal: float) -> float:
    """Return the step at which a curve first is at `goal`, on the straight line between two validations."""
    (before, above), *rest = curve
    if above <= goal:
        return before
    for step, nll in rest:
        if nll <= goal:
            return before + (step - before) * (above - goal) / (above - nll)
        before, above = step, nll
    raise ValueError(f"the curve never is at {goal}")


def _curves(rows: "DataFrame") -> dict[int, Curve]:
    """Return the curves of the finished runs by seed, without those that are not finite throughout."""
    if COLUMN not in rows.columns:
        raise BadInput(f"no column {COLUMN!r} in the records: make their tables anew with `make tables`")
    curves = {}
    for seed, status, text in zip(rows["seed"], rows["status"], rows[COLUMN], strict=True):
        if status == Status.DONE and isinstance(text, str):
            points = [point.split(":") for point in text.split(";")]
            curve = [(float(step), float(nll)) for step, nll in points]
            if all(math.isfinite(nll) for _, nll in curve):
                curves[int(seed)] = curve
    return curves
