"""Run identity and records: JSON files, written atomically and read back in bulk. Imports no torch."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from bench.runs import owner
from bench.tying.errors import BadInput

SCHEMA = 1
"""Layout of the files below; a reader refuses a newer one."""

RESULTS_VERSION = 2
"""Raised whenever the code changes a number: it is part of every identity, so old records are not reused."""


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


DAY_S = 86_400
_drafts = itertools.count()
_DRAFT = re.compile(r"\..+\.(\w+-\d+-\d+)-\d+\.tmp")


def identity(content: Mapping[str, Any]) -> str:
    """12 hex digits that two contents share exactly when they are equal as JSON (1 and 1.0 are one number)."""
    text = json.dumps(_numbers(content), sort_keys=True, separators=(",", ":"), allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


RECORDED_NAMES: dict[str, str] = {
    "bench.data.batches.ImageData": "bench.data.images.ImageData",
    "bench.data.batches.SentenceData": "bench.data.sentences.SentenceData",
    "bench.data.series.SeriesData": "bench.data.changes.SeriesData",
    "bench.models.gru.GRUForecaster": "bench.models.forecaster.GRUForecaster",
    "bench.models.transformer.TextClassifier": "bench.models.encoder.TextClassifier",
    "bench.tasks.classification.Classification": "bench.training.Classification",
    "bench.tasks.classification.LanguageModeling": "bench.training.LanguageModeling",
    "bench.tasks.classification.TextClassification": "bench.training.TextClassification",
    "bench.tasks.forecasting.Forecasting": "bench.forecasting.Forecasting",
    "bench.tying.methods.block_wise": "bench.tying.patterns.block_wise",
    "bench.tying.methods.bottom_k": "bench.tying.patterns.bottom_k",
    "bench.tying.methods.cross_layer": "bench.tying.strategies.cross_layer",
    "bench.tying.methods.cycle": "bench.tying.patterns.cycle",
    "bench.tying.methods.cycle_rev": "bench.tying.patterns.cycle_rev",
    "bench.tying.methods.embedding": "bench.tying.strategies.embedding",
    "bench.tying.methods.grouped": "bench.tying.patterns.grouped",
    "bench.tying.methods.relaxed": "bench.tying.patterns.relaxed",
    "bench.tying.methods.sandwich": "bench.tying.patterns.sandwich",
    "bench.tying.methods.sequence": "bench.tying.patterns.sequence",
    "bench.tying.methods.soft": "bench.tying.strategies.soft",
    "bench.tying.methods.soft_embedding": "bench.tying.strategies.soft_embedding",
    "bench.tying.methods.top_k": "bench.tying.strategies.top_k",
}
"""The import path of something that a config names -> the path that it had when runs were recorded with it.

Identities are made of the latter: a file that moves leaves its runs their identity.
"""


def recorded_names(value: Any) -> Any:
    """Return `value`, part of a config, with the import paths under which runs were recorded."""
    return _renamed(value, RECORDED_NAMES)


def present_names(value: Any) -> Any:
    """Return `value`, part of a recorded config, with the import paths of today."""
    return _renamed(value, {then: now for now, then in RECORDED_NAMES.items()})


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(item, names) for item in value]
    return value


def _numbers(value: Any) -> Any:
    """`value` with whole floats as integers: `dropout=0` and `dropout=0.0` are the same run."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    return value


def run_folder(runs: Path, run_id: str) -> Path:
    return runs / run_id


def cost_folder(runs: Path, cost_id: str) -> Path:
    return runs / "costs" / cost_id


def manifest_path(runs: Path, sweep: str) -> Path:
    return runs / "sweeps" / f"{sweep}.json"


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """`path` holds either what it held before or all of `content`, whatever happens. BadInput if not writable."""
    with written_atomically(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` at the end, whole, and only if nothing was raised. BadInput if it
    cannot be written."""
    temporary = draft(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
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


def draft(path: Path) -> Path:
    """A name beside `path` that nobody else uses and that says who does: `tidy` removes what a dead one left."""
    return path.with_name(f".{path.name}.{owner.token()}-{next(_drafts)}.tmp")


def tidy(folder: Path) -> None:
    """Remove the drafts in `folder` that no living process will finish; those of other machines after a day."""
    for path in folder.glob(".*.tmp") if folder.is_dir() else ():
        written = _DRAFT.fullmatch(path.name)
        with contextlib.suppress(FileNotFoundError):
            alive = owner.alive(written[1]) if written else None
            if alive is False or (alive is None and time.time() - path.stat().st_mtime > DAY_S):
                path.unlink()


def require_writable(folder: Path) -> None:
    """BadInput, before anything is run, where `folder` cannot be made or written to."""
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


class DiskFull(BadInput):
    """There is no space left: no fault of what was being done, which can go on once there is."""


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class NoRecord(BadInput):
    """There is no file, or it is damaged: what should be in it can be made again."""


def read_json(path: Path) -> dict[str, Any]:
    """The object that `write_json` wrote. NoRecord for no or a torn file, BadInput for one of a newer schema."""
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
    """The record at `path`, or None where there is none or where it is damaged (it will then be made again)."""
    try:
        return read_json(path)  # read once: between two looks another process may remove it or write it anew
    except NoRecord:
        return None


def read_records(runs: Path, run_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Records by run id, of those that exist. A torn record comes back as a failed one that says so."""
    found = {}
    for run_id in run_ids:
        path = run_folder(runs, run_id) / "record.json"
        if not path.exists():
            continue
        try:
            found[run_id] = read_json(path)
            if found[run_id].get("status") not in ENDED:
                raise NoRecord(f"{path} is none of ours; delete it and run the sweep again")
        except NoRecord as error:
            found[run_id] = {"id": run_id, "status": Status.FAILED, "reason": f"record is damaged: {error}"}
    return found


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
