"""One number per tying over all tasks: every run as a score that compares, diverged and failed ones as the worst."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.analysis.groups import Section, SeedGroup, in_order
from bench.analysis.runs import Metric
from bench.analysis.statistics import (
    LEAST_RESAMPLED,
    Interval,
    interquartile_mean_of_tasks,
    performance_profile,
)
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, fixed, interval_text
from bench.runs.store import Status

TITLE = "Across tasks"
THRESHOLDS = (0.95, 0.98, 1.0, 1.02)
WORST = (Status.DIVERGED, Status.FAILED, Status.NOT_FINITE)
NOTES = (
    "Score of a run: its test metric relative to that of `none` at the same task, data, dropout, weight decay and "
    "seed, so that 1 is `none` and more is better: ours / none of an accuracy, none / ours of a perplexity or an "
    "error, exp(none − ours) of an nll, which is the same as of a perplexity. A run that diverged, failed or gave "
    "no number has score 0; not applicable and not run yet have none, nor has a run whose `none` has no number.",
    "Interquartile mean of the scores (Agarwal et al. 2021, sec. 4.3): the lowest and highest n // 4 are cut off. "
    f"Its 95 % bootstrap interval draws seeds anew within each task, from {LEAST_RESAMPLED} task x seed on. "
    "Share of runs: with at least that score. Rows over different tasks do not compare.",
)


@dataclass
class Scores:
    """What the runs of one tying reached: `tasks[t][s]` are the scores of one seed in one section."""

    tying: str
    tasks: list[list[list[float]]] = field(default_factory=list)
    worst: int = 0
    without: int = 0
    not_applicable: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        return [score for task in self.tasks for seed in task for score in seed]

    @property
    def units(self) -> int:
        return sum(map(len, self.tasks))

    @cached_property
    def mean(self) -> Interval | None:
        return interquartile_mean_of_tasks(self.tasks) if self.all else None

    @property
    def profile(self) -> list[float | None]:
        return performance_profile(self.all, THRESHOLDS) if self.all else [None] * len(THRESHOLDS)


def is_across(sections: list[Section]) -> bool:
    """Whether there is more than one task or data set to look across."""
    return len({(section.task, section.data) for section in sections}) > 1


def scores(sections: list[Section]) -> list[Scores]:
    """One per tying, in table order."""
    tyings = in_order(cell for section in sections for cell in section.cells)
    return [_scores(tying, [s for s in sections if tying in s.tyings]) for tying in tyings]


def _scores(tying: str, sections: list[Section]) -> Scores:
    found = Scores(tying)
    for section in sections:
        cells = section.tyings[tying]
        if all(cell.is_not_applicable for cell in cells):
            found.not_applicable.append(section.title)
            continue
        seeds: dict[int, list[float]] = {}
        for cell in cells:
            worst = [run.seed for run in cell.runs if run.status in WORST]
            reached = _relative(cell, section.untied(cell), section.metric)
            for seed, score in [*((seed, 0.0) for seed in worst), *reached.items()]:
                seeds.setdefault(seed, []).append(score)
            found.worst += len(worst)
            found.without += len(cell.runs) - len(worst) - len(reached)
        if seeds:
            found.tasks.append([seeds[seed] for seed in sorted(seeds)])
    return found


def _relative(cell: SeedGroup, untied: SeedGroup | None, metric: Metric) -> dict[int, float]:
    """Seed -> score of the runs that have a number and whose `none` has one."""
    ours, theirs = cell.metric(), untied.metric() if untied else {}
    pairs = {seed: _score(ours[seed], theirs[seed], metric) for seed in sorted(ours.keys() & theirs.keys())}
    return {seed: score for seed, score in pairs.items() if score is not None}


def _score(ours: float, theirs: float, metric: Metric) -> float | None:
    """None where `none` or ours is 0 or less: a ratio to it says nothing."""
    if metric.name.endswith("nll"):
        return math.exp(min(theirs - ours, 700.0))  # exp of more overflows
    over, under = (ours, theirs) if metric.mode == "max" else (theirs, ours)
    return over / under if under > 0 and over >= 0 else None


def across(found: list[Scores]) -> Table:
    def share(at: int) -> Column[Scores]:
        return Column(f"% of runs\n≥ {THRESHOLDS[at]:g}", lambda s: _percent(profiles[s.tying][at]))

    profiles = {s.tying: s.profile for s in found}
    return tabulate(
        ["tying"],
        [[s.tying] for s in found],
        [
            Column("interquartile mean\nscore [95 %]", lambda s: interval_text(s.mean, 3)),
            *map(share, range(len(THRESHOLDS))),
            Column("n runs", lambda s: str(len(s.all))),
            Column("n tasks", lambda s: str(len(s.tasks))),
            Column("note", _note, align="l", optional=True),
        ],
        found,
    )


def csv_rows(found: list[Scores]) -> list[dict[str, Any]]:
    return [_csv_row(each) for each in found]


def _csv_row(found: Scores) -> dict[str, Any]:
    mean, shares = found.mean, zip(THRESHOLDS, found.profile, strict=True)
    return {
        "tying": found.tying,
        "interquartile_mean": mean and mean.mean,
        "interquartile_mean_low": mean and mean.low,
        "interquartile_mean_high": mean and mean.high,
        **{f"share_of_runs_from_{threshold:g}": share for threshold, share in shares},
        "n_runs": len(found.all),
        "n_worst": found.worst,
        "n_without_score": found.without,
        "n_tasks": len(found.tasks),
        "n_tasks_x_seeds": found.units,
        "not_applicable": "; ".join(found.not_applicable),
    }


def _percent(share: float | None) -> str:
    return NOTHING if share is None else fixed(100 * share, 0)


def _note(found: Scores) -> str:
    return "; ".join(_said(found))


def _said(found: Scores) -> Iterable[str]:
    if found.worst:
        yield f"{found.worst} diverged or failed: score 0"
    if found.without:
        yield f"{found.without} without a score"
    if found.not_applicable:
        yield f"n/a: {', '.join(found.not_applicable)}"
