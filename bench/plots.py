"""Pictures of a task as png and svg bytes: parameters against metric, and learning curves.

The same records give the same bytes: no dates, a fixed salt for svg ids, no style of the user's.
"""

import io
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.metrics import Estimate, mean_sd
from bench.report.cells import Cell, Section
from bench.report.comparison import shown
from bench.report.numbers import short_count
from bench.report.order import family, tying_key
from bench.report.rows import is_finite

# Okabe and Ito's palette for colour-blind readers; the same tying has the same colour in every picture.
COLOURS = {
    "none": "#000000",
    "embedding": "#E69F00",
    "cross_layer": "#0072B2",
    "top_k": "#009E73",
    "soft": "#D55E00",
    "soft_decoupled": "#CC79A7",
    "composition": "#56B4E9",
}
OTHER = "#777777"
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")
PANEL, LEFT, LOW, LEGEND_LINE = (7.5, 4.6), 0.95, 0.7, 0.25
"""Inches: a panel with its labels (width, height), its left and lower margin, a line of the legend."""

STYLE = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 13,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "svg.hashsalt": "tying-bench",
    "savefig.dpi": 110,
}


def draw(figure: Callable[[list[Section]], Figure], sections: list[Section]) -> dict[str, bytes]:
    """{".png": bytes, ".svg": bytes} of a figure."""
    default = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context(default | STYLE):
        made = figure(sections)
        FigureCanvasAgg(made)
        files = {}
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            out = io.BytesIO()
            made.savefig(out, format=kind, metadata=metadata)
            files[f".{kind}"] = out.getvalue()
    return files


def styles(sections: list[Section]) -> dict[str, tuple[str, str, str]]:
    """Tying -> (colour, marker, dash): colour by family, marker and dash by place within it."""
    seen: dict[str, int] = {}
    found = {}
    for tying in sorted({tying for section in sections for tying in section.tyings}, key=tying_key):
        name = family(tying)
        at = seen[name] = seen.get(name, -1) + 1
        found[tying] = (COLOURS.get(name, OTHER), MARKERS[at % len(MARKERS)], DASHES[at % len(DASHES)])
    return found


def finished(sections: list[Section]) -> list[Section]:
    return [section for section in sections if any(run.is_done for run in section.runs)]


def direction(section: Section) -> str:
    """The test metric as an axis says it."""
    better = "lower" if section.metric.mode == "min" else "higher"
    name = f"test {section.metric.name.replace('_', ' ')}" + (" %" if section.metric.is_share else "")
    return f"{name} ({better} is better)"


def pareto(sections: list[Section]) -> Figure:
    """Parameters against the test metric: per tying the cell that validation chose, the others faint."""
    made, panels = _panels(sections)
    for section, axes in zip(finished(sections), panels, strict=True):
        at = _side_by_side(section)
        for tying, (colour, marker, _) in styles(sections).items():
            best = section.chosen(tying)
            for cell in section.tyings.get(tying, []):
                value = shown(cell)
                if value is None or tying not in at:
                    continue
                look = {"color": colour, "marker": marker, "linestyle": "none"}
                if cell is best:
                    look |= {"markersize": 11, "capsize": 4, "zorder": 3, "label": tying}
                    axes.errorbar([at[tying]], [value.mean], yerr=value.sd or None, **look)
                else:
                    axes.plot([at[tying]], [value.mean], markersize=6, alpha=0.4, markeredgewidth=0, **look)
        _mark_untied(section, axes)
        axes.xaxis.set_major_formatter(lambda count, _: short_count(count))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        moved = any(at[tying] != section.chosen(tying).count("num_params") for tying in at)
        axes.set_xlabel("unique parameters" + " (equal counts side by side)" * moved)
        axes.set_ylabel(direction(section))
        axes.set_title(section.title, pad=18)
        axes.margins(x=0.08, y=0.1)
    _legend(made, panels, sections)
    return made


def _side_by_side(section: Section) -> dict[str, float]:
    """Tying -> where it stands: its parameter count, (nearly) equal ones moved apart a little."""
    counts = {tying: cell.count("num_params") for tying in section.tyings if (cell := section.chosen(tying))}
    counts = {tying: count for tying, count in counts.items() if count is not None}
    if not counts:
        return {}
    step = 0.025 * ((max(counts.values()) - min(counts.values())) or max(counts.values()))
    at: dict[str, float] = {}
    for tying in sorted(counts, key=lambda name: counts[name]):
        near = [other for other in at if counts[tying] - counts[other] < step]
        at[tying] = counts[tying] - step * len(near)
    return at


def _mark_untied(section: Section, axes: Axes) -> None:
    counts = [n for cell in section.cells if (n := cell.count("num_params_untied")) is not None]
    if counts:
        axes.axvline(max(counts), color="#999999", linestyle=":", zorder=0)
        axes.annotate(
            "untied", (max(counts), 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", color="#555555", ha="center", fontsize=10,
        )  # fmt: skip


def curves(sections: list[Section]) -> Figure:
    """Validation loss over epochs: per tying the cell that validation chose, mean and sd over seeds."""
    made, panels = _panels(sections)
    for section, axes in zip(finished(sections), panels, strict=True):
        for tying, (colour, _, dash) in styles(sections).items():
            cell = section.chosen(tying)
            over_epochs = curve(cell) if cell else {}
            if not over_epochs:
                continue
            epochs = sorted(over_epochs)
            means = [over_epochs[epoch].mean for epoch in epochs]
            look = {"color": colour, "linestyle": dash, "label": tying}
            axes.plot(epochs, means, linewidth=2, marker="." if len(epochs) < 15 else None, **look)
            if len(cell.done) > 1:
                spread = [over_epochs[epoch].sd or 0.0 for epoch in epochs]
                low = [mean - sd for mean, sd in zip(means, spread, strict=True)]
                high = [mean + sd for mean, sd in zip(means, spread, strict=True)]
                axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        _start_cut_off(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=section.title, xlabel="epoch", ylabel="validation loss (nats)")
    _legend(made, panels, sections)
    return made


def _start_cut_off(axes: Axes) -> None:
    """Let the first quarter of the epochs run out at the top: it would flatten what the tyings differ in."""
    lines = [list(line.get_ydata()) for line in axes.get_lines()]
    late = [value for line in lines for value in line[len(line) // 4 :]]
    lowest = min((value for line in lines for value in line), default=0.0)
    if late and max(late) > lowest:
        room = 0.05 * (max(late) - lowest)
        axes.set_ylim(lowest - room, max(late) + room)


def curve(cell: Cell) -> dict[int, Estimate]:
    """Epoch -> validation loss over the seeds, of the epochs that every finished seed has a number for."""
    seeds = []
    for run in cell.done:
        epochs, losses = run.number("curves", "epoch") or [], run.number("curves", "val_nll") or []
        seeds.append({epoch: loss for epoch, loss in zip(epochs, losses, strict=False) if is_finite(loss)})
    shared = set.intersection(*(set(seed) for seed in seeds)) if seeds else set()
    return {epoch: mean_sd(seed[epoch] for seed in seeds) for epoch in shared}


def _panels(sections: list[Section]) -> tuple[Figure, list[Axes]]:
    """A panel per section with a finished run. Sizes are fixed, as a layout engine doubles the time."""
    sections = finished(sections)
    high = PANEL[1] + _legend_rows(sections) * LEGEND_LINE
    made = Figure(figsize=(PANEL[0] * len(sections), high))
    wide = PANEL[0] * len(sections)
    panels = []
    for at in range(len(sections)):
        left, low = at * PANEL[0] + LEFT, high - PANEL[1] + LOW
        size = ((PANEL[0] - LEFT - 0.2) / wide, (PANEL[1] - LOW - 0.5) / high)
        panels.append(made.add_axes((left / wide, low / high, *size)))
    return made, panels


def _legend_columns(sections: list[Section]) -> int:
    longest = max(len(tying) for tying in _legend_tyings(sections))
    return max(1, 85 * len(sections) // (longest + 8))


def _legend_rows(sections: list[Section]) -> int:
    return -(-len(_legend_tyings(sections)) // _legend_columns(sections))


def _legend_tyings(sections: list[Section]) -> set[str]:
    return {tying for section in sections for tying in section.tyings if section.chosen(tying)}


def _legend(made: Figure, panels: list[Axes], sections: list[Section]) -> None:
    """One legend for all panels, below them, each tying once."""
    found = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    columns = min(len(found) or 1, _legend_columns(finished(sections)))
    made.legend(found.values(), found.keys(), loc="lower center", ncols=columns, borderaxespad=0.3)
