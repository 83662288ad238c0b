"""Read the times of a series, check their order and tell steps of another length."""

from collections.abc import Iterable, Sequence
from datetime import date
from itertools import product
from numbers import Real
from typing import Any

import numpy as np

from bench.tying.errors import BadInput

_DAYS = ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%Y{0}%m{0}%d", "%d{0}%m{0}%y", "%m{0}%d{0}%y", "%y{0}%m{0}%d")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
FORMATS = tuple(day.format(mark) + clock for day, mark, clock in product(_DAYS, ".-/", _CLOCKS))
"""What a date may look like beside ISO 8601: it is read where all of these that fit say the same."""

_ABSENT = {"", "na", "nan", "nat", "none", "null"}
"""Text that stands for no time; some of it would be read as one that has no order."""

EXAMPLE = "for example data.time_format='%d.%m.%Y'"


def check_times(values: Sequence[Any], name: str, time_format: str | None) -> list[str]:
    """Check that the rows of a series are in the order of time.

    Args:
        values: the column `name`: dates, numbers or text.
        time_format: how text is read, as for `datetime.strptime`. None: ISO 8601, or the one other format that fits.

    Returns:
        A note where steps differ in length.

    Raises:
        BadInput: a time that is absent or unreadable, dates that fit more than one format, rows out of order, or two
            rows of one time.
    """
    if any(
        value is None or value != value or (isinstance(value, str) and value.strip().lower() in _ABSENT)
        for value in values
    ):
        raise BadInput(f"column {name!r} lacks a time: give one in every row, or set data.time=null")
    times = _parsed(values, name, time_format)
    steps = np.diff(times)
    if (wrong := np.flatnonzero(steps <= np.zeros((), steps.dtype))).size:
        row = int(wrong[0]) + 1
        raise BadInput(
            f"column {name!r} is {values[row]} in row {row + 1} of the series, after {values[row - 1]}: sort the rows "
            "by time, oldest first, each time once"
        )
    usual = np.median(steps)
    uneven = np.abs(steps - usual) > usual / 2  # months and years differ by less
    if not uneven.any():
        return []
    longest = int(steps.argmax())
    return [
        f"{int(uneven.sum())} of {len(steps)} steps in column {name!r} are not of the usual length, {_length(usual)}; "
        f"the longest is {_length(steps[longest])}, before row {longest + 2}: every row is one step of the series, "
        "however long"
    ]


def _length(step: Any) -> str:
    if not isinstance(step, np.timedelta64):
        return f"{step:g}"
    days = step / np.timedelta64(1, "D")
    return f"{days:g} day{'' if days == 1 else 's'}" if days >= 1 else f"{step / np.timedelta64(1, 's'):g} s"


def _parsed(values: Sequence[Any], name: str, time_format: str | None) -> np.ndarray:
    """Return the times as datetime64 or float64 [N]."""
    if time_format is not None:
        times = _read(map(str, values), time_format)
        if isinstance(times, str):
            raise BadInput(
                f"column {name!r} does not fit data.time_format={time_format}: {times}; correct it"
            )
        return times
    if all(isinstance(value, Real) for value in values):
        return _of_numbers(values, name)
    if all(isinstance(value, date) for value in values):  # a datetime is one too
        return _read(values, None)
    if not all(isinstance(value, str) for value in values):
        raise BadInput(
            f"column {name!r} holds neither dates, numbers nor text alone: set data.time to another column"
        )
    if not isinstance(times := _read(values, "ISO8601"), str):
        return times
    fitting = {form: times for form in FORMATS if not isinstance(times := _read(values, form), str)}
    first, *others = fitting.values() or (None,)
    if first is None or any((first != other).any() for other in others):
        how = f"can be read as {' or '.join(fitting)}" if fitting else "is in no format that is known"
        raise BadInput(
            f"column {name!r} holds times such as {values[0]!r}, which {how}: set data.time_format, {EXAMPLE}, or "
            "data.time=null where the rows are in order"
        )
    return first


def _of_numbers(values: Sequence[Any], name: str) -> np.ndarray:
    """Return dates where every number is one written as YYYYMMDD, else the numbers."""
    if all(isinstance(value, int) and 1000_01_01 <= value <= 9999_12_31 for value in values):
        dates = _read(map(str, values), "%Y%m%d")
        if not isinstance(dates, str):
            return dates
    try:
        times = np.array(values, np.float64)
    except OverflowError:
        times = np.array([np.inf])
    if not np.isfinite(times).all():
        raise BadInput(
            f"column {name!r} holds a time that is no finite number: correct it, or set data.time=null"
        )
    return times


def _read(values: Iterable[Any], form: str | None) -> np.ndarray | str:
    """Return datetime64 [N], in UTC, or why the values cannot be read so."""
    import pandas

    try:
        times = pandas.to_datetime(pandas.Series(list(values)), format=form, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        return " ".join(str(error).split()).partition(". You might")[0][:200]
    return times.dt.tz_localize(None).to_numpy()
