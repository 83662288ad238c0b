"""Draw learning curves: the validation loss over epochs of the cells that validation chose, with bands."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.analysis.groups import Section, SeedGroup
from bench.analysis.runs import is_finite
from bench.analysis.statistics import Interval, interval
from bench.report.numbers import fixed, interval_text
from bench.report.plots.headings import titles
from bench.report.plots.style import (
    ENDS,
    MARGINS,
    SIZES,
    Look,
    label_ends,
    panels,
    room_for_ends,
    setting,
    shown_sections,
    styles,
    ticks,
    tips,
)
from bench.runs.tying_spec import OTHER

NOTE = "Per tying the cell that validation chose: mean over seeds."
CUT = "Where the first quarter of the epochs is higher than the others it is cut off."
BAND = "The band is the 95 % interval of the mean."
BANDS = 4
"""So many bands of a panel can be told apart; more would hide the lines."""
BANDLESS = (
    f"Of more than {BANDS} lines the bands are left out; bars beyond the ends: the 95 % intervals there."
)
BAR = 0.02
"""How far such bars stand apart, in shares of the epochs."""
CROWDED = f"Of more than {ENDS} lines those are named that end lowest and highest, and none."
POINTS = 240
"""Values of one picture that say their number on hover."""

Curve = dict[int, Interval]
"""Epoch -> validation loss over seeds."""


def curves(sections: list[Section]) -> Figure | None:
    """Draw a panel per section, a line per tying, and a band where there is more than one seed."""
    sections, omitted = shown_sections(sections)
    lines_of = [(section, lines) for section in sections if (lines := _lines(section))]
    if not lines_of:
        return None
    looks = styles(sections)
    bandless = {len(lines) > BANDS for _, lines in lines_of if _several_seeds(lines)}
    crowded = CROWDED if any(len(lines) > ENDS for _, lines in lines_of) else ""
    cut = CUT if any(len(line) > 3 for _, lines in lines_of for line in lines.values()) else ""
    bands = (BAND if False in bandless else "", BANDLESS if True in bandless else "")
    note = (NOTE, cut, *bands, crowded, omitted)
    names = titles(sections)
    right = room_for_ends(tying for _, lines in lines_of for tying in _named(lines))
    width, height = SIZES[min(len(SIZES), len(lines_of))]
    size, margins = (width + right - MARGINS[1], height), (MARGINS[0], right, *MARGINS[2:])
    above = [f"{names[section]}: {message(lines)}" for section, lines in lines_of]
    figure, all_axes = panels(above, None, note, size=size, margins=margins)
    points = POINTS // sum(len(lines) for _, lines in lines_of)
    for (section, lines), axes in zip(lines_of, all_axes, strict=True):
        banded, named = _several_seeds(lines) and len(lines) <= BANDS, _named(lines)
        for tying, line in lines.items():
            colour, marker, dash = looks[tying]
            _draw(axes, line, (colour if tying in named else OTHER, marker, dash), banded, tying in named)
        ends = {tying: list(lines[tying].items())[-1] for tying in named}
        barred = [] if banded else [value for _, value in ends.values() if value.low is not None]
        _cut_off_start(axes, list(lines.values()), banded, barred)
        if barred:
            _draw_bars(axes, ends, looks)
        for tying, line in lines.items():
            _add_hover(axes, f"{tying}, {setting(section.chosen(tying))}", line, looks[tying], points)
        axes.xaxis.set_major_locator(ticks(6, integer=True))
        axes.yaxis.set_major_locator(ticks(6))
        axes.set(xlabel="epoch", ylabel="validation loss (nats)")
        places = {tying: (epoch, value.mean) for tying, (epoch, value) in ends.items()}
        label_ends(axes, places, {tying: looks[tying][0] for tying in named})
    return figure


def _named(lines: Mapping[str, Curve]) -> list[str]:
    """Return the tyings that are named: all of few, else those that end lowest and highest, and `none`."""
    if len(lines) <= ENDS:
        return list(lines)
    order = sorted(lines, key=lambda tying: list(lines[tying].values())[-1].mean)
    return [tying for tying in lines if tying in (order[0], order[-1], "none")]


def message(lines: Mapping[str, Curve]) -> str:
    """Say which line comes lowest, where, and whether it rises again."""
    lowest = {tying: min(line, key=lambda epoch: line[epoch].mean) for tying, line in lines.items()}
    best = min(lines, key=lambda tying: lines[tying][lowest[tying]].mean)
    epoch, last = lowest[best], max(lines[best])
    value = fixed(lines[best][epoch].mean, 3)
    head = f"{best} comes lowest" if len(lines) > 1 else "lowest"
    return f"{head}, {value} nats {'at its end' if epoch == last else f'at epoch {epoch:.3g} of {last:.3g}'}"


def curve(cell: SeedGroup) -> Curve:
    """Return the curve over the epochs that every finished seed has a number for."""
    seeds = []
    for run in cell.done:
        epochs, losses = run.number("curves", "epoch") or [], run.number("curves", "val_nll") or []
        seeds.append({epoch: loss for epoch, loss in zip(epochs, losses, strict=False) if is_finite(loss)})
    shared = set.intersection(*(set(seed) for seed in seeds)) if seeds else set()
    return {epoch: interval(seed[epoch] for seed in seeds) for epoch in sorted(shared)}


def _lines(section: Section) -> dict[str, Curve]:
    """Return the curve of each tying; a single point is none, and a panel without a curve is left out."""
    chosen = {tying: cell for tying in section.tyings if (cell := section.chosen(tying))}
    return {tying: line for tying, cell in chosen.items() if len(line := curve(cell)) > 1}


def _several_seeds(lines: dict[str, Curve]) -> bool:
    return any(value.n > 1 for line in lines.values() for value in line.values())


def _draw(axes: Axes, line: Curve, look: Look, banded: bool, is_named: bool) -> None:
    colour, marker, dash = look
    epochs, values = list(line), list(line.values())
    # A line of few epochs shows where they are.
    mark = {"marker": marker, "markersize": 6} if len(epochs) < 15 else {}
    axes.plot(
        epochs,
        [value.mean for value in values],
        color=colour,
        linestyle=dash,
        linewidth=2 if is_named else 1,
        alpha=1 if is_named else 0.5,
        **mark,
    )
    if banded and all(value.low is not None for value in values):
        low, high = [value.low for value in values], [value.high for value in values]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def _draw_bars(axes: Axes, ends: Mapping[str, tuple[int, Interval]], looks: Mapping[str, Look]) -> None:
    """Draw the interval of each line's end to the right of all lines, one beside the other."""
    first, last = axes.dataLim.intervalx
    step = BAR * (last - first)
    for position, (tying, (_, value)) in enumerate(ends.items(), 1):
        if value.low is not None:
            axes.vlines(last + position * step, value.low, value.high, color=looks[tying][0], linewidth=2)
    axes.set_xlim(first - 2 * step, last + (len(ends) + 1) * step)


def _cut_off_start(axes: Axes, lines: list[Curve], banded: bool, barred: list[Interval]) -> None:
    """Let the first quarter of the epochs run out at the top: it would flatten what the tyings differ in.

    Bands and bars are seen up to half as far again as the lines go: those of two seeds would flatten everything.
    """
    late = [value for line in lines for value in list(line.values())[len(line) // 4 :]]
    lowest = min(value.mean for line in lines for value in line.values())
    highest = max(value.mean for value in late)
    if highest > lowest:
        span = highest - lowest
        seen = barred or [value for value in late if banded and value.low is not None]
        low = max(min([lowest, *(value.low for value in seen)]), lowest - span / 2)
        high = min(max([highest, *(value.high for value in seen)]), highest + span / 2)
        floor = 0.0 if lowest >= 0 else low - span  # no loss of a discrete outcome is below 0
        axes.set_ylim(max(floor, low - 0.05 * span), high + 0.05 * span)


def _add_hover(axes: Axes, name: str, line: Curve, look: Look, most: int) -> None:
    """Add invisible points that say their numbers; of a long line the last ones, evenly."""
    low, high = axes.get_ylim()
    inside = [(epoch, value) for epoch, value in line.items() if low <= value.mean <= high]
    inside = inside[:: -max(1, -(-len(inside) // max(1, most)))]
    if inside:
        epochs, values = zip(*inside, strict=True)
        (marks,) = axes.plot(epochs, [v.mean for v in values], "o", color=look[0], markersize=9, alpha=0)
        texts = [f"epoch {epoch}: {interval_text(v, 4)} nats (n = {v.n})" for epoch, v in inside]
        tips(marks, [f"{name}\n{text}" for text in texts])
