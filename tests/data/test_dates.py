"""Times of a series are read as times: their order, their format, their steps."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.dates import FORMATS, check_times
from bench.tying.errors import BadInput

START = datetime(1999, 1, 1)
DAYS = [START + timedelta(days) for days in range(400)]  # longer than a year: some day is above 12


@settings(deadline=None)
@given(
    st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y-%m-%dT%H:%M", *(f for f in FORMATS if "%Y" in f)]), st.data()
)
def test_order_is_that_of_time_in_every_format(form: str, data: st.DataObject) -> None:
    texts = [day.strftime(form) for day in DAYS]
    assert check_times(texts, "t", None) == []
    assert check_times(texts, "t", form) == []
    first, second = sorted(data.draw(st.lists(st.integers(0, 399), min_size=2, max_size=2, unique=True)))
    texts[first], texts[second] = texts[second], texts[first]
    with pytest.raises(BadInput, match="sort the rows by time, oldest first"):
        check_times(texts, "t", None)


def test_dates_sorted_as_text_are_refused() -> None:
    texts = sorted(day.strftime("%d.%m.%Y") for day in DAYS)
    with pytest.raises(BadInput, match=r"is 01\.02\.1999 in row 3 of the series, after 01\.01\.2000"):
        check_times(texts, "t", None)


def test_what_can_be_read_in_two_ways_needs_a_format() -> None:
    texts = [f"{day:02}/03/2020" for day in range(1, 13)]
    with pytest.raises(BadInput, match=r"can be read as %d/%m/%Y or %m/%d/%Y: set data\.time_format"):
        check_times(texts, "t", None)
    assert check_times(texts, "t", "%d/%m/%Y") == check_times(texts, "t", "%m/%d/%Y") == []


@pytest.mark.parametrize(
    ("values", "form", "said"),
    [
        (["2020-01-01", "soon"], None, "in no format that is known: set data.time_format"),
        (["2020-01-01", "2020-01-02"], "%d.%m.%Y", r"does not fit data\.time_format=%d\.%m\.%Y"),
        ([1, "2"], None, "neither dates, numbers nor text alone"),
        ([START, None], None, "lacks a time"),
        ([1.0, float("nan")], None, "lacks a time"),
        (["2020-01-01", "", "2020-01-03"], None, "lacks a time"),
        (["01.02.2020", " NaT "], "%d.%m.%Y", "lacks a time"),
        ([1.0, float("inf")], None, "no finite number"),
        ([1, 10**400], None, "no finite number"),
        ([START, START], None, "each time once"),
        ([2, 1], None, "'t' is 1 in row 2 of the series, after 2"),
    ],
)
def test_times_that_are_refused(values: list, form: str | None, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        check_times(values, "t", form)
    assert "\n" not in str(error.value)


@settings(deadline=None)
@given(st.integers(1, 398), st.integers(2, 60), st.sampled_from(["dates", "text", "numbers", "YYYYMMDD"]))
def test_a_gap_is_told_with_its_place(row: int, length: int, kind: str) -> None:
    days = [*DAYS[:row], *(day + timedelta(length - 1) for day in DAYS[row:])]
    values = {
        "dates": days,
        "text": [f"{day:%d.%m.%Y}" for day in days],
        "numbers": [(d - START).days for d in days],
        "YYYYMMDD": [int(f"{day:%Y%m%d}") for day in days],
    }
    (note,) = check_times(values[kind], "t", None)
    assert note.startswith("1 of 399 steps in column 't' are not of the usual length, 1")
    assert f"the longest is {length}" in note and f"before row {row + 1}:" in note


def test_months_and_years_are_regular() -> None:
    assert check_times([datetime(2000 + i // 12, i % 12 + 1, 1) for i in range(60)], "t", None) == []
    assert check_times(list(range(1990, 2020)), "t", None) == []
