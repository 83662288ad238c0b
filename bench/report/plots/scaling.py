"""Curves over a dose (k, groups, strength, data size, budget, model size): the metric, and its difference to `none`."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.analysis.groups import Section
from bench.analysis.scaling import Curve, curves, in_order
from bench.analysis.statistics import Interval, Paired
from bench.report.numbers import interval_text, metric_places, short_count
from bench.report.plots.style import MOST, QUIET, Look, direction, looks_of, panels, tips
from bench.report.scaling import amount

SIZE = (6.4, 4.4)
MARGINS = (1.05, 0.25, 0.7, 0.4)
RIGHT = 0.95
"""Inches: a panel and its margins; the one on the right where there is a second axis."""
STEP = 0.012
"""How far lines stand apart, in shares of the axis."""
TICKS = 7
"""With more values on an axis than these, matplotlib chooses its ticks."""
NOTE = "Mean and 95 % interval over seeds; differences are paired by seed."
SPREAD = "Hollow, on the right axis: how far the tied copies are apart."
MARKS = "Level lines: the two ends of the dose, with their intervals."

Listed = Sequence[tuple[float, Interval | Paired]]


def doses(sections: list[Section]) -> Figure | None:
    """Two panels per curve, the metric and its difference to the baseline. None where a sweep has no curve."""
    found = curves(sections)
    shown = found[:MOST]
    if not shown:
        return None
    looks = _looks(shown)
    has_spread = any(dose.spread for dose in shown)
    titles = [text for dose in shown for text in (dose.title, f"difference to {dose.baseline}")]
    said = [NOTE, MARKS if any(dose.marks for dose in shown) else "", SPREAD if has_spread else ""]
    said.append(f"The first {MOST} of {len(found)} curves; the tables have all." if len(found) > MOST else "")
    margins = (MARGINS[0], RIGHT if has_spread else MARGINS[1], *MARGINS[2:])
    made, axes = panels(titles, looks, " ".join(filter(None, said)), 2, SIZE, margins)
    for at, dose in enumerate(shown):
        _metric(axes[2 * at], dose, looks)
        _difference(axes[2 * at + 1], dose, looks)
    return made


def _looks(shown: list[Curve]) -> dict[str, Look]:
    """Of each line and mark."""
    specs = {label: dose.specs[label] for dose in shown for label in (*dose.marks, *dose.lines)}
    return looks_of(in_order(specs, specs))


def _metric(axes: Axes, dose: Curve, looks: dict[str, Look]) -> None:
    for tying, value in dose.marks.items():
        colour, _, dash = looks[tying]
        axes.axhline(value.mean, color=colour, linestyle=dash, linewidth=1.3, zorder=1)
        if value.low is not None:
            axes.axhspan(value.low, value.high, color=colour, alpha=0.12, linewidth=0, zorder=0)
    _lines(axes, dose, dose.lines, looks, dose.metric.label)
    _ends(axes, dose, looks)
    axes.set_ylabel(direction(dose))
    _across(axes, dose)
    if dose.spread:
        _spread(axes, dose, looks)


def _ends(axes: Axes, dose: Curve, looks: dict[str, Look]) -> None:
    """On a line over k or groups, its ends in the looks of what they are."""
    if dose.name not in ("k", "groups"):
        return
    for points in dose.lines.values():
        for x, value in points:
            for tying, mark in dose.marks.items():
                if value == mark:
                    colour, marker, _ = looks[tying]
                    axes.plot([x], [value.mean], color=colour, marker=marker, markersize=9, zorder=5)


def _difference(axes: Axes, dose: Curve, looks: dict[str, Look]) -> None:
    if not dose.differences:
        axes.text(0.5, 0.5, "no seed in common with none", ha="center", transform=axes.transAxes, color=QUIET)
    axes.axhline(0, color="#999999", linewidth=1, zorder=0)
    _lines(axes, dose, dose.differences, looks, f"difference to {dose.baseline}")
    unit = "percentage points" if dose.metric.is_share else dose.metric.name.replace("_", " ")
    better = "below" if dose.metric.mode == "min" else "above"
    axes.set_ylabel(f"{unit} ({better} 0 is better)")
    _across(axes, dose)


def _spread(axes: Axes, dose: Curve, looks: dict[str, Look]) -> None:
    right = axes.twinx()
    right.spines["right"].set_visible(True)
    for label, points in dose.spread.items():
        colour, marker, dash = looks[label]
        right.plot(
            [x for x, _ in points], [value.mean for _, value in points], color=colour, marker=marker,
            markerfacecolor="white", markersize=6, linestyle=dash, linewidth=1, alpha=0.75,
        )  # fmt: skip
    right.set_ylim(
        0, 1.04 * max(1.0, *(value.mean for points in dose.spread.values() for _, value in points))
    )
    right.set_ylabel("spread of the copies (hollow)", color=QUIET)


def _lines(axes: Axes, dose: Curve, lines: dict[str, Listed], looks: dict[str, Look], what: str) -> None:
    means = [value.mean for points in dose.lines.values() for _, value in points]
    decimals = metric_places(means, dose.metric)
    values = [x for points in dose.lines.values() for x, _ in points]
    signed = lines is dose.differences
    for at, (label, points) in enumerate(lines.items()):
        colour, marker, dash = looks[label]
        apart = STEP * (at - (len(lines) - 1) / 2)
        x = [_moved(x, apart, values, dose.log) for x, _ in points]
        y = [value.mean for _, value in points]
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=2, zorder=2)
        for place, (_, value) in zip(x, points, strict=True):
            if value.low is not None:
                axes.plot([place, place], [value.low, value.high], color=colour, linewidth=1.6, zorder=3)
        (markers,) = axes.plot(x, y, color=colour, marker=marker, markersize=7, linestyle="none", zorder=4)
        said = [f"{interval_text(value, decimals, signed)} (n = {value.n})" for _, value in points]
        at_x = [f"{label}\n{dose.axis} {amount(x)}" for x, _ in points]
        tips(markers, [f"{where}\n{what} {text}" for where, text in zip(at_x, said, strict=True)])


def _moved(x: float, apart: float, values: list[float], log: bool) -> float:
    least, most = min(values), max(values)
    return x * (most / least) ** apart if log else x + apart * (most - least)


def _across(axes: Axes, dose: Curve) -> None:
    if dose.log:
        axes.set_xscale("log")
    axes.set_xlabel(dose.axis)
    axes.margins(x=0.06, y=0.08)
    values = sorted({x for points in dose.lines.values() for x, _ in points})
    if dose.name in ("k", "groups"):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    elif dose.name != "strength" and len(values) <= TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_count(x)))
