"""A data set of the hub, or a folder laid out like one: found, read into memory, its columns renamed."""

import logging
import os
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import DatasetDict

HUB = "https://huggingface.co"
HUB_SECONDS = 4.0  # to say hello; without a network `datasets` itself retries for 24 s


def local(root: str, folder: str, name: str | None) -> Path:
    """`root/folder`, which must exist: a root that was given is meant."""
    path = Path(root).expanduser() / folder
    if not path.is_dir():
        online = ", or unset both and go online" if name else ""
        raise BadInput(
            f"no data folder {path}: data.root (or BENCH_DATA_ROOT) must be a directory with {folder!r}, "
            f"laid out as on the hub; correct it{online}"
        )
    return path


def ask_hub(name: str | None, folder: str) -> None:
    """BadInput within seconds where the hub does not answer; HF_HUB_OFFLINE=1 leaves it to its cache."""
    fix = f"set data.root=DIR or BENCH_DATA_ROOT=DIR to a directory that holds {folder!r}"
    if name is None:
        raise BadInput(f"data set {folder!r} is not on the hub: {fix}")
    if offline() or hub_answers():
        return
    raise BadInput(
        f"data set {name!r} is not here and {_endpoint()} does not answer: {fix}, or go online "
        f"(HF_HUB_OFFLINE=1 uses the hub's local cache)"
    )


def offline() -> bool:
    """Whether the user wants the hub's local cache alone."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def hub_answers() -> bool:
    """Whether the hub is there, within seconds; its own clients try for half a minute."""
    answered: list[bool] = []
    # A thread, because name resolution has no time limit of its own; a daemon, because it may never return.
    thread = threading.Thread(target=lambda: answered.append(answers(_endpoint())), daemon=True)
    thread.start()
    thread.join(HUB_SECONDS + 1)
    return answered == [True]


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def read(path: str, config: str | None, revision: str | None) -> "DatasetDict":
    """`load_dataset` into memory; what it raises becomes one line."""
    import datasets
    from pyarrow import ArrowException

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what it warns of, it raises too
    where = {"revision": revision} if revision else {}
    try:
        if not os.path.isdir(path):
            return datasets.load_dataset(path, config, **where)
        # A cache of its own, so that neither a stale nor a torn copy in the user's cache can answer.
        with tempfile.TemporaryDirectory() as scratch:
            return datasets.load_dataset(path, config, cache_dir=scratch, keep_in_memory=True)
    except (OSError, ValueError, ArrowException, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())[:200]
        fix = "restore its files" if os.path.isdir(path) else "set data.root or BENCH_DATA_ROOT, or go online"
        raise BadInput(f"cannot read data set {path} (config {config}): {reason}; {fix}") from error


def chosen(data: "DatasetDict", splits: dict[str, str] | None, path: str) -> "DatasetDict":
    """The splits that `splits` names, ours -> the data set's, under our names; None: all as they are."""
    if splits is None:
        return data
    if missing := sorted(set(splits.values()) - set(data)):
        raise BadInput(
            f"data set {path} has no split {missing[0]!r}, only {sorted(data)}: set data.source.splits"
        )
    return type(data)({ours: data[theirs] for ours, theirs in splits.items()})


def renamed(data: "DatasetDict", renames: dict[str, str], path: str) -> "DatasetDict":
    for split in data.values():
        missing = set(renames.values()) - set(split.column_names)
        if missing:
            raise BadInput(
                f"data set {path} has no column {sorted(missing)}: it has {split.column_names}; set "
                "data.source.columns"
            )
    return data.rename_columns({theirs: ours for ours, theirs in renames.items() if ours != theirs})
