"""Show what each tying scores over all tasks."""

from typing import Any

from bench.analysis.aggregate import THRESHOLDS, Scores
from bench.analysis.statistics import LEAST_RESAMPLED
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, fixed, interval_text

TITLE = "Across tasks"
NOTES = (
    "Score of a run: its test metric relative to that of `none` at the same task, data, dropout, weight decay and "
    "seed, so that 1 is `none` and more is better: ours / none of an accuracy, none / ours of a perplexity or an "
    "error, exp(none − ours) of an nll, which is the same as of a perplexity. A run that diverged, failed or gave "
    "no number has score 0; not applicable and not run yet have none, nor has a run whose `none` has no number.",
    "Interquartile mean of the scores (Agarwal et al. 2021, sec. 4.3): the lowest and highest n // 4 are cut off. "
    f"Its 95 % bootstrap interval draws seeds anew within each task, from {LEAST_RESAMPLED} task x seed on. "
    "Share of runs: with at least that score. Rows over different tasks do not compare.",
)


def across(scores: list[Scores]) -> Table:
    """Make a row per tying."""

    def share(at: int) -> Column[Scores]:
        return Column(f"% of runs\n≥ {THRESHOLDS[at]:g}", lambda s: _percent(profiles[s.tying][at]))

    profiles = {s.tying: s.profile for s in scores}
    return tabulate(
        ["tying"],
        [[s.tying] for s in scores],
        [
            Column("interquartile mean\nscore [95 %]", lambda s: interval_text(s.mean, 3)),
            *map(share, range(len(THRESHOLDS))),
            Column("n runs", lambda s: str(len(s.all))),
            Column("n tasks", lambda s: str(len(s.tasks))),
            Column("note", _note, align="l", optional=True),
        ],
        scores,
    )


def csv_rows(scores: list[Scores]) -> list[dict[str, Any]]:
    return [
        {
            "tying": s.tying,
            "interquartile_mean": s.mean and s.mean.mean,
            "interquartile_mean_low": s.mean and s.mean.low,
            "interquartile_mean_high": s.mean and s.mean.high,
            **{f"share_of_runs_from_{t:g}": share for t, share in zip(THRESHOLDS, s.profile, strict=True)},
            "n_runs": len(s.all),
            "n_worst": s.worst,
            "n_without_score": s.without,
            "n_tasks": len(s.tasks),
            "n_tasks_x_seeds": sum(map(len, s.tasks)),
            "not_applicable": "; ".join(s.not_applicable),
        }
        for s in scores
    ]


def _percent(share: float | None) -> str:
    return NOTHING if share is None else fixed(100 * share, 0)


def _note(scores: Scores) -> str:
    parts = [f"{scores.worst} diverged or failed: score 0"] if scores.worst else []
    parts += [f"{scores.without} without a score"] if scores.without else []
    parts += [f"n/a: {', '.join(scores.not_applicable)}"] if scores.not_applicable else []
    return "; ".join(parts)
