"""What SLURM says of itself, by its own commands: its partitions, the states of jobs. Needs no accounting."""

import math
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from bench.errors import BadInput

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo")

RUNNING = "RUNNING"
ENDED = frozenset(
    ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY")
    + ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED")
)
"""States of a job that runs no more, unless it is put back into the queue."""

GONE = "unknown to SLURM"
"""Of a job that ended so long ago that SLURM has forgotten it."""


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
    """BadInput where there is no SLURM or where it does not answer."""
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        raise BadInput(
            f"hydra/launcher=slurm: {', '.join(absent)} not found; start the sweep where SLURM's commands are"
        )
    asked = _ask("sinfo", "--noheader", "--Node", "--format=%P|%l|%c|%m|%G")
    if asked.returncode:
        said = " ".join(asked.stderr.split()) or f"sinfo ended with {asked.returncode}"
        raise BadInput(f"hydra/launcher=slurm: SLURM does not answer here ({said})")
    found: dict[str, Partition] = {}
    for line in asked.stdout.splitlines():
        name, limit, cpus, memory_mb, devices = line.split("|")
        name, default = name.rstrip("*"), name.endswith("*")
        most = found.get(name, Partition(name, default, minutes_of(limit), 0, 0, 0))
        memory_gb, gpus = int(memory_mb.rstrip("+")) / 1024, gpus_of(devices)
        found[name] = Partition(
            name,
            default,
            most.minutes,
            max(most.cpus, int(cpus.rstrip("+"))),
            max(most.memory_gb, memory_gb),
            max(most.gpus, gpus),
        )
    return list(found.values())


def states(jobs: Iterable[str]) -> dict[str, str] | None:
    """State by job id, `12_3` for an element of an array; None where SLURM does not answer just now."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    asked = _ask(
        "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(arrays)}", "-o", "%i|%T"
    )
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    told = dict(line.split("|") for line in asked.stdout.splitlines())
    return {job: told.get(job, GONE) for job in jobs}


def cancel(jobs: Iterable[str]) -> None:
    if jobs := sorted(jobs):
        _ask("scancel", *jobs)


def _ask(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True)


def minutes_of(limit: str) -> float:
    """`30:00`, `1:00:00`, `2-00:00:00`, `infinite`: a partition's limit in minutes."""
    days, _, clock = limit.rpartition("-")
    try:
        *hours, minutes, seconds = (int(part) for part in clock.split(":"))
    except ValueError:
        return math.inf
    return int(days or 0) * 1440 + sum(hours) * 60 + minutes + seconds / 60


def gpus_of(devices: str) -> int:
    """`gpu:2`, `gpu:h200:4(S:0-1),nvme:1`: how many GPUs a node has."""
    return sum(int(count) for count in re.findall(r"\bgpu(?::[^:,()]*[^:,()\d][^:,()]*)?:(\d+)", devices))
