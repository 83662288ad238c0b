"""Draw the map of one kind of tying: measured points, the line where the sign turns, and published results."""

from collections.abc import Sequence
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from bench.analysis.beside import percent_of
from bench.analysis.points import Measurement, as_percent
from bench.analysis.prediction import Variable
from bench.analysis.published import Published
from bench.analysis.zero_line import Plane
from bench.report.numbers import fixed
from bench.report.plots.labels import Label, annotate
from bench.report.plots.style import QUIET, panels, ticks, tips

SIZE, MARGINS = (10.0, 6.4), (1.2, 2.1, 0.75, 0.7)
MOST = 15.0
"""Percent from which on a colour gets no stronger."""
WIDER = 0.4
"""By how much of its length an axis grows for published results; those beyond stand at its end."""
MARKS = {
    "gru": "o",
    "transformer": "s",
    "cnn": "^",
    "encoder": "D",
    "gru, injection": "p",
    "transformer, injection": "d",
}
ONE_SPOT, STEP, TURN = 0.01, (0.012, 0.016), 2.4
"""Marks within ONE_SPOT of an axis are wound around their spot: the i-th is sqrt(i) x STEP away, after i x TURN."""
QUANTITIES = {True: "test perplexity", False: "the exponential of the test loss"}
"""What a change is of, by whether the points are language models."""
Row = tuple[Published, float | None, float | None]


def picture(
    message: str,
    measurements: Sequence[Measurement],
    plane: Plane,
    rows: Sequence[Row],
) -> Figure:
    """Draw one kind of tying over the two variables of its plane.

    Args:
        message: what is seen, the title. measurements: those of the kind, all of language models or all of classifiers.
        rows: published results with their place on either axis, in the units of the models; None where unknown.
    """
    across, up = plane.variables
    what = QUANTITIES[measurements[0].point.is_text]
    band = "Grey: where the 90 % interval of the mean holds 0; black: where the mean is 0."
    note = [
        f"Change of {what}, tied against untied, paired by seed; blue: tied is better.",
        "Marks of one spot stand around it.",
        plane.too_few.capitalize() + "." if plane.too_few else band,
        "Stars: published results; at an end of an axis where they lie beyond it, or the source does not say."
        if rows
        else "",
    ]
    figure, (axes,) = panels([message], None, note, 1, SIZE, MARGINS)
    axes.set_title(axes.get_title(loc="left"), loc="left", pad=16)  # above stars that lie on the frame
    if plane.surface is not None:
        _draw_zero_line(axes, plane)
    scale = Normalize(-MOST, MOST)
    networks = sorted({m.point.network for m in measurements})
    places = _apart(np.array([(across.value(m), up.value(m)) for m in measurements]))
    for network in networks:
        here = [i for i, m in enumerate(measurements) if m.point.network == network]
        ours = [measurements[i] for i in here]
        points = axes.scatter(
            *places[here].T,
            c=[m.percent for m in ours],
            norm=scale,
            cmap="RdBu_r",
            marker=MARKS.get(network, "P"),
            s=40,
            edgecolors="black",
            linewidths=0.7,
            zorder=4,
        )
        tips(
            points,
            [f"{m.label}: {fixed(m.percent, 1, True)} % (n = {m.n})\n{m.point.title}" for m in ours],
        )
    axes.use_sticky_edges = False
    axes.margins(0.04)
    axes.autoscale()
    _draw_published(axes, rows, scale, places.tolist())
    _label(axes, plane.variables)
    handles = [
        Line2D(
            [],
            [],
            color="#888888",
            marker=MARKS.get(name, "P"),
            linestyle="none",
            label=name.replace(", ", ",\n"),
        )
        for name in networks
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.03, box.y0, 0.02, box.height * 0.6))
    figure.colorbar(points, cax=bar, extend="both", label=f"change of {what} (%)")
    return figure


def _apart(places: np.ndarray) -> np.ndarray:
    """Return the places, n x 2, with those of one spot wound around it, so that each mark is seen."""
    length = np.ptp(places, axis=0) + (np.ptp(places, axis=0) == 0)
    used: dict[bytes, int] = {}
    moved = places.astype(float)
    for place in moved:
        spot = np.round(place / length / ONE_SPOT).astype(int).tobytes()
        used[spot] = i = used.get(spot, -1) + 1
        place += i**0.5 * length * STEP * (np.cos(i * TURN), np.sin(i * TURN))
    return moved


def _draw_zero_line(axes: Axes, plane: Plane) -> None:
    surface = plane.surface
    percent = np.vectorize(as_percent)(np.nan_to_num(surface.mean))
    hidden = np.isnan(surface.mean)
    axes.contourf(
        surface.x, surface.y, np.ma.masked_array(percent, hidden), np.linspace(-MOST, MOST, 21),
        cmap="RdBu_r", alpha=0.35, extend="both", zorder=1,
    )  # fmt: skip
    open_sign = np.where(hidden, np.nan, (surface.low <= 0) & (surface.high >= 0))
    if np.nansum(open_sign):
        axes.contourf(
            surface.x,
            surface.y,
            np.nan_to_num(open_sign),
            (0.5, 1.5),
            colors=["#888888"],
            alpha=0.45,
            zorder=2,
        )
    if surface.is_crossed:
        mean = np.ma.masked_array(np.nan_to_num(surface.mean), hidden)
        axes.contour(surface.x, surface.y, mean, (0.0,), colors="black", linewidths=2, zorder=3)


def _draw_published(
    axes: Axes, rows: Sequence[Row], scale: Normalize, drawn: Sequence[tuple[float, float]]
) -> None:
    """Draw a star with its name at each published result; at the far end of an axis of which its source says nothing.

    drawn: the measured points, which names are not to cover.
    """
    placed = [(row, x, y) for row, x, y in rows if percent_of(row) is not None and (x, y) != (None, None)]
    if not placed:
        return
    places = [
        _within(axes.get_xlim(), [x for _, x, _ in placed]),
        _within(axes.get_ylim(), [y for _, _, y in placed]),
    ]
    axes.set_xlim(places[0][1])
    axes.set_ylim(places[1][1])
    labels = []
    for (row, _, _), *place in zip(placed, places[0][0], places[1][0], strict=True):
        star = axes.scatter(
            *place, c=[percent_of(row)], norm=scale, cmap="RdBu_r", marker="*", s=230, edgecolors="black", zorder=6,
            clip_on=False,
        )  # fmt: skip
        tips(star, [row.shown])
        name = shorten(row.source.partition(" (")[0].replace("_", " "), 30, placeholder=" ...")
        labels.append(Label(*place, f"{name} {fixed(percent_of(row), 1, True)} %", QUIET))
    annotate(axes, labels, [(x, y, x, y) for x, y in drawn])


def _within(
    ends: tuple[float, float], values: Sequence[float | None]
) -> tuple[list[float], tuple[float, float]]:
    """Return values cut to an axis that is widened for them by at most WIDER of its length, and its new ends."""
    room = WIDER * (ends[1] - ends[0])
    cut = [min(max(value, ends[0] - room), ends[1] + room) for value in values if value is not None]
    low, high = min([ends[0], *cut]), max([ends[1], *cut])
    rim = 0.03 * (high - low)
    rest = iter(cut)
    return [high + rim if value is None else next(rest) for value in values], (low - rim, high + rim)


def _label(axes: Axes, variables: tuple[Variable, Variable]) -> None:
    for axis, variable in zip((axes.xaxis, axes.yaxis), variables, strict=True):
        axis.set_label_text(variable.name)
        axis.label.set_color(QUIET)
        axis.set_major_formatter(FuncFormatter(lambda value, _, variable=variable: variable.text(value)))
        if variable.is_log:
            low, high = axis.get_view_interval()
            powers = range(int(low) - 1, int(high) + 1)
            for digits in ((1, 2, 5), range(1, 10)):
                values = [np.log10(digit) + power for power in powers for digit in digits]
                inside = [value for value in values if low <= value <= high]
                if len(inside) > 1:
                    break
        else:
            values = np.linspace(*np.maximum(0.0, axis.get_view_interval()), 200)
            shown = [variable.shown(value) for value in values]
            inside = np.interp(ticks(6).tick_values(shown[0], shown[-1]), shown, values, np.nan, np.nan)
            inside = inside[np.isfinite(inside)]
        axis.set_major_locator(FixedLocator(inside))
