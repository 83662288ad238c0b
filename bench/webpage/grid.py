"""A table as a page needs it: what its columns are sorted by, chosen from and copied as."""

import re
from collections.abc import Collection
from typing import NamedTuple

from bench.report.markup import Table
from bench.report.numbers import NOTHING

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
