"""Show what each tying scores over all tasks."""

from typing import Any

from bench.analysis.aggregate import THRESHOLDS, Scores, Task
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import interval_text, percent_text

TITLE = "Across tasks"
NOTES = (
    "Score of a run: its test metric relative to that of `none` at the same task, data, dropout, weight decay and "
    "seed, so that 1 is `none` and more is better: ours / none of an accuracy, none / ours of a perplexity or an "
    "error, exp(none − ours) of an nll, which is the same as of a perplexity. A run that diverged, failed or gave "
    "no number has score 0; not applicable and not run yet have none, nor has a run whose `none` has no number.",
    "Of a task: the geometric mean of the scores over all its settings, and its 95 % Student t interval over seeds. "
    "Over tasks: the geometric mean of the tasks' with equal weights and its 95 % Student t interval over tasks, "
    "which holds what differs from task to task as well as what seeds do. Two tasks say little of a third: their "
    "interval is more than 5 times as wide as that of four tasks that differ as much. There is no mean where a run "
    "has score 0, and no interval from one value or from equal ones. Each interval is for itself: over tyings nothing "
    "is corrected, and an interval that leaves out 1 is no verdict.",
    "Share of runs: with at least that score (Agarwal et al. 2021, sec. 4.3). Rows over different tasks do not "
    "compare.",
)


def across(scores: list[Scores]) -> Table:
    """Make a row per tying."""
    return tabulate(
        ["tying"],
        [[s.tying] for s in scores],
        [
            Column("mean score over\ntasks [95 %]", lambda s: interval_text(s.mean, 3)),
            *map(_of_task, sorted({task for s in scores for task in s.tasks})),
            *(
                Column(f"% of runs\n≥ {threshold:g}", lambda s, i=i: percent_text(s.profile[i]))
                for i, threshold in enumerate(THRESHOLDS)
            ),
            Column("n runs", lambda s: str(len(s.all))),
            Column("n tasks", lambda s: str(len(s.tasks))),
            Column("note", _note, align="l", optional=True),
        ],
        scores,
    )


def _of_task(task: Task) -> Column[Scores]:
    return Column(f"{task[0]} on\n{task[1]} [95 %]", lambda s: interval_text(s.ratios.get(task), 3))


def csv_rows(scores: list[Scores]) -> list[dict[str, Any]]:
    """Return a row per tying over all tasks, `task` and `data` empty, and one per tying and task."""
    rows = []
    for s in scores:
        rows.append(
            {
                "tying": s.tying,
                "task": None,
                "data": None,
                **_bounds(s.mean),
                **{f"share_of_runs_from_{t:g}": part for t, part in zip(THRESHOLDS, s.profile, strict=True)},
                "n_runs": len(s.all),
                "n_worst": s.worst,
                "n_without_score": s.without,
                "n_tasks": len(s.tasks),
                "not_applicable": "; ".join(s.not_applicable),
            }
        )
        for task in sorted(s.tasks):
            about = dict.fromkeys(rows[0]) | {"tying": s.tying, "task": task[0], "data": task[1]}
            n_runs = sum(map(len, s.tasks[task].values()))
            rows.append(about | _bounds(s.ratios[task]) | {"n_runs": n_runs})
    return rows


def _bounds(mean: Any) -> dict[str, float | int | None]:
    parts = (mean.mean, mean.low, mean.high, mean.n) if mean else (None,) * 4
    return dict(zip(("mean_score", "mean_score_low", "mean_score_high", "n_averaged"), parts, strict=True))


def _note(scores: Scores) -> str:
    parts = [f"{scores.worst} diverged or failed: score 0"] if scores.worst else []
    parts += [f"{scores.without} without a score"] if scores.without else []
    parts += [f"n/a: {', '.join(scores.not_applicable)}"] if scores.not_applicable else []
    return "; ".join(parts)
