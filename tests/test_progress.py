import io
import itertools

import pytest
from cell_maker import made

from bench import progress
from bench.progress import Progress
from bench.records import write_json

CELLS = [made(f"seed={seed}", "runs=/nowhere") for seed in range(1, 7)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test moves on itself."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_counts_left_and_time_to_go(clock):
    shown = Progress(io.StringIO())
    shown.begin("training", 6)
    assert shown.line() == "training 0/6: 0 done, 0 failed, 6 left"
    for cell in CELLS[:2]:
        shown.started(cell)
    clock[0] = 10.0
    shown.ended(CELLS[0], {"status": "done"})
    shown.ended(CELLS[1], {"status": "done"})
    # Four left of 10 s each, two at a time.
    assert shown.line() == "training 2/6: 2 done, 0 failed, 4 left, 0:20 to go"
    shown.started(CELLS[2])
    clock[0] = 14.0
    # Three to come, and 6 s of the one that has run for 4.
    counts, newest = shown.line().split(" | ")
    assert counts == "training 2/6: 2 done, 0 failed, 4 left, 0:18 to go"
    assert newest == "image_cnn none dropout=0 wd=0 seed=3"


def test_what_was_recorded_already_says_nothing_about_the_time(clock):
    shown = Progress(io.StringIO())
    shown.begin("training", 3)
    shown.ended(CELLS[0], {"status": "done"})
    assert shown.line() == "training 1/3: 1 done, 0 failed, 2 left"


def test_what_had_failed_before_is_counted_and_not_told_again():
    out = io.StringIO()
    shown = Progress(out)
    shown.begin("training", 2)
    shown.ended(CELLS[0], {"status": "failed", "reason": "why"})
    assert shown.line() == "training 1/2: 0 done, 1 failed, 1 left" and out.getvalue() == ""


def test_what_another_controller_is_at_is_left(clock):
    shown = Progress(io.StringIO())
    shown.begin("training", 2)
    shown.started(CELLS[0])
    shown.elsewhere(CELLS[0])
    assert shown.line() == "training 0/2: 0 done, 0 failed, 2 left"


def test_every_end_is_counted_and_a_failure_is_told_at_once(clock):
    out = io.StringIO()
    shown = Progress(out)
    shown.begin("training", 4)
    for cell, status in zip(CELLS, ("done", "failed", "diverged", "not_applicable"), strict=False):
        shown.started(cell)
        shown.ended(cell, {"status": status, "reason": f"why {status}"})
    assert shown.line() == "training 4/4: 1 done, 1 diverged, 1 failed, 1 not applicable, 0 left"
    assert out.getvalue().splitlines() == [
        "failed: image_cnn none dropout=0 wd=0 seed=2: why failed",
        "diverged: image_cnn none dropout=0 wd=0 seed=3: why diverged",
    ]


def test_the_newest_run_tells_where_it_is(tmp_path):
    cell = made(f"runs={tmp_path}")
    status = {"step": 340, "steps": 900, "metric": "accuracy", "value": None}
    shown = Progress(io.StringIO())
    shown.begin("training", 2)
    shown.started(cell)
    assert shown.line().endswith("| image_cnn none dropout=0 wd=0 seed=1")
    write_json(cell.folder / "status.json", status)
    assert shown.line().endswith("seed=1 step 340/900")
    write_json(cell.folder / "status.json", status | {"value": 0.98765})
    assert shown.line().endswith("seed=1 step 340/900 accuracy 0.9877")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("out", "starts"), [(Terminal(), "\r\x1b[2K"), (io.StringIO(), "training")])
def test_one_line_rewritten_on_a_terminal_and_plain_lines_in_a_log(monkeypatch, out, starts):
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks))
    with Progress(out) as shown:
        shown.begin("training", 1)
        shown.started(CELLS[0])
        shown.ended(CELLS[0], {"status": "done"})
    text = out.getvalue()
    assert text.startswith(starts)
    assert text.endswith("training 1/1: 1 done, 0 failed, 0 left\n")
    assert text.count("\n") == 1


def test_nothing_to_say_where_nothing_ran():
    out = io.StringIO()
    with Progress(out) as shown:
        shown.begin("training", 1)
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (580, "9:40"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_clock(seconds, text):
    assert progress._clock(seconds) == text
