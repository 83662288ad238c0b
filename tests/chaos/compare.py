"""Two folders of runs and results: what differs, time and place aside. Imports no torch."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report.costs import TIMED
from bench.runs.store import recorded

RUN_ASIDE = {"seconds", "throughput", "peak_rss_bytes", "provenance", "attempts", "resumed_from", "ended_at"}
COST_ASIDE = RUN_ASIDE | {"train_step", "latency", "energy", "compile_s", "suspect", "memory.peak_rss_bytes"}
COST_ASIDE |= {f"flops.{key}" for key in ("per_s", "peak_per_s", "share_of_peak")}
"""Keys of a record: how long it took, on what, and in how many attempts. All else is a number that must not move."""

COLUMNS_ASIDE = re.compile(
    r"(total|fit|to_first_step|compile)_s|throughput_per_s|(cost_)?peak_rss_bytes|commit|dirty|suspect"
    r"|(train_step|latency|energy)_.*|flop_(per_s|peak_per_s|share_of_peak)"
)
TIMED_HEADER = re.compile(r"(^| |<br>)(ms|s|J|ratio|% of peak)($| |,|<br>)")
TIMED_LINE = f"- {TIMED}"
"""The same of a table: the whole name of a CSV's column, what is in the header of a page's, a line below it."""

LEFTOVERS = (".*.tmp", ".claim", ".error*", ".rendezvous", "last.ckpt")
"""What no run leaves that has its record."""


def differences(one: Path, other: Path) -> list[str]:
    """A line for each difference between `one` and `other`, each with runs/ and results/."""
    kinds = (("*/record.json", RUN_ASIDE), ("costs/*/cost.json", COST_ASIDE), ("sweeps/*.json", set[str]()))
    found = []
    for pattern, aside in kinds:
        found += _in_records(one / "runs", other / "runs", pattern, aside)
    found += _in_texts(one, other, "runs/*/curves.csv", Path.read_text)
    found += _in_texts(one, other, "results/*/*.md", _page)
    return found + _in_texts(one, other, "results/*/*.csv", _table)


def leftovers(runs: Path) -> list[str]:
    """Files below `runs` that should be gone once every run has its record."""
    return sorted(str(path.relative_to(runs)) for pattern in LEFTOVERS for path in runs.rglob(pattern))


def _both(one: Path, other: Path, pattern: str) -> tuple[list[str], list[str]]:
    """(names in both, a line for each that is in one alone)."""
    names = [{str(path.relative_to(top)) for path in top.glob(pattern)} for top in (one, other)]
    alone = [f"{name} is in one of them alone" for name in sorted(names[0] ^ names[1])]
    return sorted(names[0] & names[1]), alone


def _in_records(one: Path, other: Path, pattern: str, aside: set[str]) -> list[str]:
    names, found = _both(one, other, pattern)
    for name in names:
        pair = [recorded(top / name) for top in (one, other)]
        if None in pair:
            found.append(f"{name} is damaged")
            continue
        found += [f"{name}: {line}" for line in _in_values("", *pair, aside)]
    return found


def _in_values(at: str, one: Any, other: Any, aside: set[str]) -> Iterator[str]:
    """By their JSON text, in which equal bits are equal and nan is nan."""
    if at in aside:
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _in_values(f"{at}.{key}".strip("."), one.get(key), other.get(key), aside)
    elif json.dumps(one) != json.dumps(other):
        yield f"{at} is {json.dumps(one)[:80]} and {json.dumps(other)[:80]}"


def _in_texts(one: Path, other: Path, pattern: str, read: Any) -> list[str]:
    names, found = _both(one, other, pattern)
    return found + [f"{name} differs" for name in names if read(one / name) != read(other / name)]


def _page(path: Path) -> str:
    """A Markdown page without what it says about time: columns of its tables and lines below them."""
    lines, dropped = [], None
    for line in path.read_text().splitlines():
        cells = line.split(" | ")
        if not line.startswith("|"):
            dropped = None
        elif dropped is None:
            dropped = {at for at, cell in enumerate(cells) if TIMED_HEADER.search(cell.strip("| "))}
        if not line.startswith(TIMED_LINE):
            lines.append(" | ".join(cell for at, cell in enumerate(cells) if at not in (dropped or ())))
    return "\n".join(lines)


def _table(path: Path) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(path.read_text())))
    kept = [at for at, name in enumerate(rows[0]) if not COLUMNS_ASIDE.fullmatch(name)]
    return [[row[at] for at in kept] for row in rows]
