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

    def frame(self, sweeps: tuple[str, ...]) -> "DataFrame | None":
        """Rows of all of them, each run once, with a column `sweep`; None where none has records.

        BadInput for a sweep of which there is neither a record nor a preset.
        """
        from pandas import concat

        found = [frame for name in sweeps if (frame := self._of(name)) is not None]
        if not found:
            return None
        return concat(found, ignore_index=True).drop_duplicates("id", ignore_index=True)

    def _of(self, name: str) -> "DataFrame | None":
        if name not in self.frames:
            known = manifest_path(self.runs, name).exists() or archive.path_of(self.results, name).exists()
            if not known and not (PRESETS / f"{name}.yaml").exists():
                raise BadInput(f"no sweep {name}: neither recorded nor in conf/sweep")
            runs = read_sweep(self.runs, name, self.results)[0] if known else []
            self.frames[name] = frame(runs).assign(sweep=name) if runs else None
        return self.frames[name]


PLAIN = ("task", "data", "tying", "sweep", "fingerprint")
"""Columns whose values say by themselves what they are."""
BAD = (SyntaxError, NameError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError)


def chosen(frame: "DataFrame", expression: str) -> "DataFrame":
    """The rows of which it holds, in the language of DataFrame.query. BadInput, in one line, for a bad one."""
    try:
        found = frame.query(expression, engine="python")
    except (*BAD, tokenize.TokenError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"bad expression {expression!r}: {reason}") from error
    if set(found.index) - set(frame.index) or list(found.columns) != list(frame.columns):
        raise BadInput(f"bad expression {expression!r}: it must hold or not for each row")
    return found


def grouped(frame: "DataFrame", keys: Sequence[str]) -> dict[tuple, "DataFrame"]:
    """Rows by their values in those columns, in a reader's order; rows that lack one belong to none."""
    for key in keys:
        if key not in frame.columns:
            raise BadInput(f"no column {key!r} in the records")
    if not keys:
        return {(): frame}
    groups = dict(iter(frame.groupby(list(keys), sort=False)))
    return {values: groups[values] for values in sorted(groups, key=lambda v: natural(named(keys, v)))}


def named(keys: Sequence[str], values: Sequence) -> str:
    """`text_gru, pydocs, width=4`."""
    shown = [
        str(value) if key in PLAIN else f"{key.rpartition('.')[2]}={_short(value)}"
        for key, value in zip(keys, values, strict=True)
    ]
    return ", ".join(shown) or "all"


def _short(value: object) -> str:
    return f"{value:.15g}" if is_finite(value) else str(value)


def by_seed(rows: "DataFrame", column: str) -> dict[int, float]:
    """Seed -> the number of its finished run. BadInput for a column there is none of and for two runs of a seed."""
    if column not in rows.columns:
        if not (rows["status"] == Status.DONE).any():
            return {}  # scores have columns once there is one
        raise BadInput(f"no column {column!r} in the records")
    twice = rows[rows.duplicated("seed", keep=False)]
    if len(twice):
        raise BadInput(f"two runs of seed {int(twice.seed.iloc[0])} in one selection: {_differing(twice)}")
    values = zip(rows["seed"], rows["status"], rows[column], strict=True)
    return {
        int(seed): float(value)
        for seed, status, value in values
        if status == Status.DONE and is_finite(value)
    }


def _differing(rows: "DataFrame") -> str:
    alike = rows[rows.seed == rows.seed.iloc[0]]
    axes = [
        name
        for name in rows.columns
        if name in (*PLAIN, "dropout", "weight_decay") or name.startswith("config.")
    ]
    differ = [name for name in axes if alike[name].nunique(dropna=False) > 1]
    return f"they differ in {', '.join(differ[:3]) or 'no column of their config'}"


def absent(rows: "DataFrame") -> str:
    """`2 of 5 diverged`: what happened to the runs without a number; empty where all are done."""
    counts = rows.loc[rows.status != Status.DONE, "status"].value_counts()
    said = [f"{counts[status]} of {len(rows)} {SAID.get(status, status)}" for status in sorted(counts.index)]
    return ", ".join(said)


def metric_of(rows: "DataFrame") -> Metric:
    """What the rows are judged by. BadInput where that is more than one."""
    found = sorted(set(zip(rows["metric"], rows["metric_mode"], strict=True)))
    if len(found) != 1:
        names = ", ".join(name for name, _ in found) or "none"
        raise BadInput(f"a part must have one metric, not {names}: cut it by task")
    return Metric(*found[0])
