"""The inside of a run's processes: session, log, claim on the folder, and the record that they leave."""

import hashlib
import importlib
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.runs import lock
from bench.runs.store import DiskFull, Status, is_disk_full, read_json, recorded, tidy, write_json
from bench.tying.errors import BadInput

REQUEST = "request.json"
CONFIG = "config.yaml"
ATTEMPTS = "attempts.json"
RESUME = "last.ckpt"
"""Where a run that was ended goes on; while it lies there the folder is kept."""

Work = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]
"""(request, config) -> a record's own part; the request is its first part."""

MEETING = "BENCH_MEETING"
"""Variable of a run's ranks: the file where they find each other, a new one for each launch."""

BUSY, STOPPED, FULL = 75, 143, 74
"""Exit codes of a run's process that leaves no record: a living process elsewhere has the run; it was asked to stop;
the disk is full."""

KEPT = {REQUEST, CONFIG, "env", "log", lock.CLAIM}
"""What the controller put into a run's folder; the rest is cleared when a run starts from nothing."""

LONGEST = 400
"""Characters of a reason."""

BLAME_S = 2.0
"""How long the first rank waits to hear whose fault the end of the run is."""


class Settled(Exception):
    """A run that ends early with something to say, on all ranks alike; `status` goes into its record."""

    status = Status.FAILED


class Diverged(Settled):
    """The loss is no number any more, or far above where it started."""

    status = Status.DIVERGED


class DoesNotApply(Settled):
    """This tying cannot be applied to this model."""

    status = Status.NOT_APPLICABLE


class Stopped(Exception):
    """The run was asked to stop (SIGTERM) and goes on later from where it is: no record."""


def enter(
    module: str, folder: str, launched: float, env: Mapping[str, str], rank: int, ranks: int, meeting: str
) -> None:
    """First thing in a new process: own session, own log, dies with its controller; then `module.main`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the fork server has it blocked
    os.setsid()
    os.environ |= {**env, **(_rank_environment(rank, ranks, meeting) if ranks > 1 else {})}
    log = os.open(Path(folder) / log_name(rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    importlib.import_module(module).main(Path(folder), launched)


def log_name(rank: int) -> str:
    return f"log-rank{rank}" if rank else "log"


def _rank_environment(rank: int, ranks: int, meeting: str) -> dict[str, str]:
    """What torch and Lightning read of a process that belongs to others; the ranks meet in a file, not at a port."""
    numbers = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    found = {name: str(value) for name, value in numbers.items()}
    found |= {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", MEETING: meeting}
    if sys.platform == "linux":
        found["GLOO_SOCKET_IFNAME"] = os.environ.get(
            "GLOO_SOCKET_IFNAME", "lo"
        )  # one machine: nothing leaves it
    return found


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(os.getpgid(0), signal.SIGKILL)


def settle(folder: Path, name: str, work: Work) -> None:
    """Do `work(request, config)` once and write what came of it to `folder/name`, last and atomically.

    Whatever `work` raises becomes a record that says so; only death and Stopped leave none, and what is then at
    last.ckpt is where the next attempt goes on. Where another living process is at work in the folder, this one
    ends with BUSY. Ranks above 0 only work.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank:
        _assist(folder, rank, name, work)
        return
    with lock.held(folder) as mine:
        if not mine:
            raise SystemExit(BUSY)
        if recorded(folder / name) is not None:
            return
        try:
            request, config = {**read_json(folder / REQUEST), "attempts": _attempt(folder)}, _config(folder)
            asked = request.pop("config_sha256")
            outcome = _outcome(lambda: work(request, _frozen(folder, asked, config)))
            write_json(folder / name, {**request, "config": config, **outcome, "ended_at": time.time()})
        except Stopped as end:
            print(f"stopped: {end}", file=sys.stderr)
            raise SystemExit(STOPPED) from None
        except DiskFull as end:
            print(f"stopped: {end}", file=sys.stderr)
            raise SystemExit(FULL) from None
        if outcome["status"] != Status.FAILED:
            (folder / RESUME).unlink(missing_ok=True)


def _config(folder: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(folder / CONFIG))


def _frozen(folder: Path, asked: str, config: dict[str, Any]) -> dict[str, Any]:
    """`config`, if it is what was asked for. BadInput where the file was edited since: it would run as another run."""
    if hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest() != asked:
        raise BadInput(
            f"{folder / CONFIG} was edited after the run was asked for: leave it as it is, override keys on the "
            "command line, and run the sweep again with retry=true"
        )
    return config


def _assist(folder: Path, rank: int, name: str, work: Work) -> None:
    """A rank that writes no record; what ends it unforeseen is left for the first rank to say."""
    if recorded(folder / name) is not None:  # then the first rank does not come
        return
    request = read_json(folder / REQUEST)
    try:
        work(request, _frozen(folder, request["config_sha256"], _config(folder)))
    except (Settled, BadInput, Stopped):  # raised on all ranks alike
        return
    except BaseException as error:
        traceback.print_exc()
        blame(Path(os.environ[MEETING]), rank, _described(error))
        raise SystemExit(1) from error


def blame_path(meeting: Path) -> Path:
    return meeting.with_name(f".error{meeting.name}")


def blame(meeting: Path, rank: int, reason: str) -> None:
    """Write down why a rank above 0 ended; the first to be written is the cause, the others follow from it."""
    if not blame_path(meeting).exists():
        write_json(blame_path(meeting), {"rank": rank, "reason": reason})


def blamed(meeting: Path) -> str | None:
    """`rank 1: ValueError: ...`, where another rank than the first ended the run."""
    found = recorded(blame_path(meeting))
    return None if found is None else f"rank {found['rank']}: {found['reason']}"


def _outcome(work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    try:
        return {"status": Status.DONE, "reason": None, **work()}
    except Settled as end:
        return {"status": end.status, "reason": one_line(end)}
    except DiskFull:
        raise
    except BadInput as error:
        return {"status": Status.FAILED, "reason": one_line(error), "bad_input": True}
    except Stopped:
        raise
    except BaseException as error:
        if is_disk_full(error):
            raise DiskFull(one_line(error)) from error
        # Whatever it is, it is, it must become a row of the table and not end the sweep.
        traceback.print_exc()
        return {"status": Status.FAILED, "reason": _fault_of_another() or _described(error)}


def _fault_of_another() -> str | None:
    """A rank that dies takes the connection of the innocent with it, who would name that as the reason."""
    if MEETING not in os.environ:
        return None
    meeting, until = Path(os.environ[MEETING]), time.monotonic() + BLAME_S
    while (found := blamed(meeting)) is None and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """Its message as a cell of a table: the whole of it where that is short (the log has the rest)."""
    text = " ".join(str(error).split()) or "no message"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _attempt(folder: Path) -> int:
    """Note that an attempt begins, keep what it can go on from, clear the rest; which attempt it is."""
    before = (recorded(folder / ATTEMPTS) or {}).get("attempts", [])
    tidy(folder)
    if not (folder / RESUME).exists():
        _clear(folder)
    attempts = [*before, {"started": time.time(), "host": platform.node()}]
    write_json(folder / ATTEMPTS, {"attempts": attempts})
    return len(attempts)


def _clear(folder: Path) -> None:
    """Remove what an earlier attempt left, but for what its controller put there and what the ranks are using."""
    os.truncate(folder / "log", 0)
    for path in folder.iterdir():
        if path.name in KEPT or path.suffix == ".tmp" or path.name.startswith("log-rank"):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
