"""Median and tail of durations, against numbers done in the head."""

from bench.meters.timing import Timing, summarise


def test_median_and_tail() -> None:
    assert summarise([4.0, 1.0, 3.0, 2.0]) == Timing(2.5, 4.0, None, 4)
    assert summarise(range(1, 11)) == Timing(5.5, 9, None, 10)
    assert summarise(range(1, 101)) == Timing(50.5, 90, 99, 100)
    assert summarise([7.0]) == Timing(7.0, 7.0, None, 1)
