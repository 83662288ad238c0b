"""Lock a run's folder for one process at a time, on one machine or on several that share the folder.

The lock is a file made in one step that fails where it exists, which every shared file system keeps; flock does not
reach everywhere. It names its process, so that on one machine the lock of a dead one is free at once. The lock of
another machine's process is free when its beat has stood still for a while by the observer's own clock.
"""

import contextlib
import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.runs import owner
from bench.runs.store import recorded, temporary_path, write_json

LOCK_FILE = ".claim"

BEAT_S = 5.0
"""How often the holder touches its lock."""

SILENT_S = 60.0
"""After so long without a beat a process of another machine may be gone."""


@dataclass(frozen=True)
class Holder:
    """The process that has a folder."""

    owner: str
    host: str
    beat: float
    """Time of the last beat, in seconds, by the file system's clock."""

    @property
    def alive(self) -> bool | None:
        """Whether it lives; None for a process of another machine, of which only the beat tells."""
        return owner.alive(self.owner)

    @property
    def age_s(self) -> float:
        return max(0.0, time.time() - self.beat)

    @property
    def at_work(self) -> bool:
        """What a reader may say without waiting: alive, or of another machine and heard of lately."""
        return self.is_fresh if self.alive is None else self.alive

    @property
    def is_fresh(self) -> bool:
        """Whether the last beat is near now by our clock; one far in the future tells as little as an old one."""
        return abs(time.time() - self.beat) < SILENT_S


def holder(folder: Path) -> Holder | None:
    """Return who has `folder`, dead or alive; None where nobody has."""
    path = folder / LOCK_FILE
    content = recorded(path)
    if content is None or not isinstance(content.get("owner"), str):  # released, or of no kind of ours
        return None
    try:
        return Holder(content["owner"], str(content.get("host")), path.stat().st_mtime)
    except OSError:  # it was released while we looked
        return None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold the lock of `folder` until the block is left. Yields False where a living process has it."""
    token = owner.token()
    if not _take(folder, token):
        yield False
        return
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder / LOCK_FILE, over), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        over.set()
        beating.join()
        release(folder, token)


def release(folder: Path, token: str) -> None:
    """Remove the lock of the process with this token, and of nobody else."""
    current = holder(folder)
    if current is not None and current.owner == token:
        (folder / LOCK_FILE).unlink(missing_ok=True)


def _take(folder: Path, token: str) -> bool:
    """Make the lock, in the place of a stale one where there is one. False where a living process has it."""
    while not _make(folder, token):
        current = holder(folder)
        if current is not None and not _is_gone(folder, current):
            return False
        _remove_stale_lock(folder, current)
    return True


def _make(folder: Path, token: str) -> bool:
    path = folder / LOCK_FILE
    written = temporary_path(path)
    write_json(written, {"owner": token, "host": platform.node()})
    try:
        os.link(written, path)  # unlike a rename it fails where there is one
    except FileExistsError:
        return False
    finally:
        written.unlink()
    return True


def _is_gone(folder: Path, before: Holder) -> bool:
    """Tell whether a holder has ended. Of another machine's only a beat that stands still *while we look* is proof.

    Clocks of two machines differ, so ages are no proof. A beat that is fresh by our clock needs no look.
    """
    if before.alive is not None:
        return not before.alive
    if before.is_fresh:
        return False
    until = time.monotonic() + 2 * BEAT_S
    while time.monotonic() < until:
        time.sleep(BEAT_S / 5)
        now = holder(folder)
        if now is None or (now.owner, now.beat) != (before.owner, before.beat):
            return False
    return True


def _remove_stale_lock(folder: Path, dead: Holder | None) -> None:
    """Remove the lock of `dead` (None: one that nobody can read), and nobody else's, whoever comes meanwhile."""
    path, removed = folder / LOCK_FILE, temporary_path(folder / LOCK_FILE)
    with _flock(folder):
        # `holder` is None also where the lock was just released: what is then made anew is a living process's.
        before = _file_of(path)
        if before is None or holder(folder) != dead or _file_of(path) != before:
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, removed)
        # flock may not reach a process on another machine, whose new lock this would then be.
        token = (recorded(removed) or {}).get("owner")
        if isinstance(token, str) and (dead is None or token != dead.owner):
            with contextlib.suppress(FileExistsError):
                os.link(removed, path)
        removed.unlink(missing_ok=True)


def _file_of(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at `path` from a later one: numbers of files are used again, times are not."""
    try:
        return path.stat().st_ino, path.stat().st_ctime_ns
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _flock(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)
