"""What a parameter, a byte and a millisecond buy: the test metric against each, and who is beaten by nobody."""

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.plots.front import MEASURES, Measure, Point, front, points_of, span
from bench.plots.hover import tip, tips
from bench.plots.labels import Box, Label, annotate
from bench.plots.style import (
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
    where,
)
from bench.report.cells import Cell, Section
from bench.report.comparison import places_of
from bench.report.numbers import fixed

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
    return measure.timed and any(p.across is None or (p.cell.cost or {}).get("suspect") for p in points)


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


def _faint(axes: Axes, point: Point, cells: list[Cell], look: Look, places: int) -> list[tuple]:
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


def _name(tying: str, cell: Cell, places: int) -> str:
    return f"{tying}, {where(cell)}\n{said(cell, places)}"
