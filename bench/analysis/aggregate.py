"""Reduce all tasks to one number per tying: each run becomes a score that compares over tasks."""

import math
from dataclasses import dataclass, field
from functools import cached_property

from bench.analysis.groups import Section, SeedGroup, in_order
from bench.analysis.runs import Metric
from bench.analysis.statistics import Interval, interquartile_mean_of_tasks, performance_profile
from bench.runs.store import Status

THRESHOLDS = (0.95, 0.98, 1.0, 1.02)
WORST = (Status.DIVERGED, Status.FAILED, Status.NOT_FINITE)


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
    """Return the scores of each tying, in table order."""
    tyings = in_order(cell for section in sections for cell in section.cells)
    return [_scores(tying, [s for s in sections if tying in s.tyings]) for tying in tyings]


def _scores(tying: str, sections: list[Section]) -> Scores:
    scores = Scores(tying)
    for section in sections:
        cells = section.tyings[tying]
        if all(cell.is_not_applicable for cell in cells):
            scores.not_applicable.append(section.title)
            continue
        seeds: dict[int, list[float]] = {}
        for cell in cells:
            worst = [run.seed for run in cell.runs if run.status in WORST]
            reached = _relative(cell, section.untied(cell), section.metric)
            for seed, score in [*((seed, 0.0) for seed in worst), *reached.items()]:
                seeds.setdefault(seed, []).append(score)
            scores.worst += len(worst)
            scores.without += len(cell.runs) - len(worst) - len(reached)
        if seeds:
            scores.tasks.append([seeds[seed] for seed in sorted(seeds)])
    return scores


def _relative(cell: SeedGroup, untied: SeedGroup | None, metric: Metric) -> dict[int, float]:
    """Seed -> score of the runs that have a number and whose `none` has one."""
    ours, theirs = cell.metric(), untied.metric() if untied else {}
    pairs = {seed: _score(ours[seed], theirs[seed], metric) for seed in sorted(ours.keys() & theirs.keys())}
    return {seed: score for seed, score in pairs.items() if score is not None}


def _score(ours: float, theirs: float, metric: Metric) -> float | None:
    """None where `none` or ours is 0 or less: a ratio to it says nothing."""
    if metric.name.endswith("nll"):
        return math.exp(min(theirs - ours, 700.0))  # exp of more overflows
    over, under = (ours, theirs) if metric.higher_is_better else (theirs, ours)
    return over / under if under > 0 and over >= 0 else None
