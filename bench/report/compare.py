"""Compare two sets of results cell by cell: `python -m bench.compare A B`. No torch."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.analysis.archive import FILE, parse
from bench.analysis.frame import frame
from bench.analysis.groups import place
from bench.analysis.runs import Metric, rows
from bench.analysis.statistics import Paired, interval, margin_of, paired, verdict
from bench.report.markup import Column, Table, plain, tabulate
from bench.report.numbers import NOTHING, axis, fixed, metric_places
from bench.runs.command_line import add_places, framed, parser
from bench.runs.store import Status
from bench.runs.tying_spec import TyingSpec, recorded_spec
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame, Series


@dataclass(frozen=True)
class Side:
    """`name` as the user gave it; `records`: sweep -> the bytes of its records.jsonl.gz."""

    name: str
    records: dict[str, bytes]


def side(given: str, results: str = "results") -> Side:
    """A folder with records.jsonl.gz in it, a folder of such folders, or a commit and its `results`.

    BadInput where it is none of them or has no records.
    """
    path = Path(given)
    found = _in_folder(path) if path.is_dir() else _in_commit(given, results)
    if not found:
        raise BadInput(f"{given}: no {FILE} there: give results/, results/SWEEP, or a commit that has them")
    return Side(given, found)


def _in_folder(path: Path) -> dict[str, bytes]:
    paths = [path / FILE] if (path / FILE).exists() else sorted(path.glob(f"*/{FILE}"))
    try:
        return {found.resolve().parent.name: found.read_bytes() for found in paths}
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from error


def _in_commit(commit: str, results: str) -> dict[str, bytes]:
    if commit.startswith("-") or _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        raise BadInput(
            f"{commit} is neither a folder nor a commit: give results/, results/SWEEP, or a commit"
        )
    names = (_git("ls-tree", "-r", "--name-only", commit, "--", f"{results}/") or b"").decode().splitlines()
    paths = [Path(name) for name in names if Path(name).name == FILE]
    return {path.parent.name: _git("show", f"{commit}:./{path}") or b"" for path in paths}


def _git(*arguments: str) -> bytes | None:
    """What git prints; None where it refuses."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise BadInput("git is not installed: compare two folders instead") from error
    except subprocess.CalledProcessError:
        return None


def read(side: Side, sweep: str) -> "DataFrame":
    """The runs of a sweep, a row each. BadInput for a file that is no archive of a sweep, and for one without a run."""
    where = f"{sweep}/{FILE} of {side.name}"
    runs = rows(parse(side.records[sweep], where))
    if not runs:
        raise BadInput(f"{where} is empty: the sweep asked for no run")
    return frame(runs)


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


EXAMPLES = """examples:
  python -m bench.compare HEAD~1 results                  the last commit's tables against what is there now
  python -m bench.compare results/quick /tmp/other/quick  one sweep of two folders, whatever they are called
  python -m bench.compare v1 v2 --sweep quick --fail-if-worse
"""


def compare(before: Side, after: Side, sweep: str | None) -> tuple[list[str], list[Change]]:
    """Sections of text, and all changes behind them. BadInput where the two have no sweep in common."""
    pairs = _sweeps(before, after, sweep)
    text, found = [], []
    for ours, theirs in pairs:
        frames = read(before, ours), read(after, theirs)
        cells = changes(*frames)
        found += cells
        text += [f"# {theirs if ours == theirs else f'{ours} -> {theirs}'}", *_tables(cells)]
        made = made_with(*frames)
        text.append("Made with:\n" + "".join(f"- {line}\n" for line in made) if made else "Made alike.\n")
    return text, found


def _sweeps(before: Side, after: Side, sweep: str | None) -> list[tuple[str, str]]:
    if sweep is None and len(before.records) == len(after.records) == 1:
        return [(next(iter(before.records)), next(iter(after.records)))]
    shared = sorted(before.records.keys() & after.records.keys())
    wanted = [name for name in shared if sweep in (None, name)]
    if not wanted:
        have = "; ".join(f"{s.name} has {', '.join(sorted(s.records))}" for s in (before, after))
        raise BadInput(f"no sweep {sweep or 'is'} in both: {have}")
    return [(name, name) for name in wanted]


def _tables(cells: list[Change]) -> list[str]:
    groups: dict[tuple, list[Change]] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.data, cell.variant), []).append(cell)
    said = []
    for (task, data, variant), members in groups.items():
        title = ", ".join(part for part in (f"{task} on {data}", variant) if part)
        apart = "" if members[0].same_data else "\nThe data are not the same: nothing is compared.\n"
        said.append(f"{title} (test {members[0].metric.name}){apart}\n{plain(_table(members))}")
    return said


def _table(cells: list[Change]) -> Table:
    means = [i.mean for cell in cells for i in (_interval(cell.before), _interval(cell.after)) if i]
    metric = cells[0].metric
    scale = 100 if metric.is_share else 1
    decimals = metric_places([scale * mean for mean in means], metric)

    def reached(values: dict[int, float] | None) -> str:
        found = _interval(values)
        return NOTHING if found is None else f"{fixed(scale * found.mean, decimals)} (n={found.n})"

    def changed(cell: Change) -> str:
        return _spoken(cell.difference, scale, decimals)

    columns = [
        Column("before", lambda cell: reached(cell.before)),
        Column("after", lambda cell: reached(cell.after)),
        Column("change [95 %]", changed),
        Column("verdict", judged, align="l"),
        Column("without a number", lambda cell: cell.missing, align="l", optional=True),
    ]
    labels = [[cell.tying, axis(cell.dropout), axis(cell.weight_decay)] for cell in cells]
    return tabulate(["tying", "dropout", "weight decay"], labels, columns, cells)


def _interval(values: dict[int, float] | None):
    return interval(values[seed] for seed in sorted(values)) if values else None


def _spoken(difference: Paired | None, scale: float, decimals: int) -> str:
    if difference is None:
        return NOTHING
    mean = fixed(scale * difference.mean, decimals, sign=True)
    if difference.low is None or difference.high is None:
        return f"{mean} (n=1)"
    ends = (fixed(scale * end, decimals, sign=True) for end in (difference.low, difference.high))
    return f"{mean} [{', '.join(ends)}]"


def judged(cell: Change) -> str:
    """The verdict on a cell, each by itself: a change of code is one question, not a family of them."""
    if cell.before is None or cell.after is None:
        return "only after" if cell.before is None else "only before"
    if cell.before == cell.after and cell.before:
        return "the same"
    difference, old = cell.difference, _interval(cell.before)
    if difference is None or old is None:
        return ""
    return verdict(difference, difference.p, margin_of(cell.metric.is_share, old.mean), cell.metric.mode)


@framed
def main(arguments: Sequence[str] | None = None) -> int:
    """Print what changed. Returns 1 where a cell became worse and the command line asks about that."""
    options = parser(
        "bench.compare",
        "What changed between two sets of results: folders of tables, or commits that hold them.",
        EXAMPLES,
    )
    options.add_argument("before", metavar="A", help="a folder of results, one sweep's folder, or a commit")
    options.add_argument("after", metavar="B", help="the same, of what came after")
    options.add_argument("--sweep", metavar="NAME", help="only this sweep")
    add_places(options, results="of the tables in a commit")
    options.add_argument("--fail-if-worse", action="store_true", help="exit with 1 where a cell became worse")
    chosen = options.parse_args(arguments)
    sides = side(chosen.before, chosen.results), side(chosen.after, chosen.results)
    text, cells = compare(*sides, chosen.sweep)
    print("\n".join(text))
    worse = [cell for cell in cells if judged(cell).startswith("worse")]
    return 1 if chosen.fail_if_worse and worse else 0


if __name__ == "__main__":
    sys.exit(main())
