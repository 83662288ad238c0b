"""The command as a process: what tests of `python -m bench` from outside share."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import forked

ROOT = Path(__file__).parents[1]
TINY = [
    "model.depth=6",
    "model.width=4",
    "logger=none",
    "trainer.limit_train_batches=2",
    "trainer.max_epochs=1",
]
TINY += ["trainer.limit_eval_batches=1", "measure.min_calls=1", "measure.min_seconds=0", "measure.cold=false"]
BROKEN = ["model._target_=broken_network.Broken"]
"""A network that fails at depth 9 when it runs, and not before."""


def _hear_ctrl_c() -> None:
    """A job that a shell put into the background ignores SIGINT, and so would all that the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


Process = subprocess.Popen[str] | forked.Started


def _ended(process: Process) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class Bench:
    """The command with folders of its own; its lock on the machine is its own too."""

    def __init__(self, folder: Path, cache: Path, scratch: str) -> None:
        self.folder, self.runs, self.results = folder, folder / "runs", folder / "results"
        self.started: list[Process] = []
        self.places = [f"runs={self.runs}", f"results={self.results}", f"cache={cache}"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_", "BENCH_"))}
        self.env = {**kept, "TMPDIR": scratch, "OMP_NUM_THREADS": "1"}
        self.env["PYTHONPATH"] = str(ROOT / "tests")  # of `broken_network`

    def start(self, *overrides: str, **env: str) -> forked.Started:
        """Start the command in a process that is spared the imports."""
        return self._kept(forked.Started(self.command(*overrides), ROOT, {**self.env, **env}))

    def start_python(
        self, *overrides: str, cwd: Path = ROOT, inside: Sequence[str] = (), **env: str
    ) -> subprocess.Popen[str]:
        """Start the command in a new interpreter, as a user does."""
        process = subprocess.Popen(
            [*inside, *self.command(*overrides)],
            cwd=cwd,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C of the test goes to what it started alone
            preexec_fn=_hear_ctrl_c,
        )
        return self._kept(process)

    def __call__(self, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
        return _ended(self.start(*overrides, **env))

    def as_a_user(self, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
        return _ended(self.start_python(*overrides, **env))

    def _kept(self, process: Process) -> Process:
        self.started.append(process)
        return process

    def command(self, *overrides: str) -> list[str]:
        flag, rest = (["-m"], overrides[1:]) if overrides[0] == "-m" else ([], overrides)
        return [sys.executable, "-m", "bench", *flag, *self.places, *TINY, *rest]

    def records(self) -> dict[str, dict[str, Any]]:
        found = {path.parent.name: json.loads(path.read_text()) for path in self.runs.glob("*/record.json")}
        assert all(record["id"] == run_id for run_id, record in found.items())
        return found

    def stamps(self) -> dict[Path, int]:
        paths = [*self.runs.glob("*/record.json"), *self.runs.glob("costs/*/cost.json")]
        return {path: path.stat().st_mtime_ns for path in paths}

    def workers(self) -> dict[str, int]:
        """Process by the run that it works on: those whose output goes into a folder of `runs`."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                target = Path(os.readlink(entry / "fd" / "1"))
                if target.name == "log" and self.runs in target.parents:
                    found[target.parent.name] = int(entry.name)
        return found


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")


def refused(result: subprocess.CompletedProcess[str], *said: str) -> None:
    """One line that says so, and the code of bad input."""
    assert result.stderr.startswith("error: "), result.stderr
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n"), result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    for word in said:
        assert word in result.stderr
    assert result.returncode == 2
