import io
import re
import sys

import pytest
from cell_maker import made

from bench.runs import lock, owner
from bench.runs.store import write_json
from bench.sweep import progress
from bench.sweep.progress import Progress

CELLS = [made(f"seed={seed}", "runs=/nowhere") for seed in range(1, 7)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test moves on itself."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_counts_left_and_time_to_go(clock):
    shown = Progress(io.StringIO())
    shown.begin("training", CELLS[:6])
    assert shown.line() == "training 0/6: 0 done, 0 failed, 6 left, 0:00 elapsed"
    for cell in CELLS[:2]:
        shown.started(cell)
    clock[0] = 10.0
    shown.ended(CELLS[0], {"status": "done"})
    shown.ended(CELLS[1], {"status": "done"})
    # Four left of 10 s each, two at a time.
    assert shown.line() == "training 2/6: 2 done, 0 failed, 4 left, 0:10 elapsed, 0:20 to go"
    shown.started(CELLS[2])
    clock[0] = 14.0
    # Three to come, and 6 s of the one that has run for 4.
    counts, newest = shown.line().split(" | ")
    assert counts == "training 2/6: 2 done, 0 failed, 4 left, 0:14 elapsed, 0:18 to go"
    assert newest == "image_cnn none dropout=0 wd=0 seed=3"


def test_runs_count_as_long_as_those_of_their_kind(clock):
    """The cheap tasks of a sweep come first: their mean would promise an end that is minutes off."""
    cells = [*CELLS[:3], *(made("task=text_gru", f"seed={seed}", "runs=/nowhere") for seed in (1, 2, 3))]
    shown = Progress(io.StringIO())
    shown.begin("training", cells)
    for cell, seconds in ((cells[0], 1), (cells[3], 30)):
        shown.started(cell)
        clock[0] += seconds
        shown.ended(cell, {"status": "done"})
        if cell is cells[0]:  # two of 1 s, and three of which nothing is known
            assert shown.line().endswith("0:01 elapsed, perhaps 0:05 to go")
    assert shown.line().endswith("0:31 elapsed, 1:02 to go")


def test_what_was_recorded_already_says_nothing_about_the_time(clock):
    shown = Progress(io.StringIO())
    shown.begin("training", CELLS[:3])
    shown.ended(CELLS[0], {"status": "done"})
    assert shown.line() == "training 1/3: 1 done, 0 failed, 2 left, 0:00 elapsed"


def test_what_had_failed_before_is_counted_and_not_told_again():
    out = io.StringIO()
    shown = Progress(out)
    shown.begin("training", CELLS[:2])
    shown.ended(CELLS[0], {"status": "failed", "reason": "why"})
    assert shown.line() == "training 1/2: 0 done, 1 failed, 1 left, 0:00 elapsed" and out.getvalue() == ""


def test_what_another_controller_is_at_is_left(clock):
    shown = Progress(io.StringIO())
    shown.begin("training", CELLS[:2])
    shown.started(CELLS[0])
    shown.elsewhere(CELLS[0])
    counts, waits = shown.line().split(" | ")
    assert counts == "training 0/2: 0 done, 0 failed, 2 left, 0:00 elapsed"
    assert waits == "waiting for another controller's image_cnn none dropout=0 wd=0 seed=1"


def test_every_end_is_counted_and_a_failure_is_told_at_once(clock):
    out = io.StringIO()
    shown = Progress(out)
    shown.begin("training", CELLS[:4])
    for cell, status in zip(CELLS, ("done", "failed", "diverged", "not_applicable"), strict=False):
        shown.started(cell)
        shown.ended(cell, {"status": status, "reason": f"why {status}"})
    assert (
        shown.line() == "training 4/4: 1 done, 1 diverged, 1 failed, 1 not applicable, 0 left, 0:00 elapsed"
    )
    assert out.getvalue().splitlines() == [
        "failed: image_cnn none dropout=0 wd=0 seed=2: why failed",
        "diverged: image_cnn none dropout=0 wd=0 seed=3: why diverged",
    ]


def test_the_newest_run_tells_where_it_is(tmp_path):
    cell = made(f"runs={tmp_path}")
    status = {"step": 340, "steps": 900, "metric": "accuracy", "value": None}
    shown = Progress(io.StringIO())
    shown.begin("training", CELLS[:2])
    shown.started(cell)
    assert shown.line().endswith("| image_cnn none dropout=0 wd=0 seed=1")
    write_json(cell.folder / "status.json", status)
    assert shown.line().endswith("| step 340/900: image_cnn none dropout=0 wd=0 seed=1")
    write_json(cell.folder / "status.json", status | {"value": 0.98765})
    assert shown.line().endswith("| accuracy 0.9877, step 340/900: image_cnn none dropout=0 wd=0 seed=1")


def test_a_run_that_waits_says_for_whom(tmp_path):
    cell = made(f"runs={tmp_path}")
    shown = Progress(io.StringIO())
    shown.begin("training", CELLS[:2])
    shown.started(cell)
    cell.folder.mkdir()
    (cell.folder / "log").write_text(
        "earlier\nnote: waiting for a measurement to end: process 7 (python x)\n"
    )
    assert (
        shown.line()
        .split(" | ")[1]
        .startswith("waiting for a measurement to end: process 7 (python x): image_cnn ")
    )
    (cell.folder / "log").write_text("note: waiting for a measurement to end: process 7\nnote: waited 3 s\n")
    assert shown.line().endswith("| image_cnn none dropout=0 wd=0 seed=1")


def test_a_measurement_that_waits_says_so_in_its_own_log(tmp_path):
    cell = made(f"runs={tmp_path}")
    shown = Progress(io.StringIO())
    shown.begin("measuring cost", [cell], lambda cell: tmp_path / cell.cost)
    shown.started(cell)
    (tmp_path / cell.cost).mkdir()
    (tmp_path / cell.cost / "log").write_text("note: waiting for the machine to be free: process 7 (x)\n")
    assert (
        shown.line()
        .split(" | ")[1]
        .startswith("waiting for the machine to be free: process 7 (x): image_cnn ")
    )


def test_what_another_controller_is_at_says_where(tmp_path):
    cell = made(f"runs={tmp_path}")
    shown = Progress(io.StringIO())
    shown.begin("training", CELLS[:1])
    shown.started(cell)
    shown.elsewhere(cell)
    write_json(cell.folder / lock.LOCK_FILE, {"owner": owner.token(), "host": "node7"})
    assert re.search(r"waiting for another controller's .* seed=1 on node7, heard of \d s ago$", shown.line())
    shown.ended(cell, {"status": "done"})
    assert shown.line() == "training 1/1: 1 done, 0 failed, 0 left, 0:00 elapsed"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def run_of(out):
    """What a sweep of two runs, of which one fails, leaves in `out`."""
    with Progress(out) as shown:
        shown.begin("training", CELLS[:2])
        for cell, status in zip(CELLS, ("done", "failed"), strict=False):
            shown.started(cell)
            shown.ended(cell, {"status": status, "reason": "[why] 1"})
    return out.getvalue()


def test_plain_lines_in_a_log():
    assert run_of(io.StringIO()).splitlines() == [
        "failed: image_cnn none dropout=0 wd=0 seed=2: [why] 1",
        "training 2/2: 1 done, 1 failed, 0 left, 0:00 elapsed",
    ]


def test_a_log_is_never_coloured_and_costs_no_import(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setitem(sys.modules, "rich.live", None)  # to import it is an error
    assert "\x1b" not in run_of(io.StringIO())


def test_plain_lines_on_a_terminal_that_cannot_move_its_cursor(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert run_of(Terminal()) == run_of(io.StringIO())


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    text = run_of(Terminal())
    plain = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", text)
    assert "\x1b[" in text and plain.endswith("2/2 0:00 elapsed\n1 done, 1 failed, 0 left\n")
    assert plain.count("failed: image_cnn none dropout=0 wd=0 seed=2: [why] 1\n") == 1


def test_a_terminal_line_holds_the_counts_and_the_newest_run(clock, tmp_path):
    from rich.console import Console

    shown = Progress(Terminal())
    shown.begin("training", CELLS[:6])
    cell = made(f"runs={tmp_path}")
    shown.started(CELLS[1])
    clock[0] = 10.0
    shown.ended(CELLS[1], {"status": "done"})
    shown.started(cell)
    write_json(cell.folder / "status.json", {"step": 3, "steps": 9, "metric": "accuracy", "value": 0.5})
    out = io.StringIO()
    Console(file=out, width=100).print(shown.drawn())
    bar, counts, newest = out.getvalue().splitlines()
    assert bar.startswith("training ") and bar.rstrip().endswith(" 1/6 0:10 elapsed, 0:50 to go")
    assert counts.rstrip() == "1 done, 0 failed, 5 left"
    assert newest.rstrip() == "accuracy 0.5, step 3/9: image_cnn none dropout=0 wd=0 seed=1"


@pytest.mark.parametrize("out", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_nothing_to_say_where_nothing_ran(monkeypatch, out):
    monkeypatch.setenv("TERM", "xterm")
    with Progress(out) as shown:
        shown.begin("training", CELLS[:1])
    plain = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]|[\r\n]", "", out.getvalue())
    # A terminal has drawn it while it lasted, and wiped it out.
    assert plain == "" or out.getvalue().endswith("\x1b[2K")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (580, "9:40"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_clock(seconds, text):
    assert progress._clock(seconds) == text
