"""What a SLURM job does on its node, and how it makes room when it is told to."""

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import launch
from bench.cell import Cell
from bench.ensure import Ensure, architectures
from bench.records import Status

PAUSE_S = 120.0
"""How long a job that was told to end (SIGTERM) waits for its end, which SLURM then brings."""


class Job:
    """What a job does on its node: its cells, `at_once` of them side by side. submitit calls it, and `checkpoint`
    when the job is preempted or near its time limit; the job that is then put back into the queue goes on."""

    def __init__(self, ensure: Ensure, cells: Sequence[Cell], at_once: int) -> None:
        self.ensure, self.cells, self.at_once, self.ending = ensure, cells, at_once, False

    def __call__(self) -> list[str | None]:
        """How each cell ended; None: a living process elsewhere is at it."""
        signal.signal(signal.SIGTERM, self._told_to_end)
        launch.preload(architectures(self.cells))
        with ThreadPoolExecutor(self.at_once, initializer=_leave_signals_to_main) as pool:
            ends = list(pool.map(self._one, self.cells))
        if self.ending:
            time.sleep(PAUSE_S)
        return ends

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        self._stop().join()
        return DelayedSubmission(Job(self.ensure, self.cells, self.at_once))

    def _one(self, cell: Cell) -> str | None:
        if self.ending:
            return Status.INTERRUPTED
        try:
            record = self.ensure(cell)
        except launch.Interrupted:
            return Status.INTERRUPTED
        return record["status"] if record is not None else None

    def _told_to_end(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> threading.Thread:
        """In a thread, because a signal's handler may interrupt one that is at it."""
        self.ending = True
        stopping = threading.Thread(target=launch.stop_all)
        stopping.start()
        return stopping


def _leave_signals_to_main() -> None:
    """SLURM signals every process of a job; what this thread starts is deaf to what only the job understands."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
