"""Start one run or measurement in a fresh process of its own, in 0.1 s: a fork server pays the imports once.

The process that the user started names the worker's module and never imports it: it stays free of torch.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.worker import enter

# A launcher's or another job's variables would make a run join ranks that are not its own.
STRIPPED = (
    "LOCAL_RANK",
    "RANK",
    "GLOBAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
) + ("MASTER_ADDR", "MASTER_PORT")
STRIPPED_PREFIXES = ("PL_", "TORCHELASTIC_", "SLURM_", "SUBMITIT_", "RAY_", "HYDRA_")

WORKERS = ("bench.run", "bench.cost", "wandb.sdk.launch")
"""What every run imports; the last of them is half a second inside wandb.init, which imports it late."""

_context = multiprocessing.get_context("forkserver")
_starting = threading.Lock()
_alive: set[BaseProcess] = set()
_stopping = threading.Event()


class Interrupted(Exception):
    """The run was ended by `kill_all`: it has no outcome."""


def preload(modules: Iterable[str]) -> None:
    """What the fork server imports besides the workers. Of use before the first run alone, which starts it."""
    _context.set_forkserver_preload([*WORKERS, *sorted(set(modules))])


def run_process(module: str, folder: Path, threads: int) -> int:
    """Run `module.main(folder)` in a new process and session and wait for it; returns its exit code."""
    process = _context.Process(target=enter, args=(module, str(folder.resolve()), time.time()))
    with _starting, _environment(threads), _deaf_to_ctrl_c():
        if _stopping.is_set():
            raise Interrupted
        process.start()
        _alive.add(process)
    try:
        process.join()
    finally:
        _alive.discard(process)
    if _stopping.is_set():
        raise Interrupted
    return process.exitcode or 0


def kill_all() -> None:
    """End every run that this process started, at once (they leave no record and will be run again)."""
    _stopping.set()
    with _starting:  # so that none slips through between its start and its place in `_alive`
        alive = list(_alive)
    for process in alive:
        for end in (os.killpg, os.kill):  # a process of this instant leads no group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What this thread starts inherits SIGINT blocked: Ctrl-C is for the controller, which ends the rest."""
    resource_tracker.ensure_running()  # here already, because its start ends with SIGINT unblocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """The environment as the fork server must see it when the first process starts it."""
    before = dict(os.environ)
    for name in before:
        if name in STRIPPED or name.startswith(STRIPPED_PREFIXES):
            del os.environ[name]
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
