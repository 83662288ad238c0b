"""Read what others measured of tying: the rows of conf/published.csv."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.runs import machine
from bench.tying.errors import BadInput

FILE = machine.CONF / "published.csv"


class Direction(StrEnum):
    """Which values of a metric are better."""

    LOWER = "lower"
    HIGHER = "higher"


class Read(StrEnum):
    """How a row was read: at its source, in an abstract or a secondary text, as an excerpt only, or from a list.

    A list is one of published numbers that does not say how each was read.
    """

    SOURCE = "source"
    LIST = "list"
    SECONDARY = "secondary"
    EXCERPT = "excerpt"


NOT_AT_SOURCE = {
    Read.LIST: "from a list of published numbers",
    Read.SECONDARY: "as another text quotes it",
    Read.EXCERPT: "from an excerpt",
}
"""What is said of a row that was not read at its source."""


@dataclass(frozen=True)
class Published:
    """One comparison of an untied with a tied network, as its source gives it.

    tokens, vocabulary and parameters (of the untied network) are None where the source, as it was read, does not say.
    untied and tied: the metric of each.
    """

    id: str
    source: str
    table: str
    network: str
    tying: str
    data: str
    tokens: float | None
    vocabulary: float | None
    parameters: float | None
    untied: float | None
    tied: float | None
    metric: str
    better: Direction
    read: Read

    @property
    def gain(self) -> float | None:
        """How much better the tied network is, above 0 is better: points, or percent of perplexity or loss.

        Of a perplexity it is 100 ln(untied / tied). None where a number is missing.
        """
        if self.untied is None or self.tied is None:
            return None
        if self.better == Direction.HIGHER or self.metric.endswith("error"):
            sign = 1 if self.better == Direction.HIGHER else -1
            return sign * (self.tied - self.untied)
        return 100 * math.log(self.untied / self.tied)

    @property
    def shown(self) -> str:
        """Return `Press & Wolf 2017, LSTM 2 x 200, embedding, PTB: test perplexity 114.5 -> 112.4, better`."""
        where = f"{self.source} ({self.table})" if self.table else self.source
        numbers = " -> ".join("not given" if v is None else f"{v:g}" for v in (self.untied, self.tied))
        sign = None if self.gain is None else (self.gain > 0) - (self.gain < 0)
        word = {None: "", 1: ", better", 0: ", equal", -1: ", worse"}[sign]
        how = f" ({NOT_AT_SOURCE[self.read]})" if self.read in NOT_AT_SOURCE else ""
        comparison = ", ".join(text for text in (where, self.network, self.tying, self.data) if text)
        return f"{comparison}: {self.metric} {numbers}{word}{how}"


def read(path: Path = FILE) -> list[Published]:
    """Return the rows, those with a missing number too.

    Raises:
        BadInput: For a file that cannot be read, a column that is missing, an id that stands twice, and a value that is
            no number, direction or way of reading. The message names the line.
    """
    columns = list(Published.__dataclass_fields__)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            if set(lines.fieldnames or ()) != set(columns):
                raise BadInput(f"{path}: its columns must be {', '.join(columns)}")
            rows = [_row(line, f"{path.name}, line {lines.line_num}") for line in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    ids = [row.id for row in rows]
    if twice := sorted({name for name in ids if ids.count(name) > 1}):
        raise BadInput(f"{path}: {twice[0]} stands twice; give each row an id of its own")
    return rows


def complete(rows: Sequence[Published]) -> tuple[list[Published], list[str]]:
    """Return the rows that have both numbers, and a line for each other that names what it lacks."""
    lines = []
    for row in rows:
        if lacking := [name for name in ("untied", "tied") if getattr(row, name) is None]:
            lines.append(f"{row.id} ({row.source}) is skipped: it has no {' and no '.join(lacking)} number")
    return [row for row in rows if row.gain is not None], lines


def _row(line: dict[str, str], where: str) -> Published:
    if None in line or None in line.values():
        raise BadInput(f"{where}: it has not as many cells as there are columns")
    numbers = {key: _number(line[key], f"{where}, {key}") for key in NUMBERS}
    try:
        kinds = {"better": Direction(line["better"]), "read": Read(line["read"])}
    except ValueError as error:
        allowed = ", ".join([*Direction, *Read])
        raise BadInput(f"{where}: {error}; allowed are {allowed}") from error
    return Published(**{**line, **numbers, **kinds})


NUMBERS = ("tokens", "vocabulary", "parameters", "untied", "tied")


def _number(text: str, where: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise BadInput(f"{where}: {text!r} is no number above 0; leave the cell empty where it is not known")
    return value
