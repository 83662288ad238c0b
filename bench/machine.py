"""What a number was measured on and with, and who may measure on this machine right now. Imports no torch."""

import contextlib
import fcntl
import functools
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import BadInput

REPOSITORY = Path(__file__).resolve().parent.parent

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "datasets", "hydra-core", "wandb", "numpy")


@functools.cache
def provenance() -> dict[str, Any]:
    """Commit, dirty flag (the generated results/ aside), package versions, host, processor and Python."""
    status = _git("status", "--porcelain", "--", ".", ":!results")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "versions": {name: _version(name) for name in PACKAGES},
        "host": platform.node(),
        "processor": processor(),
        "cores": cores(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Processors this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def gpus() -> list[str]:
    """Names of the GPUs that a run here may use, as CUDA_VISIBLE_DEVICES names them; asks the driver, not torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
        return [str(at) for at in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]
    return []


def check_devices(devices: int, threads: int, accelerator: str) -> None:
    """BadInput where a run asks for more than this machine has. Without GPUs a device is a process on the cores."""
    if accelerator == "gpu" and not gpus():
        raise BadInput("trainer.accelerator=gpu: there is no GPU here; choose auto or cpu")
    on_gpu = accelerator != "cpu" and bool(gpus())
    most = len(gpus()) if on_gpu else cores() // threads
    if devices > max(most, 1):
        what = f"{len(gpus())} GPUs" if on_gpu else f"{cores()} cores for {threads} thread(s) each"
        raise BadInput(
            f"trainer.devices={devices} is not allowed: there are {what}; ask for at most {max(most, 1)}"
        )


def check_compiler(mode: str | None) -> None:
    """BadInput where torch.compile is asked for and there is nothing to compile with: its code is C++, or calls it."""
    compilers = (os.environ.get("CXX") or "g++", "g++", "c++", "clang++")
    if mode is not None and not any(map(shutil.which, compilers)):
        raise BadInput(
            f"trainer.compile={mode} needs a C++ compiler, and none is here: install g++, or set trainer.compile=null"
        )


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@functools.cache
def installed() -> str:
    """Every installed distribution, one `name==version` a line, sorted: a run's `env` file."""
    names = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return "\n".join(sorted(names, key=str.lower)) + "\n"


def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def _git(*arguments: str) -> str | None:
    """Output of a git command on this repository, or None outside one."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    return None


@contextlib.contextmanager
def among_others() -> Iterator[None]:
    """Held by a training run: any number at once, none while something is measured `alone`."""
    with _machine_lock(fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Held by a measurement: waits until no training run of this user is left on the machine."""
    with _machine_lock(fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _machine_lock(mode: int) -> Iterator[None]:
    with _open_lock("machine") as machine:
        # A measurement waits inside the turnstile, so that new runs queue behind it instead of starving it.
        with _open_lock("turnstile") as turnstile:
            _lock(turnstile, fcntl.LOCK_EX)
            _lock(machine, mode)
        yield


def _lock(handle: int, mode: int) -> None:
    """Lock an open file; where that must wait, say for whom, in the log of whoever waits."""
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        holders = "; ".join(map(_process, _lock_holders(handle))) or "another process of this user"
        print(
            f"waiting, because costs are measured alone on a machine: {holders}", file=sys.stderr, flush=True
        )
        fcntl.flock(handle, mode)


def _lock_holders(handle: int) -> list[int]:
    """Numbers of the processes that took the lock of an open file; none where the system does not tell."""
    inode, holders = os.fstat(handle).st_ino, []
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = (
                line.split()
            )  # 1: FLOCK ADVISORY WRITE <pid> <device>:<inode> 0 EOF; "->" is one that waits
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode) and int(fields[4]) > 0:
                holders.append(int(fields[4]))
    return holders


def _process(pid: int) -> str:
    """`process 12 (python -m bench ...)`, and how to wake it where it is stopped."""
    words, stopped = "", False
    with contextlib.suppress(OSError):
        given = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        words = " ".join(given.split())
        stopped = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    named = f"process {pid} ({words[:80]})"
    return f"{named}, which is stopped: `kill -CONT {pid}` lets it go on" if stopped else named


@contextlib.contextmanager
def _open_lock(name: str) -> Iterator[int]:
    """A file to flock, one for each user of the machine; closing it releases it, also when the process dies."""
    path = Path(tempfile.gettempdir()) / f"tying-bench-{os.getuid()}-{name}.lock"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)
