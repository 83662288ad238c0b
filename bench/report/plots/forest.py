"""Forest plot: what each tying changes against `none` at the same dropout and weight decay, paired by seed."""

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.comparison import VsUntied, vs_untied
from bench.analysis.groups import Section
from bench.analysis.runs import percent
from bench.analysis.statistics import Paired
from bench.report.comparison import places_of
from bench.report.numbers import axis, fixed, interval_text, p_text
from bench.report.plots.style import (
    LETTER,
    LINE,
    MARGINS,
    Look,
    broken,
    drawn,
    inked,
    left_out,
    metric_name,
    panels,
    styles,
    tip,
    tips,
    where,
)

NOTE = "Mean difference paired by seed and its 95 % interval. Shaded: the margin that counts as equivalent."
HOLLOW = "Hollow: one seed, no interval."
FEW = " (too few seeds)"
STAR = "* too few seeds: fewer than five."
ROW, PLOT, VERDICT = 0.27, 3.1, 2.05
"""Inches: a row's height, the width of the plot and of the verdicts on its right."""
REACH = 3.0
"""How far bars are drawn, in multiples of the largest difference: an interval of two seeds is ten times as wide."""


@dataclass(frozen=True)
class Row:
    """A line of the plot: `against` is None where it only names the tying of those below."""

    text: str
    tying: str
    against: VsUntied | None
    difference: Paired | None = None
    margin: float = 0.0

    @property
    def bounds(self) -> tuple[float, float] | None:
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return None
        return self.difference.low, self.difference.high


def forest(sections: list[Section]) -> Figure | None:
    """A panel per section, a row per tying x dropout x weight decay. None where nothing can be compared to `none`."""
    sections, more = drawn(sections)
    found = [(section, list(_rows(section))) for section in sections]
    found = [(section, rows) for section, rows in found if any(row.difference for row in rows)]
    if not found:
        return None
    every = [row for _, rows in found for row in rows]
    most = max(len(rows) for _, rows in found)
    names = max(len(line) for row in every if row.against for line in row.text.split("\n"))
    margins = (0.25 + LETTER * names, VERDICT, MARGINS[2] + LINE, MARGINS[3])
    pitch = ROW * max(1 + row.text.count("\n") for row in every)
    size = (margins[0] + PLOT + VERDICT, (most + 0.4) * pitch + margins[2] + margins[3])
    note = _note(every, left_out([section for section, _ in found]), more)
    made, all_axes = panels([section.title for section, _ in found], None, note, 2, size, margins)
    for (section, rows), axes in zip(found, all_axes, strict=True):
        axes.set_ylim(-most + 0.4, 0.8)
        _draw(axes, section, rows, styles(sections), margins[0])
    return made


def _note(rows: list[Row], missing: str, more: str) -> str:
    """Return what stands below the panels: how they are read, what they leave out, and what else there is."""
    hollow = HOLLOW if any(row.difference and row.difference.n == 1 for row in rows) else ""
    star = STAR if any(row.against and row.against.verdict.endswith(FEW) for row in rows) else ""
    return " ".join(filter(None, (NOTE, hollow, star, missing, more)))


def _rows(section: Section) -> Iterator[Row]:
    dropouts, decays = ({getattr(cell, key) for cell in section.cells} for key in ("dropout", "weight_decay"))
    against = {each.cell: each for each in vs_untied(section)}
    for tying, cells in section.tyings.items():
        if tying == "none" or not any(cell.done for cell in cells):
            continue
        alone = len(dropouts) == len(decays) == 1
        if not alone:
            yield Row(tying, tying, None)
        for cell in cells:
            at = [f"dropout {axis(cell.dropout)}"] * (len(dropouts) > 1)
            at += [f"decay {axis(cell.weight_decay)}"] * (len(decays) > 1)
            each = against[cell]
            difference = percent(each.difference, section.metric)
            scale = 100 if section.metric.is_share else 1
            text = broken(tying) if alone else ", ".join(at)
            yield Row(text, tying, each, difference, scale * (each.margin or 0.0))


def _draw(axes: Axes, section: Section, rows: list[Row], looks: dict[str, Look], left: float) -> None:
    at, places = {id(row): -float(k) for k, row in enumerate(rows)}, places_of(section)
    shown = [row for row in rows if row.difference]
    limits = _limits(axes, shown)
    bands = [_band(at[id(row)], row.margin) for row in rows if row.against and row.margin]
    axes.add_collection(PolyCollection(bands, facecolors="#E4E4E4", linewidths=0, zorder=0), autolim=False)
    axes.axvline(0, color="#444444", linewidth=1, zorder=1)
    _bars(axes, shown, at, looks, limits)
    for tying, alone in dict.fromkeys((row.tying, row.bounds is None) for row in shown):
        alike = [row for row in shown if (row.tying, row.bounds is None) == (tying, alone)]
        _dots(axes, alike, at, looks[tying], places)
    for row in rows:
        colour = inked(looks[row.tying][0])
        beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
        if row.against is None:
            axes.text(
                0.1 - left / PLOT, at[id(row)], row.text, ha="left", color=colour, weight="bold", **beside
            )
            continue
        axes.text(-0.03, at[id(row)], row.text, ha="right", **beside)
        said = axes.text(1.03, at[id(row)], _verdict(row), ha="left", **beside)
        tip(said, _tip(row, places))
    _directions(axes, section)


def _band(y: float, margin: float) -> list[tuple[float, float]]:
    return [(-margin, y - 0.5), (margin, y - 0.5), (margin, y + 0.5), (-margin, y + 0.5)]


def _limits(axes: Axes, shown: list[Row]) -> tuple[float, float]:
    """Set the limits in x: all means and margins, and of the bars as much as leaves the means readable."""
    reach = REACH * max([abs(row.difference.mean) for row in shown] + [row.margin for row in shown]) or 1.0
    bounds = [bound for row in shown for bound in (row.bounds or [row.difference.mean])]
    inside = [min(reach, max(-reach, bound)) for bound in bounds] + [
        s * row.margin for row in shown for s in (1, -1)
    ]
    low, high = min(inside), max(inside)
    room = 0.06 * (high - low or 1.0)
    axes.set_xlim(low - room, high + room)
    return low, high


def _bars(
    axes: Axes, shown: list[Row], at: dict, looks: dict[str, Look], limits: tuple[float, float]
) -> None:
    """The intervals; an arrowhead where one runs on beyond the axis."""
    segments, colours = [], []
    for row in shown:
        if row.bounds is None:
            continue
        y, (low, high) = at[id(row)], row.bounds
        colours.append(looks[row.tying][0])
        segments.append([(max(low, limits[0]), y), (min(high, limits[1]), y)])
        for mark, edge, beyond in (("<", limits[0], low < limits[0]), (">", limits[1], high > limits[1])):
            if beyond:
                axes.plot([edge], [y], mark, color=colours[-1], markersize=7, markeredgewidth=0)
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=2.2, zorder=2), autolim=False)


def _dots(axes: Axes, rows: list[Row], at: dict, look: Look, places: int) -> None:
    if not rows:
        return
    means, heights = [row.difference.mean for row in rows], [at[id(row)] for row in rows]
    face = "white" if rows[0].bounds is None else look[0]
    (dots,) = axes.plot(means, heights, look[1], color=look[0], markerfacecolor=face, markersize=8, zorder=3)
    tips(dots, [_tip(row, places) for row in rows])


def _verdict(row: Row) -> str:
    if row.difference:
        return row.against.verdict.removesuffix(FEW) + "*" * row.against.verdict.endswith(FEW)
    missing = ", ".join(f"{n} {what}" for what, n in row.against.cell.missing.items())
    return missing or "no pair with none"


def _tip(row: Row, places: int) -> str:
    if row.difference is None:
        return f"{row.tying}, {where(row.against.cell)}\n{row.against.cell.reason or _verdict(row)}"
    p = row.against.p_holm
    holm = "" if p is None else f"\np {'' if p < 0.001 else '= '}{p_text(p)} after Holm's correction"
    text = f"{interval_text(row.difference, places, sign=True)} (n = {row.difference.n})"
    return (
        f"{row.tying}, {where(row.against.cell)}\ndifference to none {text}{holm}"
        f"\n{row.against.verdict}; margin ±{fixed(row.margin, places)}"
    )


def _directions(axes: Axes, section: Section) -> None:
    """The x axis and which side of it is the good one."""
    left, right = ("better", "worse") if section.metric.mode == "min" else ("worse", "better")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"{metric_name(section)} minus that of none\n◀ {left}          {right} ▶")
