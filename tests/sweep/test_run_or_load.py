"""Which record stands for a cell: a failure answers only for the settings that it failed under."""

import copy

import pytest
from cell_maker import made

from bench.runs.store import ENDED, Status, read_records, write_json
from bench.sweep.run_or_load import ensure_cost, ensure_run

OUTSIDE = ("trainer.threads=2", "trainer.accelerator=cpu", "trainer.checkpoint_every_s=7", "logger=csv")
"""Settings that are no part of a run's identity and can make it fail."""


@pytest.fixture
def cell(tmp_path):
    return lambda *overrides: made(f"runs={tmp_path}", *overrides)


@pytest.mark.parametrize("ensure", [ensure_run, ensure_cost])
@pytest.mark.parametrize("status", ENDED)
def test_a_record_stands_for_the_same_command(cell, ensure, status):
    record = ensure.record_ending(cell(), status, "so it was")
    assert ensure.load(cell()) == record


@pytest.mark.parametrize("setting", OUTSIDE)
def test_a_failure_under_other_settings_is_no_answer(cell, setting):
    other = cell(setting)
    assert other.id == cell().id
    ensure_run.record_ending(other, Status.FAILED, "too many threads")
    assert ensure_run.load(other)["status"] == Status.FAILED
    assert ensure_run.load(cell()) is None
    ensure_run.record_ending(other, Status.NOT_APPLICABLE, "no embedding")  # which no such setting changes
    assert ensure_run.load(cell())["status"] == Status.NOT_APPLICABLE


def test_a_failure_recorded_before_a_key_was_there_stands(cell):
    older = copy.deepcopy(ensure_run.record_ending(cell(), Status.FAILED, "as it was"))
    del older["config"]["task"]["kind"], older["config"]["trainer"]["checkpoint_every_s"], older["logger"]
    write_json(ensure_run.path(cell()), older)
    assert ensure_run.load(cell()) == older


@pytest.mark.parametrize(
    "text", ["{}", "[]", "3", '{"status": "ok"}', '{"status": []}', '{"schema": "new"}', "torn"]
)
def test_json_that_is_none_of_ours_is_no_record(cell, text):
    path = ensure_run.path(cell())
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert ensure_run.load(cell()) is None
    (record,) = read_records(cell().runs, [cell().id]).values()
    assert record["status"] == Status.FAILED and "delete it and run the sweep again" in record["reason"]
