"""Forest plot: what each tying changes against `none` at the same dropout and weight decay, paired by seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from bench.analysis.comparison import Compared, vs_untied
from bench.analysis.groups import Section, grouped
from bench.analysis.power import change, change_of, scale_of
from bench.analysis.statistics import Paired
from bench.analysis.verdict import without_bound
from bench.report.comparison import difference_places
from bench.report.numbers import axis, fixed, interval_text, p_text
from bench.report.plots.headings import titles
from bench.report.plots.style import (
    LETTER,
    LINE,
    MARGINS,
    Look,
    left_out,
    metric_name,
    on_two_lines,
    panels,
    readable,
    setting,
    shown_sections,
    styles,
    ticks,
    tip,
    tips,
    without_y_axis,
)

NOTE = (
    "Mean difference paired by seed and its 95 % interval, each for itself; verdicts hold for all rows together. "
    "Shaded: the margin that counts as equivalent."
)
HOLLOW = "Hollow: one seed, no interval."
STAR = "* too few seeds: fewer than five."
APART = 10 * "\N{NO-BREAK SPACE}"
"""Between the two directions of an axis: svg makes one space of many."""
ACROSS = 2
"""Panels in a row."""
ROW, PLOT = 0.27, 3.1
"""Inches: a row's height, the width of the plot."""
NO_PAIR = "no pair with none"
REACH = 3.0
"""How far bars are drawn, in multiples of the largest difference: an interval of two seeds is ten times as wide."""


@dataclass(frozen=True)
class Row:
    """A line of the plot at height `y`: `against` is None where it only names the tying of those below.

    `difference` and `margin` are as printed: shares in points, a perplexity's in percent.
    """

    y: float
    text: str
    tying: str
    against: Compared | None = None
    difference: Paired | None = None
    margin: float = 0.0

    @property
    def bounds(self) -> tuple[float, float] | None:
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return None
        return self.difference.low, self.difference.high


def forest(sections: list[Section]) -> Figure | None:
    """Draw a panel per section, a row per tying x dropout x weight decay. None where nothing compares to `none`."""
    sections, omitted = shown_sections(sections)
    rows_of = {section.title: (section, _rows(section)) for section in sections}
    shown = [(section, rows) for section, rows in rows_of.values() if any(row.difference for row in rows)]
    if not shown:
        return None
    every = [row for _, rows in shown for row in rows]
    longest = max(len(line) for row in every if row.against for line in row.text.split("\n"))
    verdict = 0.3 + 0.9 * LETTER * max(len(_verdict(row)) for row in every if row.against)
    left, _, low, top = margins = (0.25 + LETTER * longest, verdict, MARGINS[2] + LINE, MARGINS[3])
    row_height = ROW * max(1 + row.text.count("\n") for row in every)
    most = [max(len(rows) for _, rows in shown[i : i + ACROSS]) for i in range(0, len(shown), ACROSS)]
    heights = [(rows + 0.4) * row_height + low + top for rows in most]
    size = (left + PLOT + verdict, heights[0])
    hollow = HOLLOW if any(row.difference and row.difference.n == 1 for row in every) else ""
    star = STAR if any(row.against and row.against.verdict.is_hint for row in every) else ""
    note = (NOTE, hollow, star, left_out([section for section, _ in shown]), omitted)
    names = titles(sections)
    above = [f"{names[section]}: {message(rows)}" for section, rows in shown]
    figure, all_axes = panels(above, None, note, ACROSS, size, margins, heights)
    for index, ((section, rows), axes) in enumerate(zip(shown, all_axes, strict=True)):
        axes.set_ylim(-most[index // ACROSS] + 0.4, 0.8)
        _draw_differences(axes, rows, styles(sections), difference_places(section))
        _write_texts(axes, rows, styles(sections), difference_places(section), left)
        left_side, right_side = ("better", "worse") if section.metric.mode == "min" else ("worse", "better")
        is_log = scale_of(section.metric) != section.metric.name
        change_name = (
            f"change of test {section.metric.name} in % of"
            if is_log
            else f"{metric_name(section)} minus that of"
        )
        axes.set_xlabel(f"{change_name} none\n◀ {left_side}{APART}{right_side} ▶")
        # Numbers of many digits need the room of two.
        axes.xaxis.set_major_locator(ticks(3 if max(map(abs, axes.get_xlim())) < 0.1 else 5))
        without_y_axis(axes)
    return figure


def message(rows: Sequence[Row]) -> str:
    """Count the verdicts of the rows, and why others have no number; one that all have is said once."""
    compared = [row for row in rows if row.against]
    counts = Counter(_kind(row) for row in compared)
    if len(counts) == 1:
        return f"all {next(iter(counts))}" if len(compared) > 1 else _verdict(compared[0])
    return ", ".join(f"{count} {word}" for word, count in counts.most_common())


def _rows(section: Section) -> list[Row]:
    """Return the rows of a section from the top; tyings without a number have none."""
    several_dropouts = len({cell.dropout for cell in section.cells}) > 1
    several_decays = len({cell.weight_decay for cell in section.cells}) > 1
    comparison_of = {comparison.cell: comparison for comparison in vs_untied(section)}
    rows: list[Row] = []
    for tying, cells in section.tyings.items():
        if tying == "none" or not any(cell.done for cell in cells):
            continue
        if several_dropouts or several_decays:
            rows.append(Row(-len(rows), tying, tying))
        for cell in cells:
            place = [f"dropout {axis(cell.dropout)}"] * several_dropouts
            place += [f"decay {axis(cell.weight_decay)}"] * several_decays
            against = comparison_of[cell]
            difference = change(against.difference, section.metric)
            margin = change_of(against.margin or 0.0, section.metric)
            text = ", ".join(place) or on_two_lines(tying)
            rows.append(Row(-len(rows), text, tying, against, difference, margin))
    return rows


def _draw_differences(axes: Axes, rows: Sequence[Row], looks: dict[str, Look], places: int) -> None:
    """Draw margins, intervals and means, those of a tying with and without an interval as one line of markers."""
    compared = [row for row in rows if row.difference]
    limits = _set_limits(axes, compared)
    bands = [
        [(x, row.y + y) for x, y in zip((-m, m, m, -m), (-0.5, -0.5, 0.5, 0.5), strict=True)]
        for row in rows
        if (m := row.margin)
    ]
    axes.add_collection(PolyCollection(bands, facecolors="#E4E4E4", linewidths=0, zorder=0), autolim=False)
    axes.axvline(0, color="#444444", linewidth=1, zorder=1)
    _draw_bars(axes, [row for row in compared if row.bounds], looks, limits)
    alike = grouped(compared, lambda row: (row.tying, row.bounds is None))
    for (tying, hollow), members in alike.items():
        colour, marker, _ = looks[tying]
        means, heights = [row.difference.mean for row in members], [row.y for row in members]
        look = {"color": colour, "markerfacecolor": "white" if hollow else colour}
        (dots,) = axes.plot(means, heights, marker, markersize=8, zorder=3, **look)
        tips(dots, [_tip(row, places) for row in members])


def _set_limits(axes: Axes, compared: Sequence[Row]) -> tuple[float, float]:
    """Set the limits in x: all means and margins, and of the bars as much as leaves the means readable."""
    reach = REACH * max(max(abs(row.difference.mean), row.margin) for row in compared) or 1.0
    inside = [end for row in compared for end in (row.margin, -row.margin)]
    for row in compared:
        inside += [min(reach, max(-reach, bound)) for bound in row.bounds or [row.difference.mean]]
    low, high = min(inside), max(inside)
    room = 0.06 * (high - low or 1.0)
    axes.set_xlim(low - room, high + room)
    return low, high


def _draw_bars(axes: Axes, rows: Sequence[Row], looks: dict[str, Look], limits: tuple[float, float]) -> None:
    """Draw the intervals; an arrowhead where one runs on beyond the limits."""
    segments, colours = [], [looks[row.tying][0] for row in rows]
    for row, colour in zip(rows, colours, strict=True):
        low, high = row.bounds
        segments.append([(max(low, limits[0]), row.y), (min(high, limits[1]), row.y)])
        for mark, edge, beyond in (("<", limits[0], low < limits[0]), (">", limits[1], high > limits[1])):
            if beyond:
                axes.plot([edge], [row.y], mark, color=colour, markersize=7, markeredgewidth=0)
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=2.2, zorder=2), autolim=False)


def _write_texts(axes: Axes, rows: Sequence[Row], looks: dict[str, Look], places: int, left: float) -> None:
    """Write what each row is, on the left, and its verdict, on the right."""
    beside = {"transform": axes.get_yaxis_transform(), "va": "center"}
    for row in rows:
        if row.against is None:
            head = {"color": readable(looks[row.tying][0]), "weight": "bold"}
            axes.text(0.1 - left / PLOT, row.y, row.text, ha="left", **head, **beside)
        else:
            axes.text(-0.03, row.y, row.text, ha="right", **beside)
            tip(axes.text(1.03, row.y, _verdict(row), ha="left", **beside), _tip(row, places))


def _verdict(row: Row) -> str:
    if row.difference:
        return row.against.verdict.word + "*" * row.against.verdict.is_hint
    missing = ", ".join(f"{n} {outcome}" for outcome, n in row.against.cell.missing.items())
    return missing or NO_PAIR


def _kind(row: Row) -> str:
    """Return what a row is counted by: the verdict without its bound, or how runs ended without their number."""
    if row.difference is None:
        return " or ".join(row.against.cell.missing) or NO_PAIR
    return without_bound(_verdict(row))


def _tip(row: Row, places: int) -> str:
    cell, p = row.against.cell, row.against.p_holm
    if row.difference is None:
        return f"{row.tying}, {setting(cell)}\n{cell.reason or _verdict(row)}"
    holm = "" if p is None else f"\np {'' if p < 0.001 else '= '}{p_text(p)} after Holm's correction"
    text = f"{interval_text(row.difference, places, sign=True)} (n = {row.difference.n})"
    return (
        f"{row.tying}, {setting(cell)}\ndifference to none {text}{holm}"
        f"\n{row.against.verdict}; margin ±{fixed(row.margin, places)}"
    )
