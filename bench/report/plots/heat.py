"""Draw dropout x weight decay as one heat map per tying, all in one colour scale."""

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.groups import Section, SeedGroup
from bench.report.comparison import places_of
from bench.report.numbers import axis, fixed
from bench.report.plots.maps import GREY, TITLE, map_title, sheet, sheet_heading, text_colour
from bench.report.plots.style import cell_text, direction, left_out, printed_metric, shown_sections, tip

HOLE = "hole"
CELL, LEFT, BELOW, ABOVE = (1.05, 0.62), 0.85, 0.75, 0.45
"""Inches: a cell of a map; room for labels on its left, below, above."""
SMALL = 11.5
"""Points of an axis' text."""


def heat_maps(sections: list[Section]) -> Figure | None:
    """Draw the mean test metric of every cell. Holes are grey; a tying without any number is named below.

    Several sections have each a scale of their own from their worst to their best, as their metrics differ by more
    than what a cell of the grid does. None where no section has a second dropout or weight decay.
    """
    sections, more = shown_sections([section for section in sections if len(_grid(section.cells)) > 1])
    maps = [
        (section, tying, cells)
        for section in sections
        for tying, cells in section.tyings.items()
        if any(printed_metric(cell) for cell in cells)
    ]
    if not maps:
        return None
    several = len(sections) > 1
    titles = [map_title(section, tying, several) for section, tying, _ in maps]
    step_x = max(2.75, LEFT + 0.15 + CELL[0] * max(len(_levels(cells)[1]) for _, _, cells in maps))
    above = ABOVE + 0.22 * max(title.count("\n") for title in titles)
    step_y = above + BELOW + CELL[1] * max(len(_levels(cells)[0]) for _, _, cells in maps)
    note = filter(None, (left_out(sections), more))
    page = sheet(sheet_heading(sections), len(maps), (step_x, step_y), note)
    scales = {section.where: _scale(section) for section in sections}
    for (section, tying, cells), title, (x, y) in zip(maps, titles, page.corners, strict=True):
        corner, places = (x + LEFT, y + BELOW), places_of(section)
        _draw_cells(page.axes, tying, cells, corner, scales[section.where], places)
        _label(page.axes, title, cells, corner)
    if several:
        ends = ["best", "worst"] if sections[0].metric.mode == "min" else ["worst", "best"]
        bar = page.scale(ScalarMappable(Normalize(0, 1), _palette(sections[0])), "within each setting")
        bar.set_ticks([0, 1], labels=ends)
    else:
        page.scale(scales[sections[0].where], direction(sections[0]).replace(" (", "\n("))
    return page.figure


def _grid(cells: list[SeedGroup]) -> set[tuple[float, float]]:
    return {(cell.dropout, cell.weight_decay) for cell in cells}


def _levels(cells: list[SeedGroup]) -> tuple[list[float], list[float]]:
    """Return the dropouts, rows of a map from below, and the weight decays, its columns."""
    return sorted({cell.dropout for cell in cells}), sorted({cell.weight_decay for cell in cells})


def _palette(section: Section) -> str:
    """Yellow is the good end, whichever way the metric runs."""
    return "cividis_r" if section.metric.mode == "min" else "cividis"


def _scale(section: Section) -> ScalarMappable:
    means = [value.mean for cell in section.cells if (value := printed_metric(cell))]
    return ScalarMappable(Normalize(min(means), max(means)), _palette(section))


def _draw_cells(
    axes: Axes,
    tying: str,
    cells: list[SeedGroup],
    corner: tuple[float, float],
    scale: ScalarMappable,
    places: int,
) -> None:
    """Draw a map with its lower left cell at `corner`."""
    (left, low), (width, height), (dropouts, decays) = corner, CELL, _levels(cells)
    for cell in cells:
        value = printed_metric(cell)
        colour = GREY if value is None else scale.to_rgba(value.mean)
        x, y = left + width * decays.index(cell.weight_decay), low + height * dropouts.index(cell.dropout)
        square = axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor="white"))
        number = HOLE if value is None else fixed(value.mean, places)
        centre = (x + width / 2, y + height / 2)
        text = axes.text(*centre, number, ha="center", va="center", color=text_colour(colour))
        for artist in (square, text):  # the text lies over its square
            tip(artist, cell_text(tying, cell, places))


def _label(axes: Axes, title: str, cells: list[SeedGroup], corner: tuple[float, float]) -> None:
    (left, low), (width, height), (dropouts, decays) = corner, CELL, _levels(cells)
    middle_x, middle_y = left + width * len(decays) / 2, low + height * len(dropouts) / 2
    for at, decay in enumerate(decays):
        x = left + width * (at + 0.5)
        axes.text(x, low - 0.07, axis(decay), ha="center", va="top", fontsize=SMALL)
    for at, dropout in enumerate(dropouts):
        y = low + height * (at + 0.5)
        axes.text(left - 0.07, y, axis(dropout), ha="right", va="center", fontsize=SMALL)
    axes.text(middle_x, low - 0.3, "weight decay", ha="center", va="top", fontsize=SMALL)
    axes.text(left - 0.58, middle_y, "dropout", ha="center", va="center", rotation=90, fontsize=SMALL)
    top = low + height * len(dropouts) + 0.07
    axes.text(middle_x, top, title, ha="center", va="bottom", fontsize=TITLE)
