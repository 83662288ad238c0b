"""How alike the blocks of a network are after training: cosines between their weights, a map per tying."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bench.analysis.groups import Section, SeedGroup
from bench.report.numbers import fixed
from bench.report.plots.style import GREY, TITLE, drawn, heading, ink, map_title, sheet, tips, where

NOTE = "Cosine of two blocks' weights, mean over seeds, of the cell that validation chose."
UNLIKE = "Grey: nothing in common."
SIDE, LEFT, BELOW, ABOVE = 2.3, 0.62, 0.62, 0.4
"""Inches of a map, and around it."""
WRITTEN, ROOMY = 6, 4
"""Blocks up to which every number is written, and at two decimals."""
PALETTE = "RdBu_r"


@dataclass(frozen=True)
class Map:
    """Mean cosines of a tying, or another `measure` up to 1, block x block, NaN where there is none, over n seeds."""

    title: str
    name: str
    cosines: np.ndarray
    n: int
    measure: str = "cosine"


def similarity(sections: list[Section]) -> Figure | None:
    """A map per tying and section, on the same scale from -1 to 1. None where no record knows of it."""
    sections, more = drawn(sections)
    maps = []
    for section in sections:
        for tying in section.tyings:
            cell = section.chosen(tying)
            if cell and (found := cosines(cell)):
                title = map_title(section, tying, len(sections) > 1)
                maps.append(Map(title, f"{tying}, {where(cell)}", *found))
    if not maps:
        return None
    return map_sheet(heading(sections), maps, NOTE, more)


def map_sheet(title: str, maps: Sequence[Map], note: str, more: str = "") -> Figure:
    """The maps side by side, on one scale."""
    above = ABOVE + 0.22 * max(each.title.count("\n") for each in maps)
    unlike = any(np.isnan(each.cosines).any() for each in maps)
    step = (LEFT + SIDE + 0.15, SIDE + BELOW + above)
    made = sheet(title, len(maps), step, [f"{note} {UNLIKE if unlike else ''} {more}"])
    colours = ScalarMappable(Normalize(-1, 1), PALETTE)
    for each, (x, y) in zip(maps, made.corners, strict=True):
        _draw(made.axes, each, (x + LEFT, y + BELOW), colours)
    made.scale(colours, " or ".join(dict.fromkeys(each.measure for each in maps))).set_ticks(
        [-1, -0.5, 0, 0.5, 1], labels=["−1", "−0.5", "0", "0.5", "1"]
    )
    return made.figure


def cosines(cell: SeedGroup) -> tuple[np.ndarray, int] | None:
    """Block x block mean over the seeds that have them, NaN where one has None, and n; None where no seed has."""
    found = [np.array(value, dtype=float) for run in cell.done if (value := run.number("similarity"))]
    if not found or {each.shape for each in found} != {(len(found[0]), len(found[0]))}:
        return None
    return np.mean(found, axis=0), len(found)


def _draw(axes: Axes, each: Map, corner: tuple[float, float], colours: ScalarMappable) -> None:
    """One map with its lower left cell at `corner`; the first block is at the top and at the left."""
    depth = len(each.cosines)
    side, (left, low) = SIDE / depth, corner
    rows, columns = (at.ravel() for at in np.indices(each.cosines.shape))
    x, y, values = left + side * (columns + 0.5), low + side * (depth - rows - 0.5), each.cosines.ravel()
    known = np.isfinite(values)
    faces = np.array(colours.to_rgba(np.where(known, values, 0)))
    faces[~known] = colours.to_rgba(0)
    faces = [tuple(face) if ok else GREY for face, ok in zip(faces, known, strict=True)]
    # A hundredth of an inch between squares is their grid.
    squares = axes.scatter(
        x, y, s=(72 * (side - 0.01)) ** 2, c=faces, marker="s", linewidths=0, clip_on=False
    )
    tips(squares, [_tip(each, *at) for at in zip(rows, columns, values, strict=True)])
    axes.plot(x[~known], y[~known], "x", color="#C6C6C6", markersize=30 * side, markeredgewidth=1)
    if depth <= WRITTEN:
        for at in np.flatnonzero(known):
            text = fixed(values[at], 2 if depth <= ROOMY else 1)
            axes.text(x[at], y[at], text, ha="center", va="center", fontsize=10.5, color=ink(faces[at]))
    for block in range(0, depth, -(-depth // 12)):
        at = side * (block + 0.5)
        axes.text(left + at, low - 0.06, str(block + 1), ha="center", va="top", fontsize=11)
        axes.text(left - 0.06, low + SIDE - at, str(block + 1), ha="right", va="center", fontsize=11)
    axes.text(left + SIDE / 2, low - 0.27, "block", ha="center", va="top", fontsize=11.5)
    axes.text(left - 0.4, low + SIDE / 2, "block", ha="center", va="center", rotation=90, fontsize=11.5)
    axes.text(left + SIDE / 2, low + SIDE + 0.07, each.title, ha="center", va="bottom", fontsize=TITLE)


def _tip(each: Map, row: int, column: int, value: float) -> str:
    unlike = "nothing in common" if each.measure == "cosine" else "not compared"
    said = f"{each.measure} {fixed(value, 3)} (n = {each.n})" if np.isfinite(value) else unlike
    return f"{each.name}\nblocks {row + 1} and {column + 1}: {said}"
