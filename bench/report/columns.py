"""Columns over rows of any kind, put together as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bench.report.markup import Table, best_of
from bench.report.numbers import NOTHING

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
    """A line per row: its labels, which stand under `header` (the first to the left), then the columns."""
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
