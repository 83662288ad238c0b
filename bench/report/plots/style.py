"""Draw every picture in one style: panels with a legend and a note, series with intervals, texts on hover."""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import unescape
from textwrap import wrap
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from bench.analysis.groups import Section, SeedGroup, grouped, in_order
from bench.analysis.runs import percent
from bench.analysis.statistics import Interval, Paired
from bench.report.comparison import setting
from bench.report.numbers import interval_text
from bench.runs.tying_spec import TyingSpec, colours

STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 13,
    "axes.labelsize": 12.5,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "lines.markeredgewidth": 1.4,
    "savefig.dpi": 110,
    "svg.fonttype": "none",
}
QUIET = "#555555"
"""The colour of explanations."""
LEAST_PLOT = 1.0
"""Inches that a plot is high at least."""

LINE, LETTER = 0.24, 0.105
"""Inches of a line of text and, at most on average, of a letter of 12 points."""


def draw(figure_of: Callable[..., Figure | None], *args: object) -> dict[str, bytes]:
    """Return {".png": bytes, ".svg": bytes} of the figure made of `args`; {} where there is nothing to draw."""
    default = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context(default | STYLE | {"svg.hashsalt": f"tying-bench {figure_of.__name__}"}):
        figure = figure_of(*args)
        if figure is None:
            return {}
        FigureCanvasAgg(figure)
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return {".png": _indexed(png), ".svg": _with_titles(svg.getvalue()).encode()}


def _indexed(png: io.BytesIO) -> bytes:
    """Return a picture with a palette of 256 colours: enough for a drawing, and a third of the bytes."""
    indexed, picture = io.BytesIO(), Image.open(png).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(indexed, "PNG", optimize=True)
    return indexed.getvalue()


# Texts on hover: an artist carries them in its id, which the svg writer keeps.

ONE, EACH, BETWEEN = "tip:", "tips:", "\x1f"
GROUP = re.compile(r"""<g id=(["'])(?:(tips?:)(.*?)|[^"'<>]*)\1>""", re.DOTALL)
SHAPE = re.compile(r"<defs>.*?</defs>|<(use|path)\b([^<>]*)/>", re.DOTALL)


def tip(artist: Artist, text: str) -> None:
    """Show `text`, of one or more lines, where `artist` is hovered in the svg."""
    artist.set_gid(ONE + text)


def tips(artist: Artist, texts: Iterable[str]) -> None:
    """Show a text of its own at each point of `artist`: a line of markers alone, or a collection.

    Every point must lie inside the figure: the svg writer leaves out those that do not.
    """
    artist.set_gid(EACH + BETWEEN.join(texts))


def _with_titles(svg: str) -> str:
    """Put a <title> into the svg for every text on hover. Other ids of groups go: a page has many svgs."""
    before, *rest = re.split(GROUP, svg)
    pieces = [before]
    for kind, joined, body in zip(rest[1::4], rest[2::4], rest[3::4], strict=True):
        texts = [escape(unescape(text)) for text in joined.split(BETWEEN)] if kind else []
        if kind == ONE:
            pieces += [f"<g><title>{texts[0]}</title>", body]
        else:
            pieces += ["<g>", _title_shapes(body, texts)]
    return "".join(pieces)


def _title_shapes(body: str, texts: list[str]) -> str:
    """Put a title into each of the first shapes, as many as there are texts; what is only defined is not shown."""
    left = iter(texts)

    def titled(shape: re.Match) -> str:
        text = next(left, None) if shape[1] else None
        return shape[0] if text is None else f"<{shape[1]}{shape[2]}><title>{text}</title></{shape[1]}>"

    return SHAPE.sub(titled, body) if texts else body


# Which colour, marker and dash a tying has.

MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")
LIGHTEST, DARK = 0.7, 0.45
"""How light the last of a large family is, and a text at most, on a scale from black 0 to white 1."""
Look = tuple[str, str, str]
"""Colour, marker and dash."""


def styles(sections: Sequence[Section]) -> dict[str, Look]:
    """Return the look of each tying, in table order."""
    return looks_of(in_order(cell for section in sections for cell in section.cells))


def looks_of(specs: Mapping[str, TyingSpec]) -> dict[str, Look]:
    """Return the look of each label: colour by family of its spec; shade, marker and dash by place within it."""
    colour_of, families = colours(specs.values()), grouped(specs, lambda label: specs[label].family)
    return {
        label: (
            _shade(colour_of[family], index / max(3, len(labels) - 1)),
            MARKERS[index % len(MARKERS)],
            DASHES[index % len(DASHES)],
        )
        for family, labels in families.items()
        for index, label in enumerate(labels)
    }


def _shade(colour: str, place: float) -> str:
    """Return a colour itself at place 0, and up to place 1 as far lighter as is still seen on white."""
    light = lightness(colour)
    share = place * max(0.0, LIGHTEST - light) / (1 - light)
    return to_hex([part + share * (1 - part) for part in to_rgb(colour)]).upper()


def lightness(colour: str | tuple[float, ...]) -> float:
    """Return how light a colour is seen, from black 0 to white 1."""
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def readable(colour: str) -> str:
    """Darken a colour until it can be read as text on white."""
    share = min(0.72, DARK / max(lightness(colour), DARK))
    return to_hex([share * part for part in to_rgb(colour)])


# Panels, and series in them.

MOST = 9
"""Sections in a picture."""
SIZES = {1: (7.6, 4.7), 2: (5.7, 4.3), 3: (4.7, 4.0)}
"""Inches of a panel with its labels (width, height), by how many stand in a row."""
MARGINS = (0.95, 0.2, 0.7, 0.4)
"""Inches inside a panel to the left, right, below and above; a title needs a line more above for each of its lines."""


def panels(
    titles: Sequence[str],
    looks: Mapping[str, Look] | None = None,
    note: Iterable[str] = (),
    across: int = max(SIZES),
    size: tuple[float, float] | None = None,
    margins: tuple[float, float, float, float] = MARGINS,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Make a figure with a panel for each title, and below them the sentences of `note` and a legend of `looks`.

    A title runs on over panels at its right whose title is empty. Sizes are fixed, in inches, as a
    layout engine doubles the time.

    Args:
        across: panels in a row, at most.
        size: width and height of a panel with its margins and one line of title; None: as SIZES has it.
        margins: inches in a panel to the left, to the right, below and above.
        heights: that of each row of panels, as in `size`; None: as `size` has it.
    """
    columns, labels = min(across, len(titles)), list(looks or {})
    width, height = size or SIZES[columns]
    left, right, low, top = margins
    title_lines = [
        _wrapped(title, int((_span(titles, index, columns) * width - left) / LETTER / 1.02))
        for index, title in enumerate(titles)
    ]
    rows = -(-len(titles) // columns)
    longer = [
        LINE * (max(map(len, title_lines[row * columns : (row + 1) * columns])) - 1) for row in range(rows)
    ]
    heights = [
        max(row_height, low + top + LEAST_PLOT) + extra
        for row_height, extra in zip(heights or [height] * rows, longer, strict=True)
    ]
    note_lines = _wrapped(" ".join(filter(None, note)), int(columns * width / LETTER * 1.1))
    label_width = 0.95 * LETTER * max(map(len, labels), default=0) + 0.75
    legend_columns = max(1, min(len(labels), int(columns * width / label_width)))
    legend_rows = -(-len(labels) // legend_columns)
    foot = LINE * (legend_rows + len(note_lines)) + 0.15 if labels or note_lines else 0.0
    total = (columns * width, sum(heights) + foot)
    figure, all_axes = Figure(figsize=total), []
    for index, lines in enumerate(title_lines):
        row = index // columns
        x, y = index % columns * width + left, foot + sum(heights[row + 1 :]) + low
        inside = (width - left - right, heights[row] - low - top - longer[row])
        axes = figure.add_axes((x / total[0], y / total[1], inside[0] / total[0], inside[1] / total[1]))
        axes.set_title("\n".join(lines), loc="left")
        all_axes.append(axes)
    if looks:
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle=dash, linewidth=2, markersize=8)
            for colour, marker, dash in looks.values()
        ]
        spacing = {"borderaxespad": 0.2, "labelspacing": 0.3}
        figure.legend(handles, labels, loc="lower center", ncols=legend_columns, **spacing)
    if note_lines:
        up, text = (LINE * legend_rows + 0.1) / total[1], "\n".join(note_lines)
        figure.text(0.5, up, text, ha="center", va="bottom", fontsize=11, color=QUIET)
    return figure, all_axes


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines of at most so many letters, where a number and its percent sign stay on one."""
    return wrap(text.replace(" %", "\N{NO-BREAK SPACE}%"), width)


def _span(titles: Sequence[str], index: int, columns: int) -> int:
    """Return how many panels of its row a title may stand over."""
    row_end = (index // columns + 1) * columns
    after = next((k for k in range(index + 1, min(row_end, len(titles))) if titles[k]), row_end)
    return after - index


def series(
    axes: Axes, x: Sequence[float], values: Sequence[Interval | Paired], look: Look, texts: Iterable[str]
) -> None:
    """Draw means joined by a line, each with its interval as a bar and a marker that says its text on hover."""
    colour, marker, dash = look
    means = [value.mean for value in values]
    axes.plot(x, means, color=colour, linestyle=dash, linewidth=2, zorder=2)
    for position, value in zip(x, values, strict=True):
        if value.low is not None:
            axes.plot([position, position], [value.low, value.high], color=colour, linewidth=1.6, zorder=3)
    (markers,) = axes.plot(x, means, color=colour, marker=marker, markersize=7, linestyle="none", zorder=4)
    tips(markers, texts)


ENDS = 8
"""So many lines can be named at their ends; of more, some are named and the others are grey."""
ABOVE_PLOT = 1.05
"""Where the highest of these names stands at most, in heights of the plot."""


def room_for_ends(labels: Iterable[str]) -> float:
    """Return the inches that a panel needs at its right for the names of its lines."""
    return 0.25 + 0.9 * LETTER * max(
        (len(part) for label in labels for part in on_two_lines(label).split("\n")), default=0
    )


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, str]) -> None:
    """Name lines at the right of a panel, in their colours and one above the other, with a thin line to each end.

    The limits of the axes must be set.

    Args:
        ends: name -> where its line ends, in data coordinates.
    """
    low, high = axes.get_ylim()
    order = sorted(ends, key=lambda name: ends[name][1])
    inches = axes.get_position().height * axes.figure.get_size_inches()[1]
    half = {name: 0.43 * LINE * (1 + on_two_lines(name).count("\n")) / inches for name in order}
    places = {name: min(1.0, max(0.0, (ends[name][1] - low) / (high - low))) for name in order}
    for lower, upper in zip(order, order[1:], strict=False):
        places[upper] = max(places[upper], places[lower] + half[lower] + half[upper])
    places[order[-1]] = min(places[order[-1]], ABOVE_PLOT)
    for lower, upper in zip(order[-2::-1], order[::-1], strict=False):
        places[lower] = min(places[lower], places[upper] - half[lower] - half[upper])
    for name in order:
        x, y = ends[name]
        lead = {
            "arrowstyle": "-",
            "color": "#BBBBBB",
            "linewidth": 0.8,
            "shrinkA": 1,
            "shrinkB": 4,
            "relpos": (0, 0.5),
        }
        look = {"color": readable(colours[name]), "fontsize": 11.5, "va": "center", "annotation_clip": False}
        place = {"xytext": (1.02, places[name]), "textcoords": "axes fraction", "arrowprops": lead}
        axes.annotate(on_two_lines(name), (x, min(high, max(low, y))), **place, **look)


def ticks(most: int, fewest: int = 3, **options: bool) -> MaxNLocator:
    """Return a locator of at most so many steps, which are 1, 2 or 5 of some power of ten; more for `fewest` ticks."""
    return MaxNLocator(most, steps=(1, 2, 5, 10), min_n_ticks=fewest, **options)


def without_y_axis(axes: Axes) -> None:
    """Hide the y axis of a panel whose rows are named in it."""
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


# What sections and cells are called.


def shown_sections(sections: Sequence[Section]) -> tuple[list[Section], str]:
    """Return the finished sections that a picture has room for, and a sentence on those that it has not."""
    finished = [section for section in sections if any(run.is_done for run in section.runs)]
    if len(finished) <= MOST:
        return finished, ""
    return finished[:MOST], f"The first {MOST} of {len(finished)} settings; the tables have all."


def direction(section: Section) -> str:
    """Return the test metric and which of its ends is better, for an axis."""
    better = "lower" if section.metric.mode == "min" else "higher"
    return f"{metric_name(section)} ({better} is better)"


def metric_name(section: Section) -> str:
    """Return the name of the test metric and, of a share, the unit it is printed in."""
    return f"test {section.metric.name.replace('_', ' ')}" + (" %" if section.metric.is_share else "")


def printed_metric(cell: SeedGroup) -> Interval | None:
    """Return the test metric over seeds with its 95 % interval, as it is printed: shares in percent."""
    return percent(cell.interval(), cell.runs[0].metric)


def cell_text(tying: str, cell: SeedGroup, places: int) -> str:
    """Return what a cell says on hover: tying, setting, and test metric or why it has none."""
    value, name = printed_metric(cell), cell.runs[0].metric.name.replace("_", " ")
    metric = f"test {name} {interval_text(value, places)} (n = {value.n})" if value else ""
    return f"{tying}, {setting(cell)}\n{metric or cell.reason or 'no number'}"


def left_out(sections: Sequence[Section]) -> str:
    """Return a sentence on the tyings without any number and why; empty where all have one."""
    missing: dict[str, str] = {}
    for section in sections:
        for tying, cells in section.tyings.items():
            if not any(cell.done for cell in cells):
                missing.setdefault(tying, cells[0].reason)
    texts = [f"{' and '.join(tyings)}: {why}" for why, tyings in grouped(missing, missing.get).items()]
    return f"Not shown: {'; '.join(texts)}." if texts else ""


def on_two_lines(tying: str, longest: int = 22) -> str:
    """Break a label of more than `longest` letters where it can be."""
    if len(tying) <= longest:
        return tying
    cut = next((mark for mark in (", control", "(", "[", ", ", "+") if mark in tying[1:]), None)
    if cut is None:
        return tying
    before, _, after = tying.partition(cut)
    return f"{before}{',' * cut.startswith(',')}\n{cut.lstrip(', ')}{after}"
