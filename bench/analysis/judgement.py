"""Judge predictions on what they were not made from: parts of the points that are left out, or runs that came later."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.analysis.points import Measurement, Point
from bench.analysis.prediction import DUMMIES, MATTERS, dummy, law, newness, predictor
from bench.analysis.statistics import Interval


class Score(NamedTuple):
    """How predictions fared at points that they were not made from.

    held_out: what was left out. right, signed: how many signs were right of those differences that matter. covered: how
    many of n lay in their 90 % interval, None where there was none. errors: mean size of the error in nll of the
    prediction (under `model`) and of each dummy.
    """

    held_out: str
    method: str
    model: str
    n: int
    right: int
    signed: int
    covered: int | None
    errors: Mapping[str, float]

    @property
    def winner(self) -> str:
        """Return what has the least error; of equal ones the dummy, which is simpler."""
        return min(self.errors, key=lambda name: (self.errors[name], name not in DUMMIES))


def splits(measured: Sequence[Measurement]) -> list[tuple[str, Callable[[Point], bool]]]:
    """Return what to leave out in turn: each corpus, each kind of network, and the fifth with most parameters."""
    corpora = sorted({row.point.corpus for row in measured})
    networks = sorted({row.point.network for row in measured})
    sizes = sorted(row.point.parameters for row in measured)
    limit = sizes[max(0, math.ceil(0.8 * len(sizes)) - 1)] if sizes else 0
    parts: list[tuple[str, Callable[[Point], bool]]] = []
    parts += [(f"corpus {name}", lambda point, name=name: point.corpus == name) for name in corpora]
    parts += [(f"network {name}", lambda point, name=name: point.network == name) for name in networks]
    return [*parts, ("the largest fifth", lambda point: point.parameters > limit)]


def judged(measured: Sequence[Measurement], methods: Sequence[str]) -> list[Score]:
    """Leave each split out, fit the rest, and score the predictions and the dummies on what was left out.

    A split without a point on either side, or with a single place to fit, is left out.
    """
    scores, start_0 = [], law(measured, phi=0.0)
    for held_out, is_held in splits(measured):
        rest = [row for row in measured if not is_held(row.point)]
        for method in methods:
            held = [row for row in measured if row.method == method and is_held(row.point)]
            predict = predictor(rest, method, new=newness(held, rest)) if held else None
            if predict is not None:
                tried = {name: dummy(name, rest, method, start_0)(held) for name in DUMMIES}
                dummies = {name: values for name, values in tried.items() if all(map(math.isfinite, values))}
                scores.append(scored(held_out, held, predict(held), predict.model, dummies))
    return scores


def scored(
    name: str,
    held: Sequence[Measurement],
    intervals: Sequence[Interval],
    model: str,
    dummies: Mapping[str, Sequence[float]],
) -> Score:
    """Compare predictions with what was measured at the same places."""
    pairs = list(zip(held, intervals, strict=True))
    matter = [(row, interval) for row, interval in pairs if abs(row.percent) > MATTERS]
    bounded = [
        interval.low <= row.difference <= interval.high for row, interval in pairs if interval.low is not None
    ]
    predicted = {model: [interval.mean for interval in intervals], **dummies}
    errors = {
        label: fmean(abs(value - row.difference) for value, row in zip(values, held, strict=True))
        for label, values in predicted.items()
    }
    right = sum((row.difference > 0) == (interval.mean > 0) for row, interval in matter)
    covered = sum(bounded) if len(bounded) == len(held) else None
    return Score(name, held[0].method, model, len(held), right, len(matter), covered, errors)
