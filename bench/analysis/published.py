"""Published results of tying, to stand beside what is measured here: conf/published.csv."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.runs import machine

FILE = machine.CONF / "published.csv"


@dataclass(frozen=True)
class Published:
    """A row of the file: what one source reports, untied and tied, in the metric's own unit."""

    source: str
    table: str
    network: str
    method: str
    data: str
    tokens: float | None
    vocabulary: float | None
    parameters: float | None
    untied: float
    tied: float
    metric: str
    how_read: str


def read(path: Path = FILE) -> tuple[list[Published], list[str]]:
    """Return the rows, and the names of those that are skipped as a number is missing in them."""
    if not path.is_file():
        return [], []
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows: Sequence[Published] = []
    return rows, [line["source"] for line in lines]
