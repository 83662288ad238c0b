"""Draw curves over an axis (k, groups, strength, data, budget, model size): the metric and its difference to `none`."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.analysis.groups import Section
from bench.analysis.scaling import Curve, curves, in_order
from bench.report.numbers import change_unit, interval_text, metric_places, short_count
from bench.report.plots.style import MOST, QUIET, Look, direction, looks_of, panels, series
from bench.report.scaling import amount, difference_places

SIZE = (6.4, 4.4)
LEFT, RIGHT, SECOND_AXIS, BELOW, ABOVE = 1.05, 0.25, 0.95, 0.7, 0.4
"""Inches: a panel, and its margins; the second on the right where there is a second axis."""
STEP = 0.012
"""How far lines stand apart, in shares of the axis."""
TICKS = 7
"""With more values on an axis than these, matplotlib chooses its ticks."""
NOTE = "Mean and 95 % interval over seeds; differences are paired by seed."
SPREAD = "Hollow, on the right axis: how far the tied copies are apart."
MARKS = "Level lines: the two ends of the dose, with their intervals."


def doses(sections: list[Section]) -> Figure | None:
    """Draw two panels per curve, the metric and its difference to the baseline. None where a sweep has no curve."""
    every = curves(sections)
    shown = every[:MOST]
    if not shown:
        return None
    specs = {label: curve.specs[label] for curve in shown for label in (*curve.marks, *curve.lines)}
    looks = looks_of(in_order(specs, specs))
    has_spread = any(curve.spread for curve in shown)
    note = [NOTE, MARKS if any(curve.marks for curve in shown) else "", SPREAD if has_spread else ""]
    note.append(f"The first {MOST} of {len(every)} curves; the tables have all." if len(every) > MOST else "")
    titles = [text for curve in shown for text in (curve.title, f"difference to {curve.baseline}")]
    margins = (LEFT, SECOND_AXIS if has_spread else RIGHT, BELOW, ABOVE)
    figure, all_axes = panels(titles, looks, note, 2, SIZE, margins)
    for curve, metric, difference in zip(shown, all_axes[::2], all_axes[1::2], strict=True):
        _draw_metric(metric, curve, looks)
        _draw_difference(difference, curve, looks)
    return figure


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
    if curve.spread:
        _draw_spread(axes, curve, looks)


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
        axes.text(0.5, 0.5, "no seed in common with none", ha="center", transform=axes.transAxes, color=QUIET)
    axes.axhline(0, color="#999999", linewidth=1, zorder=0)
    _draw_lines(axes, curve, looks, differences=True)
    name = curve.metric.name.replace("_", " ")
    unit = {" points": "percentage points", " %": f"{name}, change in %"}.get(change_unit(curve.metric), name)
    axes.set_ylabel(f"{unit} ({'below' if curve.metric.mode == 'min' else 'above'} 0 is better)")
    _set_x_axis(axes, curve)


def _draw_spread(axes: Axes, curve: Curve, looks: dict[str, Look]) -> None:
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    for label, points in curve.spread.items():
        colour, marker, dash = looks[label]
        right.plot(
            [x for x, _ in points], [value.mean for _, value in points], color=colour, marker=marker,
            markerfacecolor="white", markersize=6, linestyle=dash, linewidth=1, alpha=0.75,
        )  # fmt: skip
    right.set_ylim(0, 1.04 * max(1.0, *(v.mean for points in curve.spread.values() for _, v in points)))
    right.set_ylabel("spread of the copies (hollow)", color=QUIET)


def _draw_lines(axes: Axes, curve: Curve, looks: dict[str, Look], *, differences: bool = False) -> None:
    """Draw the lines a little apart, so that none hides another."""
    lines, what = curve.lines, curve.metric.label
    if differences:
        lines, what = curve.differences, f"difference to {curve.baseline}"
    means = [value.mean for points in curve.lines.values() for _, value in points]
    decimals = difference_places(curve) if differences else metric_places(means, curve.metric)
    every_x = [x for points in curve.lines.values() for x, _ in points]
    least, most = min(every_x), max(every_x)
    for at, (label, points) in enumerate(lines.items()):
        apart = STEP * (at - (len(lines) - 1) / 2)
        moved = [x * (most / least) ** apart if curve.log else x + apart * (most - least) for x, _ in points]
        texts = []
        for x, value in points:
            text = f"{interval_text(value, decimals, differences)} (n = {value.n})"
            texts.append(f"{label}\n{curve.axis} {amount(x)}\n{what} {text}")
        series(axes, moved, [value for _, value in points], looks[label], texts)


def _set_x_axis(axes: Axes, curve: Curve) -> None:
    if curve.log:
        axes.set_xscale("log")
    axes.set_xlabel(curve.axis)
    axes.margins(x=0.06, y=0.08)
    values = sorted({x for points in curve.lines.values() for x, _ in points})
    if curve.name in ("k", "groups"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif curve.name != "strength" and len(values) <= TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
