"""A run's processes: how they are started, and that none outlives its run."""

import ast
import hashlib
import os
import signal
import threading
import time

import pytest

from bench.runs import process
from bench.runs.process import Runner
from bench.runs.store import read_json, write_json
from bench.runs.worker import CONFIG, REQUEST, STOPPED
from bench.training.distributed import RENDEZVOUS_S


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.5)


def asked_for(folder):
    """As the controller leaves it for a run to start in."""
    folder.mkdir()
    config = "dropout: 0.5\n"
    (folder / CONFIG).write_text(config)
    write_json(folder / REQUEST, {"config_sha256": hashlib.sha256(config.encode()).hexdigest()})
    return folder


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory):
    """It runs, its imports made: what these take says nothing of ranks that wait for each other.

    It was started inside a job of SLURM and under an agent of W&B.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SLURM_NTASKS", "MASTER_PORT", "WANDB_RUN_ID"):
            patch.setenv(name, "4")
        Runner().run("rank_body", asked_for(tmp_path_factory.mktemp("first") / "tells"), 1)


@pytest.fixture
def started(tmp_path, fork_server):
    """The processes of one run, by what they do."""

    def start(what, ranks=1, runner=None, **given):
        folder = asked_for(tmp_path / what)
        began = time.monotonic()
        ending = (runner or Runner()).run("rank_body", folder, 1, ranks, **given)
        assert time.monotonic() - began < RENDEZVOUS_S / 2  # none waited for another
        left = [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]
        assert left == []
        return folder, ending

    return start


def test_one_process_knows_of_no_ranks(started):
    folder, ending = started("tells", env={"CUDA_VISIBLE_DEVICES": "3"})
    assert ending.code == 0
    assert ast.literal_eval((folder / "told-0").read_text()) == {"CUDA_VISIBLE_DEVICES": "3", "group": True}


def test_a_run_inherits_the_account_of_wandb_and_no_run_of_it(monkeypatch):
    for name in ("RUN_ID", "RESUME", "RUN_GROUP", "SWEEP_ID", "HTTP_TIMEOUT", "MODE", "API_KEY", "BASE_URL"):
        monkeypatch.setenv(f"WANDB_{name}", "x")
    before = dict(os.environ)
    with process._environment(threads=1):
        kept = {name for name in os.environ if name.startswith("WANDB_")}
    assert kept == {"WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"} and os.environ == before


def test_each_rank_is_a_session_that_knows_its_number(started):
    folder, ending = started("tells", ranks=2)
    assert ending.code == 0
    for rank in ("0", "1"):
        seen = ast.literal_eval((folder / f"told-{rank}").read_text())
        assert seen["group"] and seen["RANK"] == seen["LOCAL_RANK"] == rank and seen["WORLD_SIZE"] == "2"
    assert (folder / "log").exists() and (folder / "log-rank1").exists()


def test_the_record_names_the_rank_that_failed_and_not_the_innocent(started):
    folder, ending = started("rank_raises", ranks=2)
    assert read_json(folder / "record.json")["reason"] == "rank 1: ValueError: no luck"
    assert "no luck" in (folder / "log-rank1").read_text()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("rank_is_killed", "rank 1: killed by SIGKILL (out of memory?)"),
        ("first_is_killed", "killed by SIGKILL (out of memory?)"),
    ],
)
def test_a_dead_rank_ends_the_others_within_seconds(started, hasty, what, reason):
    _, ending = started(what, ranks=2)
    assert (ending.code, ending.reason) == (-signal.SIGKILL, reason)


def test_what_is_being_done_elsewhere_ends_all_ranks_at_once(started):
    _, ending = started("busy", ranks=2)
    assert ending.code == 75


def test_a_rank_that_has_ended_before_anyone_looks_is_seen(monkeypatch, tmp_path):
    """Its end would else be noticed only at the next one's, which may wait for it for ever."""

    class Ended:
        exitcode, pid, sentinel = 75, 0, None

    class Hanging:
        exitcode, pid, sentinel = None, 0, None

    hanging = Hanging()
    monkeypatch.setattr(
        process, "wait", lambda sentinels, left: [] if left is not None else pytest.fail("waits")
    )
    monkeypatch.setattr(process, "_kill", lambda processes: [setattr(p, "exitcode", -9) for p in processes])
    assert process._joined([Ended(), hanging], tmp_path / "rendezvous") == 75 and hanging.exitcode == -9


@pytest.mark.parametrize("by_signal", [False, True])
def test_runs_that_do_not_stop_when_asked_are_killed(started, hasty, tmp_path, by_signal):
    runner, other = Runner(), Runner()

    def stop():
        while not (tmp_path / "all_hang" / "hangs-1").exists():
            time.sleep(0.02)
        process.stop_all() if by_signal else runner.stop_all()

    threading.Thread(target=stop).start()
    with pytest.raises(process.Interrupted):
        started("all_hang", ranks=2, runner=runner)
    assert runner._alive == set()
    with pytest.raises(process.Interrupted):  # and no other is started
        runner.run("rank_body", tmp_path / "all_hang", 1)
    if by_signal:  # which is for every runner there is
        with pytest.raises(process.Interrupted):
            other.run("rank_body", tmp_path / "all_hang", 1)
    assert started("tells", runner=Runner() if by_signal else other)[1].code == 0


def test_a_process_whose_folder_is_gone_ends_without_a_word(started, tmp_path, capfd):
    """As after Ctrl-C while the fork server started."""
    assert Runner().run("rank_body", tmp_path / "gone", 1).code == STOPPED
    assert capfd.readouterr().err == "" and not (tmp_path / "gone").exists()


def test_a_code_is_told_in_words():
    assert process.died(-signal.SIGKILL) == "killed by SIGKILL (out of memory?)"
    assert process.died(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert process.died(3) == "the process ended with exit code 3 and left no record"
