"""The inside of a run's process: its session, its log, its claim on the folder, and the record it leaves."""

import contextlib
import fcntl
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.errors import BadInput
from bench.records import DIVERGED, DONE, FAILED, NOT_APPLICABLE, read_json, recorded, write_json

REQUEST = "request.json"
CONFIG = "config.yaml"
Work = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]
"""(request, config) -> a record's own part; the request is its first part."""

KEPT = {REQUEST, CONFIG, "env", "log", ".claim"}
"""What the controller put into a run's folder; the rest is cleared when a run starts (again)."""

LONGEST = 400
"""Characters of a reason."""


class Settled(Exception):
    """A run that ends early with something to say; `status` goes into its record."""

    status = FAILED


class Diverged(Settled):
    """The loss is no number any more, or far above where it started."""

    status = DIVERGED


class DoesNotApply(Settled):
    """This tying cannot be applied to this model."""

    status = NOT_APPLICABLE


def enter(module: str, folder: str, launched: float) -> None:
    """First thing in the new process: own session, own log, dies with its controller; then `module.main`."""
    os.setsid()
    log = os.open(Path(folder) / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    importlib.import_module(module).main(Path(folder), launched)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(os.getpgid(0), signal.SIGKILL)


def settle(folder: Path, name: str, work: Work) -> None:
    """Do `work(request, config)` once and write what came of it to `folder/name`, last and atomically.

    Whatever `work` raises becomes a record that says so; only death leaves none. A second process on the same
    folder waits for the first and then finds its record.
    """
    with _claim(folder):
        if recorded(folder / name) is not None:
            return
        _clear(folder)
        os.truncate(folder / "log", 0)
        request = read_json(folder / REQUEST)
        config = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
        write_json(folder / name, {**request, "config": config, **_outcome(work, request, config)})


def _outcome(work: Work, request: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"status": DONE, "reason": None, **work(request, config)}
    except Settled as end:
        return {"status": end.status, "reason": one_line(end)}
    except BadInput as error:
        return {"status": FAILED, "reason": one_line(error), "bad_input": True}
    except BaseException as error:  # whatever it is, it must become a row of the table and not end the sweep
        traceback.print_exc()
        return {"status": FAILED, "reason": f"{type(error).__name__}: {one_line(error)}"}


def one_line(error: BaseException) -> str:
    """Its message as a cell of a table: the whole of it where that is short (the log has the rest)."""
    text = " ".join(str(error).split()) or "no message"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _clear(folder: Path) -> None:
    """Remove what an interrupted attempt left: a run starts from nothing."""
    for path in folder.iterdir():
        if path.name in KEPT:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """One process at a time on a run's folder; the claim goes with the process, however it ends."""
    handle = os.open(folder / ".claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
