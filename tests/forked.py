"""`python -m MODULE ...` in a process of its own that is spared the imports: the fork server of the tests starts it.

What it prints, leaves and returns is what a new interpreter would. Only the start of one is not tested so: each
command has a test that starts it as a user does.
"""

import multiprocessing.forkserver
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from bench.runs import process


def run(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of [PYTHON, "-m", MODULE, ...], what it prints captured as text."""
    started = Started(command, cwd, env)
    try:
        out, err = started.communicate(timeout)
    finally:
        started.kill()
    return subprocess.CompletedProcess(command, started.returncode, out, err)


class Started:
    """As `subprocess.Popen` of [PYTHON, "-m", MODULE, ...] in a session of its own, what it prints captured as text."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        assert command[1] == "-m"
        self.args, self._folder = command, tempfile.TemporaryDirectory()
        self._streams = Path(self._folder.name, "out"), Path(self._folder.name, "err")
        arguments = (command[2:], str(cwd), dict(env), *self._streams)
        self._process = process._context.Process(target=_begin, args=arguments)
        with process._starting, process._environment(1), process._block_signals():
            self._process.start()
        self.pid, self.kill, self.terminate = self._process.pid, self._process.kill, self._process.terminate

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end. Only the first call returns what it printed."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        out, err = (path.read_text() if path.exists() else "" for path in self._streams)
        self._folder.cleanup()
        return out, err


def _begin(words: Sequence[str], cwd: str, env: Mapping[str, str], out: Path, err: Path) -> None:
    """Be as a new interpreter that was started with this command line, folder and environment."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # anew from TMPDIR
    sys.path[:0] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    multiprocessing.forkserver._forkserver.ensure_running = resource_tracker.ensure_running
    process._context.Process = _Run
    sys.argv = list(words)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


class _Run(ForkServerProcess):
    """A run that the command starts: from the same fork server, in the environment that it would have."""

    def start(self) -> None:
        self._target, self._args = _in_environment, (dict(os.environ), self._target, self._args)
        super().start()


def _in_environment(env: Mapping[str, str], target: Callable[..., None], arguments: Sequence[Any]) -> None:
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None
    target(*arguments)
