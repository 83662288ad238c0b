"""Many small maps on one sheet, all drawn into one pair of axes measured in inches.

Forty times fewer parts than a pair of axes for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bench.plots.style import LETTER, LINE, QUIET
from bench.report.cells import Section

ACROSS = 4
GREY = "#DDDDDD"
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
        return self.figure.colorbar(colours, cax=self.bar, label=label)


def sheet(heading: str, places: int, step: tuple[float, float], note: Sequence[str] = ()) -> Sheet:
    """Room for so many maps of `step` inches, at most four in a row, below a heading and above a note."""
    across = min(ACROSS, places)
    wide, tall = max(across * step[0], 3.4) + BAR, -(-places // across) * step[1]
    lines = [line for each in note for line in wrap(each, int(1.05 * wide / LETTER))]
    head = [*wrap(heading, int(0.85 * wide / LETTER))]
    foot, top = LINE * len(lines) + 0.1, HEAD + 0.28 * (len(head) - 1)
    high = tall + foot + top
    made = Figure(figsize=(wide, high))
    axes = made.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(-foot, tall + top))
    axes.set_axis_off()
    axes.text(wide / 2, tall + top / 2, "\n".join(head), ha="center", va="center", fontsize=14)
    axes.text(0.2, -0.02, "\n".join(lines), va="top", fontsize=11, color=QUIET)
    bar_high = min(tall - 0.9, 3.6)
    box = ((wide - BAR + 0.25) / wide, (foot + (tall - bar_high) / 2) / high, 0.2 / wide, bar_high / high)
    corners = [(at % across * step[0], tall - (at // across + 1) * step[1]) for at in range(places)]
    return Sheet(made, axes, corners, made.add_axes(box))


def titled(section: Section, tying: str, several: bool) -> str:
    """A map's title: its tying, and where it is if that needs saying."""
    title = tying if len(tying) < 24 else tying.replace("(", "\n(", 1).replace(", control", ",\ncontrol", 1)
    said = section.where.removeprefix(f"{section.data}, ")
    return "\n".join([title, *wrap(said, 26)]) if several else title


def heading(sections: Sequence[Section]) -> str:
    data = dict.fromkeys(section.data for section in sections)
    return f"{sections[0].task} on {', '.join(data)}"


def ink(background: str | tuple[float, ...]) -> str:
    """Black or white, whichever is read on `background`."""
    red, green, blue = to_rgb(background)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
