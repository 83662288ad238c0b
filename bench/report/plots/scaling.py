"""Draw curves over an axis (k, groups, strength, data, budget, model size): the metric and its difference to `none`."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.analysis.groups import Section
from bench.analysis.scaling import Curve, curves, in_order
from bench.analysis.statistics import Interval, Paired
from bench.report.numbers import change_unit, fixed, interval_text, metric_places, short_count
from bench.report.plots.headings import in_words
from bench.report.plots.style import (
    ENDS,
    MOST,
    QUIET,
    Look,
    direction,
    label_ends,
    looks_of,
    panels,
    room_for_ends,
    series,
    ticks,
)
from bench.report.scaling import amount, difference_places

PLOT, HEIGHT = 4.6, 4.4
LEFT, BELOW, ABOVE = 1.2, 0.7, 0.4
"""Inches: a plot's width, a panel's height, and its margins; at the right stand the names of the lines."""
STEP = 0.012
"""How far lines stand apart, in shares of the axis."""
TICKS = 7
"""With more values on an axis than these, matplotlib chooses its ticks."""
NOTE = "Mean and 95 % interval over seeds, which one seed has not; differences are paired by seed."
SPREAD = "Spread: how far the tied copies are apart; 0 is one shared tensor."
APART = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
"""Colours of lines where all are of one tying, as of `none` at several dropouts."""
MARKS = "Level lines: the two ends of the dose, with their intervals."


def doses(sections: list[Section]) -> Figure | None:
    """Draw a row per curve: the metric, its difference to the baseline, and how far copies are apart where they are.

    None where a sweep has no curve.
    """
    every = curves(sections)
    shown = every[:MOST]
    if not shown:
        return None
    specs = {label: curve.specs[label] for curve in shown for label in (*curve.marks, *curve.lines)}
    looks = looks_of(in_order(specs, specs))
    if len({spec.family for spec in specs.values()}) == 1 < len(looks):
        looks = _told_apart(looks)
    has_spread = any(curve.spread for curve in shown)
    note = [NOTE, MARKS if any(curve.marks for curve in shown) else "", SPREAD if has_spread else ""]
    note.append(f"The first {MOST} of {len(every)} curves; the tables have all." if len(every) > MOST else "")
    titles = []
    for curve in shown:
        titles += [
            in_words(curve.title, curve.metric),
            ": ".join(filter(None, (f"difference to {curve.baseline}", message(curve)))),
        ]
        titles += ["spread of the copies"] * has_spread
    is_named = len(looks) <= ENDS
    right = room_for_ends(looks) if is_named else 0.3
    size, margins = (LEFT + PLOT + right, HEIGHT), (LEFT, right, BELOW, ABOVE)
    across = 3 if has_spread else 2
    figure, all_axes = panels(titles, None if is_named else looks, note, across, size, margins)
    for index, curve in enumerate(shown):
        metric, difference, *spread = all_axes[index * across : (index + 1) * across]
        _draw_metric(metric, curve, looks)
        _draw_difference(difference, curve, looks)
        ends = {name: (metric.get_xlim()[1], value.mean) for name, value in curve.marks.items()}
        ends |= _ends({name: points for name, points in curve.lines.items() if points})
        named = [(metric, ends), (difference, _ends(curve.differences))]
        if spread:
            _draw_spread(spread[0], curve, looks)
            named.append((spread[0], _ends(curve.spread)))
        for axes, places in named if is_named else ():
            if places:
                label_ends(axes, places, {name: colour for name, (colour, _, _) in looks.items()})
    return figure


def _ends(lines: Mapping[str, Sequence[tuple[float, Interval | Paired]]]) -> dict[str, tuple[float, float]]:
    return {name: (points[-1][0], points[-1][1].mean) for name, points in lines.items() if points}


def _told_apart(looks: dict[str, Look]) -> dict[str, Look]:
    """Return looks in colours of their own, as all are of one family."""
    return {
        name: (APART[index % len(APART)], marker, dash)
        for index, (name, (_, marker, dash)) in enumerate(looks.items())
    }


def message(curve: Curve) -> str:
    """Say from what to what the difference goes along the axis; empty with more than two lines."""
    lines = {label: points for label, points in curve.differences.items() if points}
    if not 0 < len(lines) <= 2:
        return ""
    decimals, unit, axis = difference_places(curve), change_unit(curve.metric), curve.name.replace("_", " ")
    texts = []
    for label, ((first, start), *_, (last, end)) in ((k, [*v, v[-1]]) for k, v in lines.items()):
        values = [f"{fixed(value.mean, decimals, sign=True)}{unit}" for value in (start, end)]
        name = f"{label} " * (len(lines) > 1)
        texts.append(f"{name}{values[0]} at {axis} {amount(first)}, {values[1]} at {amount(last)}")
    return "; ".join(texts)


def _draw_metric(axes: Axes, curve: Curve, looks: dict[str, Look]) -> None:
    for tying, value in curve.marks.items():
        colour, _, dash = looks[tying]
        axes.axhline(value.mean, color=colour, linestyle=dash, linewidth=1.3, zorder=1)
        if value.low is not None:
            axes.axhspan(value.low, value.high, color=colour, alpha=0.12, linewidth=0, zorder=0)
    _draw_lines(axes, curve, looks)
    if curve.name in ("k", "groups"):
        _draw_ends(axes, curve, looks)
    axes.set_ylabel(direction(curve))
    _set_x_axis(axes, curve)


def _draw_ends(axes: Axes, curve: Curve, looks: dict[str, Look]) -> None:
    """Draw the ends of a line over k or groups in the looks of what they are."""
    for points in curve.lines.values():
        for x, value in points:
            for tying, mark in curve.marks.items():
                if value == mark:
                    colour, marker, _ = looks[tying]
                    axes.plot([x], [value.mean], color=colour, marker=marker, markersize=9, zorder=5)


def _draw_difference(axes: Axes, curve: Curve, looks: dict[str, Look]) -> None:
    if not curve.differences:
        _say_instead(axes, f"no seed in common with {curve.baseline}")
        return
    axes.axhline(0, color="#999999", linewidth=1, zorder=0)
    _draw_lines(axes, curve, looks, differences=True)
    name = curve.metric.name.replace("_", " ")
    unit = {" points": "percentage points", " %": f"{name}, change in %"}.get(change_unit(curve.metric), name)
    axes.set_ylabel(f"{unit}\n({'below' if curve.metric.mode == 'min' else 'above'} 0 is better)")
    _set_x_axis(axes, curve)


def _draw_spread(axes: Axes, curve: Curve, looks: dict[str, Look]) -> None:
    if not curve.spread:
        _say_instead(axes, "shown over the strength of a soft tie alone")
        return
    for label, points in curve.spread.items():
        colour, marker, dash = looks[label]
        x, y = [x for x, _ in points], [value.mean for _, value in points]
        axes.plot(x, y, color=colour, marker=marker, markersize=7, linestyle=dash, linewidth=2)
    axes.set_ylim(0, 1.04 * max(1.0, *(v.mean for points in curve.spread.values() for _, v in points), 0.0))
    axes.set_ylabel("spread of the copies")
    _set_x_axis(axes, curve)
    axes.set_ylim(bottom=0)


def _say_instead(axes: Axes, text: str) -> None:
    """Write what a panel has instead of a drawing."""
    axes.set_axis_off()
    axes.text(0.0, 0.95, text, va="top", transform=axes.transAxes, color=QUIET)


def _draw_lines(axes: Axes, curve: Curve, looks: dict[str, Look], *, differences: bool = False) -> None:
    """Draw the lines a little apart, so that none hides another."""
    lines, name = curve.lines, curve.metric.label
    if differences:
        lines, name = curve.differences, f"difference to {curve.baseline}"
    means = [value.mean for points in curve.lines.values() for _, value in points]
    decimals = difference_places(curve) if differences else metric_places(means, curve.metric)
    every_x = [x for points in curve.lines.values() for x, _ in points]
    least, most = min(every_x), max(every_x)
    for index, (label, points) in enumerate(lines.items()):
        shift = STEP * (index - (len(lines) - 1) / 2)
        moved = [x * (most / least) ** shift if curve.log else x + shift * (most - least) for x, _ in points]
        texts = []
        for x, value in points:
            text = f"{interval_text(value, decimals, differences)} (n = {value.n})"
            texts.append(f"{label}\n{curve.axis} {amount(x)}\n{name} {text}")
        series(axes, moved, [value for _, value in points], looks[label], texts)


def _set_x_axis(axes: Axes, curve: Curve) -> None:
    if curve.log:
        axes.set_xscale("log")
    axes.set_xlabel(curve.axis)
    axes.margins(x=0.06, y=0.08)
    values = sorted({x for points in curve.lines.values() for x, _ in points})
    if curve.name in ("k", "groups"):
        axes.xaxis.set_major_locator(ticks(9, integer=True))
    elif curve.name != "strength" and len(values) <= TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
