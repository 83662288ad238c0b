"""Start one run or measurement in fresh processes of its own, in 0.1 s: a fork server pays the imports once.

The process that the user started names the worker's module and never imports it: it stays free of torch.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.runs.store import draft
from bench.runs.worker import BUSY, blame, blame_path, blamed, enter

# A launcher's or another job's variables would make a run join ranks that are not its own. A notebook's MPLBACKEND
# names a module of its own environment, and matplotlib refuses to be imported where that is not there.
STRIPPED = (
    "LOCAL_RANK",
    "RANK",
    "GLOBAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
) + ("MASTER_ADDR", "MASTER_PORT", "MPLBACKEND")
STRIPPED_PREFIXES = ("PL_", "TORCHELASTIC_", "SLURM_", "SUBMITIT_", "RAY_", "HYDRA_")

WORKERS = ("bench.training.train", "bench.training.cost", "wandb.sdk.launch")
"""What every run imports; the last of them is half a second inside wandb.init, which imports it late."""

GRACE_S = 5.0
"""What is left of a run's ranks lives no longer than this after the first of them died."""
_PATIENCE_S = {0: 60.0, BUSY: 0.0}
"""But where the first rank ended well they may still have something to put away, and where it was busy nothing."""

_context = multiprocessing.get_context("forkserver")
_starting = threading.Lock()
_alive: set[BaseProcess] = set()
_stopping = threading.Event()


class Interrupted(Exception):
    """The run was ended by `kill_all`: it has no outcome."""


def preload(modules: Iterable[str]) -> None:
    """What the fork server imports besides the workers. Of use before the first run alone, which starts it."""
    _context.set_forkserver_preload([*WORKERS, *sorted(set(modules))])


@dataclass(frozen=True)
class Ending:
    """How a run's processes ended. `code`: of the first rank, or of the rank that died before it, negative for a
    signal. `reason`: one line where a rank above 0 was the cause, or where there is nothing but a code to tell."""

    code: int
    reason: str


def run_process(
    module: str, folder: Path, threads: int, ranks: int = 1, env: Mapping[str, str] | None = None
) -> Ending:
    """Run `module.main(folder)` in `ranks` new processes, each a session, and wait for them.

    env: variables of these processes alone.
    """
    meeting = draft(folder.resolve() / "ranks")
    shared = (module, str(folder.resolve()), time.time(), dict(env or {}))
    processes = [
        _context.Process(target=enter, args=(*shared, rank, ranks, str(meeting))) for rank in range(ranks)
    ]
    with _starting, _environment(threads), _deaf():
        if _stopping.is_set():
            raise Interrupted
        for process in processes:
            process.start()
            _alive.add(process)
    try:
        code = _joined(processes, meeting)
        reason = blamed(meeting) or died(code)
    finally:
        _alive.difference_update(processes)
        for path in (meeting, blame_path(meeting)):
            path.unlink(missing_ok=True)
    if _stopping.is_set():
        raise Interrupted
    return Ending(code, reason)


def _joined(processes: Sequence[BaseProcess], meeting: Path) -> int:
    """Wait for all; once one has died the others get a few seconds, because they may wait for it for ever."""
    ended, deadline = None, None
    while True:
        codes = [process.exitcode for process in processes]  # looked at once: one may end at any moment
        for rank, code in enumerate(codes):
            if ended is None and code is not None and (rank == 0 or code):
                ended, deadline = code, time.monotonic() + _PATIENCE_S.get(code, GRACE_S)
                if rank and code < 0:
                    blame(meeting, rank, died(code))
        running = [process for process, code in zip(processes, codes, strict=True) if code is None]
        if not running:
            return codes[0] if codes[0] > 0 else ended or 0
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not wait([process.sentinel for process in running], left):
            _kill(running)
            deadline = None


def died(code: int) -> str:
    """`killed by SIGKILL (out of memory?)`, or the exit code, in words."""
    if code >= 0:
        return f"the process ended with exit code {code} and left no record"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def kill_all() -> None:
    """End every run that this process started, at once (they leave no record and will be run again)."""
    _stopping.set()
    with _starting:  # so that none slips through between its start and its place in `_alive`
        alive = list(_alive)
    _kill(alive)


def stop_all() -> None:
    """Ask every run to save where it is and to end, and start no other; those that take too long are killed."""
    _stopping.set()
    with _starting:
        alive = list(_alive)
    for process in alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while any(process.exitcode is None for process in alive) and time.monotonic() < until:
        time.sleep(0.05)
    _kill(alive)


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        for end in (os.killpg, os.kill):  # a process of this instant leads no group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What this thread starts inherits both signals blocked: they are for the controller, which ends the rest.

    The fork server must outlive its runs when a whole group is told to end; a run hears SIGTERM again.
    """
    resource_tracker.ensure_running()  # here already, because its start ends with SIGINT unblocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
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
