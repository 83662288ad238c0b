"""Draw what a parameter, a byte and a millisecond buy, and which tying no other beats."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.groups import Section, SeedGroup
from bench.analysis.runs import is_finite
from bench.analysis.statistics import Interval
from bench.report.comparison import places_of
from bench.report.numbers import fixed, short_count
from bench.report.plots.labels import Box, Label, annotate
from bench.report.plots.style import (
    LINE,
    QUIET,
    Look,
    cell_text,
    direction,
    on_two_lines,
    panels,
    printed_metric,
    readable,
    shown_sections,
    styles,
    tip,
    tips,
)

NOTE = (
    "The cell that validation chose, with the 95 % interval of its mean over seeds. The line joins what no other tying "
    "beats on both axes. Equal costs stand side by side."
)
SUSPECT = "(?): some of it was measured while other processes ran, or in too few turns for an interval."
FAINT = "Faint: the other cells of the grid."
MANY = 8
"""Of more tyings than that a legend tells, and the faint cells are left out."""
BEYOND = 0.7
"""How far faint cells may stretch the axis, in spans of the solid ones: they would flatten what is compared."""
SIDE, ASIDE, NARROW = 0.03, 0.15, 0.1
"""Shares of an axis: (nearly) equal costs are moved apart by the first, and by less where all together would be moved
by more than the second. The least span of it, in shares of the highest cost: differences too small to matter stay
small."""


@dataclass(frozen=True)
class Measure:
    """A cost of a cell, and how an axis names it and writes a number of it.

    of: the cost and the ends of its interval, each None where it is not known; a measured time should have all.
    """

    name: str
    of: Callable[[SeedGroup], tuple[float | None, float | None, float | None]]
    text: Callable[[float], str]
    timed: bool = False


def _parameters(cell: SeedGroup) -> tuple[float | None, None, None]:
    return cell.count("num_params"), None, None


def _peak_mib(cell: SeedGroup) -> tuple[float | None, None, None]:
    peak = cell.cost.value("memory", "train_step", "total")
    return peak * 2**-20 if is_finite(peak) else None, None, None


def _latency(cell: SeedGroup) -> tuple[float | None, float | None, float | None]:
    """Against the untied twin in one process: the milliseconds of two processes do not compare."""
    values = [cell.cost.value("latency", "batch", key) for key in ("ratio", "low", "high")]
    ratio, low, high = (value if is_finite(value) else None for value in values)
    return ratio, low, high


MEASURES = (
    Measure("unique parameters", _parameters, short_count),
    Measure("peak MiB of a training step", _peak_mib, "{:.3g}".format),
    Measure("latency of a batch, untied = 1", _latency, "{:.3g}".format, timed=True),
)


@dataclass(frozen=True)
class Point:
    """The chosen cell of a tying and where it is drawn: `at` is `cost` unless another is as near as that.

    across: the ends of the cost's interval, as drawn; None where it is exact or has none.
    """

    tying: str
    cell: SeedGroup
    cost: float
    at: float
    value: Interval
    across: tuple[float, float] | None


def points_of(section: Section, measure: Measure) -> list[Point]:
    """Return the points in order of cost, (nearly) equal costs side by side.

    Of equal costs the first in table order stands farthest to the right.
    """
    measured = []
    for tying in section.tyings:
        cell = section.chosen(tying)
        if cell and (value := printed_metric(cell)) and measure.of(cell)[0] is not None:
            measured.append((tying, cell, value, measure.of(cell)))
    costs = [cost for _, _, _, (cost, _, _) in measured]
    step = min(SIDE, ASIDE / len(costs)) * _span(costs) if costs else 0
    points: list[Point] = []
    for tying, cell, value, (cost, low, high) in sorted(measured, key=lambda point: -point[3][0]):
        at = min(cost, points[-1].at - step) if points else cost
        across = None if low is None or high is None else (low + at - cost, high + at - cost)
        points.append(Point(tying, cell, cost, at, value, across))
    return points[::-1]


def _span(costs: list[float]) -> float:
    """Return the span of an axis that shows these costs."""
    return max(max(costs) - min(costs), NARROW * abs(max(costs))) or 1.0


def front(points: list[Point], mode: str) -> list[Point]:
    """Return those that no other beats: none is at most as expensive and better, or cheaper and as good.

    The cheapest is first.
    """
    sign = 1 if mode == "min" else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, sign * each.value.mean)):
        if not kept or sign * point.value.mean < sign * kept[-1].value.mean:
            kept.append(point)
    return kept


def pareto(sections: list[Section]) -> Figure | None:
    """Draw a row of panels per section: the test metric against parameters, memory and latency, as far as measured.

    Of more than three sections only the parameters are drawn, a panel each. Few tyings are named where they stand.
    None where no section has two tyings to compare.
    """
    shown, more = shown_sections(sections)
    measures = [each for each in MEASURES if any(len(points_of(section, each)) > 1 for section in shown)]
    if not measures:
        return None
    if len(shown) > 3:
        measures, more = measures[:1], more or "Memory and latency are in the tables."
    crowded = any(len(section.tyings) > MANY for section in shown)
    looks = styles(sections)
    figure, all_axes = _layout(shown, measures, looks, crowded, more)
    for at, axes in enumerate(all_axes):
        section, measure = shown[at // len(measures)], measures[at % len(measures)]
        _draw(axes, section, measure, looks, crowded)
        if measure is measures[0]:
            axes.set_ylabel(direction(section))
        else:
            axes.tick_params(labelleft=False)
    return figure


def _layout(
    sections: list[Section], measures: list[Measure], looks: dict[str, Look], crowded: bool, more: str
) -> tuple[Figure, list[Axes]]:
    """Make the panels, high enough for their labels, with the note and, where it is crowded, a legend."""
    across = len(measures) if len(measures) > 1 else min(3, len(sections))
    labels = max(sum(1 + on_two_lines(tying).count("\n") for tying in section.tyings) for section in sections)
    height = 1.15 + max(3.0, 0.0 if crowded else 1.1 * LINE * labels)
    size = ({1: 7.6, 2: 6.0}.get(across, 4.9), height)
    legend = {tying: (colour, marker, "") for tying, (colour, marker, _) in looks.items()}
    has_faint = any(len(cells) > 1 for section in sections for cells in section.tyings.values())
    is_suspect = any(_suspect(points_of(section, each), each) for section in sections for each in measures)
    note = (NOTE, FAINT if has_faint and not crowded else "", more, SUSPECT if is_suspect else "")
    titles = [title for section in sections for title in (section.title, *[""] * (len(measures) - 1))]
    return panels(titles, legend if crowded else None, note, across, size, (0.85, 0.1, 0.7, 0.4))


def _suspect(points: list[Point], measure: Measure) -> bool:
    return measure.timed and any(p.across is None or p.cell.cost.suspect for p in points)


def _draw(axes: Axes, section: Section, measure: Measure, looks: dict[str, Look], crowded: bool) -> None:
    points, places = points_of(section, measure), places_of(section)
    axes.set_xlabel(f"{measure.name} (?)" if _suspect(points, measure) else measure.name)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda cost, _: measure.text(cost))
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=QUIET)
        return
    others: dict[str, list[tuple[float, SeedGroup]]] = {}
    for point in [] if crowded else points:
        values = [
            (printed_metric(cell), cell) for cell in section.tyings[point.tying] if cell is not point.cell
        ]
        others[point.tying] = [(value.mean, cell) for value, cell in values if value]
    low, high, beyond = _set_limits(axes, points, [mean for faint in others.values() for mean, _ in faint])
    # A cell that lost a run beats none.
    best = front([point for point in points if not point.cell.lost], section.metric.mode)
    drawn = _draw_front(axes, best) if best else []
    drawn += _draw_bars(axes, points, looks)
    for point in points:
        colour, marker, _ = looks[point.tying]
        faint = [(mean, cell) for mean, cell in others.get(point.tying, []) if low <= mean <= high]
        if faint:
            means, look = [mean for mean, _ in faint], {"markersize": 6, "alpha": 0.35, "markeredgewidth": 0}
            (marks,) = axes.plot([point.at] * len(means), means, marker, color=colour, zorder=1.2, **look)
            tips(marks, [cell_text(point.tying, cell, places) for _, cell in faint])
            drawn += [(point.at, mean, point.at, mean) for mean in means]
        (mark,) = axes.plot([point.at], [point.value.mean], marker, color=colour, markersize=10, zorder=3)
        tip(mark, f"{cell_text(point.tying, point.cell, places)}\n{measure.name}: {measure.text(point.cost)}")
    if beyond and measure is MEASURES[0]:
        drawn.append(_say_beyond(axes, beyond, high, places))
    if not crowded:
        labels = [
            Label(p.at, p.value.mean, on_two_lines(p.tying), readable(looks[p.tying][0])) for p in points
        ]
        annotate(axes, labels, drawn)


def _set_limits(axes: Axes, points: list[Point], faint: list[float]) -> tuple[float, float, list[float]]:
    """Set the limits of both axes. Return the lowest and highest value within, and the faint values beyond."""
    ends = [end for point in points for end in (point.across or (point.at,))]
    middle, half = (min(ends) + max(ends)) / 2, 0.6 * _span(ends)
    axes.set_xlim(middle - half, middle + half)
    bounds = [(p.value.low, p.value.mean, p.value.high) for p in points]
    values = [value for bound in bounds for value in bound if value is not None]
    low, high = min(values), max(values)
    span = high - low or max([abs(value - low) for value in faint], default=0) or abs(low) or 1.0
    near = [value for value in faint if low - BEYOND * span <= value <= high + BEYOND * span]
    low, high = min([low, *near]), max([high, *near])
    room = 0.09 * (high - low or span)
    axes.set_ylim(low - room, high + room)
    return low, high, [value for value in faint if value not in near]


def _draw_front(axes: Axes, best: list[Point]) -> list[Box]:
    """Draw the front: on from each point it is as good as that, until the next. Return the boxes of its parts."""
    x = [*(point.at for point in best), axes.get_xlim()[1]]
    y = [*(point.value.mean for point in best), best[-1].value.mean]
    axes.plot(x, y, color="#AAAAAA", drawstyle="steps-post", zorder=1)
    along = [(x[k], y[k], x[k + 1], y[k]) for k in range(len(best))]
    return along + [(x[k], min(y[k - 1 : k + 1]), x[k], max(y[k - 1 : k + 1])) for k in range(1, len(best))]


def _draw_bars(axes: Axes, points: list[Point], looks: dict[str, Look]) -> list[Box]:
    """Draw the intervals of metric and cost. Return their boxes."""
    known = [point for point in points if point.value.low is not None and point.value.high is not None]
    measured = [point for point in points if point.across]
    boxes = [(p.at, p.value.low, p.at, p.value.high) for p in known]
    boxes += [(p.across[0], p.value.mean, p.across[1], p.value.mean) for p in measured]
    segments = [[box[:2], box[2:]] for box in boxes]
    colours = [looks[p.tying][0] for p in known + measured]
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=2, zorder=2), autolim=False)
    return boxes


def _say_beyond(axes: Axes, beyond: list[float], high: float, places: int) -> Box:
    """Say how many faint values the axis leaves out and how far they go. Return the box of the text."""
    up = 2 * sum(value > high for value in beyond) >= len(beyond)
    arrow, farthest = ("▲", max(beyond)) if up else ("▼", min(beyond))
    text = f"{arrow} {len(beyond)} more, as far as {fixed(farthest, places)}"
    look = {"ha": "right", "va": "top" if up else "bottom", "fontsize": 11, "color": QUIET}
    written = axes.text(1, 1.0 if up else 0.0, text, transform=axes.transAxes, **look)
    extent = written.get_window_extent(FigureCanvasAgg(axes.figure).get_renderer())
    return tuple(axes.transData.inverted().transform(extent).ravel())
