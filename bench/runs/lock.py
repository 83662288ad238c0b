"""Who is at work in a run's folder: one process at a time, on one machine or on several that share the folder.

A claim is a file made in one step that fails where it exists, which every shared file system keeps; locks do not
reach everywhere. It names its process, so that on one machine the claim of a dead one is free at once; the claim of
another machine's process is free when its beat has stood still for a minute by the observer's own clock.
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
from bench.runs.store import draft, recorded, write_json

CLAIM = ".claim"
BEAT_S = 5.0
SILENT_S = 60.0
"""After so long without a beat a process of another machine counts as gone."""


@dataclass(frozen=True)
class Holder:
    """Who has a folder: `alive` is None for a process of another machine, of which only the beat tells."""

    owner: str
    host: str
    beat: float
    """Time of the last beat, in seconds, by the file system's clock."""

    @property
    def alive(self) -> bool | None:
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
    """Who has `folder`, dead or alive; None where nobody has."""
    path = folder / CLAIM
    found = recorded(path)
    try:
        return None if found is None else Holder(found["owner"], found["host"], path.stat().st_mtime)
    except (OSError, KeyError):  # it was released while we looked, or is of no kind of ours
        return None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[bool]:
    """True: `folder` is this process's alone until the block is left. False: a living process has it."""
    mine = owner.token()
    if not _take(folder, mine):
        yield False
        return
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder / CLAIM, over), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        over.set()
        beating.join()
        release(folder, mine)


def release(folder: Path, who: str) -> None:
    """Remove the claim of `who`, and of nobody else."""
    found = holder(folder)
    if found is not None and found.owner == who:
        (folder / CLAIM).unlink(missing_ok=True)


def _take(folder: Path, mine: str) -> bool:
    """Make the claim, over a dead one where there is one; False where a living process has it."""
    while not _make(folder, mine):
        found = holder(folder)
        if found is not None and not _gone(folder, found):
            return False
        _bury(folder, found)
    return True


def _make(folder: Path, mine: str) -> bool:
    path = folder / CLAIM
    mark = draft(path)
    write_json(mark, {"owner": mine, "host": platform.node()})
    try:
        os.link(mark, path)  # unlike a rename it fails where there is one
    except FileExistsError:
        return False
    finally:
        mark.unlink()
    return True


def _gone(folder: Path, found: Holder) -> bool:
    return _silent(folder, found) if found.alive is None else not found.alive


def _bury(folder: Path, dead: Holder | None) -> None:
    """Remove the claim of `dead` (None: one that nobody can read), and nobody else's, whoever comes meanwhile."""
    grave = draft(folder / CLAIM)
    with _one_heir(folder):
        # `holder` is None also where the claim was just released: what is then made anew is a living process's.
        before = _file_of(folder / CLAIM)
        if before is None or holder(folder) != dead or _file_of(folder / CLAIM) != before:
            return
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder / CLAIM, grave)
        # The lock may not reach an heir on another machine, whose new claim this would then be.
        taken = recorded(grave)
        if taken is not None and (dead is None or taken.get("owner") != dead.owner):
            with contextlib.suppress(FileExistsError):
                os.link(grave, folder / CLAIM)
        grave.unlink(missing_ok=True)


def _file_of(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from one that is there later: numbers of files are used again, times are not."""
    try:
        return path.stat().st_ino, path.stat().st_ctime_ns
    except FileNotFoundError:
        return None


def _silent(folder: Path, seen: Holder) -> bool:
    """Whether another machine's process has stopped: only a beat that stands still *while we look* is proof.

    Clocks of two machines differ, so ages are no proof. A beat that is fresh by our clock needs no look.
    """
    if seen.is_fresh:
        return False
    until = time.monotonic() + 2 * BEAT_S
    while time.monotonic() < until:
        time.sleep(BEAT_S / 5)
        now = holder(folder)
        if now is None or (now.owner, now.beat) != (seen.owner, seen.beat):
            return False
    return True


@contextlib.contextmanager
def _one_heir(folder: Path) -> Iterator[None]:
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
