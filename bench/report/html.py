"""Write a sweep's page: one file that opens from disk, with tables that sort and pictures that show values."""

import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

from bench.analysis.archive import FILE
from bench.analysis.comparison import Compared, chosen_vs_untied
from bench.analysis.groups import SAID, Section, SeedGroup, by_status
from bench.analysis.power import change, change_of
from bench.analysis.runs import RunRecord, is_finite
from bench.analysis.verdict import Kind
from bench.report.answer import Answer
from bench.report.comparison import difference_places, mean, places_of, share_of_untied, shown
from bench.report.document import template
from bench.report.markup import Column, Table, tabulate
from bench.report.notes import READING, note_line
from bench.report.numbers import NOTHING, axis, change_unit, fixed, metric_places, p_text
from bench.report.pages import CHOICE, Block, SectionReport, SweepReport, TaskReport
from bench.runs import machine

ONE_SEED = "One seed: a hint, not a result."


def counted(runs: list[RunRecord]) -> str:
    """`60 runs: 56 done, 4 n/a`, each counted once: an untied network may stand in several sections."""
    runs = {run.id: run for run in runs}.values()
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {by_status(runs) or 'none'}"


def sentences(section: Section) -> list[str]:
    """Say what a reader who reads nothing else should know of one section; names stand in backticks.

    A tying, and `none`, stand at the dropout and weight decay that validation prefers, and so is the tying
    chosen that is spoken of: the test figures choose nothing.
    """
    rows = chosen_vs_untied(section)
    tied = [row for row in rows.values() if row.cell.spec.control is None and row.cell.tying != "none"]
    not_done = [run for run in section.runs if not run.is_done]
    missing = [f"No number from {by_status(not_done)} of {len(section.runs)} runs."] if not_done else []
    if not tied:
        untied = [f"`none` reaches {_reached(section, rows['none'].cell)}."] if "none" in rows else []
        return ["No tying has a number here.", *untied, *missing]
    sign = -1 if section.metric.higher_is_better else 1
    preferred = min(tied, key=lambda row: (row.cell.gaps, sign * row.cell.metric_over_seeds("val").mean))
    first = _preferred(section, preferred.cell, len(tied))
    return [first, *_compared(section, preferred), *_smallest(tied, preferred), *missing]


def _preferred(section: Section, cell: SeedGroup, among: int) -> str:
    searched, share = section.n_searched(cell.tying), share_of_untied(cell)
    opening = f"Of {among} tyings validation prefers" if among > 1 else "The one tying with numbers is"
    size = "" if share is None else f", with {100 * share:.0f} % of the untied parameters"
    best_of = f" (best of {searched} settings)" if searched > 1 else ""
    return f"{opening} `{cell.tying}`{size}, at {_setting(cell)}{best_of}."


def _setting(cell: SeedGroup) -> str:
    return f"dropout {axis(cell.dropout)} and weight decay {axis(cell.weight_decay)}"


def _reached(section: Section, cell: SeedGroup) -> str:
    name, unit = section.metric.name.replace("_", " "), " %" * section.metric.is_share
    better = "" if section.metric.higher_is_better else " (lower is better)"
    return f"a test {name}{better} of {fixed(mean(shown(cell)), places_of(section))}{unit}"


def _compared(section: Section, row: Compared) -> list[str]:
    reached, difference = f"It reaches {_reached(section, row.cell)}", change(row.difference, section.metric)
    if difference is None or row.reference is None:
        return [f"{reached}; there is no `none` to compare it with."]
    unit = change_unit(section.metric)

    def text(value: float) -> str:
        return fixed(value, difference_places(section), sign=True) + unit

    first = f"{reached}, {text(difference.mean)} against `none` at {_setting(row.reference)}"
    if difference.n == 1:
        return [f"{first} (n = 1).", ONE_SEED]
    margin = ""
    if row.verdict.kind == Kind.EQUIVALENT:
        margin = f", within ± {fixed(change_of(row.margin, section.metric), 2)}{unit}"
    verdict = f"Verdict: {row.verdict}{margin}."
    if difference.low is None or difference.high is None:
        return [f"{first} (n = {difference.n}).", verdict]
    inside = f"95 % interval {text(difference.low)} to {text(difference.high)}, n = {difference.n} seeds"
    p = "" if row.p_holm is None else f", p (Holm) {p_text(row.p_holm)}"
    return [f"{first} ({inside}{p}).", verdict]


def _smallest(tied: list[Compared], spoken_of: Compared) -> list[str]:
    """Say which tying found no worse has the fewest parameters, below the untied; nothing of `spoken_of`."""
    shares = {row: share for row in tied if (share := share_of_untied(row.cell)) and share < 1}
    least = min((row for row in shares if row.verdict.is_good), key=shares.get, default=spoken_of)
    if least is spoken_of:
        return []
    return [
        f"The smallest network with the verdict better or equivalent is `{least.cell.tying}`: "
        f"{100 * shares[least]:.0f} % of the untied parameters ({least.verdict})."
    ]


HOLES = {"", NOTHING, "n/a", "hole"}
UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}
CHOICES = {"tying", "dropout", "weight decay", "seed", "status", "control"}
"""Headers of columns with few values that rows are picked by."""


class Entry(NamedTuple):
    """`sort`: the number behind the text, as text; empty where there is none, which comes last either way."""

    text: str
    sort: str
    is_best: bool


class HtmlColumn(NamedTuple):
    lines: list[str]
    is_right: bool
    is_number: bool
    is_choice: bool
    is_code: bool


class HtmlTable(NamedTuple):
    """What the template writes as one table."""

    title: str
    columns: list[HtmlColumn]
    rows: list[list[Entry]]


def html_table(title: str, table: Table, code: Collection[str] = ()) -> HtmlTable:
    """Make a table that sorts: a column is one of numbers if all that it says begins with one.

    code: names columns of text to be copied.
    """
    columns, entries = [], []
    for c, header in enumerate(table.header):
        texts = [row[c] for row in table.rows]
        numbers = {text: number(text) for text in texts}
        parsed = [numbers[text] for text in texts if text not in HOLES]
        is_number = bool(parsed) and None not in parsed
        columns.append(
            HtmlColumn(
                header.split("\n"), table.align[c] == "r", is_number, header in CHOICES, header in code
            )
        )
        sort = {text: "" if text in HOLES else repr(numbers[text]) if is_number else text for text in texts}
        entries.append([Entry(text, sort[text], (r, c) in table.best) for r, text in enumerate(texts)])
    return HtmlTable(title, columns, [list(row) for row in zip(*entries, strict=True)])


def number(text: str) -> float | None:
    """Return the number a cell begins with: 0.98 of `0.98 [0.97, 0.99]`, -2 of `−2.0 ± 1.4`, 269,000 of `269k 45%`."""
    match = re.match(r"(?:< )?([+−-]?)(\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)([kMG]?)(?![\w.])", text)
    if not match:
        return None
    sign, digits, unit = match.groups()
    size = float(digits.replace(",", "")) * UNITS.get(unit, 1.0)
    return -size if sign in ("-", "−") else size


DROPPED = {"metadata", "script", "foreignObject", "style"}
PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0, "in": 96.0}


class Picture(NamedTuple):
    """A picture as the template reads it.

    svg: for a page; empty for one that could not be drawn. width: pixels at full size. title: for those who do not
    see it. failure: why there is none.
    """

    svg: str
    width: int
    title: str
    failure: str = ""


def inlined(data: bytes, prefix: str, title: str) -> Picture:
    """Return the svg with `prefix` before each id and reference to one; styles, scripts and outside references go.

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
    match = re.fullmatch(r"([\d.]+)(pt|px|in|)", root.get("width", ""))
    if match:
        return round(float(match[1]) * PIXELS[match[2]])
    box = root.get("viewBox", "0 0 640 0").split()
    return round(float(box[2]))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    element.attrib = dict(filter(None, (_attribute(*item, prefix) for item in element.attrib.items())))
    # Spaces between elements say nothing.
    element.text, element.tail = (
        text if text and text.strip() else None for text in (element.text, element.tail)
    )
    for child in list(element):
        if not isinstance(child.tag, str) or _local(child.tag) in DROPPED:
            element.remove(child)
        else:
            _clean(child, prefix)


def _local(name: str) -> str:
    """Return a name without its namespace: in html an svg needs none."""
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
    return plain, re.sub(r"url\(['\"]?#", lambda match: match[0] + prefix, value)


COMMAND = "command"
PROGRAM = "python -m bench"
NOT_RECORDED = "its overrides are not recorded"


def runs_table(section: Section) -> Table:
    """Make a row per run in table order, holes included; the last columns: why there is no number, and the command."""
    metric, scale = section.metric, 100 if section.metric.is_share else 1
    values = [scale * value for cell in section.cells for value in cell.metric().values()]
    decimals, name = metric_places(values, metric), metric.label.removeprefix("test ")

    def score(split: str) -> Callable[[RunRecord], str]:
        def text(run: RunRecord) -> str:
            value = run.number(split, metric.name)
            return fixed(scale * value, decimals) if run.is_done and is_finite(value) else NOTHING

        return text

    def seconds(run: RunRecord) -> str:
        value = run.number("seconds", "total")
        return fixed(value, 1) if is_finite(value) else NOTHING

    rows = [(cell.tying, run) for cell in section.cells for run in cell.runs]
    return tabulate(
        ["tying", "dropout", "weight decay", "seed"],
        [[tying, axis(run.dropout), axis(run.weight_decay), str(run.seed)] for tying, run in rows],
        [
            Column("status", lambda run: SAID.get(run.status, run.status), align="l"),
            Column(f"test\n{name}", score("test")),
            Column(f"validation\n{name}", score("val")),
            Column("seconds", seconds),
            Column("reason", lambda run: run.reason or "", align="l", optional=True),
            Column(COMMAND, command, align="l"),
        ],
        [run for _, run in rows],
    )


def command(run: RunRecord) -> str:
    """`python -m bench task=... tying=... seed=...`: what was asked for, for a shell in the repository.

    A record that was made before overrides were recorded has no command.
    """
    overrides = run.record.get("overrides")
    if overrides is None:
        return NOT_RECORDED
    return shlex.join([*PROGRAM.split(), *overrides])


FIRST = "forest"
"""The picture with which a task begins where the sweep names none."""

MANY_RUNS = 2000
"""Above so many a row per run makes a page that no browser scrolls well; the file of the records has them."""


class _Shown(NamedTuple):
    """A block as the template reads it."""

    title: str
    table: HtmlTable | None
    lines: Sequence[str]


def page(
    report: SweepReport, pictures: Mapping[str, bytes], failures: Mapping[str, str] | None = None
) -> bytes:
    """Write index.html of a sweep, which needs no network and no other file; the same input gives the same bytes.

    Args:
        pictures: file name -> content; the svg ones of a task's stem are put on the page, in their order.
        failures: `<stem>_<picture>` -> why it could not be drawn, which its place then says.

    Raises:
        ElementTree.ParseError: for an svg that is none.
    """
    runs = [run for section in report.sections for run in section.runs]
    many = len(runs) > MANY_RUNS
    shown = _pictures([task.stem for task in report.tasks], pictures, failures or {})
    # What stands on the page once, at its top or end, is left out below the tables.
    once = {READING, note_line(report.note or "")}
    answers = dict(zip(report.sections, report.answers, strict=True))
    groups = []
    for index, task in enumerate(report.tasks):
        blocks = [report.over_settings[index]] if report.is_crowded else _answers(task, answers)
        first, *others = _begin_with(report.picture or FIRST, shown[task.stem])
        groups.append(
            {
                "stem": task.stem,
                "first": first,
                "pictures": others,
                "answers": list(map(_shown, blocks)),
                "parts": [_part(part, many, once) for part in task.parts],
                "curves": [_shown(block) for block in task.curve_blocks],
            }
        )
    html = template("page.html.j2").render(
        name=report.name,
        title=report.title,
        answer=report.verdicts_line,
        claims=report.claims,
        note=" ".join((report.note or "").split()),
        lacks=report.lacks,
        records=FILE,
        counted=counted(runs),
        groups=groups,
        across=[_shown(block) for block in report.across],
        choice=CHOICE,
        reading=READING,
        many=many and MANY_RUNS,
        preset=(machine.CONF / "sweep" / f"{report.name}.yaml").is_file(),
    )
    return html.encode()


def _part(part: SectionReport, many: bool, once: set[str]) -> dict[str, Any]:
    reached = [
        block._replace(lines=[line for line in block.lines if line not in once]) for block in part.reached
    ]
    return {
        "title": part.section.title,
        "sentences": sentences(part.section),
        "blocks": [_shown(block) for block in reached],
        "costs": [_shown(block) for block in part.costs if block.table or block.lines],
        "runs": None if many else html_table("Runs", runs_table(part.section), code={COMMAND}),
    }


def _shown(block: Block) -> _Shown:
    table = block.table and html_table(block.title or "Comparison", block.table)
    return _Shown(block.title, table, block.lines)


def _answers(task: TaskReport, answers: Mapping[Section, Answer]) -> list[Block]:
    """Make a block for each section of a task; the only one needs no title below that of the task."""
    several = len(task.parts) > 1
    own = (answers[section] for section in task.sections)
    return [Block(answer.title * several, answer.table, [answer.reference, answer.below]) for answer in own]


def _begin_with(name: str, pictures: list[Picture]) -> list[Picture | None]:
    """Return the pictures, that of this name first; None first where there is no picture."""
    title = name.replace("_", " ")
    return sorted(pictures, key=lambda picture: picture.title != title) or [None]


def _pictures(
    stems: Sequence[str], pictures: Mapping[str, bytes], failures: Mapping[str, str]
) -> dict[str, list[Picture]]:
    """Return stem -> the pictures whose name begins with it, and with no longer stem."""
    shown: dict[str, list[Picture]] = {stem: [] for stem in stems}
    svgs = {file.removesuffix(".svg"): data for file, data in pictures.items() if file.endswith(".svg")}
    for number, name in enumerate([*svgs, *failures]):
        owners = [stem for stem in stems if name.startswith(f"{stem}_")]
        if owners:
            stem = max(owners, key=len)
            title = name.removeprefix(f"{stem}_").replace("_", " ")
            shown[stem].append(
                inlined(svgs[name], f"p{number}-", title)
                if name in svgs
                else Picture("", 0, title, failures[name])
            )
    return shown
