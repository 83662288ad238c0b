"""Dropout x weight decay as one heat map per tying, all in one colour scale."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.groups import Section, SeedGroup
from bench.report.comparison import places_of
from bench.report.numbers import axis, fixed
from bench.report.plots.style import (
    GREY,
    TITLE,
    direction,
    drawn,
    heading,
    ink,
    left_out,
    map_title,
    reached,
    said,
    sheet,
    tip,
    where,
)

HOLE = "hole"
# Inches: a cell of a map; room for labels on its left, below, above.
CELL, LEFT, BELOW, ABOVE = (1.05, 0.62), 0.85, 0.75, 0.45
SMALL = 11.5


@dataclass(frozen=True)
class Map:
    """The cells of one tying with the section they are of."""

    section: Section
    tying: str
    cells: list[SeedGroup]

    @property
    def dropouts(self) -> list[float]:
        return sorted({cell.dropout for cell in self.cells})

    @property
    def decays(self) -> list[float]:
        return sorted({cell.weight_decay for cell in self.cells})


def heat_maps(sections: list[Section]) -> Figure | None:
    """The mean test metric of every cell. Holes are grey; a tying without any number is named below.

    None where no section has a second dropout or weight decay. Where there are several, each has its own scale from
    its worst to its best: their metrics differ by more than what a cell of the grid does.
    """
    sections, more = drawn([section for section in sections if _has_grid(section)])
    maps = [
        Map(section, tying, cells)
        for section in sections
        for tying, cells in section.tyings.items()
        if any(reached(cell) for cell in cells)
    ]
    if not maps:
        return None
    several = len(sections) > 1
    titles = [map_title(each.section, each.tying, several) for each in maps]
    step_x = max(2.75, LEFT + 0.15 + CELL[0] * max(len(each.decays) for each in maps))
    above = ABOVE + 0.22 * max(title.count("\n") for title in titles)
    step_y = above + BELOW + CELL[1] * max(len(each.dropouts) for each in maps)
    made = sheet(
        heading(sections), len(maps), (step_x, step_y), [line for line in (left_out(sections), more) if line]
    )
    scales = {section.where: _scale(section) for section in sections}
    for each, title, (x, y) in zip(maps, titles, made.corners, strict=True):
        _draw(made.axes, each, title, (x + LEFT, y + BELOW), scales[each.section.where])
    if several:
        low_is_good = sections[0].metric.mode == "min"
        bar = made.scale(ScalarMappable(Normalize(0, 1), _palette(sections[0])), "within each setting")
        bar.set_ticks([0, 1], labels=["best", "worst"] if low_is_good else ["worst", "best"])
    else:
        made.scale(scales[sections[0].where], direction(sections[0]).replace(" (", "\n("))
    return made.figure


def _has_grid(section: Section) -> bool:
    return len({(cell.dropout, cell.weight_decay) for cell in section.cells}) > 1


def _palette(section: Section) -> str:
    """Yellow is the good end, whichever way the metric runs."""
    return "cividis_r" if section.metric.mode == "min" else "cividis"


def _scale(section: Section) -> ScalarMappable:
    means = [value.mean for cell in section.cells if (value := reached(cell))]
    return ScalarMappable(Normalize(min(means), max(means)), _palette(section))


def _draw(axes: Axes, each: Map, title: str, corner: tuple[float, float], colours: ScalarMappable) -> None:
    """One map with its lower left cell at `corner`."""
    (left, low), (wide, high) = corner, CELL
    dropouts, decays, places = each.dropouts, each.decays, places_of(each.section)
    for cell in each.cells:
        value = reached(cell)
        colour = GREY if value is None else colours.to_rgba(value.mean)
        x, y = left + wide * decays.index(cell.weight_decay), low + high * dropouts.index(cell.dropout)
        square = axes.add_patch(Rectangle((x, y), wide, high, facecolor=colour, edgecolor="white"))
        tip(square, f"{each.tying}, {where(cell)}\n{said(cell, places)}")
        text = HOLE if value is None else fixed(value.mean, places)
        # The text lies over its square and says the same.
        written = axes.text(x + wide / 2, y + high / 2, text, ha="center", va="center", color=ink(colour))
        tip(written, f"{each.tying}, {where(cell)}\n{said(cell, places)}")
    middle_x, middle_y = left + wide * len(decays) / 2, low + high * len(dropouts) / 2
    for at, decay in enumerate(decays):
        axes.text(left + wide * (at + 0.5), low - 0.07, axis(decay), ha="center", va="top", fontsize=SMALL)
    for at, dropout in enumerate(dropouts):
        axes.text(
            left - 0.07, low + high * (at + 0.5), axis(dropout), ha="right", va="center", fontsize=SMALL
        )
    axes.text(middle_x, low - 0.3, "weight decay", ha="center", va="top", fontsize=SMALL)
    axes.text(left - 0.58, middle_y, "dropout", ha="center", va="center", rotation=90, fontsize=SMALL)
    axes.text(middle_x, low + high * len(dropouts) + 0.07, title, ha="center", va="bottom", fontsize=TITLE)
