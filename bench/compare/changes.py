"""Two sets of runs matched cell by cell: what each reached, and what differs in how it was made."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.records import Status
from bench.report.order import place
from bench.report.rows import Metric
from bench.stats.statistics import Paired, paired
from bench.tying_spec import TyingSpec, recorded_spec

if TYPE_CHECKING:
    from pandas import DataFrame, Series

AXES = ("tying", "dropout", "weight_decay")
PARTS = "config.tying.parts."
MADE_WITH = ("results_version", "fingerprint", "commit", "dirty", "device", "threads", "python")


@dataclass(frozen=True)
class Change:
    """One cell on either side. `before` and `after`: seed -> test metric, None where the side has no such cell."""

    task: str
    data: str
    variant: str
    tying: str
    dropout: float
    weight_decay: float
    metric: Metric
    before: dict[int, float] | None
    after: dict[int, float] | None
    missing: str
    same_data: bool

    @property
    def difference(self) -> Paired | None:
        """After minus before over the seeds of both; None without any, and where the data are not the same."""
        if self.before is None or self.after is None or not self.same_data:
            return None
        return paired(self.after, self.before)


def changes(before: "DataFrame", after: "DataFrame") -> list[Change]:
    """The cells of either side, in table order. A setting that differs between the sides alone matches them."""
    found = []
    for task, data in sorted({*_pairs(before), *_pairs(after)}):
        sides = [frame[(frame.task == task) & (frame.data == data)] for frame in (before, after)]
        varied = _varied(sides)
        cells = [_cells(side, varied) for side in sides]
        same = len({repr(sorted(side.fingerprint.dropna().unique())) for side in sides if len(side)}) == 1
        places = {key: _place(rows) for cell in cells for key, rows in cell.items()}
        for key in sorted(places, key=lambda k: (k[3], places[k], k[0], k[1], k[2])):
            rows = [cell.get(key) for cell in cells]
            metric = next(_metric(row) for row in rows if row is not None)
            values = [None if row is None else _values(row, metric) for row in rows]
            missing = "; ".join(_missing(row) for row in rows if row is not None and _missing(row))
            found.append(Change(task, data, key[3], *key[:3], metric, *values, missing, same))
    return found


def made_with(before: "DataFrame", after: "DataFrame") -> list[str]:
    """What the sides were made with, where they differ: settings, versions, devices, data; a line each."""
    configs = sorted(c for c in {*before, *after} if c.startswith(("config.", "version_")))
    lines = []
    for column in [*MADE_WITH, *configs]:
        told = [_told(frame, column) for frame in (before, after)]
        if told[0] != told[1]:
            lines.append(f"{column.removeprefix('config.')}: {told[0]} -> {told[1]}")
    return lines


def _pairs(frame: "DataFrame") -> set[tuple[str, str]]:
    return set(zip(frame.task, frame.data, strict=True))


def _varied(sides: list["DataFrame"]) -> list[str]:
    """Config columns with more than one value within a side, apart from the axes and what a tying brings."""
    columns = {c for side in sides for c in side.columns if c.startswith("config.")}
    skipped = {f"config.{key}" for key in (*AXES, "seed", "optimizer.lr")}
    kept = sorted(c for c in columns - skipped if not c.startswith("config.tying."))
    return [c for c in kept if any(c in side and side[c].nunique(dropna=False) > 1 for side in sides)]


def _cells(side: "DataFrame", varied: list[str]) -> dict[tuple, "DataFrame"]:
    found: dict[tuple, list[int]] = {}
    for position, (_, row) in enumerate(side.iterrows()):
        key = (row.tying, float(row.dropout), float(row.weight_decay), _variant(row, varied))
        found.setdefault(key, []).append(position)
    return {key: side.iloc[positions] for key, positions in found.items()}


def _variant(row: "Series", varied: list[str]) -> str:
    return ", ".join(f"{c.removeprefix('config.')}={_plain(row.get(c))}" for c in varied)


def _plain(value: Any) -> str:
    if value is None or value != value:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _place(rows: "DataFrame") -> tuple:
    """Of a cell's tying in a table, by what a row has of its config."""
    row = rows.iloc[0].dropna()
    parts: dict[str, dict[str, Any]] = {}
    for column, value in row.items():
        if column.startswith(PARTS):
            method, _, key = column.removeprefix(PARTS).partition(".")
            parts.setdefault(method, {})[key] = value
    tying = {"parts": parts} | {key: row.get(f"config.tying.{key}") for key in ("form", "init")}
    tying |= {key: row.get(f"config.tying.{key}") for key in ("groups", "shuffle")}
    known = recorded_spec(
        {"tying": row.tying, "config": {"tying": tying, "control": row.get("config.control")}}
    )
    return place(known if parts else TyingSpec.unknown(row.tying))


def _metric(rows: "DataFrame") -> Metric:
    return Metric(str(rows.metric.iloc[0]), str(rows.metric_mode.iloc[0]))


def _values(rows: "DataFrame", metric: Metric) -> dict[int, float]:
    column = f"test_{metric.name}"
    done = rows[rows.status == Status.DONE] if column in rows else rows.iloc[:0]
    return {int(seed): float(value) for seed, value in zip(done.seed, done.get(column, ()), strict=True)}


def _missing(rows: "DataFrame") -> str:
    counts = rows.status[rows.status != Status.DONE].value_counts()
    return ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))


def _told(frame: "DataFrame", column: str) -> str:
    if column not in frame:
        return "not recorded"
    values = sorted({_plain(value) for value in frame[column]} - {"null"}) or ["null"]
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")
