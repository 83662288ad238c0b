"""Draw whether tying replaces dropout or adds to it: lines over dropout, parallel if it adds, and interactions."""

from collections import Counter
from textwrap import shorten, wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.factorial import Effect, Factorial, Grid, factorial, grid
from bench.analysis.groups import Section
from bench.report.factorial import as_read, decimals_of, interaction_text
from bench.report.numbers import axis, metric_places, p_text
from bench.report.plots.headings import titles
from bench.report.plots.style import (
    ENDS,
    MARGINS,
    QUIET,
    Look,
    cell_text,
    direction,
    label_ends,
    left_out,
    panels,
    printed_metric,
    room_for_ends,
    series,
    shown_sections,
    styles,
    ticks,
    tip,
    without_y_axis,
)

ROW, ROOMY = 0.42, 0.75
"""Inches of an interaction with its name: at least, at most."""
WIDTH, HEIGHT, LOW, TOP = 5.2, 4.4, 0.95, MARGINS[3]
"""Inches: a panel; its margins below, where the interactions say two lines, and above."""
MOST_EFFECTS = 14
"""With more interactions than these, only those of two with a tying in them are drawn."""
NOTE = (
    "Mean and 95 % interval over seeds, which one seed has not; lines that run parallel add up. "
    "Right: what two together do beyond the sum of each alone, within each seed."
)

STEP, WIDEST = 0.05, 0.28
"""How far lines stand apart so that their intervals are told apart, and all of them together, in levels."""

View = tuple[str, list[tuple[float, float]]]
"""What a panel of lines holds still, in words, and the dropout and weight decay of its places."""


def interactions(sections: list[Section]) -> Figure | None:
    """Draw a row per section: a panel per weight decay with a line per tying, then the interactions.

    None where no section has two tyings and two levels of dropout or weight decay.
    """
    crossed = [
        section
        for section in sections
        if len(_tyings(grid(section))) > 1 and len(grid(section).dropouts) * len(grid(section).decays) > 1
    ]
    shown, omitted = shown_sections(crossed)
    if not shown:
        return None
    grids, fits = [grid(section) for section in shown], [factorial(section) for section in shown]
    columns = max(len(_views(cells)) for cells in grids)
    names, above = titles(shown), []
    for section, cells, fit in zip(shown, grids, fits, strict=True):
        views = [", ".join(filter(None, (names[section], text))) for text, _ in _views(cells)]
        above += [*views, *[""] * (columns - len(views)), message(fit)]
    most = max((len(_drawn_effects(fit)) for fit in fits if isinstance(fit, Factorial)), default=0)
    height = max(HEIGHT, most * ROW + LOW + TOP)
    with_number = {tying for cells in grids for tying in _tyings(cells)}
    looks = {tying: look for tying, look in styles(shown).items() if tying in with_number}
    is_named = len(looks) <= ENDS
    right = room_for_ends(looks) if is_named else MARGINS[1]
    note, margins = (NOTE, left_out(shown), omitted), (MARGINS[0], right, LOW, TOP)
    size = (WIDTH + right - MARGINS[1], height)
    figure, all_axes = panels(above, None if is_named else looks, note, columns + 1, size, margins)
    for index, (section, cells, fit) in enumerate(zip(shown, grids, fits, strict=True)):
        *row, last = all_axes[index * (columns + 1) : (index + 1) * (columns + 1)]
        _draw_lines(row, section, cells, looks, is_named)
        if isinstance(fit, Factorial):
            _draw_effects(last, section, fit, looks, height - LOW - TOP)
        else:
            last.set_axis_off()
            reason = shorten(fit[0].upper() + fit[1:] + ".", 480, placeholder=" ...")
            last.text(0.0, 0.95, "\n".join(wrap(reason, 42)), va="top", transform=last.transAxes, color=QUIET)
    return figure


def message(fit: Factorial | list[str]) -> str:
    """Count the readings of the drawn interactions."""
    if not isinstance(fit, Factorial):
        return "interactions"
    readings = Counter(effect.reading for effect in _drawn_effects(as_read(fit)))
    counts = ", ".join(
        f"{reading} ({count} of {readings.total()})" for reading, count in readings.most_common()
    )
    return f"interactions: {counts}" if counts else "interactions"


def _tyings(cells: Grid) -> list[str]:
    """Return the tyings with a number."""
    numbered = {key[0] for key, cell in cells.cells.items() if cell.metric()}
    return [tying for tying in cells.tyings if tying in numbered]


def _views(cells: Grid) -> list[View]:
    """Return a view over dropout per weight decay, or one over weight decay where dropout has one level."""
    if len(cells.dropouts) == 1:
        return [("", [(cells.dropouts[0], decay) for decay in cells.decays])]
    return [
        (
            f"weight decay {axis(decay)}" if len(cells.decays) > 1 else "",
            [(dropout, decay) for dropout in cells.dropouts],
        )
        for decay in cells.decays
    ]


def _draw_lines(
    row: list[Axes], section: Section, cells: Grid, looks: dict[str, Look], is_named: bool
) -> None:
    """Draw each view in a panel; panels that are left over are hidden."""
    views, over_dropout = _views(cells), len(cells.dropouts) > 1
    tyings = [tying for tying in looks if tying in _tyings(cells)]
    used, step = row[: len(views)], min(STEP, WIDEST / max(1, len(tyings) - 1))
    ends: list[dict[str, tuple[float, float]]] = [{} for _ in used]
    for axes, (_, places), own in zip(used, views, ends, strict=True):
        for index, tying in enumerate(tyings):
            shift = step * (index - (len(tyings) - 1) / 2)
            at_place = {x + shift: cells.cells.get((tying, *place)) for x, place in enumerate(places)}
            line = {x: cell for x, cell in at_place.items() if cell and cell.metric()}
            if not line:  # a line of no points is no svg
                continue
            values = [printed_metric(cell) for cell in line.values()]
            decimals = metric_places([value.mean for value in values], section.metric)
            texts = [cell_text(tying, cell, decimals) for cell in line.values()]
            series(axes, list(line), values, looks[tying], texts)
            own[tying] = (list(line)[-1], values[-1].mean)
        levels = [axis(dropout if over_dropout else decay) for dropout, decay in places]
        axes.set_xticks(range(len(places)), levels)
        axes.set_xlim(-0.35, len(places) - 0.65)
        axes.set(xlabel="dropout" if over_dropout else "weight decay", ylabel=direction(section))
    limits = [axes.get_ylim() for axes in used]
    for axes, own in zip(used, ends, strict=True):
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        if is_named and own:
            label_ends(axes, own, {tying: looks[tying][0] for tying in own})
    for axes in row[len(views) :]:
        axes.set_axis_off()


def _drawn_effects(fit: Factorial) -> list[Effect]:
    """Return the interactions, all or those that a picture has room for."""
    every = [effect for effect in fit.effects if len(effect.parts) > 1]
    if len(every) <= MOST_EFFECTS:
        return every
    return [effect for effect in every if len(effect.parts) == 2 and effect.tying is not None]


def _draw_effects(
    axes: Axes, section: Section, fit: Factorial, looks: dict[str, Look], height: float
) -> None:
    """Draw a row per interaction, from the top; `height` is the panel's in inches."""
    fit = as_read(fit)
    effects, decimals = _drawn_effects(fit), decimals_of(fit.effects)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    name = {"transform": axes.get_yaxis_transform(), "fontsize": 10.5, "va": "bottom", "bbox": box}
    for y, effect in enumerate(effects):
        colour = QUIET if effect.tying is None else looks[effect.tying][0]
        if effect.low is not None:
            axes.plot([effect.low, effect.high], [-y, -y], color=colour, linewidth=2)
        (dot,) = axes.plot([effect.estimate], [-y], color=colour, marker="o", markersize=8, linestyle="none")
        text = f"{interaction_text(effect, decimals)}, p {p_text(effect.p)}"
        tip(dot, f"{effect.term}\n{text}\n{effect.reading}")
        axes.text(0.01, -y + 0.2, effect.term, **name)
    axes.axvline(0, color="#999999", linewidth=1, zorder=0)
    axes.set_ylim(0.65 - max(len(effects), height / ROOMY), 0.85)
    axes.xaxis.set_major_locator(ticks(5))
    axes.margins(x=0.05)
    without_y_axis(axes)
    better = "below" if section.metric.mode == "min" else "above"
    unit = fit.response.replace("percentage points", "points")
    axes.set_xlabel(f"{unit}\n{better} 0: together better than the sum", fontsize=11.5)
