"""Labels at points that do not collide: each at the free place nearest to its point, a thin line leading to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.text import Text

GAP, LEAD = 4.0, 14.0
"""Pixels between two labels; from a point to its label above which a line leads there."""
MARK = 8.0
"""Pixels from the middle of a point to its edge: the last thing to cover."""
ACROSS, STEPS = 17, 2
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
    x = np.linspace(left + wide / 2, max(right - wide / 2, left + wide / 2), ACROSS)
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
