"""Lay out maps of coloured squares: a sheet of maps on one scale, with a heading and a note."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bench.analysis.groups import Section
from bench.report.plots.style import LETTER, LINE, QUIET

ACROSS = 4
"""Maps in a row."""
GREY = "#DDDDDD"
"""The colour of a square without a number."""
TITLE = 12.0
"""Points of a map's title."""
BAR, HEAD = 1.6, 0.45
"""Inches for the colour bar at the right and for the heading."""


@dataclass(frozen=True)
class Sheet:
    """A figure, its axes in inches, the lower left corner of each place, and the axes of the colour bar."""

    figure: Figure
    axes: Axes
    corners: list[tuple[float, float]]
    bar: Axes

    def scale(self, colours: ScalarMappable, label: str) -> Colorbar:
        """Draw the colour bar."""
        return self.figure.colorbar(colours, cax=self.bar, label=label)


def sheet(heading: str, count: int, step: tuple[float, float], note: Iterable[str]) -> Sheet:
    """Make room for `count` maps, `step` inches apart, below a heading and above the lines of a note."""
    across = min(ACROSS, count)
    width, maps_height = max(across * step[0], 3.4) + BAR, -(-count // across) * step[1]
    lines = [line for text in note for line in wrap(text, int(1.05 * width / LETTER))]
    head = wrap(heading, int(0.85 * width / LETTER))
    foot, top = LINE * len(lines) + 0.1, HEAD + 0.28 * (len(head) - 1)
    height = maps_height + foot + top
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(-foot, maps_height + top))
    axes.set_axis_off()
    axes.text(width / 2, maps_height + top / 2, "\n".join(head), ha="center", va="center", fontsize=14)
    axes.text(0.2, -0.02, "\n".join(lines), va="top", fontsize=11, color=QUIET)
    bar_height = min(maps_height - 0.9, 3.6)
    bar_low = foot + (maps_height - bar_height) / 2
    bar = ((width - BAR + 0.25) / width, bar_low / height, 0.2 / width, bar_height / height)
    corners = [(at % across * step[0], maps_height - (at // across + 1) * step[1]) for at in range(count)]
    return Sheet(figure, axes, corners, figure.add_axes(bar))


def map_title(section: Section, tying: str, several: bool) -> str:
    """Return a map's title: its tying, and with several sections also which one it is of."""
    title = tying if len(tying) < 24 else tying.replace("(", "\n(", 1).replace(", control", ",\ncontrol", 1)
    place = section.where.removeprefix(f"{section.data}, ")
    return "\n".join([title, *wrap(place, 26)]) if several else title


def sheet_heading(sections: Sequence[Section]) -> str:
    """Return the task and the data of all sections."""
    data = dict.fromkeys(section.data for section in sections)
    return f"{sections[0].task} on {', '.join(data)}"


def text_colour(background: str | tuple[float, ...]) -> str:
    """Return black or white, whichever is read on `background`."""
    red, green, blue = to_rgb(background)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
