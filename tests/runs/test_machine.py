"""Who may measure on a machine: one alone, or any number of runs, and whoever waits says for whom."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from bench.runs import machine

CODE = textwrap.dedent("""
    import sys
    from bench.runs import machine

    with getattr(machine, sys.argv[1])():
        print("has it", flush=True)
        input()
""")


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Starts a process that takes the machine `alone` or `among_others`, with locks of this test alone."""
    monkeypatch.setattr(machine.tempfile, "tempdir", str(tmp_path))
    started = []

    def start(how):
        command = [sys.executable, "-c", CODE, how]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, **pipes))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def until(look):
    deadline = time.monotonic() + 30
    while not (value := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def test_a_run_says_which_measurement_it_waits_for(process, capfd):
    measuring = process("alone")
    assert measuring.stdout.readline() == "has it\n"
    assert f"process {measuring.pid} (" in machine.measured_by()
    waiting = process("among_others")
    line = waiting.stderr.readline()
    assert line.startswith(f"{machine.WAITING} a measurement to end: process {measuring.pid} (")
    assert str(waiting.pid) not in machine.measured_by()  # it waits, and has nothing
    measuring.communicate("\n")
    assert waiting.stdout.readline() == "has it\n"
    assert waiting.stderr.readline().startswith("note: waited ")
    assert machine.measured_by() is None


def test_a_measurement_says_which_runs_it_waits_for(process):
    runs = [process("among_others") for _ in range(machine.NAMED + 2)]
    for run in runs:
        assert run.stdout.readline() == "has it\n" and machine.measured_by() is None
    line = process("alone").stderr.readline()
    assert line.startswith(f"{machine.WAITING} the machine to be free: process ")
    assert sum(f"process {run.pid} (" in line for run in runs) == machine.NAMED
    assert line.endswith(", and 2 more\n")


def test_a_measurement_that_was_stopped_is_named_with_what_lets_it_go_on(process):
    measuring = process("alone")
    assert measuring.stdout.readline() == "has it\n"
    measuring.send_signal(signal.SIGSTOP)
    until(lambda: f"which is stopped: `kill -CONT {measuring.pid}` lets it go on" in machine.measured_by())


def test_who_has_no_one_to_wait_for_says_nothing(process, capfd):
    with machine.among_others(), machine.among_others():
        pass
    with machine.alone():
        pass
    assert capfd.readouterr() == ("", "")


def test_runs_queue_behind_a_measurement_that_waits(process):
    run = process("among_others")
    assert run.stdout.readline() == "has it\n"
    measurement = process("alone")
    assert "the machine to be free" in measurement.stderr.readline()
    later = process("among_others")
    assert "a measurement to end" in later.stderr.readline()
    turns = []
    readers = [
        threading.Thread(target=lambda one=one: turns.append((one.stdout.readline(), one)), daemon=True)
        for one in (measurement, later)
    ]
    for reader in readers:
        reader.start()
    run.communicate("\n")
    until(lambda: turns)
    assert turns == [("has it\n", measurement)]
    measurement.stdin.write("\n")
    measurement.stdin.flush()
    for reader in readers:  # one that is still reading when the test ends would be an error of the next one
        reader.join(30)
    assert turns == [("has it\n", measurement), ("has it\n", later)]


def test_a_lock_whose_process_cannot_be_seen_is_said_so(process, monkeypatch):
    monkeypatch.setattr("psutil.process_iter", lambda: [])
    with machine._open_lock(machine.MACHINE) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert machine.measured_by() == "a process that cannot be seen from here"
