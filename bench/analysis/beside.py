"""Place published results beside the measured points: of which method they are, and where on the map they lie."""

import math
import re
from collections.abc import Sequence

from bench.analysis.points import METHODS, Point, as_percent
from bench.analysis.prediction import DEPTH, DROPOUT, PASSES, SHARE, TOKENS, TOKENS_PER_ROW, WIDTH, Variable
from bench.analysis.published import Published

SIZES = re.compile(r"(\d+) x (\d+)")
"""Depth and width, as in `LSTM 2 x 200`."""
NUMBERS = {
    PASSES.name: re.compile(r"([\d.]+) epochs"),
    DROPOUT.name: re.compile(r"dropout ([\d.]+)"),
    WIDTH.name: re.compile(r"width (\d+)"),
    DEPTH.name: re.compile(r"(\d+) layers"),
}
FAMILIES = {"LSTM": "gru", "transformer": "transformer", "ALBERT": "encoder", "ResNet": "cnn"}
"""A word in what a source says of its network -> the kind of network of the bench that is nearest."""


def method_of(row: Published) -> str | None:
    """Return the method that a row is of; None for one that the map does not have."""
    first = re.split(r"[ ,]", row.tying)[0]
    return first if first in METHODS else None


def family_of(row: Published) -> str | None:
    return next((kind for word, kind in FAMILIES.items() if word in row.network), None)


def percent_of(row: Published) -> float | None:
    """Return the change of perplexity in percent; None for any metric but a loss or a perplexity on new data."""
    if row.untied is None or row.tied is None or row.metric == "train perplexity":
        return None
    if "perplexity" in row.metric:
        return 100 * (row.tied / row.untied - 1)
    return as_percent(row.tied - row.untied) if "loss" in row.metric else None


def place_of(row: Published, variable: Variable) -> float | None:
    """Return where a row lies on an axis, on the scale of the models; None where its source does not say."""
    value = _value(row, variable.name)
    if value is None:
        return None
    return math.log10(value) if variable.is_log else value


def _value(row: Published, name: str) -> float | None:
    if name == TOKENS.name:
        return row.tokens
    if name == TOKENS_PER_ROW.name:
        return row.tokens / row.vocabulary if row.tokens and row.vocabulary else None
    sizes = SIZES.search(row.network)
    if name == SHARE.name and method_of(row) == "embedding" and sizes and row.vocabulary and row.parameters:
        return row.vocabulary * float(sizes[2]) / row.parameters
    if sizes and name in (DEPTH.name, WIDTH.name):
        return float(sizes[1 if name == DEPTH.name else 2])
    match = NUMBERS[name].search(row.network) if name in NUMBERS else None
    return float(match[1]) if match else None


def near(rows: Sequence[Published], point: Point, method: str, count: int) -> list[Published]:
    """Return the results of a method whose size, vocabulary and data are nearest, on logarithmic scales.

    Results on a like kind of network come first; what a source does not say counts as a factor of ten away.
    """

    def apart(row: Published) -> tuple[bool, float]:
        sizes = (
            (point.parameters, row.parameters),
            (point.vocabulary, row.vocabulary),
            (point.tokens, row.tokens),
        )
        ratios = [abs(math.log10(ours / theirs)) if ours and theirs else 1.0 for ours, theirs in sizes]
        return family_of(row) != point.network, math.hypot(*ratios)

    return sorted((row for row in rows if method_of(row) == method), key=apart)[:count]
