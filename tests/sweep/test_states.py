import json
import os
import time

import pytest
import record_maker as made

from bench.runs import lock, owner
from bench.runs.store import read_records, recorded, run_folder
from bench.sweep.state import COST, Durations, count, in_words, makespan, run_name, state_of, tally
from bench.tying.errors import BadInput

LINE = made.entry(seed=3)


@pytest.fixture
def tmp_path(tmp_path):
    """The folder of the run: a record with another name in it is none of its."""
    folder = tmp_path / LINE["id"]
    folder.mkdir()
    return folder


def put(folder, name, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def claimed(folder, holder, age=0.0, host="alpha"):
    put(folder, lock.LOCK_FILE, {"owner": holder, "host": host})
    then = time.time() - age
    os.utime(folder / lock.LOCK_FILE, (then, then))


def told(folder, step=340, steps=900, value=121.0):
    put(folder, "status.json", {"step": step, "steps": steps, "metric": "perplexity", "value": value})


def started(folder, times=1, host="alpha"):
    put(folder, "attempts.json", {"attempts": [{"started": 1.0, "host": host}] * times})


def test_queued_where_there_is_nothing(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        assert state_of(folder).status == "queued" and state_of(folder).share_left == 1
    put(tmp_path, "request.json", {})  # asked for, and not begun
    assert state_of(tmp_path).status == "queued" and state_of(tmp_path).attempts == 0


@pytest.mark.parametrize("status", ["done", "failed", "diverged", "not_applicable"])
def test_what_is_recorded_counts_whoever_has_the_folder(tmp_path, status):
    record = made.record(LINE, 90.0, 95.0) if status == "done" else made.unfinished(LINE, status, "why")
    put(tmp_path, "record.json", record)
    claimed(tmp_path, owner.token())
    state = state_of(tmp_path)
    assert state.status == status and not state.is_left and state.host == "alpha"
    if status == "done":
        assert (state.metric, state.value, state.seconds, state.reason) == ("perplexity", 95.0, 21.3, None)
    else:
        assert (state.value, state.seconds, state.reason) == (None, None, "why")


def test_a_measurement_has_its_seconds_as_one_number(tmp_path):
    folder = tmp_path / "costs" / LINE["cost"]
    put(folder, "cost.json", made.cost(LINE, seconds=7.5))
    assert (state_of(folder, COST).status, state_of(folder, COST).seconds) == ("done", 7.5)


@pytest.mark.parametrize("odd", [{"id": "another"}, {"config": None}, {"status": "perhaps"}])
def test_a_record_that_is_not_this_runs_is_a_damaged_one(tmp_path, odd):
    record = made.record(LINE, 90.0, 95.0)
    put(tmp_path, "record.json", record | odd)
    assert (state_of(tmp_path).status, "damaged" in state_of(tmp_path).reason) == ("queued", True)
    folder = run_folder(tmp_path / "runs", LINE["id"])
    put(folder, "record.json", record | odd)
    assert read_records(tmp_path / "runs", [LINE["id"]])[LINE["id"]]["status"] == "failed"


def test_running_with_its_place_and_its_beat(tmp_path):
    claimed(tmp_path, owner.token(), age=3)
    assert (state_of(tmp_path).status, state_of(tmp_path).step) == ("running", None)
    told(tmp_path)
    started(tmp_path, 2)
    state = state_of(tmp_path)
    assert (state.status, state.step, state.steps) == ("running", 340, 900)
    assert (state.metric, state.value, state.host, state.attempts) == ("perplexity", 121.0, "alpha", 2)
    assert 3 <= state.beat_s < 10 and state.share_left == pytest.approx(560 / 900)


@pytest.mark.parametrize(("age", "status"), [(20, "running"), (70, "interrupted")])
def test_of_another_machine_the_beat_tells(tmp_path, age, status):
    started(tmp_path, host="beta")
    claimed(tmp_path, "otherplace-12-34", age, host="beta")
    assert (state_of(tmp_path).status, state_of(tmp_path).host) == (status, "beta")


def test_interrupted_goes_on_where_there_is_a_checkpoint(tmp_path):
    started(tmp_path)
    told(tmp_path)
    claimed(tmp_path, owner.token().rpartition("-")[0] + "-1")  # a process that started at another time
    state = state_of(tmp_path)
    assert (state.status, state.step, state.share_left) == ("interrupted", None, 1)
    assert state.reason == "stopped before its first checkpoint" and state.is_left
    put(tmp_path, "last.ckpt", "x")
    state = state_of(tmp_path)
    assert (state.status, state.step, state.attempts) == ("interrupted", 340, 1)
    assert state.share_left == pytest.approx(560 / 900) and "last checkpoint" in state.reason


@pytest.mark.parametrize("torn", ['{"status": "do', "[]", "{}", '{"status": null}', '{"status": "odd"}', ""])
def test_a_damaged_record_is_a_missing_one_that_says_so(tmp_path, torn):
    put(tmp_path, "record.json", torn)
    assert (state_of(tmp_path).status, "damaged" in state_of(tmp_path).reason) == ("queued", True)
    started(tmp_path)
    assert (state_of(tmp_path).status, "damaged" in state_of(tmp_path).reason) == ("interrupted", True)
    claimed(tmp_path, owner.token())
    assert (state_of(tmp_path).status, "damaged" in state_of(tmp_path).reason) == ("running", True)


def test_a_record_of_a_newer_schema_is_refused(tmp_path):
    put(tmp_path, "record.json", {"schema": 99, "status": "done"})
    with pytest.raises(BadInput, match="schema 99"):
        state_of(tmp_path)


def test_a_run_that_ends_while_it_is_looked_at_is_done(tmp_path, monkeypatch):
    started(tmp_path)

    def ends(folder):
        put(folder, "record.json", made.record(LINE))

    monkeypatch.setattr(lock, "holder", ends)
    assert state_of(tmp_path).status == "done"


def test_a_record_that_goes_while_it_is_looked_at_was_missing(tmp_path, monkeypatch):
    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr("bench.sweep.state.recorded", gone)
    monkeypatch.setattr("bench.sweep.state._attempts", lambda folder: [])
    assert state_of(tmp_path).status == "queued"


def test_of_a_run_that_ended_one_file_is_read_once(tmp_path, monkeypatch):
    """Ten thousand of them are looked at together."""
    put(tmp_path, "record.json", made.record(LINE))
    read = []
    monkeypatch.setattr("bench.sweep.state.recorded", lambda path: read.append(path.name) or recorded(path))
    monkeypatch.setattr(lock, "holder", lambda folder: pytest.fail("nobody holds what has ended"))
    assert state_of(tmp_path).status == "done" and read == ["record.json"]


def test_expected_by_the_nearest_kin():
    took = Durations()
    took.add(["soft", "task"], 10.0)
    took.add(["soft", "task"], 20.0)
    took.add(["none", "task"], 3.0)
    took.add(["none", "task"], None)
    took.add(["none", "task"], float("nan"))
    assert took.expected(["soft", "task"]) == 15 and took.expected(["none"]) == 3
    assert took.expected(["top_k", "task"]) == 11 and took.expected(["other"]) is None


@pytest.mark.parametrize(
    ("expected", "workers", "seconds", "unknown"),
    [
        ([], 2, 0, 0),
        ([10, 10, 10, 10], 2, 20, 0),
        ([30, 1, 1], 4, 30, 0),  # no earlier than its longest
        ([10, None], 1, 20, 1),
        ([None, None], 2, None, 2),
    ],
)
def test_makespan(expected, workers, seconds, unknown):
    assert makespan(expected, workers) == (seconds, unknown)


def test_a_tally_adds_up():
    lines = [
        made.entry(),
        made.entry("soft"),
        made.entry("soft"),
        made.entry(task="image_cnn", data="digits"),
    ]
    shown = tally([(line, ["runs"]) for line in lines], ["runs", "failed"])
    rows = [line.rsplit(maxsplit=2) for line in shown.splitlines()[2:]]
    assert rows == [
        ["image_cnn on digits", "1", "-"],
        ["  none", "1", "-"],
        ["text_gru on pydocs", "3", "-"],
        ["  none", "1", "-"],
        ["  soft", "2", "-"],
        ["all", "4", "-"],
    ]


def test_names():
    assert (count(1, "run"), count(1200, "run"), count(0, "cell")) == ("1 run", "1,200 runs", "0 cells")
    assert run_name(made.entry(dropout=0.2)) == "text_gru none dropout=0.2 wd=0 seed=1"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (580, "9 min 40 s"),
        (3599.7, "1 h"),
        (4801, "1 h 20 min"),
        (7199, "2 h"),
        (86_400, "1 d"),
        (86_460, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_in_words(seconds, words):
    assert in_words(seconds) == words
