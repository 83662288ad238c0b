"""Dropout x weight decay as one heat map per tying, all in one colour scale."""

from dataclasses import dataclass
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.plots import direction, finished
from bench.report.cells import Cell, Section
from bench.report.comparison import shown
from bench.report.numbers import axis, fixed, metric_places

ACROSS = 4
GREY = "#DDDDDD"
HOLE = "hole"
# Inches: a cell of a map; room for labels on its left, below, above; a line of small text; the colour bar.
CELL, LEFT, BELOW, ABOVE, LINE, BAR = (1.05, 0.62), 0.75, 0.65, 0.55, 0.2, 1.5


@dataclass(frozen=True)
class Map:
    """The cells of one tying with their title."""

    title: str
    cells: list[Cell]

    @property
    def dropouts(self) -> list[float]:
        return sorted({cell.dropout for cell in self.cells})

    @property
    def decays(self) -> list[float]:
        return sorted({cell.weight_decay for cell in self.cells})


def heat_maps(sections: list[Section]) -> Figure:
    """The mean test metric of every cell. Holes are grey; a tying without any number is named below.

    All maps are drawn into one pair of axes measured in inches: forty times fewer parts than axes for each.
    """
    sections = finished(sections)
    grids = [(section, tying, cells) for section in sections for tying, cells in section.tyings.items()]
    maps = [
        Map(_title(section, tying, sections), cells) for section, tying, cells in grids if _has_any(cells)
    ]
    colours = _colours(sections, maps)
    across = min(ACROSS, len(maps))
    step_x = max(2.7, LEFT + 0.15 + CELL[0] * max(len(each.decays) for each in maps))
    step_y = ABOVE + BELOW + CELL[1] * max(len(each.dropouts) for each in maps)
    wide, tall = across * step_x + BAR, -(-len(maps) // across) * step_y
    note = _note(grids, int(13 * wide))
    foot, head = LINE * len(note) + 0.1, 0.4
    made = Figure(figsize=(wide, tall + foot + head))
    axes = made.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(-foot, tall + head))
    axes.set_axis_off()
    for place, each in enumerate(maps):
        down, right = divmod(place, across)
        _draw(axes, each, (right * step_x + LEFT, tall - (down + 1) * step_y + BELOW), colours)
    axes.text(wide / 2, tall + 0.18, _heading(sections), ha="center", va="center", fontsize=14)
    axes.text(0.2, -0.05, "\n".join(note), va="top", fontsize=10, color="#555555")
    high = tall + foot + head
    bar = made.add_axes(
        ((wide - BAR + 0.25) / wide, (foot + BELOW) / high, 0.2 / wide, (tall - BELOW - ABOVE) / high)
    )
    made.colorbar(colours, cax=bar, label=direction(sections[0]).replace(" (", "\n("))
    return made


def _has_any(cells: list[Cell]) -> bool:
    return any(shown(cell) for cell in cells)


def _colours(sections: list[Section], maps: list[Map]) -> ScalarMappable:
    """One scale for all maps; yellow is the good end, whichever way the metric runs."""
    means = [value.mean for each in maps for cell in each.cells if (value := shown(cell))]
    name = "cividis_r" if sections[0].metric.mode == "min" else "cividis"
    return ScalarMappable(Normalize(min(means), max(means)), name)


def _heading(sections: list[Section]) -> str:
    data = dict.fromkeys(section.data for section in sections)
    return f"{sections[0].task} on {', '.join(data)}"


def _title(section: Section, tying: str, sections: list[Section]) -> str:
    title = tying if len(tying) < 26 else tying.replace("(", "\n(")
    if len(sections) == 1:
        return title
    return f"{title}\n{section.where}"


def _note(grids: list[tuple[Section, str, list[Cell]]], columns: int) -> list[str]:
    missing = dict.fromkeys(f"{tying}: {cells[0].reason}" for _, tying, cells in grids if not _has_any(cells))
    return wrap(f"Not shown: {'; '.join(missing)}", columns) if missing else []


def _draw(axes: Axes, each: Map, corner: tuple[float, float], colours: ScalarMappable) -> None:
    """One map with its lower left cell at `corner`."""
    (left, low), (wide, high) = corner, CELL
    dropouts, decays = each.dropouts, each.decays
    decimals = metric_places([colours.norm.vmin, colours.norm.vmax], each.cells[0].runs[0].metric)
    for cell in each.cells:
        value = shown(cell)
        colour = GREY if value is None else colours.to_rgba(value.mean)
        x, y = left + wide * decays.index(cell.weight_decay), low + high * dropouts.index(cell.dropout)
        axes.add_patch(Rectangle((x, y), wide, high, facecolor=colour, edgecolor="white"))
        text = HOLE if value is None else fixed(value.mean, decimals)
        axes.text(x + wide / 2, y + high / 2, text, ha="center", va="center", color=_ink(colour))
    middle_x, middle_y = left + wide * len(decays) / 2, low + high * len(dropouts) / 2
    for at, decay in enumerate(decays):
        axes.text(left + wide * (at + 0.5), low - 0.07, axis(decay), ha="center", va="top", fontsize=11)
    for at, dropout in enumerate(dropouts):
        axes.text(left - 0.07, low + high * (at + 0.5), axis(dropout), ha="right", va="center", fontsize=11)
    axes.text(middle_x, low - 0.3, "weight decay", ha="center", va="top", fontsize=10)
    axes.text(left - 0.5, middle_y, "dropout", ha="center", va="center", rotation=90, fontsize=10)
    axes.text(middle_x, low + high * len(dropouts) + 0.07, each.title, ha="center", va="bottom", fontsize=11)


def _ink(background: str | tuple[float, ...]) -> str:
    red, green, blue = to_rgb(background)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
