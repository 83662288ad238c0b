"""Read the records that claims are tested on, and choose their rows."""

import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis import archive
from bench.analysis.frame import frame
from bench.analysis.groups import SAID, natural
from bench.analysis.runs import Metric, is_finite, read_sweep
from bench.runs import machine
from bench.runs.store import Status, manifest_path
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame


PRESETS = machine.CONF / "sweep"


class Evidence:
    """Frames of records by sweep, read once: from `runs`, and what is not there from `results`/<sweep>/.

    A fresh clone so knows what was committed, and where the records are changes no number.
    """

    def __init__(self, runs: Path, results: Path) -> None:
        self.runs, self.results = runs, results
        self.frames: dict[str, DataFrame | None] = {}

    def frame(self, sweeps: Sequence[str], in_each: bool = False) -> "DataFrame | None":
        """Return the rows of all sweeps with a column `sweep`; None where none has records.

        in_each: a run of several sweeps has a row in each of them, and not in the first alone.

        BadInput for a sweep of which there is neither a record nor a preset.
        """
        from pandas import concat

        for name in sweeps:
            if name not in self.frames:
                self.frames[name] = self._read(name)
        frames = [self.frames[name] for name in sweeps if self.frames[name] is not None]
        if not frames:
            return None
        rows = concat(frames, ignore_index=True)
        return rows if in_each else rows.drop_duplicates("id", ignore_index=True)

    def _read(self, name: str) -> "DataFrame | None":
        recorded = manifest_path(self.runs, name).exists() or archive.path_of(self.results, name).exists()
        if not recorded and not (PRESETS / f"{name}.yaml").exists():
            raise BadInput(f"no sweep {name}: neither recorded nor in conf/sweep")
        runs = read_sweep(self.runs, name, self.results)[0] if recorded else []
        return frame(runs).assign(sweep=name) if runs else None


PLAIN = ("task", "data", "tying", "sweep", "fingerprint")
"""Columns whose values say by themselves what they are."""
BAD = (SyntaxError, NameError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError)


def chosen(frame: "DataFrame", expression: str) -> "DataFrame":
    """Return the rows for which an expression of DataFrame.query holds. BadInput, in one line, for a bad one."""
    # pandas prepares every column that it is given, and a frame has hundreds. Without any it refuses no number.
    needed = frame[[name for name in frame if name in expression or name == "status"]]
    try:
        rows = needed.query(expression, engine="python")
    except (*BAD, tokenize.TokenError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"bad expression {expression!r}: {reason}") from error
    if set(rows.index) - set(needed.index) or list(rows.columns) != list(needed.columns):
        raise BadInput(f"bad expression {expression!r}: it must hold or not for each row")
    return frame.loc[rows.index]


def grouped(frame: "DataFrame", keys: Sequence[str]) -> dict[tuple, "DataFrame"]:
    """Return the rows by their values in those columns, in natural order, without rows that lack one of them."""
    for key in keys:
        _check_column(frame, key)
    if not keys:
        return {(): frame}
    groups = dict(iter(frame.groupby(list(keys), sort=False)))
    return {values: groups[values] for values in sorted(groups, key=lambda v: natural(named(keys, v)))}


def named(keys: Sequence[str], values: Sequence) -> str:
    """Return such as `text_gru, pydocs, width=4`."""
    texts = [f"{value:.15g}" if is_finite(value) else str(value) for value in values]
    pairs = zip(keys, texts, strict=True)
    return ", ".join(t if key in PLAIN else f"{key.rpartition('.')[2]}={t}" for key, t in pairs) or "all"


def by_seed(rows: "DataFrame", column: str) -> dict[int, float]:
    """Return the number of each seed's finished run. BadInput for an unknown column and for two runs of a seed."""
    is_done = rows["status"] == Status.DONE
    if column not in rows.columns and not is_done.any():
        return {}  # scores have columns once there is one
    _check_column(rows, column)
    is_twice = rows["seed"].duplicated(keep=False)
    if is_twice.any():
        twice = rows[is_twice]
        raise BadInput(f"two runs of seed {int(twice.seed.iloc[0])} in one selection: {_differing(twice)}")
    values = zip(rows["seed"][is_done], rows[column][is_done], strict=True)
    return {int(seed): float(value) for seed, value in values if is_finite(value)}


def _check_column(frame: "DataFrame", column: str) -> None:
    if column not in frame.columns:
        raise BadInput(f"no column {column!r} in the records")


def _differing(rows: "DataFrame") -> str:
    alike = rows[rows.seed == rows.seed.iloc[0]]
    differ = [
        name
        for name in rows.columns
        if (name in (*PLAIN, "dropout", "weight_decay") or name.startswith("config."))
        and alike[name].nunique(dropna=False) > 1
    ]
    return f"they differ in {', '.join(differ[:3]) or 'no column of their config'}"


def without_number(rows: "DataFrame") -> dict[str, int]:
    """Return how many runs ended otherwise than done, by what happened to them (`diverged`)."""
    counts = rows.loc[rows.status != Status.DONE, "status"].value_counts()
    return {SAID.get(status, status): int(counts[status]) for status in sorted(counts.index)}


def missing(**sides: "DataFrame") -> list[str]:
    """Return a note for each side that has no runs, or runs without a number: `ours: 2 of 5 diverged`."""
    notes = []
    for side, rows in sides.items():
        texts = [f"{count} of {len(rows)} {text}" for text, count in without_number(rows).items()]
        if texts or not len(rows):
            notes.append(f"{side}: {', '.join(texts)}" if texts else f"no runs of {side}")
    return notes


def metric_of(rows: "DataFrame") -> Metric:
    """Return what the rows are judged by. BadInput where that is more than one metric."""
    metrics = sorted(set(zip(rows["metric"], rows["metric_mode"], strict=True)))
    if len(metrics) != 1:
        names = ", ".join(name for name, _ in metrics) or "none"
        raise BadInput(f"a part must have one metric, not {names}: cut it by task")
    return Metric(*metrics[0])
