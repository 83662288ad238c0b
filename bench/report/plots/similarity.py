"""Draw how alike the blocks of a network are after training: cosines between their weights, a map per tying."""

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bench.analysis.groups import Section, SeedGroup
from bench.report.comparison import setting
from bench.report.numbers import fixed
from bench.report.plots.headings import distinctions
from bench.report.plots.maps import Map, map_sheet, map_title, sheet_heading
from bench.report.plots.style import shown_sections

NOTE = "Cosine of two blocks' weights, mean over seeds, of the cell that validation chose."
UNLIKE = "Grey: nothing in common."
SIDE = 2.3
"""Inches of a map."""
WRITTEN, ROOMY, LABELS = 6, 4, 12
"""Blocks up to which every number is written, and at two decimals; labels along a side, at most."""
SCALE = Normalize(-1, 1), "RdBu_r"


def similarity(sections: list[Section]) -> Figure | None:
    """Draw a map per tying and section, on the same scale from -1 to 1. None where no record knows of it."""
    sections, omitted = shown_sections(sections)
    maps, place = [], distinctions(sections)
    for section in sections:
        for tying in section.tyings:
            cell = section.chosen(tying)
            if cell and (mean_and_n := cosines(cell)):
                title = map_title(tying, place[section])
                maps.append(block_map(title, f"{tying}, {setting(cell)}", *mean_and_n))
    if not maps:
        return None
    return block_sheet(
        ": ".join(filter(None, (sheet_heading(sections), message(sections)))), maps, NOTE, omitted
    )


def message(sections: Sequence[Section]) -> str:
    """Say how alike two blocks of the untied network are in the middle, over all sections; empty without one."""
    values = []
    for section in sections:
        cell = section.chosen("none")
        if cell and (known := cosines(cell)):
            values += [value for (a, b), value in np.ndenumerate(known[0]) if a < b and np.isfinite(value)]
    return f"two untied blocks have a median cosine of {fixed(float(np.median(values)), 2)}" if values else ""


def cosines(cell: SeedGroup) -> tuple[np.ndarray, int] | None:
    """Return the block x block mean over the seeds that have them, NaN where one has None, and n.

    None where no seed has any, and where the seeds differ in their number of blocks.
    """
    matrices = [np.array(value, dtype=float) for run in cell.done if (value := run.number("similarity"))]
    if not matrices or {matrix.shape for matrix in matrices} != {(len(matrices[0]), len(matrices[0]))}:
        return None
    return np.mean(matrices, axis=0), len(matrices)


def block_map(title: str, name: str, values: np.ndarray, n: int, measure: str = "cosine") -> Map:
    """Return a map of blocks against blocks, the first at the top and at the left.

    Args:
        values: block x block, of a measure up to 1; NaN where there is none.
        n: seeds that they are a mean of.
    """
    depth = len(values)
    unlike = "nothing in common" if measure == "cosine" else "not compared"
    numbers, texts = [], []
    for (row, column), value in np.ndenumerate(values):
        known = np.isfinite(value)
        numbers.append(fixed(value, 2 if depth <= ROOMY else 1) if known and depth <= WRITTEN else "")
        text = f"{measure} {fixed(value, 3)} (n = {n})" if known else unlike
        texts.append(f"{name}\nblocks {row + 1} and {column + 1}: {text}")
    every = -(-depth // LABELS)
    labels = ["" if block % every else str(block + 1) for block in range(depth)]
    return Map(title, values, numbers, texts, labels, labels, (SIDE / depth,) * 2, ScalarMappable(*SCALE))


def block_sheet(
    heading: str, maps: Sequence[Map], note: str, omitted: str = "", measure: str = "cosine"
) -> Figure:
    """Draw maps of blocks side by side, on one scale, which is labelled with `measure`."""
    unlike = UNLIKE if any(np.isnan(the_map.values).any() for the_map in maps) else ""
    sentences = " ".join(filter(None, (note, unlike, omitted)))
    figure, bar = map_sheet(heading, maps, ("block", "block"), [sentences])
    colours = figure.colorbar(ScalarMappable(*SCALE), cax=bar, label=measure)
    colours.set_ticks([-1, -0.5, 0, 0.5, 1], labels=["−1", "−0.5", "0", "0.5", "1"])
    return figure
