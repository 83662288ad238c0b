"""Compare two sets of results cell by cell: `python -m bench.compare A B`. No torch."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.analysis import archive, examples, frame, runs
from bench.analysis.archive import FILE, parse
from bench.analysis.groups import SAID, as_given, by_status, flat, grouped, place
from bench.analysis.power import change, margin_on_scale, scale_of
from bench.analysis.runs import WORST, Metric, RunRecord
from bench.analysis.statistics import Paired, interval, paired
from bench.analysis.verdict import judge
from bench.meters.metrics import perplexity
from bench.report.markup import Column, Table, plain, tabulate
from bench.report.numbers import NOTHING, axis, fixed, interval_text, metric_places
from bench.runs.command_line import add_places, framed, parser
from bench.tying.errors import BadInput, offer, spelled_like

AXES = ("tying", "dropout", "weight_decay", "seed", "optimizer.lr")
"""Config keys, and beginnings of some, that make no variant: a row's own, and what a tying brings."""
MADE_WITH = ("results_version", "fingerprint", "commit", "dirty", "device", "threads", "python")

LONG = 1e9
"""From this on a number is written with an exponent: a perplexity may have 300 digits."""


@dataclass(frozen=True)
class Side:
    """`name` as the user gave it; `records`: sweep -> the bytes of its records.jsonl.gz.

    runs: The folder of runs that the records are from, None for what is in results/.
    """

    name: str
    records: dict[str, bytes]
    runs: Path | None = None


def side(name: str, results: str = "results") -> Side:
    """Read a folder with records.jsonl.gz, a folder of such folders, a folder of runs, or a commit and its `results`.

    BadInput where it is none of them or has no records.
    """
    path = Path(name)
    if names := archive.sweep_names(path):
        recorded = {sweep: archive.content(archive.load(path, None, sweep)) for sweep in names}
        return Side(name, recorded, path)
    records = _in_folder(path) if path.is_dir() else _in_commit(name, results)
    if not records:
        raise BadInput(
            f"{name}: no {FILE} there: give results/, results/SWEEP, runs/ or a commit that has them"
        )
    return Side(name, records)


def _in_folder(path: Path) -> dict[str, bytes]:
    paths = [path / FILE] if (path / FILE).exists() else sorted(path.glob(f"*/{FILE}"))
    try:
        return {file.resolve().parent.name: file.read_bytes() for file in paths}
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from error


def _in_commit(commit: str, results: str) -> dict[str, bytes]:
    if commit.startswith("-") or _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        folders = [path.name for path in Path().iterdir() if path.is_dir()]
        similar = spelled_like(Path(commit).name, folders)
        hint = f"did you mean {similar}?" if similar else "give results/, results/SWEEP, or a commit"
        raise BadInput(f"{commit} is neither a folder nor a commit: {hint}")
    names = (_git("ls-tree", "-r", "--name-only", commit, "--", f"{results}/") or b"").decode().splitlines()
    paths = [Path(name) for name in names if Path(name).name == FILE]
    return {path.parent.name: _git("show", f"{commit}:./{path}") or b"" for path in paths}


def _git(*arguments: str) -> bytes | None:
    """Return what git prints; None where it refuses."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise BadInput("git is not installed: compare two folders instead") from error
    except subprocess.CalledProcessError:
        return None


def read(side: Side, sweep: str) -> list[RunRecord]:
    """Read the runs of a sweep. BadInput for a file that is no archive of a sweep, and for one without a run."""
    where = f"{sweep}/{FILE} of {side.name}"
    records = runs.rows(parse(side.records[sweep], where))
    if not records:
        raise BadInput(f"{where} is empty: the sweep asked for no run")
    return records


class Key(NamedTuple):
    """What the cells of two sides are matched by."""

    task: str
    data: str
    variant: str
    tying: str
    dropout: float
    weight_decay: float


@dataclass(frozen=True)
class Change:
    """One cell on either side. `before` and `after`: seed -> test metric, None where the side has no such cell.

    Of a perplexity the values are its logarithm, the nll: it is what a perplexity is tested on everywhere, and it is
    finite where the perplexity is near overflow. lost: on either side, seed -> how its run ended without a number.
    """

    key: Key
    metric: Metric
    before: dict[int, float] | None
    after: dict[int, float] | None
    missing: str
    same_data: bool
    lost: tuple[dict[int, str], dict[int, str]] = ({}, {})
    over_examples: Paired | None = None

    @property
    def difference(self) -> Paired | None:
        """After minus before over the seeds of both; None without any, and where the data are not the same."""
        if self.before is None or self.after is None or not self.same_data:
            return None
        return paired(self.after, self.before)


def changes(
    before: list[RunRecord], after: list[RunRecord], folders: Sequence[Path | None] = (None, None)
) -> list[Change]:
    """Match the cells of either side, in table order. A setting that differs between the sides alone matches them.

    Args:
        folders: Of the runs of either side, where it is known: what their examples scored lies there.
    """
    cells = []
    for task, data in sorted({(run.task, run.data) for run in [*before, *after]}):
        sides = [[run for run in side if (run.task, run.data) == (task, data)] for side in (before, after)]
        marks = {frozenset({run.fingerprint for run in side} - {None}) for side in sides if side}
        varied = sorted(set().union(*map(_varied, sides)))
        members = [_cells(side, varied) for side in sides]
        places = {key: place(cell[0].spec) for side in members for key, cell in side.items()}
        for key in sorted(places, key=lambda key: (key.variant, places[key], key)):
            both = [side.get(key) for side in members]
            values = [None if cell is None else _values(cell) for cell in both]
            absent = [by_status(run for run in cell or () if not run.is_done) for cell in both]
            by_side = zip(("before", "after"), absent, strict=True)
            missing = "; ".join(f"{name}: {text}" for name, text in by_side if text)
            metric = next(cell for cell in both if cell)[0].metric
            same_data = len(marks) == 1
            scored = _over_examples(both, folders, metric) if same_data else None
            lost = tuple(_lost(cell or []) for cell in both)
            cells.append(Change(key, metric, *values, missing, same_data, lost, scored))
    return cells


def made_with(before: list[RunRecord], after: list[RunRecord]) -> list[str]:
    """Say what the sides were made with, where they differ: settings, versions, devices, data; a line each."""
    sides = [frame.rows(side) for side in (before, after)]
    columns = {key for rows in sides for key in rows[0] if key.startswith(("config.", "version_"))}
    lines = []
    for column in [*MADE_WITH, *sorted(columns)]:
        old, new = (_distinct(rows, column) for rows in sides)
        if old != new:
            lines.append(f"{column.removeprefix('config.')}: {old} -> {new}")
    return lines


def _distinct(rows: list[dict[str, Any]], column: str) -> str:
    if column not in rows[0]:
        return "not recorded"
    values = sorted({_plain(row[column]) for row in rows} - {"null"}) or ["null"]
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else as_given(value)


def _config(run: RunRecord) -> dict[str, Any]:
    return flat(run.record.get("config") or {})


def _varied(side: list[RunRecord]) -> set[str]:
    """Return the config keys with several values within a side, apart from the axes and what a tying brings."""
    configs = [config for run in side if (config := _config(run))]
    keys = {key for config in configs for key in config if key not in AXES and not key.startswith("tying.")}
    return {key for key in keys if len({_plain(config.get(key)) for config in configs}) > 1}


def _cells(side: list[RunRecord], varied: list[str]) -> dict[Key, list[RunRecord]]:
    # A run without a record is of the variant of its cell.
    configs = {run.cell: config for run in side if (config := _config(run))}

    def key_of(run: RunRecord) -> Key:
        config = configs.get(run.cell, {})
        variant = ", ".join(f"{key}={_plain(config.get(key))}" for key in varied)
        return Key(run.task, run.data, variant, run.tying, run.dropout, run.weight_decay)

    return grouped(side, key_of)


def _values(cell: list[RunRecord]) -> dict[int, float]:
    return {run.seed: run.number("test", scale_of(run.metric)) for run in cell if run.is_done}


def _over_examples(
    both: Sequence[list[RunRecord] | None], folders: Sequence[Path | None], metric: Metric
) -> Paired | None:
    """Return after minus before with the error over test examples, at the seeds whose examples both sides scored."""
    name = examples.score_of(metric)
    if name is None or None in folders or None in both:
        return None
    before, after = (
        {run.seed: scores for run in cell if run.is_done and (scores := examples.load(folder, run.id))}
        for cell, folder in zip(both, folders, strict=True)
    )
    shared = sorted(before.keys() & after.keys())
    return examples.over_examples([after[seed] for seed in shared], [before[seed] for seed in shared], name)


def _lost(cell: list[RunRecord]) -> dict[int, str]:
    return {run.seed: SAID[run.status] for run in cell if run.status in WORST}


EXAMPLES = """examples:
  python -m bench.compare HEAD~1 results                  the last commit's tables against what is there now
  python -m bench.compare results/quick /tmp/other/quick  one sweep of two folders, whatever they are called
  python -m bench.compare v1 v2 --sweep quick --fail-if-worse
"""


def compare(before: Side, after: Side, sweep: str | None) -> tuple[list[str], list[Change]]:
    """Return sections of text, and all changes behind them. BadInput where the two have no sweep in common."""
    text, cells = [], []
    for name, other in _sweeps(before, after, sweep):
        sides = read(before, name), read(after, other)
        changed = changes(*sides, (before.runs, after.runs))
        cells += changed
        text += [f"# {other if name == other else f'{name} -> {other}'}", *_tables(changed)]
        lines = made_with(*sides)
        text.append("Made with:\n" + "".join(f"- {line}\n" for line in lines) if lines else "Made alike.\n")
    return text, cells


def _sweeps(before: Side, after: Side, sweep: str | None) -> list[tuple[str, str]]:
    if sweep is None and len(before.records) == len(after.records) == 1:
        return [(*before.records, *after.records)]
    shared = sorted(before.records.keys() & after.records.keys())
    wanted = [name for name in shared if sweep in (None, name)]
    if not wanted:
        have = "; ".join(f"{s.name} has {', '.join(sorted(s.records))}" for s in (before, after))
        hint = offer(sweep, shared, "there is") if sweep and shared else have
        raise BadInput(f"no sweep {sweep or 'is'} in both: {hint}")
    return [(name, name) for name in wanted]


def _tables(cells: list[Change]) -> list[str]:
    tables = []
    for (task, data, variant), members in grouped(cells, lambda cell: cell.key[:3]).items():
        title = ", ".join(filter(None, (f"{task} on {data}", variant)))
        warning = "" if members[0].same_data else "\nThe data are not the same: nothing is compared.\n"
        tables.append(f"{title} (test {members[0].metric.name}){warning}\n{plain(_table(members))}")
    return tables


def _table(cells: list[Change]) -> Table:
    metric = cells[0].metric
    is_log = scale_of(metric) != metric.name
    scale = 100 if metric.is_share else 1
    means = [_mean(values) for cell in cells for values in (cell.before, cell.after) if values]
    decimals = metric_places([perplexity(mean, 1) if is_log else scale * mean for mean in means], metric)

    def reached(values: dict[int, float] | None) -> str:
        if not values:
            return NOTHING
        mean = perplexity(_mean(values), 1) if is_log else scale * _mean(values)
        text = fixed(mean, decimals) if mean < LONG else f"{mean:.3g}"
        return f"{text} (n={len(values)})"

    def shown(difference: Paired | None) -> str:
        if difference is None:
            return NOTHING
        text = interval_text(change(difference, metric), 2 if is_log else decimals, sign=True)
        return text if difference.low is not None else f"{text} (n={difference.n})"

    columns = [
        Column("before", lambda cell: reached(cell.before)),
        Column("after", lambda cell: reached(cell.after)),
        Column("change in % [95 %]" if is_log else "change [95 %]", lambda cell: shown(cell.difference)),
        Column("over test examples [95 %]", lambda cell: shown(cell.over_examples), optional=True),
        Column("verdict", judged, align="l"),
        Column("without a number", lambda cell: cell.missing, align="l", optional=True),
    ]
    labels = [[cell.key.tying, axis(cell.key.dropout), axis(cell.key.weight_decay)] for cell in cells]
    return tabulate(["tying", "dropout", "weight decay"], labels, columns, cells)


def _mean(values: dict[int, float]) -> float:
    return interval(values[seed] for seed in sorted(values)).mean


def judged(cell: Change) -> str:
    """Return the verdict on a cell by itself: a change of code is one question, not a family of them."""
    if cell.before is None or cell.after is None:
        return "only after" if cell.before is None else "only before"
    if not cell.same_data:
        return ""
    before, after = cell.lost
    if more := after.keys() - before.keys():  # a run that is lost is worse than any number
        return f"worse: {len(more)} more {' or '.join(sorted({after[seed] for seed in more}))}"
    fewer = before.keys() - after.keys()
    gained = f"{len(fewer)} fewer {' or '.join(sorted({before[seed] for seed in fewer}))}" if fewer else ""
    return "; ".join(filter(None, (_judged_by_seeds(cell), gained)))


def _judged_by_seeds(cell: Change) -> str:
    """Return the verdict on the seeds that have a number on both sides."""
    if cell.before == cell.after and cell.before:
        return "the same"
    difference = cell.difference
    if difference is None:
        return ""
    (alone,) = judge([(difference, margin_on_scale(cell.metric, None, _mean(cell.before)))], cell.metric)
    return str(alone.verdict)


@framed
def main(arguments: Sequence[str] | None = None) -> int:
    """Print what changed. Returns 1 where a cell became worse and the command line asks about that."""
    options = parser(
        "bench.compare",
        "What changed between two sets of results: folders of tables, or commits that hold them.",
        EXAMPLES,
    )
    options.add_argument(
        "before", metavar="A", help="a folder of results or runs, one sweep's folder, or a commit"
    )
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
