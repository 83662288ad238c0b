"""A hard tying against a soft one of the same effective number of parameters."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.ledger.paired import difference, missing, pairs, said
from bench.ledger.parts import Measure, Part
from bench.ledger.select import by_seed, grouped, metric_of, named

if TYPE_CHECKING:
    from pandas import DataFrame

SIZE = "x the parameters of ours"


def gain_at_size(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], strength: str, within: float
) -> list[Part]:
    """`gain` of ours over that strength of theirs which is nearest to it in size, paired by seed.

    strength: the column that theirs is searched over. The size of theirs is `effective_params`, a mean over seeds, that
    of ours its `num_params`; no score is looked at. `ratio`: the one over the other; where it is farther from 1 than
    `within`, there is nothing to compare: no gain, and the part decides nothing.
    """
    return [
        _part(name, mine, other, strength, within) for name, mine, other in pairs(frame, ours, theirs, by)
    ]


def _part(name: str, mine: "DataFrame", other: "DataFrame", strength: str, within: float) -> Part:
    counts, metric = list(by_seed(mine, "num_params").values()), metric_of(mine)
    sizes = _sizes(other, strength)
    if not counts or not sizes:
        notes = [
            missing("ours", mine),
            missing("theirs", other) or "theirs: no effective number of parameters",
        ]
        return Part(name, (Measure("gain", None), Measure("ratio", None, SIZE)), said(notes))
    chosen = min(sizes, key=lambda values: abs(math.log(sizes[values] / counts[0])))
    rows, ratio = grouped(other, [strength])[chosen], sizes[chosen] / counts[0]
    nearest = f"theirs: {named([strength], chosen)}, of {len(sizes)} the nearest in size"
    close = abs(ratio - 1) <= within
    gain = difference("gain", mine, rows, metric) if close else Measure("gain", None)
    far = "" if close else f"n/a: not within {100 * within:g} % of the size of ours"
    notes = [nearest, far, missing("ours", mine), missing("theirs", rows)]
    return Part(name, (gain, Measure("ratio", ratio, SIZE)), said(notes), decides=close)


def _sizes(rows: "DataFrame", strength: str) -> dict[tuple, float]:
    """Mean effective number of parameters for each strength that has one, in order."""
    found = {
        values: by_seed(cell, "effective_params").values()
        for values, cell in grouped(rows, [strength]).items()
    }
    return {values: sum(counts) / len(counts) for values, counts in found.items() if counts}
