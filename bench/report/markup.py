"""Spell a table: columns over rows, as markdown, LaTeX, csv and plain text."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from bench.report.numbers import NOTHING

MADE_BY = "made by `python -m bench.tables`; do not edit"
WIDTH = 120
"""Characters of a line in the terminal."""
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&",
    "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "−": "$-$", "—": "---",
    "↓": r"$\downarrow$", "↑": r"$\uparrow$", "≥": r"$\geq$",
    "·": r"$\cdot$", "\n": " ",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """`align` has l or r per column; `best` holds the (row, column) of each marked entry."""

    header: list[str]
    align: str
    rows: list[list[str]]
    best: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def columns(self, keep: Iterable[int]) -> "Table":
        """Return the table with only those columns, in that order."""
        keep = list(keep)
        place = {old: new for new, old in enumerate(keep)}
        return Table(
            [self.header[c] for c in keep],
            "".join(self.align[c] for c in keep),
            [[row[c] for c in keep] for row in self.rows],
            frozenset((r, place[c]) for r, c in self.best if c in place),
        )


def best_of(values: list[list[float | None]], modes: list[str | None]) -> frozenset[tuple[int, int]]:
    """Return (row, column) of the best number of each column whose mode is min or max; none where all are equal."""
    marked = set()
    for column, mode in enumerate(modes):
        numbers = {row[column] for row in values} - {None}
        if mode is not None and len(numbers) > 1:
            best = min(numbers) if mode == "min" else max(numbers)
            marked |= {(r, column) for r, row in enumerate(values) if row[column] == best}
    return frozenset(marked)


def markdown(table: Table) -> str:
    rules = ["---:" if side == "r" else ":---" for side in table.align]
    lines = [[_md(text) for text in table.header], rules, *_marked(table, _md, "**{}**")]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Table) -> str:
    header, *rows = (
        " & ".join(line) + " \\\\"
        for line in [map(tex, table.header), *_marked(table, tex, "\\textbf{{{}}}")]
    )
    inside = "\n".join(["\\toprule", header, "\\midrule", *rows, "\\bottomrule"])
    return f"\\begin{{tabular}}{{{table.align}}}\n{inside}\n\\end{{tabular}}\n"


def _marked(table: Table, escape: Callable[[str], str], best: str) -> list[list[str]]:
    """Return the rows, escaped, each best entry within `best`."""
    return [
        [best.format(escape(text)) if (r, c) in table.best else escape(text) for c, text in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]


def _md(text: str) -> str:
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("\n", "<br>")):
        text = text.replace(old, new)
    return text


def tex(text: str) -> str:
    return "".join(TEX.get(letter, letter) for letter in text)


def plain(table: Table) -> str:
    """Spell aligned columns, two spaces between; the best entry of a column carries a `*` in a place of its own."""
    marked = {c for _, c in table.best}
    header = [text.split("\n") for text in table.header]
    head = [
        [text + " " * (c in marked) for c, text in enumerate(row)]
        for row in zip_longest(*header, fillvalue="")
    ]
    body = [
        [text + (("*" if (r, c) in table.best else " ") if c in marked else "") for c, text in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    widths = [max(map(len, column)) for column in zip(*head, *body, strict=True)]
    lines = [*head, ["-" * width for width in widths], *body]
    return "".join(f"{_plain_row(line, widths, table.align)}\n" for line in lines)


def _plain_row(cells: list[str], widths: list[int], align: str) -> str:
    padded = [
        text.rjust(width) if side == "r" else text.ljust(width)
        for text, width, side in zip(cells, widths, align, strict=True)
    ]
    return "  ".join(padded).rstrip()


def width(table: Table) -> int:
    return max(len(line) for line in plain(table).splitlines())


def folded(table: Table, columns: int) -> list[Table]:
    """Cut the table into tables of at most that many characters a line, each with the first column."""
    blocks: list[list[int]] = []
    for column in range(1, len(table.header)):
        if blocks and width(table.columns([*blocks[-1], column])) <= columns:
            blocks[-1].append(column)
        else:
            blocks.append([0, column])
    return [table.columns(block) for block in blocks]


def csv_text(rows: list[Mapping[str, Any]]) -> str:
    """Write rows as CSV, the columns in the order in which they first appear; None is empty, numbers unrounded."""
    from pandas import DataFrame  # half a second to import, which only writing tables pays

    # As objects: whole numbers with a hole among them would become floats.
    return DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")


Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """`text` of a row, and the `value` whose min or max (`mode`, None: neither) is best of the column.

    An `optional` column is left out where no row has anything to say in it.
    """

    header: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | None] = lambda row: None
    mode: str | None = None
    align: str = "r"
    optional: bool = False


def tabulate(
    header: Sequence[str],
    labels: Sequence[Sequence[str]],
    columns: Sequence[Column[Row]],
    rows: Sequence[Row],
) -> Table:
    """Make a line per row: its labels, which stand under `header` (the first to the left), then the columns."""
    empty = {"", NOTHING}
    columns = [c for c in columns if not c.optional or any(c.text(row) not in empty for row in rows)]
    values = [[None] * len(header) + [column.value(row) for column in columns] for row in rows]
    return Table(
        [*header, *(column.header for column in columns)],
        "l" + "r" * (len(header) - 1) + "".join(column.align for column in columns),
        [
            [*label, *(column.text(row) for column in columns)]
            for label, row in zip(labels, rows, strict=True)
        ],
        best_of(values, [None] * len(header) + [column.mode for column in columns]),
    )
