"""Word how predictions fared: with parts of the points left out, and at places that were predicted before they ran."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.analysis.groups import grouped
from bench.analysis.judgement import Score, judged, scored
from bench.analysis.points import METHODS, Measurement, Point
from bench.analysis.prediction import DUMMIES, MATTERS
from bench.analysis.statistics import Interval
from bench.report.markup import Column, Table, markdown, tabulate
from bench.report.numbers import NOTHING, bounded, fixed
from bench.tying.errors import BadInput

FILE = "predictions.json"
NAMED = 4
"""More dummies that won are counted, not named."""
PARTS = {
    "corpus": "with a corpus left out",
    "network": "with a kind of network left out",
    "the largest": "with the largest fifth left out",
}
LEAST_HELD = 3
"""Fewer points that are left out are shown with the others, and judge nothing."""


def predictions_page(measurements: Sequence[Measurement], folder: Path) -> str:
    """Return predictions.md: the verdict first, then each part that was left out, then what was predicted beforehand.

    Args:
        folder: of the map, where FILE has the predictions that were made before their runs.
    """
    scores = [score for score in judged(measurements, METHODS) if score.n >= LEAST_HELD]
    made = [Batch.of(batch, measurements, number) for number, batch in enumerate(batches(folder / FILE), 1)]
    lines = ["# How good are the predictions?", "", *_answer(scores, made), ""]
    lines += [
        "## With a part left out",
        "",
        markdown(_table(scores)) if scores else "Nothing can be left out yet.",
        "",
    ]
    lines += ["## Predicted before they were run", ""]
    for batch in made:
        lines += [f"### {batch.name.capitalize()}", "", batch.text, ""]
        lines += [markdown(_table(batch.scores)), ""] if batch.scores else []
        lines += [markdown(_rows_table(batch.rows)), ""]
    if not made:
        lines += [f"None is made: `python -m bench.foretell` writes {FILE}.", ""]
    return "\n".join([*lines, HOW, ""])


HOW = (
    f"Signs count where the measured difference exceeds {MATTERS:g} %. Coverage is of 90 % intervals. Errors are mean "
    "errors of nll, of the prediction and of four models that know less: no difference, the mean of the "
    "rest, and the law with phi held at 0 and at 1 (which is no difference again). The least error of a row is marked; "
    "where that is one of the four, it has won."
)


def _answer(scores: Sequence[Score], made: Sequence["Batch"]) -> list[str]:
    lines = _verdict("With a part left out", scores)
    for batch in made:
        lines += _verdict(f"Predicted beforehand, {batch.name}", batch.scores)
    return lines or ["There are too few points to judge a prediction."]


def _verdict(title: str, scores: Sequence[Score]) -> list[str]:
    """Say signs, coverage and who won, over all of `scores`."""
    if not scores:
        return []
    right, signed = sum(score.right for score in scores), sum(score.signed for score in scores)
    bounded_scores = [score for score in scores if score.covered is not None]
    covered, n = sum(score.covered for score in bounded_scores), sum(score.n for score in bounded_scores)
    won = [score for score in scores if score.winner in DUMMIES]
    sign = f"{100 * right / signed:.0f} % of {signed} signs right" if signed else "no sign to predict"
    cover = f"90 % intervals hold {100 * covered / n:.0f} % of {n}" if n else "too few points for intervals"
    text = f"- {title}: {sign}, {cover}{_beside_the_mean(scores, ', errors are ')}; a model with nothing to fit wins "
    text += f"{len(won)} of {len(scores)} comparisons"
    return [f"{text}{f': {_who(won, scores)}' if won else ''}."]


def _who(won: Sequence[Score], scores: Sequence[Score]) -> str:
    """Name the dummies that won; where they are many, say how often for each kind of part that was left out."""
    if len(won) <= NAMED:
        return ", ".join(f"{score.winner} on {score.method}, {score.held_out}" for score in won)
    kinds = grouped(scores, lambda score: next((k for k in PARTS if score.held_out.startswith(k)), ""))
    counts = {kind: sum(score in won for score in ours) for kind, ours in kinds.items()}
    return "; ".join(
        f"{PARTS.get(kind, kind)} {counts[kind]} of {len(ours)}{_beside_the_mean(ours, ', errors ')}"
        for kind, ours in kinds.items()
    )


def _beside_the_mean(scores: Sequence[Score], before: str) -> str:
    """Return how large the errors of all points are in those of the dummy `mean`; empty where that was not tried."""
    tried = [score for score in scores if score.errors.get("mean")]
    if not tried:
        return ""
    ours = sum(score.n * score.errors[score.model] for score in tried)
    mean = sum(score.n * score.errors["mean"] for score in tried)
    return f"{before}{fixed(ours / mean, 2)}x those of the mean"


def _table(scores: Sequence[Score]) -> Table:
    columns = [
        Column("points", lambda score: str(score.n)),
        Column("signs right", lambda score: f"{score.right} of {score.signed}" if score.signed else NOTHING),
        Column("in the interval", lambda s: NOTHING if s.covered is None else f"{s.covered} of {s.n}"),
        Column("model", lambda score: score.model, align="l"),
        Column("its error", lambda score: fixed(score.errors[score.model], 4)),
        *(Column(dummy, lambda score, dummy=dummy: fixed(score.errors.get(dummy), 4)) for dummy in DUMMIES),
        Column("best", lambda score: score.winner, align="l"),
    ]
    return tabulate(
        ["left out", "tying"], [[score.held_out, score.method] for score in scores], columns, scores
    )


# --- what was predicted before it was run ---

Row = tuple[Mapping[str, Any], Measurement | None]


def batches(file: Path) -> list[Mapping[str, Any]]:
    """Return what each call of `python -m bench.foretell` predicted, the earliest first. BadInput for a torn file."""
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text())
        return [batch for batch in content if batch["command"] and batch["predictions"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} holds no predictions ({error}): take it from git again") from error


@dataclass(frozen=True)
class Batch:
    """Predictions that were made at one time, from so many measured points, each with what was measured later."""

    name: str
    points: int
    rows: Sequence[Row]

    @classmethod
    def of(cls, content: Mapping[str, Any], measurements: Sequence[Measurement], number: int = 1) -> "Batch":
        rows = [(prediction, _measured(measurements, prediction)) for prediction in content["predictions"]]
        return cls(f"batch {number}", content["points"], rows)

    @property
    def n_open(self) -> int:
        """How many predictions have no number yet."""
        return sum(measured is None for _, measured in self.rows)

    @property
    def text(self) -> str:
        n = len(self.rows)
        run = f"{self.n_open} of {n} have no number yet" if self.n_open else f"all {n} are run"
        return f"Made from {self.points} measurements; {run}."

    @cached_property
    def scores(self) -> list[Score]:
        """A score for each method with a number."""
        scores = []
        for method in METHODS:
            ours = [row for row in self.rows if row[0]["method"] == method and row[1] is not None]
            if ours:
                predictions, measured = zip(*ours, strict=True)
                intervals = [Interval(*prediction["predicted"], 0) for prediction in predictions]
                names, model = predictions[0]["dummies"], predictions[0]["model"]
                dummies = {
                    name: [prediction["dummies"][name] for prediction in predictions] for name in names
                }
                scores.append(scored(self.name, measured, intervals, model, dummies))
        return scores


def _measured(measurements: Sequence[Measurement], prediction: Mapping[str, Any]) -> Measurement | None:
    """Return what was measured at the place of a prediction; None where it was not run."""
    point = Point(**prediction["point"])
    wanted = (point, prediction["method"], prediction["distinct"])
    return next((m for m in measurements if (m.point, m.method, m.distinct) == wanted), None)


def _rows_table(rows: Sequence[Row]) -> Table:
    columns = [
        Column("predicted nll [90 %]", lambda row: bounded(*row[0]["predicted"], 3, True)),
        Column("measured", lambda row: fixed(row[1] and row[1].difference, 3, True)),
        Column("in the interval", lambda row: NOTHING if row[1] is None else _inside(row)),
    ]
    labels = [[prediction["method"], Point(**prediction["point"]).title] for prediction, _ in rows]
    return tabulate(["tying", "place"], labels, columns, rows)


def _inside(row: Row) -> str:
    _, low, high = row[0]["predicted"]
    if low is None:
        return NOTHING
    return "yes" if low <= row[1].difference <= high else "no"
