import errno
import hashlib
import json
import subprocess
import sys
import textwrap
import time

import pytest
from omegaconf import OmegaConf

from bench.runs.owner import token
from bench.runs.store import DiskFull, read_json, write_json
from bench.runs.worker import (
    ATTEMPTS,
    BUSY,
    CONFIG,
    FULL,
    LONGEST,
    REQUEST,
    RESUME,
    STOPPED,
    Diverged,
    DoesNotApply,
    EarlyExit,
    Stopped,
    run_and_record,
)
from bench.tying.errors import BadInput

ASKED = {"schema": 1, "id": "abc"}


@pytest.fixture
def folder(tmp_path):
    """As the controller leaves it for a run to start in."""
    config = OmegaConf.to_yaml({"dropout": 0.5, "tying": {"k": None}})
    (tmp_path / CONFIG).write_text(config)
    write_json(tmp_path / REQUEST, {**ASKED, "config_sha256": hashlib.sha256(config.encode()).hexdigest()})
    (tmp_path / "env").write_text("torch==2\n")
    (tmp_path / "log").write_text("of an earlier attempt\n")
    return tmp_path


def settled(folder, work):
    run_and_record(folder, "record.json", work)
    return read_json(folder / "record.json")


def raising(error):
    def work(request, config):
        raise error

    return work


def test_a_record_is_the_request_the_config_and_what_the_work_gave(folder):
    seen = []

    def work(request, config):
        seen.append((request, config))
        return {"test": {"accuracy": 0.5}}

    began = time.time()
    record = settled(folder, work)
    assert began <= record.pop("ended_at") <= time.time()
    config = {"dropout": 0.5, "tying": {"k": None}}
    request = {**ASKED, "attempts": 1}
    assert seen == [(request, config)]
    assert record == {
        **{**request, "config": config},
        **{"status": "done", "reason": None, "test": {"accuracy": 0.5}},
    }


class Early(EarlyExit):
    status = "diverged"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Diverged("loss nan at step 3"), "diverged", "loss nan at step 3"),
        (DoesNotApply("no input embedding"), "not_applicable", "no input embedding"),
        (Early("by hand"), "diverged", "by hand"),
        (BadInput("model.depth=4: set 3"), "failed", "model.depth=4: set 3"),
        (ValueError("sizes differ:\n  3\n  4"), "failed", "ValueError: sizes differ: 3 4"),
        (RuntimeError(), "failed", "RuntimeError: no message"),
        (KeyError("nll"), "failed", "KeyError: 'nll'"),
        (MemoryError("x" * 10_000), "failed", f"MemoryError: {'x' * LONGEST}..."),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt: no message"),
    ],
)
def test_whatever_ends_the_work_becomes_a_record_of_one_line(folder, capsys, error, status, reason):
    record = settled(folder, raising(error))
    assert (record["status"], record["reason"]) == (status, reason)
    assert record["id"] == "abc" and record["config"]["dropout"] == 0.5
    assert record.get("bad_input", False) == isinstance(error, BadInput)
    # What was not foreseen leaves its traceback in the log.
    foreseen = isinstance(error, EarlyExit | BadInput)
    assert ("Traceback" in capsys.readouterr().err) != foreseen


def test_work_that_does_not_fit_into_json_leaves_no_torn_record(folder):
    with pytest.raises(TypeError):
        run_and_record(folder, "record.json", lambda *_: {"test": object()})
    assert not (folder / "record.json").exists()


def test_what_is_settled_is_not_done_again(folder):
    settled(folder, lambda *_: {"test": 1})
    before = (folder / "record.json").read_bytes()
    (folder / "best.ckpt").write_text("of the first")
    run_and_record(folder, "record.json", raising(AssertionError("a second time")))
    assert (folder / "record.json").read_bytes() == before
    assert (folder / "best.ckpt").exists()


def test_a_damaged_record_is_made_again(folder):
    (folder / "record.json").write_text('{"id"')
    assert settled(folder, lambda *_: {"test": 2})["test"] == 2


def test_a_run_starts_from_nothing(folder):
    (folder / "wandb" / "run").mkdir(parents=True)
    dead = f".record.json.{token().rpartition('-')[0]}-1-0.tmp"  # of a process that began with the machine
    for name in ("wandb/run/x", "best.ckpt", "status.json", "curves.csv", dead):
        (folder / name).write_text("left over")

    def work(*_):
        return {"seen": sorted(path.name for path in folder.iterdir())}

    assert settled(folder, work)["seen"] == [".claim", ATTEMPTS, CONFIG, "env", "log", REQUEST]
    assert (folder / "log").read_text() == ""
    assert (folder / "env").read_text() == "torch==2\n"


def test_what_a_resume_point_needs_is_kept_until_there_is_a_record(folder):
    for name in (RESUME, "best.ckpt", "curves.csv"):
        (folder / name).write_text("of an earlier attempt")

    def work(request, _):
        assert {RESUME, "best.ckpt", "curves.csv"} <= {path.name for path in folder.iterdir()}
        return {"seen": request["attempts"]}

    with pytest.raises(SystemExit, match=str(STOPPED)):
        run_and_record(folder, "record.json", raising(Stopped("step 3")))
    assert not (folder / "record.json").exists() and (folder / RESUME).exists()
    assert settled(folder, work)["seen"] == 2
    assert not (folder / RESUME).exists() and (folder / "best.ckpt").exists()
    assert "of an earlier attempt" in (folder / "log").read_text()


def test_a_folder_in_the_place_of_the_checkpoint_is_one_line_and_a_new_beginning(folder, capsys):
    (folder / RESUME / "deep").mkdir(parents=True)
    record = settled(folder, lambda *_: {"seen": sorted(path.name for path in folder.iterdir())})
    assert record["status"] == "done" and RESUME not in record["seen"]
    assert capsys.readouterr().err == f"note: {RESUME} was a folder and no checkpoint: the run begins again\n"


def test_a_failed_run_keeps_its_resume_point_for_a_retry(folder):
    (folder / RESUME).write_text("x")
    assert settled(folder, raising(RuntimeError("disk on fire")))["status"] == "failed"
    assert (folder / RESUME).exists()


def test_a_config_that_was_edited_after_it_was_asked_for_is_refused(folder):
    (folder / CONFIG).write_text("dropout: 0.6\n")
    record = settled(folder, raising(AssertionError("it must not run")))
    assert (record["status"], record["bad_input"]) == ("failed", True)
    assert "was edited" in record["reason"] and "retry=true" in record["reason"]


def test_two_processes_on_one_folder_do_the_work_once_and_the_other_says_so(folder):
    code = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from bench.runs.worker import run_and_record

        def work(request, config):
            with open(sys.argv[2], "a") as file:
                file.write("done\\n")
            time.sleep(0.5)
            return {"test": 1}

        run_and_record(Path(sys.argv[1]), "record.json", work)
    """)
    done = folder.parent / "done"
    both = [subprocess.Popen([sys.executable, "-c", code, str(folder), str(done)]) for _ in range(2)]
    assert sorted(process.wait(30) for process in both) == [0, BUSY]
    assert done.read_text() == "done\n"
    assert json.loads((folder / "record.json").read_text())["test"] == 1


def test_a_process_that_dies_frees_its_lock(folder):
    code = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from bench.runs.worker import run_and_record

        run_and_record(Path(sys.argv[1]), "record.json", lambda *_: os._exit(9))
    """)
    assert subprocess.run([sys.executable, "-c", code, str(folder)]).returncode == 9
    assert not (folder / "record.json").exists()
    assert settled(folder, lambda *_: {"test": 1})["status"] == "done"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("raised", [OSError, DiskFull])
def test_a_full_disk_is_no_outcome(folder, number, raised):
    """It says nothing about the run, which goes on once there is room."""
    error = OSError(number, "no room") if raised is OSError else DiskFull("no room")
    (folder / RESUME).write_text("where it was")
    with pytest.raises(SystemExit) as end:
        run_and_record(folder, "record.json", raising(error))
    assert end.value.code == FULL
    assert not (folder / "record.json").exists() and (folder / RESUME).exists()
