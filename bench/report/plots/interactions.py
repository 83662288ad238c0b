"""Does tying replace dropout, or add to it? Lines over dropout that would be parallel, and the fitted interactions."""

from textwrap import shorten, wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.factorial import Effect, Factorial, Grid, factorial, grid
from bench.analysis.groups import Section, SeedGroup
from bench.report.factorial import decimals_of, interaction_text
from bench.report.numbers import axis, metric_places, p_text
from bench.report.plots.style import (
    MARGINS,
    QUIET,
    Look,
    direction,
    drawn,
    left_out,
    panels,
    reached,
    said,
    styles,
    tip,
    tips,
    where,
)

ROW, ROOMY = 0.42, 0.75
"""Inches of an interaction with its name: at least, at most."""
WIDE, HIGH = 5.2, 4.4
LOW, TOP = 0.95, MARGINS[3]
"""Inches: a panel; its margins below, where the forest says two lines, and above."""
MOST_EFFECTS = 14
"""With more interactions than these, only those of two with a tying in them are drawn."""
NOTE = (
    "Mean and 95 % interval over seeds, which one seed has not; lines that run parallel add up. "
    "Right: what two together do beyond the sum of each alone, from the fitted model."
)


def interactions(sections: list[Section]) -> Figure | None:
    """A row per section: a panel per weight decay with a line per tying, then the interactions of the fit.

    None where no section has two tyings and two levels of dropout or weight decay.
    """
    shown, more = drawn([section for section in sections if _crosses(grid(section))])
    if not shown:
        return None
    grids = [grid(section) for section in shown]
    fits = [factorial(section) for section in shown]
    columns = max(len(_views(found)) for found in grids)
    titles = []
    for section, found in zip(shown, grids, strict=True):
        views = [", ".join(filter(None, (section.title, text))) for text, _ in _views(found)]
        titles += [*views, *[""] * (columns - len(views)), f"{section.title}: interactions"]
    most = max((len(_drawn_effects(fit)) for fit in fits if isinstance(fit, Factorial)), default=0)
    size = (WIDE, max(HIGH, most * ROW + LOW + TOP))
    looks = {
        tying: look for tying, look in styles(shown).items() if any(_has(found, tying) for found in grids)
    }
    note = " ".join(filter(None, (NOTE, left_out(shown), more)))
    made, axes = panels(titles, looks, note, columns + 1, size, (*MARGINS[:2], LOW, TOP))
    for at, (section, found, fit) in enumerate(zip(shown, grids, fits, strict=True)):
        row = axes[at * (columns + 1) : (at + 1) * (columns + 1)]
        _lines(row[:-1], section, found, looks)
        _forest(row[-1], section, fit, looks, size[1] - LOW - TOP)
    return made


def _crosses(found: Grid) -> bool:
    tyings = [tying for tying in found.tyings if _has(found, tying)]
    return len(tyings) > 1 and len(found.dropouts) * len(found.decays) > 1


def _has(found: Grid, tying: str) -> bool:
    return any(cell.metric() for at, cell in found.cells.items() if at[0] == tying)


def _views(found: Grid) -> list[tuple[str, list[tuple[float, float]]]]:
    """What each panel holds still, and its places: over dropout, or over weight decay where dropout has one level."""
    if len(found.dropouts) == 1:
        return [("", [(found.dropouts[0], decay) for decay in found.decays])]
    still = [f"weight decay {axis(decay)}" if len(found.decays) > 1 else "" for decay in found.decays]
    return [
        (text, [(dropout, decay) for dropout in found.dropouts])
        for text, decay in zip(still, found.decays, strict=True)
    ]


def _lines(row: list[Axes], section: Section, found: Grid, looks: dict[str, Look]) -> None:
    views = _views(found)
    over = "dropout" if len(found.dropouts) > 1 else "weight decay"
    tyings = [tying for tying in looks if _has(found, tying)]
    for axes, (_, places) in zip(row, views, strict=False):
        for at, tying in enumerate(tyings):
            apart = 0.28 * (at / max(1, len(tyings) - 1) - 0.5)
            points = [
                (x + apart, cell)
                for x, place in enumerate(places)
                if (cell := found.cells.get((tying, *place))) and cell.metric()
            ]
            _line(axes, section, tying, points, looks[tying])
        levels = [axis(dropout if over == "dropout" else decay) for dropout, decay in places]
        axes.set_xticks(range(len(places)), levels)
        axes.set_xlim(-0.35, len(places) - 0.65)
        axes.set_xlabel(over)
        axes.set_ylabel(direction(section))
    used = row[: len(views)]
    low, high = min(a.get_ylim()[0] for a in used), max(a.get_ylim()[1] for a in used)
    for axes in used:
        axes.set_ylim(low, high)
    for axes in row[len(views) :]:
        axes.set_axis_off()


def _line(
    axes: Axes, section: Section, tying: str, points: list[tuple[float, SeedGroup]], look: Look
) -> None:
    colour, marker, dash = look
    values = [reached(cell) for _, cell in points]
    x, y = [place for place, _ in points], [value.mean for value in values]
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=2, zorder=2)
    for place, value in zip(x, values, strict=True):
        if value.low is not None:
            axes.plot([place, place], [value.low, value.high], color=colour, linewidth=1.6, zorder=3)
    (markers,) = axes.plot(x, y, color=colour, marker=marker, markersize=7.5, linestyle="none", zorder=4)
    decimals = metric_places(y, section.metric)
    tips(markers, [f"{tying}\n{where(cell)}\n{said(cell, decimals)}" for _, cell in points])


def _drawn_effects(fit: Factorial) -> list[Effect]:
    """The interactions of the fit, all or those that a picture has room for."""
    found = [effect for effect in fit.effects if len(effect.parts) > 1]
    if len(found) <= MOST_EFFECTS:
        return found
    return [effect for effect in found if len(effect.parts) == 2 and effect.tying is not None]


def _forest(axes: Axes, section: Section, fit: Factorial | str, looks: dict[str, Look], high: float) -> None:
    """A row per interaction, from the top; `high` is the panel's height in inches."""
    if isinstance(fit, str):
        axes.set_axis_off()
        text = "\n".join(wrap(shorten(fit[0].upper() + fit[1:] + ".", 480, placeholder=" ..."), 42))
        axes.text(0.0, 0.95, text, va="top", transform=axes.transAxes, color=QUIET)
        return
    effects, decimals = _drawn_effects(fit), decimals_of(fit.effects)
    for at, effect in enumerate(effects):
        colour = QUIET if effect.tying is None else looks[effect.tying][0]
        axes.plot([effect.low, effect.high], [-at, -at], color=colour, linewidth=2)
        (dot,) = axes.plot([effect.estimate], [-at], color=colour, marker="o", markersize=8, linestyle="none")
        tip(
            dot,
            f"{effect.term}\n{interaction_text(effect, decimals)}, p {p_text(effect.p)}\n{effect.reading}",
        )
        axes.text(
            0.01, -at + 0.2, effect.term, transform=axes.get_yaxis_transform(), fontsize=10.5, va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.axvline(0, color="#999999", linewidth=1, zorder=0)
    axes.set_ylim(0.65 - max(len(effects), high / ROOMY), 0.85)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.05)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    better = "below" if section.metric.mode == "min" else "above"
    unit = fit.metric.replace("percentage points", "points").partition(",")[0] + ")" * ("," in fit.metric)
    axes.set_xlabel(f"{unit}\n{better} 0: together better than the sum", fontsize=11.5)
