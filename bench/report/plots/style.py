"""Draw every picture in one style: colours, sizes, panels, texts on hover, png and svg."""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from textwrap import wrap
from xml.sax.saxutils import escape

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.groups import Section, SeedGroup, in_order
from bench.analysis.runs import percent
from bench.analysis.statistics import Interval
from bench.report.numbers import axis, interval_text
from bench.runs.tying_spec import TyingSpec, colours

ONE, EACH, BETWEEN = "tip:", "tips:", "\x1f"
GROUP = re.compile(r"""<g id=(["'])(?:(tips?:)(.*?)|[^"'<>]*)\1>""", re.DOTALL)
SHAPE = re.compile(r"<defs>.*?</defs>|<(use|path)\b([^<>]*)/>", re.DOTALL)


def tip(artist: Artist, text: str) -> None:
    """Let `artist` say `text` where the svg is hovered. Lines may be broken."""
    artist.set_gid(ONE + text)


def tips(artist: Artist, texts: Iterable[str]) -> None:
    """Let each point of `artist`, a line of markers alone or a scatter, say its own text.

    Every point must lie inside the figure: the svg writer leaves out those that do not.
    """
    artist.set_gid(EACH + BETWEEN.join(texts))


def titled(svg: str) -> str:
    """The svg with a <title> for every text, and without the other ids of groups: a page has many svgs."""
    before, *rest = re.split(GROUP, svg)
    pieces = [before]
    for kind, text, body in zip(rest[1::4], rest[2::4], rest[3::4], strict=True):
        texts = [escape(unescape(each)) for each in text.split(BETWEEN)] if kind else []
        if kind == ONE:
            pieces += [f"<g><title>{texts[0]}</title>", body]
        else:
            pieces += ["<g>", _each(body, texts)]
    return "".join(pieces)


def _each(body: str, texts: list[str]) -> str:
    """A title inside each of the first shapes, as many as there are texts; what is only defined is not shown."""
    left = iter(texts)

    def one(found: re.Match) -> str:
        text = next(left, None) if found[1] else None
        return found[0] if text is None else f"<{found[1]}{found[2]}><title>{text}</title></{found[1]}>"

    return SHAPE.sub(one, body) if texts else body


MAPS_ACROSS = 4
GREY = "#DDDDDD"
TITLE = 12.0
"""Points of a map's title."""
BAR, HEAD = 1.6, 0.45
"""Inches for the colour bar at the right and for the heading."""


@dataclass(frozen=True)
class Sheet:
    """A figure, its axes in inches, the lower left corner of each place, and the axes of the colour bar."""

    figure: Figure
    axes: Axes
    corners: list[tuple[float, float]]
    bar: Axes

    def scale(self, colours: ScalarMappable, label: str) -> Colorbar:
        return self.figure.colorbar(colours, cax=self.bar, label=label)


def sheet(heading: str, places: int, step: tuple[float, float], note: Sequence[str] = ()) -> Sheet:
    """Room for so many maps of `step` inches, at most four in a row, below a heading and above a note."""
    across = min(MAPS_ACROSS, places)
    wide, tall = max(across * step[0], 3.4) + BAR, -(-places // across) * step[1]
    lines = [line for each in note for line in wrap(each, int(1.05 * wide / LETTER))]
    head = [*wrap(heading, int(0.85 * wide / LETTER))]
    foot, top = LINE * len(lines) + 0.1, HEAD + 0.28 * (len(head) - 1)
    high = tall + foot + top
    made = Figure(figsize=(wide, high))
    axes = made.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(-foot, tall + top))
    axes.set_axis_off()
    axes.text(wide / 2, tall + top / 2, "\n".join(head), ha="center", va="center", fontsize=14)
    axes.text(0.2, -0.02, "\n".join(lines), va="top", fontsize=11, color=QUIET)
    bar_high = min(tall - 0.9, 3.6)
    box = ((wide - BAR + 0.25) / wide, (foot + (tall - bar_high) / 2) / high, 0.2 / wide, bar_high / high)
    corners = [(at % across * step[0], tall - (at // across + 1) * step[1]) for at in range(places)]
    return Sheet(made, axes, corners, made.add_axes(box))


def map_title(section: Section, tying: str, several: bool) -> str:
    """A map's title: its tying, and where it is if that needs saying."""
    title = tying if len(tying) < 24 else tying.replace("(", "\n(", 1).replace(", control", ",\ncontrol", 1)
    said = section.where.removeprefix(f"{section.data}, ")
    return "\n".join([title, *wrap(said, 26)]) if several else title


def heading(sections: Sequence[Section]) -> str:
    data = dict.fromkeys(section.data for section in sections)
    return f"{sections[0].task} on {', '.join(data)}"


def ink(background: str | tuple[float, ...]) -> str:
    """Black or white, whichever is read on `background`."""
    red, green, blue = to_rgb(background)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")
QUIET = "#555555"
"""The colour of what is said about a picture, not by it."""

PANELS_ACROSS, MOST = 3, 9
"""Panels in a row; sections in a picture."""
SIZES = {1: (7.6, 4.7), 2: (5.7, 4.3), 3: (4.7, 4.0)}
"""Inches of a panel with its labels (width, height), by how many stand in a row."""
MARGINS = (0.95, 0.2, 0.7, 0.4)
"""Inches inside a panel to the left, right, below and above; a title needs a line more above for each of its lines."""
LINE = 0.24
LETTER = 0.105
"""Inches of a line of text and, at most on average, of a letter of 12 points."""

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

Look = tuple[str, str, str]
"""Colour, marker and dash."""


def draw(figure: Callable[..., Figure | None], *args: object) -> dict[str, bytes]:
    """{".png": bytes, ".svg": bytes} of the figure made of `args`; {} where there is nothing to draw."""
    default = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context(default | STYLE | {"svg.hashsalt": f"tying-bench {figure.__name__}"}):
        made = figure(*args)
        if made is None:
            return {}
        FigureCanvasAgg(made)
        png, svg = io.BytesIO(), io.StringIO()
        made.savefig(png, format="png", metadata={"Software": None})
        made.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return {".png": png.getvalue(), ".svg": titled(svg.getvalue()).encode()}


def styles(sections: Sequence[Section]) -> dict[str, Look]:
    """Tying -> its look, in table order."""
    return looks_of(in_order(cell for section in sections for cell in section.cells))


def looks_of(specs: Mapping[str, TyingSpec]) -> dict[str, Look]:
    """Label -> its look: colour by family of its spec, marker and dash by place within it."""
    inks, seen = colours(specs.values()), dict[str, int]()
    looks = {}
    for label, spec in specs.items():
        at = seen[spec.family] = seen.get(spec.family, -1) + 1
        looks[label] = (inks[spec.family], MARKERS[at % len(MARKERS)], DASHES[at % len(DASHES)])
    return looks


def inked(colour: str) -> str:
    """A colour dark enough to be read as text on white."""
    return to_hex([0.72 * part for part in to_rgb(colour)])


def finished(sections: Sequence[Section]) -> list[Section]:
    """Those with a finished run."""
    return [section for section in sections if any(run.is_done for run in section.runs)]


def drawn(sections: Sequence[Section]) -> tuple[list[Section], str]:
    """The finished sections that one picture holds, and a sentence on those it does not; empty where it holds all."""
    found = finished(sections)
    if len(found) <= MOST:
        return found, ""
    return found[:MOST], f"The first {MOST} of {len(found)} settings; the tables have all."


def direction(section: Section) -> str:
    """The test metric as an axis says it."""
    better = "lower" if section.metric.mode == "min" else "higher"
    return f"{metric_name(section)} ({better} is better)"


def metric_name(section: Section) -> str:
    """Its name and, of a share, the unit it is printed in."""
    return f"test {section.metric.name.replace('_', ' ')}" + (" %" if section.metric.is_share else "")


def where(cell: SeedGroup) -> str:
    """Where on the grid a cell stands."""
    return f"dropout {axis(cell.dropout)}, weight decay {axis(cell.weight_decay)}"


def reached(cell: SeedGroup) -> Interval | None:
    """The test metric over seeds with its 95 % interval, as it is printed: shares in percent."""
    return percent(cell.interval(), cell.runs[0].metric)


def said(cell: SeedGroup, places: int) -> str:
    """The test metric of a cell in words."""
    value = reached(cell)
    if value is None:
        return cell.reason or "no number"
    name = cell.runs[0].metric.name.replace("_", " ")
    return f"test {name} {interval_text(value, places)} (n = {value.n})"


def left_out(sections: Sequence[Section]) -> str:
    """A sentence on the tyings without any number and why; empty where all have one."""
    missing: dict[str, str] = {}
    for tying, cells in (each for section in sections for each in section.tyings.items()):
        if not any(cell.done for cell in cells):
            missing.setdefault(tying, cells[0].reason)
    return f"Not shown: {'; '.join(f'{tying}: {why}' for tying, why in missing.items())}." if missing else ""


def broken(tying: str, longest: int = 22) -> str:
    """A label on two lines where it is longer than that."""
    if len(tying) <= longest:
        return tying
    cut = next((mark for mark in (", control", "(", "[", ", ", "+") if mark in tying[1:]), "")
    before, _, after = tying.partition(cut) if cut else (tying, "", "")
    return f"{before}{',' * cut.startswith(',')}\n{cut.lstrip(', ')}{after}" if cut else tying


def panels(
    titles: Sequence[str],
    looks: Mapping[str, Look] | None = None,
    note: str = "",
    across: int = PANELS_ACROSS,
    size: tuple[float, float] | None = None,
    margins: tuple[float, float, float, float] = MARGINS,
) -> tuple[Figure, list[Axes]]:
    """A panel per title, at most `across` in a row, with a legend of `looks` and a note below them.

    Sizes are fixed, in inches, as a layout engine doubles the time. `margins` of a panel are those to the left, to
    the right, below and above.
    """
    columns = min(across, len(titles))
    wide, high = size or SIZES[min(columns, max(SIZES))]
    left, right, low, top = margins
    lines = [wrap(title, int(wide / LETTER / 1.05)) for title in titles]
    top += LINE * (max(map(len, lines)) - 1)
    foot, rows = _foot(looks or {}, note, columns * wide), -(-len(titles) // columns)
    total = (columns * wide, rows * high + foot)
    made, found = Figure(figsize=total), []
    for at, title in enumerate(lines):
        corner = (at % columns * wide + left, foot + (rows - 1 - at // columns) * high + low)
        inside = (wide - left - right, high - low - top)
        box = [inches / total[k % 2] for k, inches in enumerate((*corner, *inside))]
        found.append(made.add_axes(box))
        found[-1].set_title("\n".join(title))
    if looks:
        legend(made, looks)
    if note:
        lines = "\n".join(_note(note, total[0]))
        up = (_legend_rows(looks or {}, total[0]) * LINE + 0.1) / total[1]
        made.text(0.5, up, lines, ha="center", va="bottom", fontsize=11, color=QUIET)
    return made, found


def legend(made: Figure, looks: Mapping[str, Look]) -> None:
    """Each look once, with its label, at the foot of the figure."""
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle=dash, linewidth=2, markersize=8)
        for colour, marker, dash in looks.values()
    ]
    columns = _legend_columns(looks, made.get_figwidth())
    made.legend(handles, list(looks), loc="lower center", ncols=columns, borderaxespad=0.2, labelspacing=0.3)


def _legend_columns(looks: Mapping[str, Look], wide: float) -> int:
    longest = max(map(len, looks))
    return min(len(looks), max(1, int(wide / (0.95 * LETTER * longest + 0.75))))


def _legend_rows(looks: Mapping[str, Look], wide: float) -> int:
    return -(-len(looks) // _legend_columns(looks, wide)) if looks else 0


def _note(note: str, wide: float) -> list[str]:
    return wrap(note, int(wide / LETTER * 1.1))


def _foot(looks: Mapping[str, Look], note: str, wide: float) -> float:
    """Inches below the panels."""
    said = _legend_rows(looks, wide) + len(_note(note, wide))
    return said * LINE + 0.15 if said else 0.0
