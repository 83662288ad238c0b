"""How cost grows, as a picture: seconds and memory of a step along each size, both axes logarithmic."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from bench.report.numbers import short_count

PANEL = (2.9, 2.7)
LOOKS = {"GRU": ("#0072B2", "o", "-"), "transformer": ("#D55E00", "s", "--")}
COSTS = {"step_s": ("training step (ms)", 1e3), "peak_bytes": ("peak memory (MiB)", 2**-20)}


def growth(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A column of panels per axis, a row per cost, a line per network with its fitted exponent."""
    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    made = Figure(figsize=(PANEL[0] * len(axes_names), PANEL[1] * len(COSTS)))
    panels = made.subplots(len(COSTS), len(axes_names), squeeze=False, sharey="row")
    for line, (cost, (label, scale)) in zip(panels, COSTS.items(), strict=True):
        for axes, name in zip(line, axes_names, strict=True):
            for row in (row for row in rows if row["axis"] == name):
                _draw(axes, row, cost, scale)
            axes.set_xlabel("tied layers" if name == "tied" else name)
        line[0].set_ylabel(label)
    made.subplots_adjust(left=0.06, right=0.99, bottom=0.1, top=0.98, wspace=0.12, hspace=0.35)
    return made


def _draw(axes: Axes, row: Mapping[str, Any], cost: str, scale: float) -> None:
    colour, marker, dash = LOOKS[row["network"]]
    look = {"color": colour, "marker": marker, "linestyle": dash}
    label = f"{row['network']}: {row['exponents'][cost][0]:.2f}"
    axes.loglog(row["at"], [scale * value for value in row[cost]], label=label, **look)
    axes.xaxis.set_major_locator(FixedLocator(row["at"]))
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(fontsize=9)
