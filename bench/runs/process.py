"""Start one run or measurement in new processes of its own, in 0.1 s: a fork server pays the imports once.

The process that the user started names the worker's module and never imports it: it stays free of torch.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from bench.runs.store import temporary_path
from bench.runs.worker import BUSY, enter, rank_failure, rank_failure_path, record_rank_failure

STRIPPED = {
    *("LOCAL_RANK", "RANK", "GLOBAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "MPLBACKEND"),
}
STRIPPED_PREFIXES = ("PL_", "TORCHELASTIC_", "SLURM_", "SUBMITIT_", "RAY_", "HYDRA_", "WANDB_")
"""Variables that a run does not inherit: with those of a launcher or of another job it would join ranks that are not
its own, and matplotlib cannot be imported where a notebook's MPLBACKEND names a module that is not here."""

WANDB_ACCOUNT = {
    *("WANDB_MODE", "WANDB_ENTITY", "WANDB_BASE_URL", "WANDB_APP_URL", "WANDB_INSECURE_DISABLE_SSL"),
    *("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_CREDENTIALS_FILE"),
    *("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"),
}
"""The variables of W&B that a run inherits: which account and server, and where W&B keeps files. The others, such as
WANDB_RUN_ID and WANDB_RESUME, say which run it is, and how it is made: that is decided here."""

WORKERS = ("bench.training.train", "bench.training.cost")
"""What every run imports."""

GRACE_S = 5.0
"""How long the other ranks of a run may live on after one of them died."""

_GRACE_BY_CODE_S = {0: 60.0, BUSY: 0.0}
"""The same where a rank ended with this code: after a good end they may still have something to put away."""

_context = multiprocessing.get_context("forkserver")
_starting = threading.Lock()
"""Held while processes start, by any runner: they inherit the environment and the signals of that moment."""


class Interrupted(Exception):
    """The run was ended by its runner's `kill_all` or `stop_all`: it has no outcome."""


def preload(modules: Iterable[str]) -> None:
    """Let the fork server import these modules besides the workers. It starts with the first run: call this before."""
    _context.set_forkserver_preload([*WORKERS, *sorted(set(modules))])


@dataclass(frozen=True)
class Ending:
    """How a run's processes ended.

    code: the exit code of the first rank, or of the rank that died before it; negative for a signal. reason: one
    line, of use where there is no record.
    """

    code: int
    reason: str


class Runner:
    """Starts the processes of runs and waits for them. Once it has been told to end them it starts no other."""

    def __init__(self) -> None:
        self._alive: set[BaseProcess] = set()
        self._is_ending = threading.Event()
        with _starting:
            _runners.add(self)

    def run(
        self, module: str, folder: Path, threads: int, ranks: int = 1, env: Mapping[str, str] | None = None
    ) -> Ending:
        """Run `module.main(folder)` in `ranks` new processes, each a session, and wait for them.

        Args:
            env: Variables of these processes alone.

        Raises:
            Interrupted: The runner was told to end its runs, before or meanwhile.
        """
        rendezvous = temporary_path(folder.resolve() / "ranks")
        shared = (module, str(folder.resolve()), time.time(), dict(env or {}))
        processes = [
            _context.Process(target=enter, args=(*shared, rank, ranks, str(rendezvous)))
            for rank in range(ranks)
        ]
        with _starting, _environment(threads), _block_signals():
            if self._is_ending.is_set():
                raise Interrupted
            for process in processes:
                process.start()
                self._alive.add(process)
        try:
            code = _joined(processes, rendezvous)
            reason = rank_failure(rendezvous) or died(code)
        finally:
            self._alive.difference_update(processes)
            for path in (rendezvous, rank_failure_path(rendezvous)):
                path.unlink(missing_ok=True)
        if self._is_ending.is_set():
            raise Interrupted
        return Ending(code, reason)

    def kill_all(self) -> None:
        """End every run that is under way, at once. They leave no record and will be run again."""
        _kill(self._start_no_other())

    def stop_all(self) -> None:
        """Ask every run to save where it is and to end. Those that take too long are killed."""
        _stop(self._start_no_other())

    def _start_no_other(self) -> list[BaseProcess]:
        """Let no further run start. Returns the processes of those that were started."""
        self._is_ending.set()
        with _starting:  # so that none slips through between its start and its place in `_alive`
            return list(self._alive)


_runners: "weakref.WeakSet[Runner]" = weakref.WeakSet()
"""Those of this process: a signal is for all of them."""


def kill_all() -> None:
    """`Runner.kill_all` for every runner of this process."""
    _kill(_start_no_other())


def stop_all() -> None:
    """`Runner.stop_all` for every runner of this process, all at once."""
    _stop(_start_no_other())


def _start_no_other() -> list[BaseProcess]:
    with _starting:
        runners = list(_runners)
    return [process for runner in runners for process in runner._start_no_other()]


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    while any(process.exitcode is None for process in processes) and time.monotonic() < until:
        time.sleep(0.05)
    _kill(processes)


def _joined(processes: Sequence[BaseProcess], rendezvous: Path) -> int:
    """Wait for all. Once one has died the others get a few seconds: they may wait for it for ever."""
    ended, deadline = None, None
    while True:
        codes = [process.exitcode for process in processes]  # looked at once: one may end at any moment
        for rank, code in enumerate(codes):
            if ended is None and code is not None and (rank == 0 or code):
                ended, deadline = code, time.monotonic() + _GRACE_BY_CODE_S.get(code, GRACE_S)
                if rank and code < 0:
                    record_rank_failure(rendezvous, rank, died(code))
        running = [process for process, code in zip(processes, codes, strict=True) if code is None]
        if not running:
            return codes[0] if codes[0] > 0 else ended or 0
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not wait([process.sentinel for process in running], left):
            _kill(running)
            deadline = None


def died(code: int) -> str:
    """Return `killed by SIGKILL (out of memory?)`, or the exit code in words."""
    if code >= 0:
        return f"the process ended with exit code {code} and left no record"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _kill(processes: Iterable[BaseProcess]) -> None:
    for process in processes:
        for end in (os.killpg, os.kill):  # a process of this instant leads no group yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _block_signals() -> Iterator[None]:
    """Block SIGINT and SIGTERM in what this thread starts: they are for the controller, which ends the rest.

    The fork server must outlive its runs when a whole group is told to end. A run unblocks SIGTERM again.
    """
    resource_tracker.ensure_running()  # here already, because its start ends with SIGINT unblocked
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_stripped(name: str) -> bool:
    """Tell whether a run does not inherit the environment variable of this name."""
    return name not in WANDB_ACCOUNT and (name in STRIPPED or name.startswith(STRIPPED_PREFIXES))


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the environment that the fork server inherits when the first process starts it."""
    before = dict(os.environ)
    for name in filter(is_stripped, before):
        del os.environ[name]
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
