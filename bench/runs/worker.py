"""Do the work of a run's processes: session, log, lock on the folder, and the record that they leave."""

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
from bench.runs.store import (
    DiskFull,
    Status,
    is_disk_full,
    read_json,
    recorded,
    remove_stale_temporaries,
    write_json,
)
from bench.tying.errors import BadInput

REQUEST = "request.json"
CONFIG = "config.yaml"
ATTEMPTS = "attempts.json"
RESUME = "last.ckpt"
"""Where a run that was ended goes on; while it lies there the folder is kept."""

Work = Callable[[dict[str, Any], dict[str, Any]], Mapping[str, Any]]
"""(request, config) -> a record's own part; the request is its first part."""

RENDEZVOUS = "BENCH_RENDEZVOUS"
"""Variable of a run's ranks: the file where they find each other, a new one for each launch."""

BUSY, STOPPED, FULL = 75, 143, 74
"""Exit codes of a run's process that leaves no record: a living process elsewhere has the run; it was asked to stop;
the disk is full."""

KEPT = {REQUEST, CONFIG, "env", "log", lock.LOCK_FILE}
"""What the controller put into a run's folder; the rest is cleared when a run starts from nothing."""

LONGEST = 400
"""The most characters of a reason that a record keeps; the log has all of it."""

RANK_FAILURE_S = 2.0
"""How long the first rank, when it fails, waits to hear whether another rank failed before it."""


class EarlyExit(Exception):
    """Ends a run early, on all ranks alike, with a reason. `status` goes into its record."""

    status = Status.FAILED


class Diverged(EarlyExit):
    """The loss is no number any more, or far above where it started."""

    status = Status.DIVERGED


class DoesNotApply(EarlyExit):
    """This tying cannot be applied to this model."""

    status = Status.NOT_APPLICABLE


class Stopped(Exception):
    """The run was asked to stop (SIGTERM) and goes on later from where it is: no record."""


def enter(
    module: str, folder: str, launched: float, env: Mapping[str, str], rank: int, ranks: int, rendezvous: str
) -> None:
    """Begin a new process: its own session and log, and death with its controller. Then call `module.main`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the fork server has it blocked
    os.setsid()
    os.environ |= {**env, **(_rank_environment(rank, ranks, rendezvous) if ranks > 1 else {})}
    try:
        log = os.open(
            Path(folder) / (f"log-rank{rank}" if rank else "log"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
            0o644,
        )
    except FileNotFoundError:  # whoever asked for this ended while the fork server was starting
        raise SystemExit(STOPPED) from None
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    importlib.import_module(module).main(Path(folder), launched)


def _rank_environment(rank: int, ranks: int, rendezvous: str) -> dict[str, str]:
    """Return what torch and Lightning read of a process among several. The ranks meet in a file, not at a port."""
    numbers = {"LOCAL_RANK": rank, "RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    environment = {name: str(value) for name, value in numbers.items()}
    environment |= {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", RENDEZVOUS: rendezvous}
    if sys.platform == "linux":
        # All ranks are on one machine.
        environment["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(os.getpgid(0), signal.SIGKILL)


def run_and_record(folder: Path, name: str, work: Work) -> None:
    """Do `work(request, config)` once and write its outcome to `folder/name`, last and atomically.

    Whatever `work` raises becomes a record that says so. Only the death of the process, Stopped and a full disk leave
    none; the next attempt then goes on from last.ckpt. The process ends with BUSY where another living one is at work
    in the folder. Ranks above 0 work and write no record.
    """
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank:
        _run_rank(folder, rank, name, work)
        return
    with lock.held(folder) as is_mine:
        if not is_mine:
            raise SystemExit(BUSY)
        if recorded(folder / name) is not None:
            return
        try:
            request = {**read_json(folder / REQUEST), "attempts": _begin_attempt(folder)}
            sha256, config = request.pop("config_sha256"), _config(folder)
            outcome = _outcome(lambda: work(request, _checked(folder, sha256, config)))
            write_json(folder / name, {**request, "config": config, **outcome, "ended_at": time.time()})
        except (Stopped, DiskFull) as end:
            print(f"stopped: {end}", file=sys.stderr)
            raise SystemExit(STOPPED if isinstance(end, Stopped) else FULL) from None
        if outcome["status"] != Status.FAILED:
            (folder / RESUME).unlink(missing_ok=True)


def _config(folder: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(folder / CONFIG))


def _checked(folder: Path, sha256: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return `config`. BadInput where its file was edited since the run was asked for: it would be another run's."""
    if hashlib.sha256((folder / CONFIG).read_bytes()).hexdigest() != sha256:
        raise BadInput(
            f"{folder / CONFIG} was edited after the run was asked for: leave it as it is, override keys on the "
            "command line, and run the sweep again with retry=true"
        )
    return config


def _run_rank(folder: Path, rank: int, name: str, work: Work) -> None:
    """Do the work of a rank above 0. What ends it unforeseen is left for the first rank to record."""
    if recorded(folder / name) is not None:  # then the first rank does not come
        return
    request = read_json(folder / REQUEST)
    try:
        work(request, _checked(folder, request["config_sha256"], _config(folder)))
    except (EarlyExit, BadInput, Stopped):  # raised on all ranks alike
        return
    except BaseException as error:
        traceback.print_exc()
        record_rank_failure(Path(os.environ[RENDEZVOUS]), rank, _described(error))
        raise SystemExit(1) from error


def rank_failure_path(rendezvous: Path) -> Path:
    return rendezvous.with_name(f".error{rendezvous.name}")


def record_rank_failure(rendezvous: Path, rank: int, reason: str) -> None:
    """Write down why a rank above 0 ended. Only the first is kept: the others follow from it."""
    if not rank_failure_path(rendezvous).exists():
        write_json(rank_failure_path(rendezvous), {"rank": rank, "reason": reason})


def rank_failure(rendezvous: Path) -> str | None:
    """Return `rank 1: ValueError: ...` where another rank than the first ended the run, else None."""
    failure = recorded(rank_failure_path(rendezvous))
    return None if failure is None else f"rank {failure['rank']}: {failure['reason']}"


def _outcome(work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    try:
        return {"status": Status.DONE, "reason": None, **work()}
    except EarlyExit as end:
        return {"status": end.status, "reason": one_line(end)}
    except (DiskFull, Stopped):
        raise
    except BadInput as error:
        return {"status": Status.FAILED, "reason": one_line(error), "bad_input": True}
    except BaseException as error:
        if is_disk_full(error):
            raise DiskFull(one_line(error)) from error
        # Whatever it is, it must become a row of the table and not end the sweep.
        traceback.print_exc()
        return {"status": Status.FAILED, "reason": _awaited_rank_failure() or _described(error)}


def _awaited_rank_failure() -> str | None:
    """Wait for another rank's failure: a rank that dies breaks the connection, which looks like the first's fault."""
    if RENDEZVOUS not in os.environ:
        return None
    rendezvous, until = Path(os.environ[RENDEZVOUS]), time.monotonic() + RANK_FAILURE_S
    while (failure := rank_failure(rendezvous)) is None and time.monotonic() < until:
        time.sleep(0.05)
    return failure


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def one_line(error: BaseException) -> str:
    """Return an error's message as one line, cut after LONGEST characters."""
    text = " ".join(str(error).split()) or "no message"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _begin_attempt(folder: Path) -> int:
    """Note that an attempt begins and clear the folder, unless a checkpoint is there. Returns its number, from 1."""
    before = (recorded(folder / ATTEMPTS) or {}).get("attempts", [])
    remove_stale_temporaries(folder)
    replaced = (folder / RESUME).is_dir()
    if not (folder / RESUME).is_file():
        _clear(folder)
    if replaced:
        print(f"note: {RESUME} was a folder and no checkpoint: the run begins again", file=sys.stderr)
    attempts = [*before, {"started": time.time(), "host": platform.node()}]
    write_json(folder / ATTEMPTS, {"attempts": attempts})
    return len(attempts)


def _clear(folder: Path) -> None:
    """Remove what an earlier attempt left, but not what the controller put there or what other ranks are using."""
    os.truncate(folder / "log", 0)
    for path in folder.iterdir():
        if path.name in KEPT or path.suffix == ".tmp" or path.name.startswith("log-rank"):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
