"""Waiting for the machine: whoever waits says for whom."""

import subprocess
import sys

HOLD = "from bench import machine\nwith machine.alone(): print(flush=True), input()"
WAIT = "from bench import machine\nwith machine.among_others(): pass"


def test_whoever_waits_says_for_whom(tmp_path):
    env = {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    with subprocess.Popen([sys.executable, "-c", HOLD], **pipes) as holder:
        holder.stdout.readline()
        with subprocess.Popen(
            [sys.executable, "-c", WAIT], stderr=subprocess.PIPE, text=True, env=env
        ) as waiting:
            words = waiting.stderr.readline()
            holder.communicate("\n")
            assert waiting.wait(60) == 0
            assert waiting.stderr.read() == ""
    assert words.startswith("waiting, because costs are measured alone on a machine: ")
    assert (
        f"process {holder.pid} ({sys.executable} -c from bench import"[:60] in words
        or "another process" in words
    )


def test_whoever_does_not_wait_says_nothing(tmp_path):
    env = {"TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", WAIT], capture_output=True, text=True, env=env, check=True)
    assert result.stderr == ""
