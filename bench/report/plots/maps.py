"""Draw maps of coloured squares side by side, below a heading and above a note, with one colour bar."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from bench.analysis.groups import Section
from bench.report.plots.style import LETTER, LINE, QUIET, lightness, tip, tips

ACROSS = 4
"""Maps in a row."""
GREY = "#DDDDDD"
"""The colour of a square without a number."""
TITLE, SMALL, NUMBER = 12.0, 11.5, 12.5
"""Points of a map's title, of the text at its sides, and of a number in it, at most."""
LEFT, RIGHT, BELOW, ABOVE, NARROWEST = 0.85, 0.15, 0.75, 0.45, 2.75
"""Inches around a map, and the least width of one with its surroundings, which its title needs."""
BAR, HEAD = 1.6, 0.45
"""Inches for the colour bar at the right and for the heading."""


@dataclass(frozen=True)
class Map:
    """One map.

    values: by row from the top and column; NaN where there is none.
    numbers, texts: what each square shows, and what it says on hover, row by row.
    rows, columns: the label of each, from the top and from the left; empty where it has none.
    square: width and height of a square in inches.
    """

    title: str
    values: np.ndarray
    numbers: Sequence[str]
    texts: Sequence[str]
    rows: Sequence[str]
    columns: Sequence[str]
    square: tuple[float, float]
    scale: ScalarMappable

    @property
    def size(self) -> tuple[float, float]:
        return len(self.columns) * self.square[0], len(self.rows) * self.square[1]


def map_sheet(
    heading: str, maps: Sequence[Map], names: tuple[str, str], note: Sequence[str]
) -> tuple[Figure, Axes]:
    """Draw the maps, at most four in a row; `names` are those of rows and columns.

    Returns:
        The figure, and the axes for its colour bar.
    """
    above = ABOVE + 0.22 * max(the_map.title.count("\n") for the_map in maps)
    step_x = max(NARROWEST, LEFT + RIGHT + max(the_map.size[0] for the_map in maps))
    step_y = above + BELOW + max(the_map.size[1] for the_map in maps)
    across = min(ACROSS, len(maps))
    width, maps_height = max(across * step_x, 3.4) + BAR, -(-len(maps) // across) * step_y
    lines = [line for text in note for line in wrap(text, int(1.05 * width / LETTER))]
    head = wrap(heading, int(0.85 * width / LETTER))
    foot, top = LINE * len(lines) + 0.1, HEAD + 0.28 * (len(head) - 1)
    height = maps_height + foot + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(-foot, maps_height + top))  # in inches
    axes.set_axis_off()
    axes.text(width / 2, maps_height + top / 2, "\n".join(head), ha="center", va="center", fontsize=14)
    axes.text(0.2, -0.02, "\n".join(lines), va="top", fontsize=11, color=QUIET)
    for index, the_map in enumerate(maps):
        corner = (index % across * step_x + LEFT, maps_height - (index // across + 1) * step_y + BELOW)
        _draw_squares(axes, the_map, corner)
        _label(axes, the_map, corner, names)
    bar_height = min(maps_height - 0.9, 3.6)
    bar_low = foot + (maps_height - bar_height) / 2
    bar = ((width - BAR + 0.25) / width, bar_low / height, 0.2 / width, bar_height / height)
    return figure, figure.add_axes(bar)


def _draw_squares(axes: Axes, the_map: Map, corner: tuple[float, float]) -> None:
    """Draw the squares with their numbers; those with neither value nor number are crossed out."""
    (width, height), values = the_map.square, the_map.values.ravel()
    known = np.isfinite(values)
    rows, columns = (places.ravel() for places in np.indices(the_map.values.shape))
    x, y = corner[0] + width * columns, corner[1] + height * (len(the_map.rows) - 1 - rows)
    boxes = np.stack([x, y, x + width, y, x + width, y + height, x, y + height], axis=1).reshape(-1, 4, 2)
    faces = [the_map.scale.to_rgba(v) if ok else GREY for v, ok in zip(values, known, strict=True)]
    squares = PolyCollection(boxes, facecolors=faces, edgecolors="white", linewidths=0.8)
    tips(axes.add_collection(squares, autolim=False), the_map.texts)
    x, y = x + width / 2, y + height / 2
    for index, (number, text) in enumerate(zip(the_map.numbers, the_map.texts, strict=True)):
        if number:  # it lies over its square and says the same
            colour = _text_colour(faces[index])
            look = {"ha": "center", "va": "center", "fontsize": min(NUMBER, 27 * width)}
            tip(axes.text(x[index], y[index], number, color=colour, **look), text)
    crossed = ~known & (np.array(the_map.numbers) == "")
    axes.plot(x[crossed], y[crossed], "x", color="#C6C6C6", markersize=30 * width, markeredgewidth=1)


def _label(axes: Axes, the_map: Map, corner: tuple[float, float], names: tuple[str, str]) -> None:
    (left, low), (width, height), small = corner, the_map.size, {"fontsize": SMALL}
    for index, label in enumerate(the_map.columns):
        x = left + the_map.square[0] * (index + 0.5)
        axes.text(x, low - 0.07, label, ha="center", va="top", **small)
    for index, label in enumerate(the_map.rows):
        y = low + height - the_map.square[1] * (index + 0.5)
        axes.text(left - 0.07, y, label, ha="right", va="center", **small)
    axes.text(left - 0.58, low + height / 2, names[0], ha="center", va="center", rotation=90, **small)
    axes.text(left + width / 2, low - 0.3, names[1], ha="center", va="top", **small)
    axes.text(left + width / 2, low + height + 0.07, the_map.title, ha="center", va="bottom", fontsize=TITLE)


def map_title(tying: str, place: str) -> str:
    """Return a map's title: its tying, and where there are several sections also the place of its own."""
    title = tying if len(tying) < 24 else tying.replace("(", "\n(", 1).replace(", control", ",\ncontrol", 1)
    return "\n".join([title, *wrap(place, 26)])


def sheet_heading(sections: Sequence[Section]) -> str:
    """Return the task and the data of all sections."""
    data = dict.fromkeys(section.data for section in sections)
    return f"{sections[0].task} on {', '.join(data)}"


def _text_colour(background: str | tuple[float, ...]) -> str:
    """Return black or white, whichever is read on `background`."""
    return "black" if lightness(background) > 0.5 else "white"
