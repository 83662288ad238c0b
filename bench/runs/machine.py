"""Describe this machine and what is installed, and say who may measure on it right now. Imports no torch."""

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
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.tying.errors import BadInput

if TYPE_CHECKING:
    import psutil


ROOT = Path(__file__).resolve().parents[2]
"""The folder that `bench` is imported from: the checkout, or the site-packages that it was installed to."""

_PACKAGED = ROOT / "bench" / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else ROOT / "conf"
"""The folder of the configuration files: a wheel has it inside the package, a checkout beside it."""

IS_CHECKOUT = (ROOT / "Makefile").is_file()

PLACES = {"runs": "runs", "results": "results", "cache": ".cache"}
"""The folders that are written to, with the paths that conf/config.yaml gives them."""

MACHINE, TURNSTILE = "machine", "turnstile"
"""The two locks of this machine."""

WAITING = "note: waiting for"
"""How the last line of a run's log begins while the run waits for others on its machine."""

NAMED = 3
"""How many of those that one waits for are named."""

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "datasets", "hydra-core", "wandb", "numpy")


def command(make: str, installed: str) -> str:
    """Return the command that a message advises: that of the Makefile, or what a package without one has."""
    return f"`{make if IS_CHECKOUT else installed}`"


@functools.cache
def provenance() -> dict[str, Any]:
    """Return the commit, whether files differ from it (but for results/), versions, host, processor and Python.

    Commit and flag are None where `bench` was installed, or lies in a repository that is not its own.
    """
    # An installed package can lie in the environment of somebody else's repository.
    is_ours = git("rev-parse", "--show-toplevel") == str(ROOT)
    status = git("status", "--porcelain", "--", ".", ":!results") if is_ours else None
    return {
        "commit": git("rev-parse", "HEAD") if is_ours else None,
        "dirty": None if status is None else bool(status),
        "versions": {name: _version(name) for name in PACKAGES},
        "host": platform.node(),
        "processor": processor(),
        "cores": cores(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Count the processors that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def gpus() -> list[str]:
    """Return the GPUs that a run here may use, as CUDA_VISIBLE_DEVICES names them. Asks the driver, not torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
        return [str(index) for index in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]
    return []


def check_devices(devices: int, threads: int, accelerator: str) -> None:
    """Raise BadInput where a run asks for more than is here. Without GPUs a device is a process on the cores."""
    if accelerator == "gpu" and not gpus():
        raise BadInput("trainer.accelerator=gpu: there is no GPU here; choose auto or cpu")
    on_gpu = accelerator != "cpu" and bool(gpus())
    most = len(gpus()) if on_gpu else cores() // threads
    if devices > max(most, 1):
        present = f"{len(gpus())} GPUs" if on_gpu else f"{cores()} cores for {threads} thread(s) each"
        raise BadInput(
            f"trainer.devices={devices} is not allowed: there are {present}; ask for at most {max(most, 1)}"
        )


def check_compiler(mode: str | None) -> None:
    """Raise BadInput where torch.compile is asked for and no C++ compiler is here."""
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
    """Return every installed distribution, one `name==version` a line, sorted: a run's `env` file."""
    names = {f"{d.metadata['Name']}=={d.version}" for d in importlib.metadata.distributions()}
    return "\n".join(sorted(names, key=str.lower)) + "\n"


def moved_places() -> dict[str, str]:
    """Return the folders of PLACES that cannot be written to, with their paths in the user's data folder instead.

    A folder that does not exist yet is written to where the current folder is.
    """
    moved = {}
    for name, path in PLACES.items():
        place = Path(path)
        if not os.access(place if place.exists() else Path(), os.W_OK | os.X_OK):
            from platformdirs import user_data_dir  # here: nearly no command needs it

            moved[name] = os.path.join(user_data_dir("tying-bench"), name)
    return moved


def note_moved(places: Mapping[str, str], form: str) -> None:
    """Print where files are written instead of in the current folder, and how to change that.

    Args:
        places: Some of what `moved_places` returned; nothing is printed where there are none.
        form: How a folder is named on this command line, such as `{}=FOLDER`.
    """
    if places:
        where = ", ".join(f"{name} in {path}" for name, path in places.items())
        change = " ".join(form.format(name) for name in places)
        print(f"note: {Path.cwd()} is not writable: {where}; {change} changes that", file=sys.stderr)


def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


def git(*arguments: str, stdin: str = "") -> str | None:
    """Return the output of a git command in ROOT, or None where it fails, as outside a repository."""
    words = ["git", "-C", str(ROOT), *arguments]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True).stdout.strip()
    return None


def among_others() -> contextlib.AbstractContextManager[None]:
    """Hold the machine as a training run does: any number at once, none while something is measured `alone`."""
    return _machine_lock(fcntl.LOCK_SH)


def alone() -> contextlib.AbstractContextManager[None]:
    """Hold the machine for a measurement, once no training run of this user is left on it."""
    return _machine_lock(fcntl.LOCK_EX)


def measured_by() -> str | None:
    """Return who measures alone on this machine now, such as `process 71 (python -m bench.perf)`; None: nobody."""
    with _open_lock(MACHINE) as machine, _open_lock(TURNSTILE):
        return None if _locked_at_once(machine, fcntl.LOCK_SH) else _holders()


@contextlib.contextmanager
def _machine_lock(mode: int) -> Iterator[None]:
    """Hold the lock of the machine; where somebody else has it, say on stderr who that is, and wait."""
    with _open_lock(MACHINE) as machine:
        # A measurement waits inside the turnstile, so that new runs queue behind it instead of starving it.
        with _open_lock(TURNSTILE) as turnstile:
            if not (_locked_at_once(turnstile, fcntl.LOCK_EX) and _locked_at_once(machine, mode)):
                awaited = "a measurement to end" if mode == fcntl.LOCK_SH else "the machine to be free"
                print(f"{WAITING} {awaited}: {_holders()}", file=sys.stderr, flush=True)
                since = time.monotonic()
                fcntl.flock(turnstile, fcntl.LOCK_EX)
                fcntl.flock(machine, mode)
                print(f"note: waited {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
        yield


def _locked_at_once(handle: int, mode: int) -> bool:
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders() -> str:
    """Say who has the lock of the machine.

    Whoever waits for it has the turnstile open too. Where no such process can be seen it is in another container.
    """
    import psutil  # 20 ms, which only who waits pays

    holders = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            opened = {file.path for file in process.open_files()}
            if str(_lock_path(MACHINE)) in opened and str(_lock_path(TURNSTILE)) not in opened:
                holders.append(_in_words(process))
    more = [f"and {len(holders) - NAMED} more"] if len(holders) > NAMED else []
    return ", ".join(holders[:NAMED] + more) or "a process that cannot be seen from here"


def _in_words(process: "psutil.Process") -> str:
    command = textwrap.shorten(" ".join(process.cmdline()), 60, placeholder=" ...")
    if process.status() == "stopped":
        return (
            f"process {process.pid} ({command}), which is stopped: `kill -CONT {process.pid}` lets it go on"
        )
    return f"process {process.pid} ({command})"


def _lock_path(name: str) -> Path:
    """Return a file to flock, one for each user of the machine."""
    return Path(tempfile.gettempdir()).resolve() / f"tying-bench-{os.getuid()}-{name}.lock"


@contextlib.contextmanager
def _open_lock(name: str) -> Iterator[int]:
    """Open a lock's file; closing it releases the lock, also when the process dies."""
    handle = os.open(_lock_path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)
