"""Run cells as SLURM job arrays through submitit; read what came of them in the shared runs folder."""

import contextlib
import importlib.util
import io
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.run_config import RunConfig
from bench.runs import machine, process
from bench.runs.store import Status
from bench.runs.worker import one_line
from bench.sweep.launchers import WHOLE, is_count, reachable, require
from bench.sweep.run_or_load import Record, RunOrLoad, imports_of
from bench.tying.errors import BadInput

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo")

RUNNING = "RUNNING"
ENDED = frozenset(
    ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY")
    + ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED")
)
"""States of a job that runs no more, unless it is put back into the queue."""

GONE = "unknown to SLURM"
"""State of a job that ended so long ago that SLURM has forgotten it."""


@dataclass(frozen=True)
class Partition:
    """The most that one of its nodes has, and for how long."""

    name: str
    default: bool
    minutes: float
    cpus: int
    memory_gb: float
    gpus: int


def partitions() -> list[Partition]:
    """Return the partitions of this cluster. BadInput where there is no SLURM or it does not answer."""
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        raise BadInput(
            f"hydra/launcher=slurm: {', '.join(absent)} not found; start the sweep where SLURM's commands are"
        )
    answer = _ask("sinfo", "--noheader", "--Node", "--format=%P|%l|%c|%m|%G")
    if answer.returncode:
        reason = " ".join(answer.stderr.split()) or f"sinfo ended with {answer.returncode}"
        raise BadInput(f"hydra/launcher=slurm: SLURM does not answer here ({reason})")
    by_name: dict[str, Partition] = {}
    for line in answer.stdout.splitlines():
        name, limit, cpus, memory_mb, devices = line.split("|")
        name, default = name.rstrip("*"), name.endswith("*")
        most = by_name.get(name, Partition(name, default, minutes_of(limit), 0, 0, 0))
        memory_gb, gpus = int(memory_mb.rstrip("+")) / 1024, gpus_of(devices)
        by_name[name] = Partition(
            name,
            default,
            most.minutes,
            max(most.cpus, int(cpus.rstrip("+"))),
            max(most.memory_gb, memory_gb),
            max(most.gpus, gpus),
        )
    return list(by_name.values())


def states(jobs: Iterable[str]) -> dict[str, str] | None:
    """Return the state by job id, `12_3` for an element of an array; None where SLURM does not answer just now."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    answer = _ask(
        "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(arrays)}", "-o", "%i|%T"
    )
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return None
    by_job = dict(line.split("|") for line in answer.stdout.splitlines())
    return {job: by_job.get(job, GONE) for job in jobs}


def cancel(jobs: Iterable[str]) -> None:
    if jobs := sorted(jobs):
        _ask("scancel", *jobs)


def _ask(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True)


def minutes_of(limit: str) -> float:
    """Return a partition's limit, as `30:00`, `1:00:00`, `2-00:00:00` or `infinite`, in minutes."""
    days, _, clock = limit.rpartition("-")
    try:
        *hours, minutes, seconds = (int(part) for part in clock.split(":"))
    except ValueError:
        return math.inf
    return int(days or 0) * 1440 + sum(hours) * 60 + minutes + seconds / 60


def gpus_of(devices: str) -> int:
    """Return how many GPUs a node has whose devices are such as `gpu:2` or `gpu:h200:4(S:0-1),nvme:1`."""
    return sum(int(count) for count in re.findall(r"\bgpu(?::[^:,()]*[^:,()\d][^:,()]*)?:(\d+)", devices))


PAUSE_S = 120.0
"""How long a job that was told to end (SIGTERM) waits for its end, which SLURM then brings."""


class Job:
    """What a job does on its node: its cells, `at_once` of them side by side. submitit calls it, and `checkpoint`
    when the job is preempted or near its time limit; the job that is then put back into the queue goes on."""

    def __init__(self, ensure: RunOrLoad, cells: Sequence[RunConfig], at_once: int) -> None:
        self.ensure, self.cells, self.at_once, self.ending = ensure, cells, at_once, False

    def __call__(self) -> list[str | None]:
        """Run the cells. Returns how each ended; None: a living process elsewhere is at it."""
        self.runner = process.Runner()  # here: the job was sent to its node as it was made
        signal.signal(signal.SIGTERM, self._told_to_end)
        process.preload(imports_of(self.cells))
        with ThreadPoolExecutor(self.at_once, initializer=_leave_signals_to_main) as pool:
            ends = list(pool.map(self._run_one, self.cells))
        if self.ending:
            time.sleep(PAUSE_S)
        return ends

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        self._stop().join()
        return DelayedSubmission(Job(self.ensure, self.cells, self.at_once))

    def _run_one(self, cell: RunConfig) -> str | None:
        if self.ending:
            return Status.INTERRUPTED
        try:
            record = self.ensure(cell, self.runner)
        except process.Interrupted:
            return Status.INTERRUPTED
        return record["status"] if record is not None else None

    def _told_to_end(self, *_: Any) -> None:
        self._stop()

    def _stop(self) -> threading.Thread:
        """Stop the runs in a thread, because a signal's handler may interrupt one that is at it."""
        self.ending = True
        stopping = threading.Thread(target=self.runner.stop_all)
        stopping.start()
        return stopping


def _leave_signals_to_main() -> None:
    """Make what this thread starts deaf to signals that only the job understands: SLURM sends them to every process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})


SUBMITIT = "submitit==1.5.4"

LARGEST_ARRAY = 1000
"""SLURM's own limit on an array, where a cluster did not raise it."""

POLL_S = (1.0, 15.0)
"""Seconds between questions to SLURM: at first, and after some minutes."""

SETTLE_S = 10.0
"""How long the record of a job that has ended may take to be seen from here, through the shared folder."""


class Slurm:
    """Settings are named as sbatch or submitit name them; null leaves them to the cluster.

    runs_per_job runs go on at once in a job and share its GPU; a job does this rounds_per_job times, because each
    job takes seconds to start. Cores: threads x devices of its runs; GPUs: none where trainer.accelerator is not gpu.
    """

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        timeout_min: int = 60,
        mem_gb: float | None = None,
        cpus_per_task: int | None = None,
        gpus_per_node: int | None = None,
        array_parallelism: int = 64,
        runs_per_job: int = 1,
        rounds_per_job: int = 1,
        signal_delay_s: int = 90,
        max_num_timeout: int = 10,
        setup: Sequence[str] | None = None,
        folder: str | None = None,
        additional_parameters: Mapping[str, Any] | None = None,
    ) -> None:
        counts = {"timeout_min": timeout_min, "array_parallelism": array_parallelism}
        counts |= {"runs_per_job": runs_per_job, "rounds_per_job": rounds_per_job}
        counts |= {"signal_delay_s": signal_delay_s, "max_num_timeout": max_num_timeout}
        optional = {"cpus_per_task": cpus_per_task, "gpus_per_node": gpus_per_node}
        for name, value in (counts | {k: v for k, v in optional.items() if v is not None}).items():
            require(is_count(value), name, value, WHOLE)
        require(mem_gb is None or (type(mem_gb) in (int, float) and mem_gb > 0), "mem_gb", mem_gb, "above 0")
        less = f"fewer seconds than timeout_min={timeout_min} has"
        require(signal_delay_s < 60 * timeout_min, "signal_delay_s", signal_delay_s, less)
        self.runs_per_job, self.rounds_per_job, self.folder = runs_per_job, rounds_per_job, folder
        self.max_num_timeout, self.cpus, self.gpus = max_num_timeout, cpus_per_task, gpus_per_node
        setup = [f"export PYTHONPATH={machine.ROOT}${{PYTHONPATH:+:$PYTHONPATH}}", *(setup or ())]
        nullable = {
            "slurm_partition": partition,
            "slurm_account": account,
            "slurm_additional_parameters": dict(additional_parameters) if additional_parameters else None,
            "mem_gb": mem_gb,
        }
        self.settings = {
            **{name: value for name, value in nullable.items() if value is not None},
            "timeout_min": timeout_min,
            "slurm_array_parallelism": array_parallelism,
            "slurm_signal_delay_s": signal_delay_s,
            "slurm_setup": setup,
        }

    def check(self, cells: Sequence[RunConfig]) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise BadInput(
                f"hydra/launcher=slurm needs submitit, which is not installed: .venv/bin/pip install {SUBMITIT}"
            )
        by_name = {partition.name: partition for partition in partitions()}
        name = self.settings.get("slurm_partition") or next(
            (p.name for p in by_name.values() if p.default), None
        )
        if name not in by_name:
            known = f"there are {', '.join(by_name)}"
            require(False, "partition", name, f"a partition of this cluster: {known}")
        most = by_name[name]
        needs = set(map(self._need, cells))
        _at_most("cpus_per_task", max(cpus for cpus, _ in needs), most.cpus, name)
        _at_most("gpus_per_node", max(gpus for _, gpus in needs), most.gpus, name)
        _at_most("mem_gb", self.settings.get("mem_gb", 0), most.memory_gb, name)
        _at_most("timeout_min", self.settings["timeout_min"], most.minutes, name)

    def map(
        self, ensure: RunOrLoad, cells: Sequence[RunConfig], started: Callable[[RunConfig], None]
    ) -> Iterator[tuple[RunConfig, Record | None]]:
        for need in sorted({self._need(cell) for cell in cells}):
            alike = [cell for cell in cells if self._need(cell) == need]
            shares = list(_split(alike, self.runs_per_job * self.rounds_per_job))
            for array in _split(shares, LARGEST_ARRAY):
                yield from self._array(ensure, array, need, started)

    def _need(self, cell: RunConfig) -> tuple[int, int]:
        """Return the cores and GPUs of a job that does runs such as this."""
        trainer = cell.config["trainer"]
        cpus = self.cpus or trainer["threads"] * trainer["devices"] * self.runs_per_job
        return cpus, self.gpus or (trainer["devices"] if trainer["accelerator"] == "gpu" else 0)

    def _array(
        self,
        ensure: RunOrLoad,
        shares: Sequence[Sequence[RunConfig]],
        need: tuple[int, int],
        started: Callable[[RunConfig], None],
    ) -> Iterator[tuple[RunConfig, Record | None]]:
        """Run one array, from its submission to the end of its last job."""
        executor = self._executor(shares[0][0], need)
        bodies = [Job(ensure, [reachable(cell) for cell in share], self.runs_per_job) for share in shares]
        left: dict[str, Submitted] = {}
        try:
            jobs = _submitted(executor, bodies)
            left |= {job.job_id: Submitted(job, share) for job, share in zip(jobs, shares, strict=True)}
            yield from _watched(left, ensure, started)
        finally:
            cancel(left)

    def _executor(self, cell: RunConfig, need: tuple[int, int]) -> Any:
        import submitit

        cpus, gpus = need
        folder = Path(self.folder) if self.folder else cell.runs / "slurm"
        executor = submitit.AutoExecutor(
            folder=folder.resolve(), cluster="slurm", slurm_max_num_timeout=self.max_num_timeout
        )
        executor.update_parameters(
            name=f"bench-{cell.options['sweep']['name'] or 'single'}",
            cpus_per_task=cpus,
            slurm_srun_args=[f"--cpus-per-task={cpus}"],  # since SLURM 22.05 srun does not take sbatch's
            **({"gpus_per_node": gpus} if gpus else {}),
            **self.settings,
        )
        return executor


@dataclass(frozen=True)
class Submitted:
    """A job and what it was given to do."""

    job: Any
    cells: Sequence[RunConfig]

    def answer(self) -> tuple[str, Any] | None:
        """("success", ends) or ("error", traceback), as submitit writes it; None where the job left nothing."""
        path = self.job.paths.result_pickle
        return pickle.loads(path.read_bytes()) if path.exists() else None


def _submitted(executor: Any, bodies: Sequence[Job]) -> Sequence[Any]:
    """Submit an array. BadInput where SLURM refuses it: an account, a limit that only it knows of."""
    from submitit.core.utils import FailedJobError
    from submitit.helpers import clean_env

    conf = {key: value for key, value in os.environ.items() if key == "SLURM_CONF"}
    printed = io.StringIO()  # by sbatch, and in the error too
    with clean_env(), contextlib.redirect_stderr(printed):  # a job's limits are for itself
        os.environ |= conf
        try:
            return executor.submit_array(bodies)
        except FailedJobError as error:
            raise BadInput(f"hydra/launcher=slurm: {one_line(error)}") from error


def _watched(
    left: dict[str, Submitted], ensure: RunOrLoad, started: Callable[[RunConfig], None]
) -> Iterator[tuple[RunConfig, Record | None]]:
    """Yield each cell as its job ends, which is then removed from `left`."""
    begun, running, ended_at = time.monotonic(), set(), {}
    while left:
        time.sleep(min(max(POLL_S[0], (time.monotonic() - begun) / 60), POLL_S[1]))
        for job_id, state in (states(left) or {}).items():
            submitted = left[job_id]
            over = state in ENDED or state == GONE
            if job_id not in running and (over or state == RUNNING):
                running.add(job_id)
                for cell in submitted.cells:
                    started(cell)
            if not over:
                ended_at.pop(job_id, None)
                continue
            since = ended_at.setdefault(job_id, time.monotonic())
            if submitted.answer() is None and time.monotonic() - since < SETTLE_S:
                continue
            del left[job_id]
            yield from _outcomes(submitted, state, ensure)


def _outcomes(
    submitted: Submitted, state: str, ensure: RunOrLoad
) -> Iterator[tuple[RunConfig, Record | None]]:
    """What is recorded counts, not what the job says; a cell without a record is lost, unless the job says why."""
    kind, answer = submitted.answer() or ("nothing", None)
    ends = answer if kind == "success" else ["none"] * len(submitted.cells)
    last = f": {answer.strip().splitlines()[-1]}" if isinstance(answer, str) and answer.strip() else ""
    paths = submitted.job.paths
    reason = f"SLURM job {submitted.job.job_id} ended as {state}{last} (its log: {paths.stderr})"
    for cell, end in zip(submitted.cells, ends, strict=True):
        if end is None:
            yield cell, None
        elif end == Status.INTERRUPTED:
            yield cell, {**cell.header(), "status": Status.INTERRUPTED, "reason": reason}
        else:
            yield cell, ensure.new_record(cell) or ensure.record_loss(cell, reason)


def _split(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _at_most(name: str, value: float, most: float, partition: str) -> None:
    require(value <= most, name, value, f"at most {most:g}, which is what partition {partition} has")
