"""What each tying costs and reaches, and which of them no other beats."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.plots.style import reached
from bench.report.cells import Cell, Section
from bench.report.numbers import short_count
from bench.report.rows import is_finite, look_up
from bench.stats.statistics import Interval

SIDE, ASIDE, NARROW = 0.03, 0.15, 0.1
"""Shares of an axis: (nearly) equal costs are moved apart by the first, and by less where all together would be moved
by more than the second. The least span of it, in shares of the highest cost: differences too small to matter stay
small."""


@dataclass(frozen=True)
class Point:
    """The chosen cell of a tying and where it is drawn: `at` is `cost` unless another is as near as that.

    across: the ends of the cost's interval, as drawn; None where it is exact or has none.
    """

    tying: str
    cell: Cell
    cost: float
    at: float
    value: Interval
    across: tuple[float, float] | None


@dataclass(frozen=True)
class Measure:
    """A cost of a cell, how an axis names it, how a number of it is written; and of a measured one its bounds."""

    name: str
    of: Callable[[Cell], float | None]
    text: Callable[[float], str]
    timed: bool = False
    bounds: Callable[[Cell], tuple[float | None, float | None]] = lambda cell: (None, None)


def _recorded(scale: float, *path: str) -> Callable[[Cell], float | None]:
    def of(cell: Cell) -> float | None:
        value = look_up(cell.cost, *path)
        return value * scale if is_finite(value) else None

    return of


def _latency(part: str) -> Callable[[Cell], float | None]:
    return _recorded(1, "latency", "batch", part)


MEASURES = (
    Measure("unique parameters", lambda cell: cell.count("num_params"), short_count),
    Measure(
        "peak MiB of a training step",
        _recorded(2**-20, "memory", "train_step", "total"),
        lambda c: f"{c:.3g}",
    ),
    Measure(  # against the untied twin in one process: the milliseconds of two processes do not compare
        "latency of a batch, untied = 1",
        _latency("ratio"),
        lambda c: f"{c:.3g}",
        True,
        lambda cell: (_latency("low")(cell), _latency("high")(cell)),
    ),
)


def span(costs: list[float]) -> float:
    """Of an axis that shows these costs."""
    return max(max(costs) - min(costs), NARROW * abs(max(costs))) or 1.0


def points_of(section: Section, measure: Measure) -> list[Point]:
    """In order of cost; (nearly) equal costs side by side, the first of them in table order farthest to the right."""
    found = []
    for tying in section.tyings:
        cell = section.chosen(tying)
        if cell and (value := reached(cell)) and (cost := measure.of(cell)) is not None:
            found.append((tying, cell, cost, value))
    costs = [cost for _, _, cost, _ in found]
    step = min(SIDE, ASIDE / len(costs)) * span(costs) if costs else 0
    points: list[Point] = []
    for tying, cell, cost, value in sorted(found, key=lambda each: -each[2]):
        at = min(cost, points[-1].at - step) if points else cost
        low, high = measure.bounds(cell)
        across = None if low is None or high is None else (low + at - cost, high + at - cost)
        points.append(Point(tying, cell, cost, at, value, across))
    return points[::-1]


def front(points: list[Point], mode: str) -> list[Point]:
    """Those that no other beats: none is at most as expensive and better, or cheaper and as good. Cheapest first."""
    sign = 1 if mode == "min" else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, sign * each.value.mean)):
        if not kept or sign * point.value.mean < sign * kept[-1].value.mean:
            kept.append(point)
    return kept
