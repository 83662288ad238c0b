"""One page of a sweep that opens from disk: words, tables that sort and filter, pictures that show their values."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine
from bench.report import across
from bench.report.archive import FILE
from bench.report.cells import Section
from bench.report.footer import READING
from bench.report.pages import CHOICE, Block, blocks, cost_blocks, curve_blocks, stems
from bench.report.summary import headline
from bench.webpage.grid import Grid, grid
from bench.webpage.runs import COMMAND, runs_table
from bench.webpage.vector import Picture, inlined
from bench.webpage.words import counted, sentences

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
        preset=(machine.REPOSITORY / "conf" / "sweep" / f"{name}.yaml").is_file(),
        css=(HERE / "page.css").read_text(),
        js=(HERE / "page.js").read_text(),
    )
    return html.encode()


def _overview(sections: list[Section]) -> list[_Shown]:
    """All tasks next to each other, and over all of them."""
    if not sections:
        return []
    found = across.scores(sections) if across.is_across(sections) else []
    over = [Block(across.TITLE, across.across(found), list(across.NOTES))] if found else []
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
