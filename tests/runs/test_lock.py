"""Who is at work in a run's folder: one process at a time, and never a dead one."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

from bench.runs import lock, owner
from bench.runs.store import remove_stale_temporaries, temporary_path


def dead_owner() -> str:
    """Token of a process that was alive and is not."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = owner.token(process.pid)
        assert owner.alive(token) is True
        process.kill()
        process.wait()
    return token


def locked_by(folder, who, age_s=0.0):
    path = folder / lock.LOCK_FILE
    path.write_text(json.dumps({"owner": who, "host": "elsewhere"}))
    os.utime(path, (time.time() - age_s, time.time() - age_s))


def abroad(who: str) -> str:
    return f"0123456789-{who.split('-', 1)[1]}"


def test_a_token_names_one_process_and_no_other():
    mine = owner.token()
    assert owner.alive(mine) is True
    machine, pid, started = mine.split("-")
    assert (
        owner.alive(f"{machine}-{pid}-{int(started) + 1}") is False
    )  # its number was given to a later process
    assert owner.alive(abroad(mine)) is None
    assert owner.alive("nonsense") is False
    assert owner.alive(dead_owner()) is False


def test_a_zombie_is_dead():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        token = owner.token(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.alive(token) is False


def test_a_folder_is_held_by_one(tmp_path):
    assert lock.holder(tmp_path) is None
    with lock.held(tmp_path) as mine:
        assert mine
        holder = lock.holder(tmp_path)
        assert holder.owner == owner.token() and holder.alive and holder.at_work and holder.age_s < 5
        with lock.held(tmp_path) as second:
            assert not second
        assert lock.holder(tmp_path) == holder  # whoever did not get it takes nothing away
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_free_at_once(tmp_path):
    locked_by(tmp_path, dead_owner())
    assert not lock.holder(tmp_path).at_work
    with lock.held(tmp_path) as mine:
        assert mine


@pytest.mark.parametrize("content", ['{"own', "[1]", '{"a": 1}', '{"owner": 5, "host": null}'])
def test_a_lock_that_nobody_can_read_is_free(tmp_path, content):
    (tmp_path / lock.LOCK_FILE).write_text(content)
    with lock.held(tmp_path) as mine:
        assert mine


def test_a_process_of_another_machine_is_believed_as_long_as_it_is_heard_of(tmp_path):
    locked_by(tmp_path, abroad(owner.token()), age_s=30)
    assert lock.holder(tmp_path).alive is None and lock.holder(tmp_path).at_work
    with lock.held(tmp_path) as mine:
        assert not mine


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.05)


def test_a_silent_process_of_another_machine_loses_its_lock(tmp_path, hasty):
    locked_by(tmp_path, abroad(owner.token()), age_s=120)
    with lock.held(tmp_path) as mine:
        assert mine


def test_a_lock_from_the_future_is_free_where_its_beat_stands_still(tmp_path, hasty):
    """A clock that was ahead, then a crash: nobody may have to wait until that time has come."""
    locked_by(tmp_path, abroad(owner.token()), age_s=-3600)
    assert not lock.holder(tmp_path).at_work
    with lock.held(tmp_path) as mine:
        assert mine


@pytest.mark.parametrize("age_s", [120, -120])
def test_clocks_that_differ_do_not_make_a_living_process_dead(tmp_path, hasty, monkeypatch, age_s):
    """Its beats look two minutes old, or to come, from here, but they move: only one that stands still is proof."""
    who = abroad(owner.token())
    locked_by(tmp_path, who, age_s)
    sleep = time.sleep

    def beating(seconds):
        sleep(seconds)
        locked_by(tmp_path, who, age_s - 1)

    monkeypatch.setattr(lock.time, "sleep", beating)
    with lock.held(tmp_path) as mine:
        assert not mine


def test_the_beat_goes_on_while_the_folder_is_held(tmp_path, hasty):
    with lock.held(tmp_path):
        os.utime(tmp_path / lock.LOCK_FILE, (1, 1))
        until = time.monotonic() + 5
        while lock.holder(tmp_path).beat == 1 and time.monotonic() < until:
            time.sleep(0.02)
        assert lock.holder(tmp_path).age_s < 5


def test_many_heirs_of_a_stale_lock_take_turns(tmp_path):
    """Eight processes, one stale lock each time round: whoever is inside is alone there, and all get their turn."""
    locked_by(tmp_path, dead_owner())
    code = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from bench.runs import lock

        folder, turns = Path(sys.argv[1]), 0
        while turns < 5:
            with lock.held(folder) as mine:
                if mine:
                    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
                    time.sleep(0.001)
                    os.unlink(folder / "inside")
                    turns += 1
        with lock.held(folder) as mine:
            os._exit(0)  # some end inside and leave a stale lock behind
    """)
    heirs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(8)]
    assert [heir.wait(60) for heir in heirs] == [0] * 8
    assert not (tmp_path / "inside").exists()


def test_tidy_removes_the_drafts_of_the_dead_alone(tmp_path):
    living, dead = temporary_path(tmp_path / "record.json"), f".record.json.{dead_owner()}-0.tmp"
    of_another_machine = f".record.json.{abroad(owner.token())}-0.tmp"
    for name in (living.name, dead, of_another_machine, "record.json"):
        (tmp_path / name).write_text("x")
    remove_stale_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [living.name, of_another_machine, "record.json"]
    )
    os.utime(tmp_path / of_another_machine, (1, 1))
    remove_stale_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([living.name, "record.json"])
    remove_stale_temporaries(tmp_path / "no such folder")


def test_without_proc_a_process_is_looked_up_by_its_number(monkeypatch, tmp_path):
    machine, pid, _ = owner.token().split("-")  # before, as the machine's name is kept
    monkeypatch.setattr(owner, "_PROC", tmp_path)
    assert owner.alive(f"{machine}-{pid}-0") is True
    assert owner.alive(dead_owner()) is False


def test_a_beat_a_little_ahead_of_our_clock_is_believed(tmp_path):
    locked_by(tmp_path, abroad(owner.token()), age_s=-30)
    assert lock.holder(tmp_path).at_work
    with lock.held(tmp_path) as mine:
        assert not mine
