"""Draw dropout x weight decay as one heat map per tying, all in one colour scale."""

import math

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from bench.analysis.groups import Section, SeedGroup
from bench.report.comparison import places_of, setting
from bench.report.numbers import axis, fixed
from bench.report.plots.headings import distinctions
from bench.report.plots.maps import Map, map_sheet, map_title, sheet_heading
from bench.report.plots.style import cell_text, direction, left_out, printed_metric, shown_sections

HOLE = "hole"
CELL = (1.05, 0.62)
"""Inches of a cell of a map."""


def heat_maps(sections: list[Section]) -> Figure | None:
    """Draw the mean test metric of every cell. Holes are grey; a tying without any number is named below.

    Several sections have each a scale of their own from their worst to their best, as their metrics differ by more
    than what a cell of the grid does. None where no section has a second dropout or weight decay.
    """
    sections, omitted = shown_sections([section for section in sections if _has_grid(section)])
    several, maps, place = len(sections) > 1, [], distinctions(sections)
    for section in sections:
        scale = _scale(section)
        maps += [
            _map(map_title(tying, place[section]), tying, cells, scale, places_of(section))
            for tying, cells in section.tyings.items()
            if any(printed_metric(cell) for cell in cells)
        ]
    if not maps:
        return None
    note = [sentence for sentence in (left_out(sections), omitted) if sentence]
    heading = sheet_heading(sections) if several else f"{sheet_heading(sections)}: {message(sections[0])}"
    figure, bar = map_sheet(heading, maps, ("dropout", "weight decay"), note)
    if several:
        ends = ["best", "worst"] if sections[0].metric.mode == "min" else ["worst", "best"]
        colours = ScalarMappable(Normalize(0, 1), _palette(sections[0]))
        figure.colorbar(colours, cax=bar, label="within each setting").set_ticks([0, 1], labels=ends)
    else:
        figure.colorbar(maps[0].scale, cax=bar, label=direction(sections[0]).replace(" (", "\n("))
    return figure


def message(section: Section) -> str:
    """Say which cell has the best mean."""
    sign = 1 if section.metric.mode == "min" else -1
    cells = [cell for cell in section.cells if printed_metric(cell)]
    best = min(cells, key=lambda cell: sign * printed_metric(cell).mean)
    return f"best is {best.tying} at {setting(best)}"


def _has_grid(section: Section) -> bool:
    return len({(cell.dropout, cell.weight_decay) for cell in section.cells}) > 1


def _palette(section: Section) -> str:
    """Return the colours whose yellow end is the good one, whichever way the metric runs."""
    return "cividis_r" if section.metric.mode == "min" else "cividis"


def _scale(section: Section) -> ScalarMappable:
    means = [value.mean for cell in section.cells if (value := printed_metric(cell))]
    return ScalarMappable(Normalize(min(means, default=0), max(means, default=0)), _palette(section))


def _map(title: str, tying: str, cells: list[SeedGroup], scale: ScalarMappable, places: int) -> Map:
    """Return the map of a tying: dropouts from below, weight decays from the left."""
    dropouts = sorted({cell.dropout for cell in cells}, reverse=True)
    decays = sorted({cell.weight_decay for cell in cells})
    cell_at = {(cell.dropout, cell.weight_decay): cell for cell in cells}
    means, numbers, texts = [], [], []
    for dropout in dropouts:
        for decay in decays:
            cell = cell_at.get((dropout, decay))
            value = printed_metric(cell) if cell else None
            means.append(value.mean if value else math.nan)
            numbers.append(fixed(value.mean, places) if value else HOLE if cell else "")
            texts.append(cell_text(tying, cell, places) if cell else f"{tying}, not in this sweep")
    values = np.reshape(means, (len(dropouts), len(decays)))
    return Map(title, values, numbers, texts, [*map(axis, dropouts)], [*map(axis, decays)], CELL, scale)
