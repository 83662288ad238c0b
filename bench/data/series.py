"""What a prepared time series consists of: its changes from step to step, in units of train's, and floors.

Changes and not levels: a level of the test years may lie outside of all that train has seen, a change does not.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.contents import Content
from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SHARES = {"train": 0.6, "val": 0.2}  # test has the rest
LEAST = 20  # rows


def series_content(data: "DatasetDict", wanted: Mapping[str, Any]) -> Content:
    """{split}_changes float32 [N, C] in time order, C the columns: 60 %, 20 % and the rest of all changes.

    A change is that of the value from the row before, or of its logarithm (`log`), over `scale`: the root mean
    square of the column's changes in train, the only statistic that is taken. Floors are those of the last value
    as the forecast, on test: naive_mae, naive_rmse, and naive_nll with train's variance as the Gaussian's.
    BadInput: a column that is absent, not numeric or constant in train, a value that is missing, fewer than 20
    rows, rows that are not in the order of the column `time`.
    """
    if set(data) != {"train"}:
        raise BadInput(f"a series is one split in time order; the data set has the splits {sorted(data)}")
    rows, names = data["train"], wanted["columns"]
    if len(rows) < LEAST:
        raise BadInput(f"the series has {len(rows)} rows: give at least {LEAST}")
    if wanted["time"] is not None:
        _need_order(rows, wanted["time"])
    values = np.stack([_numbers(rows, name, wanted["log"]) for name in names], axis=1)
    changes = np.diff(np.log(values) if wanted["log"] else values, axis=0)
    ends = np.cumsum([int(share * len(changes)) for share in SHARES.values()])
    train, *_ = np.split(changes, ends)
    scale = np.sqrt((train**2).mean(0))
    if (scale == 0).any():
        name = names[int(np.flatnonzero(scale == 0)[0])]
        raise BadInput(f"column {name!r} never changes in train: leave it out of data.columns")
    splits = dict(zip((*SHARES, "test"), np.split(changes / scale, ends), strict=True))
    meta = {
        "columns": list(names),
        "scale": scale.tolist(),
        "sizes": {split: len(part) for split, part in splits.items()},
        "floors": floors(splits["test"]),
    }
    return Content({f"{split}_changes": part.astype(np.float32) for split, part in splits.items()}, meta)


def floors(changes: np.ndarray) -> dict[str, float]:
    """Scores of "no change": mean absolute error, root mean square error, nats a value at variance 1."""
    square = float((changes**2).mean())
    return {
        "naive_mae": float(np.abs(changes).mean()),
        "naive_rmse": math.sqrt(square),
        "naive_nll": 0.5 * (math.log(2 * math.pi) + square),
    }


def _column(rows: "Dataset", name: str, key: str) -> Sequence[Any]:
    if name not in rows.column_names:
        raise BadInput(f"the series has no column {name!r}, only {rows.column_names}: set data.{key}")
    return rows[name]


def _numbers(rows: "Dataset", name: str, log: bool) -> np.ndarray:
    """A column as float64 [N], each value finite, and above 0 where its logarithm is asked for."""
    column = list(_column(rows, name, "columns"))
    try:
        values = np.array([math.nan if value is None else value for value in column], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"column {name!r} is not numeric ({error}): leave it out of data.columns") from error
    wrong = ~np.isfinite(values) | (values <= 0 if log else False)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        above = " above 0, as data.log needs" if log else ""
        raise BadInput(
            f"column {name!r} is {column[row]} in row {row + 1} of the series: give a finite number{above}"
        )
    return values


def _need_order(rows: "Dataset", name: str) -> None:
    times = list(_column(rows, name, "time"))
    if any(time is None for time in times):
        raise BadInput(f"column {name!r} lacks a time: give one in every row, or set data.time=null")
    for row, (before, after) in enumerate(zip(times[:-1], times[1:], strict=True), 2):
        if not before < after:
            raise BadInput(
                f"column {name!r} is {after} in row {row} of the series, after {before}: sort the rows by time, "
                "oldest first, each time once"
            )
