"""The meters against known answers, and that a wrong one is told."""

import math

import pytest

from bench.selftest import __main__ as command
from bench.selftest import scores, seconds, sizes, throughput
from bench.selftest.check import about, between, exactly

PARTS = (seconds, sizes, scores, throughput)


TRIES = 3
"""Other tests on the same cores add to what is timed, now and then; a wrong meter is wrong each time."""


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.rpartition(".")[2])
def test_every_meter_says_what_is_known(part):
    for _ in range(TRIES):
        found = list(part.checks())
        wrong = [check.row() for check in found if not check.is_right]
        if found and not wrong:
            break
    assert found and wrong == []


@pytest.mark.parametrize(
    ("check", "right"),
    [
        (exactly("m", "w", "B", 100, 100), True),
        (exactly("m", "w", "B", 100, 101), False),
        (about("m", "w", "s", 100, 110, tolerance=0.1), True),
        (about("m", "w", "s", 100, 111, tolerance=0.1), False),
        (about("m", "w", "s", 100, 89, tolerance=0.1), False),
        (about("m", "w", "s", 100, math.nan, tolerance=0.1), False),
        (between("m", "w", "", 1, 2, math.inf), True),
        (between("m", "w", "", 1, 0.9, math.inf), False),
        (between("m", "w", "", 1, math.inf, 2), False),
    ],
)
def test_a_figure_is_right_within_its_tolerance(check, right):
    assert check.is_right is right
    assert check.row()[-1] == ("yes" if right else "NO")


def test_a_row_says_what_is_known_and_how_well():
    assert exactly("memory", "peak", "B", 4000, 4001).row() == [
        *("memory", "peak", "4,000 B", "4,001", "none", "NO")
    ]
    assert about("latency", "call", "ms", 20, 20.5, 0.1).row()[2:] == ["20 ms", "20.5", "± 10 %", "yes"]
    assert between("rate", "copy", "B/s", 0, 5e9, math.inf).row()[2:4] == ["≥ 0 B/s", "5,000,000,000"]


@pytest.mark.parametrize(("measured", "code", "said"), [(100, 0, "all right"), (101, 1, "1 WRONG")])
def test_a_wrong_meter_is_named_and_ends_with_1(monkeypatch, capsys, measured, code, said):
    for part in PARTS:
        monkeypatch.setattr(part, "checks", lambda: iter([]))
    monkeypatch.setattr(sizes, "checks", lambda: iter([exactly("memory", "peak", "B", 100, measured)]))
    assert command.main([]) == code
    out = capsys.readouterr().out
    assert f"figures: 1, {said}" in out and ("NO" in out) is (code == 1)
