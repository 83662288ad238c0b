"""Draw how alike the blocks of a network are after training: cosines between their weights, a map per tying."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bench.analysis.groups import Section, SeedGroup
from bench.report.numbers import fixed
from bench.report.plots.maps import GREY, TITLE, map_title, sheet, sheet_heading, text_colour
from bench.report.plots.style import setting, shown_sections, tips

NOTE = "Cosine of two blocks' weights, mean over seeds, of the cell that validation chose."
UNLIKE = "Grey: nothing in common."
SIDE, LEFT, BELOW, ABOVE = 2.3, 0.62, 0.62, 0.4
"""Inches of a map, and around it."""
WRITTEN, ROOMY = 6, 4
"""Blocks up to which every number is written, and at two decimals."""


@dataclass(frozen=True)
class Map:
    """Mean cosines of a tying, or another `measure` up to 1, block x block, NaN where there is none, over n seeds."""

    title: str
    name: str
    cosines: np.ndarray
    n: int
    measure: str = "cosine"


def similarity(sections: list[Section]) -> Figure | None:
    """Draw a map per tying and section, on the same scale from -1 to 1. None where no record knows of it."""
    sections, more = shown_sections(sections)
    maps = []
    for section in sections:
        for tying in section.tyings:
            cell = section.chosen(tying)
            if cell and (mean_and_n := cosines(cell)):
                title = map_title(section, tying, len(sections) > 1)
                maps.append(Map(title, f"{tying}, {setting(cell)}", *mean_and_n))
    return map_sheet(sheet_heading(sections), maps, NOTE, more) if maps else None


def map_sheet(heading: str, maps: Sequence[Map], note: str, more: str = "") -> Figure:
    """Draw the maps side by side, on one scale."""
    above = ABOVE + 0.22 * max(each.title.count("\n") for each in maps)
    unlike = UNLIKE if any(np.isnan(each.cosines).any() for each in maps) else ""
    step = (LEFT + SIDE + 0.15, SIDE + BELOW + above)
    page = sheet(heading, len(maps), step, [" ".join(filter(None, (note, unlike, more)))])
    colours = ScalarMappable(Normalize(-1, 1), "RdBu_r")
    for each, (x, y) in zip(maps, page.corners, strict=True):
        _draw_squares(page.axes, each, (x + LEFT, y + BELOW), colours)
        _label(page.axes, each, (x + LEFT, y + BELOW))
    bar = page.scale(colours, " or ".join(dict.fromkeys(each.measure for each in maps)))
    bar.set_ticks([-1, -0.5, 0, 0.5, 1], labels=["−1", "−0.5", "0", "0.5", "1"])
    return page.figure


def cosines(cell: SeedGroup) -> tuple[np.ndarray, int] | None:
    """Return the block x block mean over the seeds that have them, NaN where one has None, and n.

    None where no seed has any, and where the seeds differ in their number of blocks.
    """
    matrices = [np.array(value, dtype=float) for run in cell.done if (value := run.number("similarity"))]
    if not matrices or {each.shape for each in matrices} != {(len(matrices[0]), len(matrices[0]))}:
        return None
    return np.mean(matrices, axis=0), len(matrices)


def _draw_squares(axes: Axes, each: Map, corner: tuple[float, float], colours: ScalarMappable) -> None:
    """Draw a map with its lower left square at `corner`; the first block is at the top and at the left."""
    depth = len(each.cosines)
    side, (left, low) = SIDE / depth, corner
    rows, columns = (at.ravel() for at in np.indices(each.cosines.shape))
    x, y, values = left + side * (columns + 0.5), low + side * (depth - rows - 0.5), each.cosines.ravel()
    known = np.isfinite(values)
    faces = [tuple(colours.to_rgba(value)) if np.isfinite(value) else GREY for value in values]
    # A hundredth of an inch between squares is their grid.
    size = (72 * (side - 0.01)) ** 2
    squares = axes.scatter(x, y, s=size, c=faces, marker="s", linewidths=0, clip_on=False)
    tips(squares, [_tip(each, *at) for at in zip(rows, columns, values, strict=True)])
    axes.plot(x[~known], y[~known], "x", color="#C6C6C6", markersize=30 * side, markeredgewidth=1)
    if depth <= WRITTEN:
        for at in np.flatnonzero(known):
            text, colour = fixed(values[at], 2 if depth <= ROOMY else 1), text_colour(faces[at])
            axes.text(x[at], y[at], text, ha="center", va="center", fontsize=10.5, color=colour)


def _label(axes: Axes, each: Map, corner: tuple[float, float]) -> None:
    depth, (left, low) = len(each.cosines), corner
    for block in range(0, depth, -(-depth // 12)):
        at = SIDE / depth * (block + 0.5)
        axes.text(left + at, low - 0.06, str(block + 1), ha="center", va="top", fontsize=11)
        axes.text(left - 0.06, low + SIDE - at, str(block + 1), ha="right", va="center", fontsize=11)
    axes.text(left + SIDE / 2, low - 0.27, "block", ha="center", va="top", fontsize=11.5)
    axes.text(left - 0.4, low + SIDE / 2, "block", ha="center", va="center", rotation=90, fontsize=11.5)
    axes.text(left + SIDE / 2, low + SIDE + 0.07, each.title, ha="center", va="bottom", fontsize=TITLE)


def _tip(each: Map, row: int, column: int, value: float) -> str:
    unlike = "nothing in common" if each.measure == "cosine" else "not compared"
    text = f"{each.measure} {fixed(value, 3)} (n = {each.n})" if np.isfinite(value) else unlike
    return f"{each.name}\nblocks {row + 1} and {column + 1}: {text}"
