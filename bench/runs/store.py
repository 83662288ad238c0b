"""The files of runs: where they lie, written whole or not at all, and read back. Imports no torch."""

import contextlib
import errno
import itertools
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from bench.runs import owner
from bench.tying.errors import BadInput

SCHEMA = 1
"""Layout of the files below; a reader refuses a newer one."""

EXAMPLES = "examples.npz"
"""Beside a record: what each example of the test split scored, where the run was asked for it."""

BEST = "best.ckpt"
"""Beside a record: the weights that validation chose."""

STEP = "trainer/global_step"
"""What trackers draw figures over: W&B's own count goes on, a resumed run's steps do not."""

DAY_S = 86_400
_temporaries = itertools.count()
_TEMPORARY = re.compile(r"\..+\.(\w+-\d+-\d+)-\d+\.tmp")


class Status(StrEnum):
    """What became of a run. A record has one of the first four; files hold the value, `done` or `not_applicable`.

    QUEUED, RUNNING and INTERRUPTED are of runs without a record. Only tables give NOT_RUN (no record yet) and
    NOT_FINITE (a record whose metric is no finite number).
    """

    DONE = auto()
    FAILED = auto()
    DIVERGED = auto()
    NOT_APPLICABLE = auto()
    QUEUED = auto()
    RUNNING = auto()
    INTERRUPTED = auto()
    NOT_RUN = auto()
    NOT_FINITE = auto()


ENDED = (Status.DONE, Status.FAILED, Status.DIVERGED, Status.NOT_APPLICABLE)
"""How a run can end: what a record says."""


class DiskFull(BadInput):
    """There is no space left. What was being done is not at fault, and can go on once there is."""


class NoRecord(BadInput):
    """There is no file, or it is damaged: what should be in it can be made again."""


def run_folder(runs: Path, run_id: str) -> Path:
    return runs / run_id


def cost_folder(runs: Path, cost_id: str) -> Path:
    return runs / "costs" / cost_id


def manifest_path(runs: Path, sweep: str) -> Path:
    return runs / "sweeps" / f"{sweep}.json"


def require_writable(folder: Path) -> None:
    """Raise BadInput, before anything is run, where `folder` cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(
            f"cannot write {folder}: {error.strerror}; choose a folder that you may write to"
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_bytes_atomic(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Write the whole content, or leave `path` as it was. BadInput where it cannot be written."""
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        kind = DiskFull if is_disk_full(error) else BadInput
        raise kind(
            f"cannot write {path}: {error.strerror}; choose a folder that you may write to, with space left"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def temporary_path(path: Path) -> Path:
    """Return a name beside `path` that no other process uses. It names this one, for `remove_stale_temporaries`."""
    return path.with_name(f".{path.name}.{owner.token()}-{next(_temporaries)}.tmp")


def remove_stale_temporaries(folder: Path) -> None:
    """Remove temporary files that no living process will finish; those of other machines after a day."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        name = _TEMPORARY.fullmatch(path.name)
        with contextlib.suppress(FileNotFoundError):
            alive = owner.alive(name[1]) if name else None
            if alive is False or (alive is None and time.time() - path.stat().st_mtime > DAY_S):
                path.unlink()


def read_json(path: Path) -> dict[str, Any]:
    """Read the object that `write_json` wrote. NoRecord for no or a torn file, BadInput for one of a newer schema."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as error:
        raise NoRecord(f"{path} is damaged ({error}); delete it and run the sweep again") from error
    except FileNotFoundError as error:
        raise NoRecord(f"cannot read {path}: {error.strerror}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(content, dict):
        raise NoRecord(f"{path} is damaged (not a JSON object); delete it and run the sweep again")
    schema = content.get("schema", SCHEMA)
    if not isinstance(schema, int):
        raise NoRecord(f"{path} is none of ours (schema {schema!r}); delete it and run the sweep again")
    if schema > SCHEMA:
        raise BadInput(f"{path} has schema {schema}, this version reads up to {SCHEMA}: update the bench")
    return content


def recorded(path: Path) -> dict[str, Any] | None:
    """Return the record at `path`; None where there is none or a damaged one, which will be made again."""
    try:
        return read_json(path)  # read once: between two looks another process may remove it or write it anew
    except NoRecord:
        return None


def is_record_of(content: Mapping[str, Any], folder: Path) -> bool:
    """Tell whether this is the record of how the run, or the measurement of a cost, of that folder ended."""
    name = content.get("cost" if folder.parent.name == "costs" else "id", folder.name)
    return (
        content.get("status") in ENDED and name == folder.name and isinstance(content.get("config", {}), dict)
    )


def read_records(runs: Path, run_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the records that exist, by run id. A torn record comes back as a failed one that says so."""
    records = {}
    for run_id in run_ids:
        path = run_folder(runs, run_id) / "record.json"
        if not path.exists():
            continue
        try:
            records[run_id] = read_json(path)
            if not is_record_of(records[run_id], path.parent):
                raise NoRecord(f"{path} is none of ours; delete it and run the sweep again")
        except NoRecord as error:
            records[run_id] = {"id": run_id, "status": Status.FAILED, "reason": f"record is damaged: {error}"}
    return records


def leaves(tree: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Return the values of nested mappings by the keys on the way to them, as in {"test.nll": 0.1}.

    Lists and empty mappings are values. The order is that of the mappings.
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            inner = leaves(value, separator)
            values |= {f"{key}{separator}{below}": leaf for below, leaf in inner.items()}
        else:
            values[str(key)] = value
    return values
