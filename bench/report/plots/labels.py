"""Place labels beside points so that no two overlap."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from scipy.cluster.hierarchy import fclusterdata

FONT_SIZE = 12
GAP, LEAD = 4.0, 14.0
"""Pixels between two labels; from a point to its label at most without a line between them."""
MARK = 8.0
"""Pixels from the middle of a point to its edge: the last thing to cover."""
ACROSS, STEPS = 17, 2
"""Places tried across a panel, and up it for each height of a label."""
CROSSING, COVERING = 2.0, 20.0
"""How many pixels farther a label may go so as not to cover a pixel of a line, and of a point."""
HALF_LINE = np.array([-1.5, -1.5, 1.5, 1.5])
"""Pixels added to the ends of a line, which make it a box."""
BEHIND = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5}

Box = tuple[float, float, float, float]
"""Left, low, right, high."""


@dataclass(frozen=True)
class Label:
    """What is written at a point (data coordinates), in a colour."""

    x: float
    y: float
    text: str
    colour: str


def coinciding(axes: Axes, points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Return the indices of points group by group, each once: any two of a group have marks that lie on each other.

    Args:
        points: in data coordinates. Limits of the axes must be set.
    """
    if len(points) < 2:
        return [[index] for index in range(len(points))]
    groups: dict[int, list[int]] = {}
    for index, group in enumerate(
        fclusterdata(axes.transData.transform(points), 2 * MARK, "distance", method="complete")
    ):
        groups.setdefault(group, []).append(index)
    return list(groups.values())


def annotate(axes: Axes, labels: Sequence[Label], drawn: Sequence[Box]) -> list[Text]:
    """Write the labels near their points, with a line to those that are farther away. Limits of the axes must be set.

    No two labels overlap as long as their heights together are at most that of the panel. What is drawn is covered
    only where nothing free is near. The same input gives the same places.

    Args:
        drawn: boxes of what is in the panel, in data coordinates.
    """
    inside, to_pixels = axes.bbox, axes.transData
    look = {"ha": "center", "va": "center", "fontsize": FONT_SIZE, "bbox": BEHIND, "zorder": 4}
    texts = [axes.text(label.x, label.y, label.text, color=label.colour, **look) for label in labels]
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    extents = [text.get_window_extent(renderer) for text in texts]
    sizes = np.array([(extent.width + GAP, extent.height + GAP) for extent in extents])
    points = to_pixels.transform([(label.x, label.y) for label in labels])
    boxes = to_pixels.transform(np.reshape(np.asarray(drawn, float), (-1, 2))).reshape(-1, 4)
    boxes = np.vstack([boxes + HALF_LINE, np.column_stack([points - MARK, points + MARK])])
    weights = np.repeat([CROSSING, COVERING], [len(boxes) - len(points), len(points)])
    panel = (inside.x0, inside.y0, inside.x1, inside.y1)
    centres = _nearest(points, sizes, boxes, weights, panel)
    if centres is None:
        centres = _column(points, sizes, panel)
    leads = []
    for text, centre, size, point in zip(texts, centres, sizes, points, strict=True):
        text.set_position(to_pixels.inverted().transform(centre))
        end = np.clip(point, centre - size / 2, centre + size / 2)
        if np.hypot(*(end - point)) > LEAD:
            leads.append(to_pixels.inverted().transform([point, end]))
    axes.add_collection(LineCollection(leads, colors="#888888", linewidths=0.8, zorder=1.5), autolim=False)
    return texts


def _nearest(
    points: np.ndarray, sizes: np.ndarray, boxes: np.ndarray, weights: np.ndarray, panel: Box
) -> np.ndarray | None:
    """Return a centre per label, those of the most crowded points chosen first; None where one has no free place.

    Then two labels swap places wherever that costs less.
    """
    distances = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    order = np.argsort(np.sort(distances, axis=1)[:, : min(3, len(points))].sum(axis=1), kind="stable")
    taken, centres = np.empty((0, 4)), np.empty_like(points)

    def costs(places: np.ndarray, index: np.ndarray | int) -> np.ndarray:
        around = _around(places, sizes[index])
        beside = np.maximum(0, np.maximum(around[:, :2] - points[index], points[index] - around[:, 2:]))
        return np.hypot(beside[:, 0], beside[:, 1]) + _shared(around, boxes) @ weights

    for index in order:
        places = _places(points[index], sizes[index], panel)
        cost, around = costs(places, index), _around(places, sizes[index])
        cost[_shared(around, taken).any(axis=1)] = np.inf
        best = int(np.argmin(cost))
        if not np.isfinite(cost[best]):
            return None
        centres[index], taken = places[best], np.vstack([taken, around[best]])
    indices = np.arange(len(points))
    for one, other in itertools.combinations(indices, 2):
        swapped = centres.copy()
        swapped[[one, other]] = centres[[other, one]]
        around = _around(swapped, sizes)
        is_inside = (around[:, :2] >= panel[:2]).all() and (around[:, 2:] <= panel[2:]).all()
        is_free = not np.triu(_shared(around, around), 1).any()
        if is_inside and is_free and costs(swapped, indices).sum() < costs(centres, indices).sum():
            centres = swapped
    return centres


def _around(centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.hstack([centres - sizes / 2, centres + sizes / 2])


def _places(point: np.ndarray, size: np.ndarray, panel: Box) -> np.ndarray:
    """Return the centres to try: beside, above and below the point, then all over the panel."""
    (width, height), gap = size, MARK + 1
    beside = [(width / 2 + gap, 0), (-width / 2 - gap, 0), (0, height / 2 + gap), (0, -height / 2 - gap)]
    beside += [(x * (width / 2 + 3), y * (height / 2 + MARK)) for x in (1, -1) for y in (1, -1)]
    left, low, right, top = panel
    x = np.linspace(left + width / 2, max(right - width / 2, left + width / 2), ACROSS)
    y = np.arange(low + height / 2, top - height / 2 + 0.01, height / STEPS)
    places = np.vstack([point + np.array(beside), np.array(np.meshgrid(x, y)).reshape(2, -1).T])
    lowest, highest = np.array([left, low]) + size / 2 - 0.01, np.array([right, top]) - size / 2 + 0.01
    fits = ((places >= lowest) & (places <= np.maximum(highest, lowest + 0.02))).all(axis=1)
    return places[fits]


def _shared(around: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the longer side of what each box of `around` shares with each of `boxes`, 0 where they do not meet."""
    low = np.maximum(around[:, None, :2], boxes[None, :, :2])
    sides = np.minimum(around[:, None, 2:], boxes[None, :, 2:]) - low
    return np.where((sides > 0).all(axis=2), sides.max(axis=2), 0.0)


def _column(points: np.ndarray, sizes: np.ndarray, panel: Box) -> np.ndarray:
    """Return the centres of labels that stand one above the other at the right, in the order of their points."""
    _, low, right, top = panel
    room = max(0.0, (top - low - sizes[:, 1].sum()) / max(1, len(sizes) - 1))
    centres, bottom = np.empty_like(points), low
    for label in np.lexsort((np.arange(len(points)), points[:, 1])):
        width, height = sizes[label]
        centres[label] = (right - width / 2, bottom + height / 2)
        bottom += height + room
    return centres
