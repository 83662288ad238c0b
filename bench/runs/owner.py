"""Name a process for good, so that what it left behind can be told from what it still holds. Imports no torch."""

import functools
import hashlib
import os
import platform
from pathlib import Path

_PROC = Path("/proc")


@functools.cache
def machine() -> str:
    """Return a name of this boot of this machine and of its process numbers: containers differ, and so do boots."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        name = f"{boot}{os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        name = platform.node()
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def token(pid: int | None = None) -> str:
    """Return `<machine>-<pid>-<start>` of a living process, this one by default. No other ever has the same."""
    pid = os.getpid() if pid is None else pid
    return f"{machine()}-{pid}-{_started(pid) or 0}"


def alive(owner: str) -> bool | None:
    """Tell whether the process of that token lives; None where it is of another machine. A zombie is dead."""
    try:
        of_machine, pid, started = owner.split("-")
        number = int(pid)
    except ValueError:
        return False
    if of_machine != machine():
        return None
    if _PROC.joinpath("self/stat").exists():
        return _started(number) == started
    import psutil  # 20 ms, which Linux does without

    return psutil.pid_exists(number)


def _started(pid: int) -> str | None:
    """Return the ticks since the boot at which the process began; None where it is gone or a zombie.

    Not psutil's `create_time`: that is a time of day, and setting the clock would make every living process another.
    """
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
