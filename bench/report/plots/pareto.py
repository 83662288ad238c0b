"""Draw what a parameter, a byte and a millisecond buy, and which tying no other beats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bench.analysis.groups import Section, SeedGroup
from bench.analysis.runs import is_finite
from bench.analysis.statistics import Interval
from bench.report.comparison import places_of, share_of_untied
from bench.report.numbers import fixed, short_count
from bench.report.plots.headings import titles
from bench.report.plots.labels import Box, Label, annotate, coinciding
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
    ticks,
    tip,
    tips,
)
from bench.runs.tying_spec import OTHER

NOTE = (
    "The cell that validation chose, with the 95 % interval of its mean over seeds. The line joins what no other tying "
    "beats on both axes."
)
ALIKE = "Of intervals that overlap at (nearly) equal costs that of the best alone is drawn."
SUSPECT = "(?): some of it was measured while other processes ran, or in too few turns for an interval."
FAINT = "Faint: the other cells of the grid."
MANY = 8
"""Of more tyings than that those are named that no other beats, and the best and the worst; the others are grey."""
GREY = "Grey: the other tyings; the tables have their names."
BEYOND = 0.7
"""How far faint cells may stretch the axis, in spans of the solid ones: they would flatten what is compared."""
NEAR, NARROW = 0.02, 0.1
"""Shares of an axis: costs nearer than the first are nearly equal. The least span of it, in shares of the highest
cost: differences too small to matter stay small."""


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
    Measure("peak MiB of a training step", _peak_mib, "{:.4g}".format),
    Measure("latency of a batch, untied = 1", _latency, "{:.3g}".format, timed=True),
)


@dataclass(frozen=True)
class Point:
    """The chosen cell of a tying and where it is drawn.

    across: the ends of the cost's interval; None where it is exact or has none.
    """

    tying: str
    cell: SeedGroup
    cost: float
    value: Interval
    across: tuple[float, float] | None


Faint = dict[str, list[tuple[float, SeedGroup]]]
"""Tying -> the metric of its cells that validation did not choose."""


@dataclass(frozen=True)
class Range:
    """The lowest and highest value of the metric in a row of panels, the room around them, and what lies beyond."""

    low: float
    high: float
    rim: float
    beyond: tuple[float, ...]


def points_of(section: Section, measure: Measure) -> list[Point]:
    """Return the points in order of cost; of equal costs in table order."""
    points = []
    for tying in section.tyings:
        cell = section.chosen(tying)
        if cell and (value := printed_metric(cell)) and measure.of(cell)[0] is not None:
            cost, low, high = measure.of(cell)
            points.append(
                Point(tying, cell, cost, value, None if low is None or high is None else (low, high))
            )
    return sorted(points, key=lambda point: point.cost)


def _barred(points: list[Point], mode: str) -> list[Point]:
    """Return the points whose interval of the metric is drawn: of those that would lie on each other the best."""
    near = NEAR * _span([point.cost for point in points])
    sign = 1 if mode == "min" else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: sign * point.value.mean):
        if all(abs(point.cost - other.cost) > near or _are_apart(point.value, other.value) for other in kept):
            kept.append(point)
    return kept


def _are_apart(one: Interval, other: Interval) -> bool:
    """Say whether two intervals share nothing; without bounds an interval is its mean."""
    lows, highs = (
        [value.mean if bound is None else bound for value, bound in zip((one, other), bounds, strict=True)]
        for bounds in ((one.low, other.low), (one.high, other.high))
    )
    return max(lows) > min(highs)


def _named(points: list[Point], mode: str) -> list[Point]:
    """Return the points that have a name and a colour: all of few, else the front, the best, the worst and `none`."""
    if len(points) <= MANY:
        return points
    order = sorted(points, key=lambda point: point.value.mean)
    chosen = {id(point) for point in [*front(points, mode), order[0], order[-1]]}
    return [point for point in points if id(point) in chosen or point.tying == "none"]


def message(section: Section) -> str:
    """Say which tying has the fewest parameters and which the best metric."""
    points = points_of(section, MEASURES[0])
    if len(points) < 2:
        return ""
    sign = 1 if section.metric.mode == "min" else -1
    order = sorted(points, key=lambda point: sign * point.value.mean)
    name, least = section.metric.name.replace("_", " "), points[0].cost
    fewest = [point for point in order if point.cost == least]
    if len(fewest) == len(points):
        return f"best {name}, at equal parameters: {order[0].tying}"
    share = share_of_untied(fewest[0].cell)
    of_untied = f" ({100 * share:.0f} % of untied)" if share else ""
    if fewest[0] is order[0]:
        return f"fewest parameters{of_untied} and best {name}: {order[0].tying}"
    more = len(fewest) - 1
    others = f" and {more} other{'s'[: more > 1]}" if more else ""
    return f"fewest parameters: {fewest[0].tying}{others}{of_untied}; best {name}: {order[0].tying}"


def _span(costs: list[float]) -> float:
    """Return the span of an axis that shows these costs."""
    return max(max(costs) - min(costs), NARROW * abs(max(costs))) or 1.0


def front(points: list[Point], mode: str) -> list[Point]:
    """Return those that no other beats: none is at most as expensive and better, or cheaper and as good.

    The cheapest is first.
    """
    sign = 1 if mode == "min" else -1
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, sign * point.value.mean)):
        if not kept or sign * point.value.mean < sign * kept[-1].value.mean:
            kept.append(point)
    return kept


def pareto(sections: list[Section]) -> Figure | None:
    """Draw a row of panels per section: the test metric against parameters, memory and latency, as far as measured.

    Of more than three sections only the parameters are drawn, a panel each. Tyings are named where they stand.
    None where no section has two tyings to compare.
    """
    shown, omitted = shown_sections(sections)
    measures = [m for m in MEASURES if any(len(points_of(section, m)) > 1 for section in shown)]
    if not measures:
        return None
    if len(shown) > 3:
        measures, omitted = measures[:1], omitted or "Memory and latency are in the tables."
    looks = styles(sections)
    figure, all_axes = _layout(shown, measures, omitted)
    for index, section in enumerate(shown):
        row = [points_of(section, measure) for measure in measures]
        every = {point.tying: point for points in row for point in points}
        others = _faint(list(every.values()), section)
        values = _value_range(list(every.values()), section, others)
        for axes, measure, points in zip(all_axes[index * len(measures) :], measures, row, strict=False):
            _draw(axes, section, measure, points, others, values, looks)
            if measure is measures[0]:
                axes.set_ylabel(direction(section))
            else:
                axes.tick_params(labelleft=False)
    return figure


def _layout(sections: list[Section], measures: list[Measure], omitted: str) -> tuple[Figure, list[Axes]]:
    """Make the panels, high enough for their labels, with the note."""
    across = len(measures) if len(measures) > 1 else min(3, len(sections))
    every = [(section, measure, points_of(section, measure)) for section in sections for measure in measures]
    labels = max(
        sum(1 + on_two_lines(point.tying).count("\n") for point in _named(points, section.metric.mode))
        for section, _, points in every
    )
    size = ({1: 7.6, 2: 6.0}.get(across, 4.9), 1.15 + max(3.0, 1.1 * LINE * labels))
    crowded = any(len(points) > MANY for _, _, points in every)
    has_faint = any(len(cells) > 1 for section in sections for cells in section.tyings.values())
    alike = any(len(_barred(points, section.metric.mode)) < len(points) for section, _, points in every)
    is_suspect = any(_suspect(points, measure) for _, measure, points in every)
    note = (
        NOTE,
        ALIKE if alike else "",
        GREY if crowded else FAINT if has_faint else "",
        omitted,
        SUSPECT if is_suspect else "",
    )
    names = titles(sections)
    above = []
    for section in sections:
        text = ": ".join(filter(None, (names[section], message(section))))
        above += [text, *[""] * (len(measures) - 1)]
    return panels(above, None, note, across, size, (1.05, 0.25, 0.7, 0.4))


def _suspect(points: list[Point], measure: Measure) -> bool:
    return measure.timed and any(p.across is None or p.cell.cost.suspect for p in points)


def _draw(
    axes: Axes,
    section: Section,
    measure: Measure,
    points: list[Point],
    others: Faint,
    values: Range,
    looks: dict[str, Look],
) -> None:
    """Draw a panel of a row; all panels of the row have the same `others` and `values`."""
    places, mode = places_of(section), section.metric.mode
    axes.set_ylim(values.low - values.rim, values.high + values.rim)
    axes.set_xlabel(f"{measure.name} (?)" if _suspect(points, measure) else measure.name)
    axes.xaxis.set_major_locator(ticks(5, fewest=2))
    axes.yaxis.set_major_locator(ticks(6))
    axes.xaxis.set_major_formatter(lambda cost, _: measure.text(cost))
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=QUIET)
        return
    named = _named(points, mode)
    inks = {point.tying: looks[point.tying][0] if point in named else OTHER for point in points}
    ends = [end for point in points for end in (point.across or (point.cost,))]
    middle, half = (min(ends) + max(ends)) / 2, 0.6 * _span(ends)
    axes.set_xlim(middle - half, middle + half)
    # A cell that lost a run beats none.
    best = front([point for point in points if not point.cell.lost], mode)
    drawn = _draw_front(axes, best) if best else []
    drawn += _draw_bars(axes, _barred(named, mode), named, inks)
    for point in points:
        colour, marker = inks[point.tying], looks[point.tying][1]
        faint = [(mean, cell) for mean, cell in others.get(point.tying, []) if mean not in values.beyond]
        if faint:
            means, look = [mean for mean, _ in faint], {"markersize": 6, "alpha": 0.35, "markeredgewidth": 0}
            (marks,) = axes.plot([point.cost] * len(means), means, marker, color=colour, zorder=1.2, **look)
            tips(marks, [cell_text(point.tying, cell, places) for _, cell in faint])
            drawn += [(point.cost, mean, point.cost, mean) for mean in means]
        look = (
            {"markersize": 10, "zorder": 3}
            if point in named
            else {"markersize": 6, "zorder": 2, "alpha": 0.6}
        )
        (mark,) = axes.plot([point.cost], [point.value.mean], marker, color=colour, **look)
        tip(mark, f"{cell_text(point.tying, point.cell, places)}\n{measure.name}: {measure.text(point.cost)}")
    if values.beyond and measure is MEASURES[0]:
        drawn.append(_say_beyond(axes, values.beyond, values.high, places))
    annotate(axes, _labels(axes, named, inks), drawn)


def _labels(axes: Axes, named: list[Point], inks: dict[str, str]) -> list[Label]:
    """Return a label for each point, and one for points whose marks lie on each other: its lines go down as they do."""
    downwards = sorted(named, key=lambda point: -point.value.mean)
    labels = []
    for group in coinciding(axes, [(point.cost, point.value.mean) for point in downwards]):
        points = [downwards[index] for index in group]
        place = fmean(point.cost for point in points), fmean(point.value.mean for point in points)
        if len(points) == 1:
            text, colour = on_two_lines(points[0].tying), readable(inks[points[0].tying])
        else:
            text, colour = "\n".join(on_two_lines(point.tying, longest=30) for point in points), QUIET
        labels.append(Label(*place, text, colour))
    return labels


def _faint(points: list[Point], section: Section) -> Faint:
    """Return the metric of each tying's other cells of the grid; nothing where the points are crowded."""
    if len(_named(points, section.metric.mode)) < len(points):
        return {}
    return {
        point.tying: [
            (value.mean, cell)
            for cell in section.tyings[point.tying]
            if cell is not point.cell and (value := printed_metric(cell))
        ]
        for point in points
    }


def _value_range(points: list[Point], section: Section, others: Faint) -> Range:
    """Return the range of the metric over all points and intervals, and over the faint ones that are near."""
    faint = [mean for cells in others.values() for mean, _ in cells]
    bounds = [(p.value.low, p.value.mean, p.value.high) for p in points]
    values = [value for bound in bounds for value in bound if value is not None] or [0.0, 1.0]
    low, high = min(values), max(values)
    if section.metric.is_share:  # an interval of few seeds goes on where no share is
        low, high = max(low, 0.0), min(high, 100.0)
    span = high - low or max([abs(value - low) for value in faint], default=0) or abs(low) or 1.0
    near = [value for value in faint if low - BEYOND * span <= value <= high + BEYOND * span]
    low, high = min([low, *near]), max([high, *near])
    rim = 0.09 * (high - low or span)
    return Range(low, high, rim, tuple(value for value in faint if value not in near))


def _draw_front(axes: Axes, best: list[Point]) -> list[Box]:
    """Draw the front: on from each point it is as good as that, until the next. Return the boxes of its parts."""
    x = [*(point.cost for point in best), axes.get_xlim()[1]]
    y = [*(point.value.mean for point in best), best[-1].value.mean]
    axes.plot(x, y, color="#AAAAAA", drawstyle="steps-post", zorder=1)
    along = [(x[k], y[k], x[k + 1], y[k]) for k in range(len(best))]
    return along + [(x[k], min(y[k - 1 : k + 1]), x[k], max(y[k - 1 : k + 1])) for k in range(1, len(best))]


def _draw_bars(axes: Axes, barred: list[Point], named: list[Point], inks: dict[str, str]) -> list[Box]:
    """Draw the intervals of the metric of `barred`, and of the cost of `named`. Return their boxes."""
    bounded = [point for point in barred if point.value.low is not None and point.value.high is not None]
    measured = [point for point in named if point.across]
    boxes = [(p.cost, p.value.low, p.cost, p.value.high) for p in bounded]
    boxes += [(p.across[0], p.value.mean, p.across[1], p.value.mean) for p in measured]
    segments = [[box[:2], box[2:]] for box in boxes]
    colours = [inks[p.tying] for p in bounded + measured]
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=2, zorder=2), autolim=False)
    return boxes


def _say_beyond(axes: Axes, beyond: Sequence[float], high: float, places: int) -> Box:
    """Say how many faint values the axis leaves out and how far they go. Return the box of the text."""
    up = 2 * sum(value > high for value in beyond) >= len(beyond)
    arrow, farthest = ("▲", max(beyond)) if up else ("▼", min(beyond))
    text = f"{arrow} {len(beyond)} more, as far as {fixed(farthest, places)}"
    look = {"ha": "right", "va": "top" if up else "bottom", "fontsize": 11, "color": QUIET}
    written = axes.text(1, 1.0 if up else 0.0, text, transform=axes.transAxes, **look)
    extent = written.get_window_extent(FigureCanvasAgg(axes.figure).get_renderer())
    return tuple(axes.transData.inverted().transform(extent).ravel())
