"""Write a sweep's page: one file that opens from disk, with tables that sort and pictures that show values."""

import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from bench.analysis.archive import FILE
from bench.analysis.comparison import Against, against_chosen
from bench.analysis.groups import SAID, Section, SeedGroup
from bench.analysis.runs import RunRecord, is_finite
from bench.report import across_tasks
from bench.report.comparison import headline, mean, places_of, share_of_untied, shown
from bench.report.markup import Table
from bench.report.notes import READING
from bench.report.numbers import NOTHING, axis, fixed, metric_places, p_text
from bench.report.pages import CHOICE, Block, blocks, cost_blocks, curve_blocks, stems
from bench.runs import machine

CONTROL = "control="
GOOD = ("better", "equivalent")
ONE_SEED = "One seed: a hint, not a result."


def counted(runs: list[RunRecord]) -> str:
    """`60 runs: 56 done, 4 n/a`."""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {_by_status(runs) or 'none'}"


def _by_status(runs: list[RunRecord]) -> str:
    counts = Counter(SAID.get(run.status, run.status) for run in runs)
    return ", ".join(f"{counts[what]} {what}" for what in sorted(counts))


def sentences(section: Section) -> list[str]:
    """What a reader who reads nothing else should know of one section; names stand in backticks.

    A tying, and `none`, stand at the dropout and weight decay that validation prefers, and so is the tying
    chosen that is spoken of: the test figures choose nothing.
    """
    standing = against_chosen(section)
    tied = {name: a for name, a in standing.items() if name != "none" and CONTROL not in name}
    if not tied:
        untied = [
            f"`none` reaches {_reached(section, a.cell)}."
            for a in standing.values()
            if a.cell.tying == "none"
        ]
        return ["No tying has a number here.", *untied, *_missing(section)]
    best = section.metric.best([_on_validation(a.cell) for a in tied.values()])
    against = next(a for a in tied.values() if _on_validation(a.cell) == best)
    said = [_preferred(section, against.cell, len(tied)), *_compared(section, against)]
    return [*said, *_smallest(list(tied.values()), against), *_missing(section)]


def _on_validation(cell: SeedGroup) -> float:
    estimate = cell.metric_over_seeds("val")
    assert estimate is not None, "a chosen cell has been validated"
    return estimate.mean


def _preferred(section: Section, cell: SeedGroup, among: int) -> str:
    searched = sum(bool(other.done) for other in section.tyings[cell.tying])
    which = f"Of {among} tyings validation prefers" if among > 1 else "The one tying with numbers is"
    share = share_of_untied(cell)
    size = "" if share is None else f", with {100 * share:.0f} % of the untied parameters"
    of = f" (best of {searched} settings)" if searched > 1 else ""
    return f"{which} `{cell.tying}`{size}, at {_setting(cell)}{of}."


def _setting(cell: SeedGroup) -> str:
    return f"dropout {axis(cell.dropout)} and weight decay {axis(cell.weight_decay)}"


def _reached(section: Section, cell: SeedGroup) -> str:
    name, unit = section.metric.name.replace("_", " "), " %" * section.metric.is_share
    better = " (lower is better)" if section.metric.mode == "min" else ""
    return f"a test {name}{better} of {fixed(mean(shown(cell)), places_of(section))}{unit}"


def _compared(section: Section, against: Against) -> list[str]:
    reached, difference = f"It reaches {_reached(section, against.cell)}", against.difference
    if difference is None or against.untied is None:
        return [f"{reached}; there is no `none` to compare it with."]
    scale, unit = (100, " points") if section.metric.is_share else (1, "")

    def text(value: float) -> str:
        return fixed(scale * value, places_of(section), sign=True)

    first = f"{reached}, {text(difference.mean)}{unit} against `none` at {_setting(against.untied)}"
    if difference.n == 1:
        return [f"{first} (n = 1).", ONE_SEED]
    if difference.low is None or difference.high is None:
        return [f"{first} (n = {difference.n}).", _verdict(against, scale, unit)]
    inside = f"95 % interval {text(difference.low)} to {text(difference.high)}, n = {difference.n} seeds"
    p = "" if against.p_holm is None else f", p (Holm) {p_text(against.p_holm)}"
    return [f"{first} ({inside}{p}).", _verdict(against, scale, unit)]


def _verdict(against: Against, scale: float, unit: str) -> str:
    within = "equivalent" in against.verdict and against.margin is not None
    margin = f", within ± {fixed(scale * against.margin, 2)}{unit}" if within else ""
    return f"Verdict: {against.verdict}{margin}."


def _smallest(tied: list[Against], spoken_of: Against) -> list[str]:
    """The fewest parameters, below the untied, among those found no worse; unless it was spoken of already."""
    good = [a for a in tied if a.verdict in GOOD and (share_of_untied(a.cell) or 1.0) < 1.0]
    least = min(good, key=lambda a: share_of_untied(a.cell) or 1.0, default=None)
    if least is None or least.cell is spoken_of.cell:
        return []
    return [
        f"The smallest network with the verdict better or equivalent is `{least.cell.tying}`: "
        f"{100 * (share_of_untied(least.cell) or 1.0):.0f} % of the untied parameters ({least.verdict})."
    ]


def _missing(section: Section) -> list[str]:
    left = [run for run in section.runs if not run.is_done]
    return [f"No number from {_by_status(left)} of {len(section.runs)} runs."] if left else []


HOLES = {"", NOTHING, "n/a", "hole"}
UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}
CHOICES = {"tying", "dropout", "weight decay", "seed", "status", "control"}
"""Headers of columns with few values that rows are picked by."""


class Entry(NamedTuple):
    """`sort`: the number behind the text, as text; empty where there is none, which comes last either way."""

    text: str
    sort: str
    is_best: bool


class Column(NamedTuple):
    lines: list[str]
    is_right: bool
    is_number: bool
    is_choice: bool
    is_code: bool


class Grid(NamedTuple):
    """What the template writes as one table."""

    title: str
    columns: list[Column]
    rows: list[list[Entry]]


def grid(title: str, table: Table, code: Collection[str] = ()) -> Grid:
    """`code` names columns of text to be copied. A column is one of numbers if all that it says begins with one."""
    texts = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.header)
    numbers = [_numbers(column) for column in texts]
    columns = [
        Column(
            header.split("\n"),
            table.align[c] == "r",
            numbers[c] is not None,
            header in CHOICES,
            header in code,
        )
        for c, header in enumerate(table.header)
    ]
    rows = [
        [
            Entry(text, _sort(text, column[r] if column else None), (r, c) in table.best)
            for c, (text, column) in enumerate(zip(row, numbers, strict=True))
        ]
        for r, row in enumerate(table.rows)
    ]
    return Grid(title, columns, rows)


def _sort(text: str, number: float | None) -> str:
    if number is not None:
        return repr(number)
    return "" if text in HOLES else text


def _numbers(column: Collection[str]) -> list[float | None] | None:
    found = [number(text) for text in column]
    said = [value for text, value in zip(column, found, strict=True) if text not in HOLES]
    return found if said and None not in said else None


def number(text: str) -> float | None:
    """The number that a cell begins with: 0.98 of `0.98 [0.97, 0.99]`, -2 of `−2.0 ± 1.4`, 269,000 of `269k 45%`."""
    found = re.match(r"(?:< )?([+−-]?)(\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)([kMG]?)(?![\w.])", text)
    if not found:
        return None
    sign, digits, unit = found.groups()
    size = float(digits.replace(",", "")) * UNITS.get(unit, 1.0)
    return -size if sign in ("-", "−") else size


DROPPED = {"metadata", "script", "foreignObject", "style"}
PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0, "in": 96.0}


class Picture(NamedTuple):
    """`svg` for a page, `width` in pixels at full size, `title` for those who do not see it."""

    svg: str
    width: int
    title: str


def inlined(data: bytes, prefix: str, title: str) -> Picture:
    """The svg with every id, and every reference to one, after `prefix`; styles, scripts and outside references go.

    Coordinates keep two decimals, a hundredth of a point. ElementTree.ParseError where `data` is no xml.
    """
    root = ElementTree.fromstring(data)
    width = _pixels(root)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    _clean(root, prefix)
    root.attrib |= {"role": "group", "aria-label": title, "tabindex": "0", "data-width": str(width)}
    return Picture(ElementTree.tostring(root, encoding="unicode"), width, title)


def _pixels(root: ElementTree.Element) -> int:
    found = re.fullmatch(r"([\d.]+)(pt|px|in|)", root.get("width", ""))
    if found:
        return round(float(found[1]) * PIXELS[found[2]])
    box = root.get("viewBox", "0 0 640 0").split()
    return round(float(box[2]))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    element.attrib = dict(filter(None, (_attribute(*item, prefix) for item in element.attrib.items())))
    element.text, element.tail = _short(element.text), _short(element.tail)
    for child in list(element):
        if not isinstance(child.tag, str) or _local(child.tag) in DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _local(name: str) -> str:
    """In html an svg needs no namespaces."""
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, prefix: str) -> tuple[str, str] | None:
    plain = _local(name)
    if plain.startswith("on"):
        return None
    if plain == "href":
        if value.startswith("data:image/png;"):  # a colour bar
            return "href", value
        return ("href", f"#{prefix}{value[1:]}") if value.startswith("#") else None
    if plain == "id":
        return plain, f"{prefix}{value}"
    if plain in ("d", "x", "y", "points"):
        return plain, re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    if re.search(r"url\(\s*['\"]?(?!['\"]?#)", value):
        return None
    return plain, re.sub(r"url\(['\"]?#", lambda found: found[0] + prefix, value)


def _short(text: str | None) -> str | None:
    """Spaces between elements say nothing."""
    return text if text and text.strip() else None


COMMAND = "command"
PROGRAM = "python -m bench"
NOT_RECORDED = "its overrides are not recorded"


def runs_table(section: Section) -> Table:
    """In table order, holes included; the last column is the command, the one before it why there is no number."""
    metric = section.metric
    values = [value for cell in section.cells for value in cell.metric().values()]
    scale = 100 if metric.is_share else 1
    decimals = metric_places([scale * value for value in values], metric)

    def score(run: RunRecord, split: str) -> str:
        value = run.number(split, metric.name)
        return fixed(scale * value, decimals) if run.is_done and is_finite(value) else NOTHING

    def row(cell: SeedGroup, run: RunRecord) -> list[str]:
        seconds = run.number("seconds", "total")
        return [
            cell.tying,
            axis(cell.dropout),
            axis(cell.weight_decay),
            str(run.seed),
            SAID.get(run.status, run.status),
            score(run, "test"),
            score(run, "val"),
            fixed(seconds, 1) if is_finite(seconds) else NOTHING,
            run.reason or "",
            command(run),
        ]

    name = metric.label.removeprefix("test ")
    header = ["tying", "dropout", "weight decay", "seed", "status", f"test\n{name}", f"validation\n{name}"]
    table = Table(
        [*header, "seconds", "reason", COMMAND],
        "lrrrlrrrll",
        [row(cell, run) for cell in section.cells for run in cell.runs],
    )
    said = any(run.reason for run in section.runs)
    return table if said else table.columns(c for c, head in enumerate(table.header) if head != "reason")


def command(run: RunRecord) -> str:
    """`python -m bench task=... tying=... seed=...`: what was asked for, for a shell in the repository.

    A record that was made before overrides were recorded has no command.
    """
    overrides = run.record.get("overrides")
    if overrides is None:
        return NOT_RECORDED
    return shlex.join([*PROGRAM.split(), *overrides])


HERE = Path(__file__).parent
FIRST = "Comparison"
MANY_RUNS = 2000
"""Above so many a row per run makes a page that no browser scrolls well; the file of the records has them."""


class _Shown(NamedTuple):
    """A block as the template reads it."""

    title: str
    grid: Grid | None
    lines: Sequence[str]


class _Part(NamedTuple):
    """One section as the template reads it."""

    title: str
    blocks: list[_Shown]
    costs: list[_Shown]
    runs: Grid | None


def page(
    name: str,
    sections: Sequence[Section],
    pictures: Mapping[str, bytes],
    note: str | None = None,
    lacks: str | None = None,
) -> bytes:
    """index.html of the sweep `name`: needs no network and no other file; the same input gives the same bytes.

    pictures: file name -> content; the svg ones of a stem (see `bench.report.pages.stems`) are put on the page,
    in their order. lacks: what the records do not hold, which pictures would show. Without a record the page says so.
    ElementTree.ParseError for an svg that is none.
    """
    sections = list(sections)
    runs = [run for section in sections for run in section.runs]
    many = len(runs) > MANY_RUNS
    shown = _pictures(list(stems(sections)), pictures)
    groups = [
        {
            "stem": stem,
            "parts": [_part(section, many) for section in members],
            "curves": [_shown(block) for block in curve_blocks(members)],
            "pictures": shown[stem],
        }
        for stem, members in stems(sections).items()
    ]
    html = _template().render(
        name=name,
        note=" ".join(note.split()) if note else "",
        lacks=lacks,
        records=FILE,
        counted=counted(runs),
        words=[(section.title, sentences(section)) for section in sections],
        overview=_overview(sections),
        groups=groups,
        reading=READING,
        many=many and MANY_RUNS,
        preset=(machine.CONF / "sweep" / f"{name}.yaml").is_file(),
        css=(HERE / "page.css").read_text(),
        js=(HERE / "page.js").read_text(),
    )
    return html.encode()


def _overview(sections: list[Section]) -> list[_Shown]:
    """All tasks next to each other, and over all of them."""
    if not sections:
        return []
    found = across_tasks.scores(sections) if across_tasks.is_across(sections) else []
    over = [Block(across_tasks.TITLE, across_tasks.across(found), list(across_tasks.NOTES))] if found else []
    chosen = Block("", headline(sections, with_chosen=True), [CHOICE])
    return [_shown(chosen, "Where validation is best"), *map(_shown, over)]


def _part(section: Section, many: bool) -> _Part:
    return _Part(
        section.title,
        [_shown(block) for block in blocks(section, None)],
        [_shown(block) for block in cost_blocks(section) if block.table or block.lines],
        None if many else grid("Runs", runs_table(section), code={COMMAND}),
    )


def _shown(block: Block, caption: str = FIRST) -> _Shown:
    """`caption`: of a table without a title. What stands on the page once, at its end, is left out."""
    lines = [line for line in block.lines if line != READING]
    return _Shown(block.title, block.table and grid(block.title or caption, block.table), lines)


def _pictures(names: list[str], pictures: Mapping[str, bytes]) -> dict[str, list[Picture]]:
    """Stem -> the svgs whose name begins with it, and with no longer stem."""
    found: dict[str, list[Picture]] = {stem: [] for stem in names}
    svgs = {file: data for file, data in pictures.items() if file.endswith(".svg")}
    for at, (file, data) in enumerate(svgs.items()):
        if owners := [stem for stem in names if file.startswith(f"{stem}_")]:
            stem = max(owners, key=len)
            title = file.removeprefix(f"{stem}_").removesuffix(".svg").replace("_", " ")
            found[stem].append(inlined(data, f"p{at}-", title))
    return found


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rules = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(HERE), keep_trailing_newline=True, **rules)
    environment.filters |= {"ticked": _ticked, "breakable": _breakable}
    return environment.get_template("page.html.j2")


def _ticked(text: str) -> str:
    """`names` in backticks as code, everything escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _breakable(text: str) -> str:
    """A label may go on in a line of its own before its brackets."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("(", "<wbr>("))
