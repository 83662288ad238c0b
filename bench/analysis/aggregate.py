"""Reduce all tasks to one number per tying: each run becomes a score that compares over tasks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.analysis.groups import Section, SeedGroup, in_order
from bench.analysis.runs import WORST, Metric
from bench.analysis.statistics import Interval, interval

THRESHOLDS = (0.95, 0.98, 1.0, 1.02)

Task = tuple[str, str]
"""A task and its data: the unit of a mean over tasks. A variant of a task is no unit of its own."""


@dataclass
class Scores:
    """Scores of the runs of one tying: `tasks[task][seed]` are the scores of one seed in one task."""

    tying: str
    tasks: dict[Task, dict[int, list[float]]] = field(default_factory=dict)
    worst: int = 0
    without: int = 0
    not_applicable: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[float]:
        return [score for seeds in self.tasks.values() for scores in seeds.values() for score in scores]

    @cached_property
    def ratios(self) -> dict[Task, Interval | None]:
        """The geometric mean score of each task over its seeds; None where a run has score 0."""
        return {task: _ratio(list(seeds.values())) for task, seeds in self.tasks.items()}

    @cached_property
    def mean(self) -> Interval | None:
        """The geometric mean over tasks with its 95 % interval over tasks; None where a task has no ratio."""
        ratios = list(self.ratios.values())
        if not ratios or None in ratios:
            return None
        return geometric_mean([ratio.mean for ratio in ratios])

    @property
    def profile(self) -> list[float | None]:
        """For each of THRESHOLDS the share of scores that reach it (Agarwal et al. 2021, sec. 4.3)."""
        scores = self.all
        return [sum(s >= least for s in scores) / len(scores) if scores else None for least in THRESHOLDS]


def geometric_mean(values: Sequence[float]) -> Interval:
    """Return the geometric mean and the t interval of the logarithms; no bounds where all values are equal.

    Over tasks it is the random-effects mean with equal weights: what varies from task to task is in its interval.
    Weights by the variance over seeds would rest on a handful of seeds each: the mean of DerSimonian and Laird with the
    interval of Hartung, Knapp, Sidik and Jonkman covers 87 to 94 % of the time where this one covers 95 to 98 %, at 2
    to 10 tasks of 3 to 5 seeds (tests/analysis/test_aggregate.py).
    """
    logs = interval(math.log(value) for value in values)
    bounds = (None, None) if logs.low == logs.high else (math.exp(logs.low), math.exp(logs.high))
    return Interval(math.exp(logs.mean), *bounds, logs.n)


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
        for cell in cells:
            worst = [run.seed for run in cell.runs if run.status in WORST]
            reached = _relative(cell, section.untied(cell), section.metric)
            for seed, score in [*((seed, 0.0) for seed in worst), *reached.items()]:
                seeds = scores.tasks.setdefault((section.task, section.data), {})
                seeds.setdefault(seed, []).append(score)
            scores.worst += len(worst)
            scores.without += len(cell.runs) - len(worst) - len(reached)
    return scores


def _ratio(seeds: Sequence[Sequence[float]]) -> Interval | None:
    """Average over the seeds with the most scores, so that all have the same settings; None where a score is 0."""
    if any(score <= 0 for scores in seeds for score in scores):
        return None
    most = max(map(len, seeds))
    return geometric_mean([geometric_mean(scores).mean for scores in seeds if len(scores) == most])


def _relative(cell: SeedGroup, untied: SeedGroup | None, metric: Metric) -> dict[int, float]:
    """Return seed -> score, of the runs that have a number and whose `none` has one."""
    ours, theirs = cell.metric(), untied.metric() if untied else {}
    pairs = {seed: _score(ours[seed], theirs[seed], metric) for seed in sorted(ours.keys() & theirs.keys())}
    return {seed: score for seed, score in pairs.items() if score is not None}


def _score(ours: float, theirs: float, metric: Metric) -> float | None:
    """Return ours relative to `none`, above 1 where it is better; None where a value of 0 or less has no ratio."""
    if metric.name.endswith("nll"):
        return math.exp(max(-700.0, min(theirs - ours, 700.0)))  # exp of more overflows, of less is 0
    over, under = (ours, theirs) if metric.higher_is_better else (theirs, ours)
    return over / under if under > 0 and over >= 0 else None
