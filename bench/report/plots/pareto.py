"""Draw what a parameter, a byte and a millisecond buy, and which tying no other beats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from bench.analysis.groups import Section, SeedGroup
from bench.analysis.runs import is_finite
from bench.analysis.statistics import Interval
from bench.report.comparison import places_of
from bench.report.numbers import fixed, short_count
from bench.report.plots.style import (
    LINE,
    QUIET,
    Look,
    broken,
    direction,
    drawn,
    inked,
    panels,
    reached,
    said,
    styles,
    tip,
    tips,
    where,
)

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
    cell: SeedGroup
    cost: float
    at: float
    value: Interval
    across: tuple[float, float] | None


@dataclass(frozen=True)
class Measure:
    """A cost of a cell, how an axis names it, how a number of it is written; and of a measured one its bounds."""

    name: str
    of: Callable[[SeedGroup], float | None]
    text: Callable[[float], str]
    timed: bool = False
    bounds: Callable[[SeedGroup], tuple[float | None, float | None]] = lambda cell: (None, None)


def _recorded(scale: float, *path: str) -> Callable[[SeedGroup], float | None]:
    def of(cell: SeedGroup) -> float | None:
        value = cell.cost.value(*path)
        return value * scale if is_finite(value) else None

    return of


def _latency(part: str) -> Callable[[SeedGroup], float | None]:
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


GAP, LEAD = 4.0, 14.0
"""Pixels between two labels; from a point to its label above which a line leads there."""
MARK = 8.0
"""Pixels from the middle of a point to its edge: the last thing to cover."""
LABEL_PLACES, STEPS = 17, 2
"""Places tried across a panel; for each height of a label along it."""
CROSSING, COVERING = 2.0, 6.0
"""How many pixels farther a place may be for each pixel along that its label would cover a line, a point."""
THICK = np.array([-1.5, -1.5, 1.5, 1.5])
"""Half a line, as what makes a box of it."""

BEHIND = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}

Box = tuple[float, float, float, float]
"""Left, low, right, high in pixels."""


@dataclass(frozen=True)
class Label:
    """What is written at a point (data coordinates), in a colour."""

    x: float
    y: float
    text: str
    colour: str


def annotate(
    axes: Axes, labels: Sequence[Label], drawn: Sequence[Sequence[float]], fontsize: float
) -> list[Text]:
    """Write the labels; limits of the axes must be set. `drawn`: boxes x0, y0, x1, y1 in data coordinates.

    No two labels overlap as long as their heights together are at most that of the panel. What is drawn is covered
    only where nothing free is near. The same input gives the same places.
    """
    inside, to_pixels = axes.bbox, axes.transData
    look = {"ha": "center", "va": "center", "fontsize": fontsize, "bbox": BEHIND, "zorder": 4}
    texts = [axes.text(each.x, each.y, each.text, color=each.colour, **look) for each in labels]
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    sizes = [(box.width + GAP, box.height + GAP) for box in (t.get_window_extent(renderer) for t in texts)]
    points = to_pixels.transform([(each.x, each.y) for each in labels])
    boxes = to_pixels.transform(np.reshape(np.asarray(drawn, float), (-1, 2))).reshape(-1, 4)
    boxes = np.vstack([boxes + THICK, np.column_stack([points - MARK, points + MARK])])
    weights = np.repeat([CROSSING, COVERING], [len(boxes) - len(points), len(points)])
    panel = (inside.x0, inside.y0, inside.x1, inside.y1)
    centres = _nearest(points, sizes, (boxes, weights), panel) or _column(points, sizes, panel)
    leads = []
    for text, centre, size, point in zip(texts, centres, sizes, points, strict=True):
        text.set_position(to_pixels.inverted().transform(centre))
        end = np.clip(point, np.subtract(centre, np.divide(size, 2)), np.add(centre, np.divide(size, 2)))
        if np.hypot(*(end - point)) > LEAD:
            leads.append(to_pixels.inverted().transform([point, end]))
    axes.add_collection(LineCollection(leads, colors="#888888", linewidths=0.8, zorder=1.5), autolim=False)
    return texts


def _nearest(points: np.ndarray, sizes: list[tuple], drawn: tuple, panel: Box) -> list | None:
    """A centre per label, those of the most crowded points first; None where one finds no free place."""
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    order = np.argsort(np.sort(apart, axis=1)[:, : min(3, len(points))].sum(axis=1), kind="stable")
    taken, centres = np.empty((0, 4)), {}
    for at in order:
        size = np.array(sizes[at])
        places = _places(points[at], size, panel)
        around = np.hstack([places - size / 2, places + size / 2])
        cost = _away(points[at], around) + _shared(around, drawn[0]) @ drawn[1]
        cost[_shared(around, taken).any(axis=1)] = np.inf
        best = int(np.argmin(cost))
        if not np.isfinite(cost[best]):
            return None
        centres[at], taken = places[best], np.vstack([taken, around[best]])
    return [centres[at] for at in range(len(points))]


def _places(point: np.ndarray, size: np.ndarray, panel: Box) -> np.ndarray:
    """Centres to try: beside, above and below the point, then all over the panel."""
    (wide, high), near = size, MARK + 1
    beside = [(wide / 2 + near, 0), (-wide / 2 - near, 0), (0, high / 2 + near), (0, -high / 2 - near)]
    beside += [(x * (wide / 2 + 3), y * (high / 2 + MARK)) for x in (1, -1) for y in (1, -1)]
    left, low, right, top = panel
    x = np.linspace(left + wide / 2, max(right - wide / 2, left + wide / 2), LABEL_PLACES)
    y = np.arange(low + high / 2, top - high / 2 + 0.01, high / STEPS)
    places = np.vstack([point + np.array(beside), np.array(np.meshgrid(x, y)).reshape(2, -1).T])
    lowest, highest = np.array([left, low]) + size / 2 - 0.01, np.array([right, top]) - size / 2 + 0.01
    fits = ((places >= lowest) & (places <= np.maximum(highest, lowest + 0.02))).all(axis=1)
    return places[fits]


def _away(point: np.ndarray, around: np.ndarray) -> np.ndarray:
    """From the point to each box."""
    beside = np.maximum(0, np.maximum(around[:, :2] - point, point - around[:, 2:]))
    return np.hypot(beside[:, 0], beside[:, 1])


def _shared(around: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """For each box of `around` and each of `boxes`, the longer side of what they share, 0 where they do not meet."""
    low = np.maximum(around[:, None, :2], boxes[None, :, :2])
    sides = np.minimum(around[:, None, 2:], boxes[None, :, 2:]) - low
    return np.where((sides > 0).all(axis=2), sides.max(axis=2), 0.0)


def _column(points: np.ndarray, sizes: list[tuple], panel: Box) -> list[tuple[float, float]]:
    """All of them one above the other at the right, in the order of their points."""
    left, low, right, top = panel
    heights = [high for _, high in sizes]
    room = max(0.0, (top - low - sum(heights)) / max(1, len(heights) - 1))
    centres, at = {}, low
    for label in sorted(range(len(points)), key=lambda k: (points[k][1], k)):
        centres[label] = (right - sizes[label][0] / 2, at + heights[label] / 2)
        at += heights[label] + room
    return [centres[label] for label in range(len(points))]


NOTE = (
    "The cell that validation chose, with the 95 % interval of its mean over seeds. The line joins what no other tying "
    "beats on both axes. Equal costs stand side by side."
)
SUSPECT = "(?): some of it was measured while other processes ran, or in too few turns for an interval."
FAINT = "Faint: the other cells of the grid."
LABEL, MANY = 12, 8
"""Points of a label; of more tyings than that a legend tells, and the faint cells are left out."""
BEYOND = 0.7
"""How far faint cells may stretch the axis, in spans of the solid ones: they would flatten what is compared."""


def pareto(sections: list[Section]) -> Figure | None:
    """A row of panels per section: the test metric against parameters, memory and latency, as far as measured.

    None where no section has two tyings to compare.
    Of more than three sections only the parameters are drawn, a panel each. Few tyings are named where they stand.
    """
    kept, more = drawn(sections)
    looks = styles(sections)
    crowded = any(len(section.tyings) > MANY for section in kept)
    measures = [each for each in MEASURES if any(len(points_of(section, each)) > 1 for section in kept)]
    if not measures:
        return None
    if len(kept) > 3:
        measures, more = measures[:1], more or "Memory and latency are in the tables."
    pairs = [(section, measure) for section in kept for measure in measures]
    across = len(measures) if len(measures) > 1 else min(3, len(pairs))
    high = 0 if crowded else max(_high(section) for section in kept)
    size = ({1: 7.6, 2: 6.0}.get(across, 4.9), 1.15 + max(3.0, 1.1 * high))
    legend = (
        {tying: (colour, marker, "") for tying, (colour, marker, _) in looks.items()} if crowded else None
    )
    titles = [section.title if measure is measures[0] else "" for section, measure in pairs]
    note = _note(pairs, crowded, more)
    made, found = panels(titles, legend, note, across, size, (0.85, 0.1, 0.7, 0.4))
    for (section, measure), axes in zip(pairs, found, strict=True):
        _draw(axes, section, measure, looks, crowded)
        if measure is measures[0]:
            axes.set_ylabel(direction(section))
        else:
            axes.tick_params(labelleft=False)
    return made


def _note(pairs: list[tuple[Section, Measure]], crowded: bool, more: str) -> str:
    """Return what stands below the panels: how they are read, which costs are in doubt, and what else there is."""
    has_faint = any(len(cells) > 1 for section, _ in pairs for cells in section.tyings.values())
    is_suspect = any(_suspect(points_of(section, measure), measure) for section, measure in pairs)
    faint = FAINT if has_faint and not crowded else ""
    return " ".join(filter(None, (NOTE, faint, more, SUSPECT if is_suspect else "")))


def _suspect(points: list[Point], measure: Measure) -> bool:
    return measure.timed and any(p.across is None or p.cell.cost.suspect for p in points)


def _high(section: Section) -> float:
    """Inches of its labels, one above the other."""
    return sum(LINE * (1 + broken(tying).count("\n")) for tying in section.tyings)


def _draw(axes: Axes, section: Section, measure: Measure, looks: dict[str, Look], crowded: bool) -> None:
    points = points_of(section, measure)
    axes.set_xlabel(f"{measure.name} (?)" if _suspect(points, measure) else measure.name)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda cost, _: measure.text(cost))
    if not points:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=QUIET)
        return
    others = [] if crowded else points
    faint = {p: [c for c in section.tyings[p.tying] if c is not p.cell and reached(c)] for p in others}
    _across(axes, points)
    low, high, beyond = _limits(
        axes, points, [reached(cell).mean for cells in faint.values() for cell in cells]
    )
    boxes = _front_line(axes, front(points, section.metric.mode))
    places = places_of(section)
    boxes += _bars(axes, points, looks)
    for point in points:
        look = looks[point.tying]
        boxes += _faint(
            axes, point, [c for c in faint.get(point, []) if low <= reached(c).mean <= high], look, places
        )
        (mark,) = axes.plot([point.at], [point.value.mean], look[1], color=look[0], markersize=10, zorder=3)
        tip(mark, f"{_name(point.tying, point.cell, places)}\n{measure.name}: {measure.text(point.cost)}")
    if beyond and measure is MEASURES[0]:
        boxes.append(_say_beyond(axes, beyond, high, places))
    if not crowded:
        labels = [Label(p.at, p.value.mean, broken(p.tying), inked(looks[p.tying][0])) for p in points]
        annotate(axes, labels, boxes, LABEL)


def _front_line(axes: Axes, best: list[Point]) -> list[Box]:
    """Draw it: on from each point it is as good as that, until the next. Returns the boxes of its parts."""
    x, y = [point.at for point in best], [point.value.mean for point in best]
    x, y = [*x, axes.get_xlim()[1]], [*y, y[-1]]
    axes.plot(x, y, color="#AAAAAA", drawstyle="steps-post", zorder=1)
    along = [(x[k], y[k], x[k + 1], y[k]) for k in range(len(best))]
    return along + [(x[k], min(y[k - 1 : k + 1]), x[k], max(y[k - 1 : k + 1])) for k in range(1, len(best))]


def _across(axes: Axes, points: list[Point]) -> None:
    """Set the limits in x."""
    at = [end for point in points for end in (point.across or (point.at,))]
    middle, half = (min(at) + max(at)) / 2, 0.6 * span(at)
    axes.set_xlim(middle - half, middle + half)


def _limits(axes: Axes, points: list[Point], faint: list[float]) -> tuple[float, float, list[float]]:
    """Set the limits in y; returns what lies within, and the faint values beyond."""
    bounds = [(p.value.low, p.value.mean, p.value.high) for p in points]
    values = [value for bound in bounds for value in bound if value is not None]
    low, high = min(values), max(values)
    span = high - low or max([abs(value - low) for value in faint], default=0) or abs(low) or 1.0
    near = [value for value in faint if low - BEYOND * span <= value <= high + BEYOND * span]
    low, high = min([low, *near]), max([high, *near])
    room = 0.09 * (high - low or span)
    axes.set_ylim(low - room, high + room)
    return low, high, [value for value in faint if value not in near]


def _say_beyond(axes: Axes, beyond: list[float], high: float, places: int) -> Box:
    """Says how many faint values the axis leaves out and how far they go; returns the box of the text."""
    above = [value for value in beyond if value > high]
    up = 2 * len(above) >= len(beyond)
    arrow, farthest = ("▲", max(beyond)) if up else ("▼", min(beyond))
    text = f"{arrow} {len(beyond)} more, as far as {fixed(farthest, places)}"
    where = {"ha": "right", "va": "top" if up else "bottom", "transform": axes.transAxes}
    written = axes.text(1, 1.0 if up else 0.0, text, fontsize=11, color=QUIET, **where)
    box = written.get_window_extent(FigureCanvasAgg(axes.figure).get_renderer())
    return tuple(axes.transData.inverted().transform(box).ravel())


def _bars(axes: Axes, points: list[Point], looks: dict[str, Look]) -> list[Box]:
    """The intervals; returns their boxes."""
    known = [point for point in points if point.value.low is not None and point.value.high is not None]
    boxes = [(point.at, point.value.low, point.at, point.value.high) for point in known]
    measured = [point for point in points if point.across]
    boxes += [(p.across[0], p.value.mean, p.across[1], p.value.mean) for p in measured]
    lines = LineCollection(
        [[box[:2], box[2:]] for box in boxes],
        colors=[looks[p.tying][0] for p in known + measured],
        linewidths=2,
        zorder=2,
    )
    axes.add_collection(lines, autolim=False)
    return boxes


def _faint(axes: Axes, point: Point, cells: list[SeedGroup], look: Look, places: int) -> list[tuple]:
    """The other cells of a tying, at the cost of the one that was chosen."""
    if not cells:
        return []
    means = [reached(cell).mean for cell in cells]
    at = [point.at] * len(cells)
    (marks,) = axes.plot(
        at, means, look[1], color=look[0], markersize=6, alpha=0.35, markeredgewidth=0, zorder=1.2
    )
    tips(marks, [_name(point.tying, cell, places) for cell in cells])
    return [(point.at, mean, point.at, mean) for mean in means]


def _name(tying: str, cell: SeedGroup, places: int) -> str:
    return f"{tying}, {where(cell)}\n{said(cell, places)}"
