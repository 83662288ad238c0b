"""Sweeps on a folder of their own, as a user starts them, and the processes that they start. Imports no torch."""

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.runs.machine import ROOT
from bench.runs.store import recorded
from bench.runs.worker import RESUME

TESTS = ROOT / "tests"
"""Where a run finds the network that breaks."""

BREAK = "BENCH_CHAOS_BREAK"
"""Variable with a path: while there is a file, `Fragile` networks break."""

SHORT = ["model.depth=6", "model.width=8", "trainer.max_epochs=5", "trainer.limit_train_batches=10"]
SHORT += ["trainer.limit_eval_batches=2", "trainer.checkpoint_every_s=0.05", "measure.min_calls=1"]
SHORT += ["measure.min_seconds=0", "measure.cold=false", "logger=none", "hydra.launcher.n_jobs=2"]
"""Runs of a second or two, of which one has its first checkpoint soon."""

WIDE = ["task=text_gru", "model.width=768", "task.batches.batch_size=2", "task.batches.window=4"]
WIDE += ["trainer.checkpoint_every_s=null", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]
"""One that needs some 100 MiB more than the others."""


def grids(runs: int) -> dict[str, list[str]]:
    """Overrides by sweep: `runs` runs that are killed at random, half of them of two ranks; one or few a fault."""
    tasks = "task=image_cnn,text_gru" if runs >= 16 else "task=image_cnn"
    seeds = ",".join(str(seed) for seed in range(1, runs // (4 if runs >= 16 else 2) + 1))
    found = {
        "killed": [tasks, "tying=soft", "dropout=0.1", "trainer.devices=1,2", f"seed={seeds}"],
        "mirrored": ["logger=wandb", "seed=101,102"],
        "broken": ["model._target_=chaos.fragile.Fragile", "trainer.max_epochs=9"],
        "starved": WIDE,
        "diverging": ["optimizer.lr=1e6", "optimizer.clip=null"],
        "unwritten": ["seed=201,202,203,204"],
    }
    return {name: [*SHORT, *words, f"sweep.name={name}"] for name, words in found.items()}


class Sweeps:
    """`folder` gets runs/ and results/. `scratch`: short, and of these sweeps alone: it is how they are told."""

    def __init__(self, folder: Path, cache: Path, scratch: Path, overrides: Mapping[str, list[str]]) -> None:
        self.folder, self.scratch, self.overrides = folder, scratch, overrides
        self.runs, self.logs = folder / "runs", folder.with_suffix(".logs")
        self.logs.mkdir(parents=True)
        self.started: list[subprocess.Popen[bytes]] = []
        self.places = [f"runs={self.runs}", f"results={folder / 'results'}", f"cache={cache}"]

    def start(
        self,
        name: str,
        *more: str,
        limits: Iterable[tuple[int, int]] = (),
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """limits: (what, how much) for setrlimit, for the controller and all that it starts."""

        def limit() -> None:
            for what, most in limits:
                resource.setrlimit(what, (most, most))

        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_", "BENCH_"))}
        with (self.logs / f"{len(list(self.logs.iterdir())):03}-{name}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench", "-m", *self.overrides[name], *self.places, *more],
                cwd=ROOT,
                env={**kept, "TMPDIR": str(self.scratch), "PYTHONPATH": str(TESTS), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=limit,
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Of what was started nothing goes on; none of it does after a chaos run that came to its end."""
        for process in self.started:
            if process.poll() is None:
                process.kill()

    def finish(self, name: str, *more: str, **how: Any) -> int:
        return self.start(name, *more, **how).wait(timeout=900)

    def last_line(self) -> str:
        """Of what the last controller that was started said."""
        return (max(self.logs.iterdir()).read_text().splitlines() or [""])[-1]

    def workers(self) -> dict[int, Path]:
        """The log, which says run and rank, of each process that is at a run or a measurement."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                log = Path(os.readlink(entry / "fd" / "1"))
                ours = log.name.startswith("log") and self.runs in log.parents
                if ours and (entry / "comm").read_text() != "wandb-core\n":
                    found[int(entry.name)] = log
        return found

    def saved(self) -> dict[int, Path]:
        """Those whose run has a checkpoint to go on from."""
        return {pid: log for pid, log in self.workers().items() if (log.parent / RESUME).exists()}

    def processes(self) -> list[str]:
        """All that the controllers started, W&B's own included, wherever they went: dead ones do not count."""
        found, mark = [], f"TMPDIR={self.scratch}\0".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
        return found

    def records(self) -> list[dict[str, Any]]:
        return [recorded(path) or {} for path in sorted(self.runs.glob("*/record.json"))]

    def record(self, name: str) -> dict[str, Any]:
        """Of the first run of a sweep; {} where there is none."""
        manifest = recorded(self.runs / "sweeps" / f"{name}.json")
        return {} if manifest is None else recorded(self.path(manifest["runs"][0]["id"])) or {}

    def path(self, run_id: str) -> Path:
        return self.runs / run_id / "record.json"


def data_bytes(pid: int) -> int:
    """What a process has of memory of its own, as RLIMIT_DATA counts it; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def until(look: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """What `look` finds first, or nothing where the process ended before."""
    while process.poll() is None:
        if found := look():
            return found
        time.sleep(0.0005)
    return look()


def fill(path: Path) -> None:
    """Take all that is left of the file system of `path`."""
    block = bytes(2**20)
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(block):
            pass
