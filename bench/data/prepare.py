"""Prepare a data set once: splits, token ids or pixels as arrays, floors, in a cache keyed by content.

No torch here, and no `datasets` unless something has to be prepared. Layout of the cache:

    by_config/<hash of the settings and of what identifies the source>.json   -> {"folder": name}
    <name>-<fingerprint>/{meta.json, tokenizer.json, *.npy}
    lock, building/                                                            one preparer at a time
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.sources import Source, source_of
from bench.data.zoo import tokenizer_of
from bench.runs.code import code_of_section, is_own
from bench.runs.store import NoRecord
from bench.tying.errors import BadInput

PREPARE_VERSION = 2
"""Raised whenever the code of this folder changes what is prepared: it is part of the cache's key."""

NOT_PREPARED = ("root", "train_limit", "val_limit", "test_limit", "module", "source", "files")
"""Settings that change nothing in the arrays; the source says itself what identifies it."""


FIRST_WORD_S, NEXT_WORD_S = 15.0, 30.0
"""Seconds until a preparation that lasts says so, and between its further words."""


@dataclass(frozen=True)
class Prepared:
    """`folder` holds the arrays; `fingerprint` is a hash of them and of the vocabulary, not of paths."""

    folder: Path
    fingerprint: str
    meta: dict[str, Any]


def prepare(data: Mapping[str, Any], cache: Path) -> Prepared:
    """Return the prepared data set that the group `data` describes; make it if it is not in `cache` or is torn there.

    Args:
        data: resolved, and allowed by `bench.config.schema`.
        cache: the folder of prepared data.

    Raises:
        BadInput: a source that is absent or unreadable, a cache that cannot be written.
    """
    source = source_of(data)
    key = identity(data, source)
    cache = Path(cache).expanduser().resolve()
    if prepared := lookup(cache, key):
        return prepared
    with locked(cache):
        if prepared := lookup(cache, key):  # another process was faster
            return prepared
        return build(data, source, cache, key)


def load(folder: Path | str) -> Prepared:
    """Read a prepared folder back; BadInput where a file is missing or not as long as meta.json says."""
    folder = Path(folder)
    prepared = whole(folder)
    if prepared is None:
        raise NoRecord(
            f"no complete prepared data in {folder}: run again with the same data settings to prepare it anew"
        )
    return prepared


def identity(wanted: Mapping[str, Any], source: Source) -> str:
    """Return a hash of all that the arrays depend on: PREPARE_VERSION and the code of a user's own source too."""
    parts = {k: v for k, v in wanted.items() if k not in NOT_PREPARED}
    modules = code_of_section(wanted["source"]).get("modules", {})
    if place := parts.pop("tokenizer_of", None):
        parts["tokenizer_file"] = hashlib.sha256(tokenizer_of(place).read_bytes()).hexdigest()
    if of_user := sorted(digest for name, digest in modules.items() if not is_own(name)):
        parts["source_code"] = of_user
    text = json.dumps([PREPARE_VERSION, parts, source.identity()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def pointer(cache: Path, key: str) -> Path:
    return cache / "by_config" / f"{key}.json"


def lookup(cache: Path, key: str) -> Prepared | None:
    """Return what the pointer points to, if both are there and whole."""
    try:
        return whole(cache / json.loads(pointer(cache, key).read_text())["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def whole(folder: Path) -> Prepared | None:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        torn = [name for name, size in meta["files"].items() if (folder / name).stat().st_size != size]
        return None if torn else Prepared(folder, meta["fingerprint"], meta)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache's lock (the kernel frees a dead process's) and clear what was interrupted."""
    try:
        (cache / "by_config").mkdir(parents=True, exist_ok=True)
        handle = os.open(cache / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise BadInput(
            f"cannot write the data cache {cache}: {error.strerror}; choose a folder that can be written"
        ) from error
    try:
        with _told_while_it_lasts(f"waiting for another process that prepares data in {cache}"):
            fcntl.flock(handle, fcntl.LOCK_EX)
        shutil.rmtree(cache / "building", ignore_errors=True)
        yield
        shutil.rmtree(cache / "building", ignore_errors=True)
    finally:
        os.close(handle)


@contextmanager
def _told_while_it_lasts(what: str) -> Iterator[None]:
    """Say on stderr what goes on, and for how long already: after 15 seconds and every 30 after that."""
    over, since = threading.Event(), time.monotonic()

    def tell() -> None:
        wait_s = FIRST_WORD_S
        while not over.wait(wait_s):
            print(f"note: {what} ({time.monotonic() - since:.0f} s so far)", file=sys.stderr, flush=True)
            wait_s = NEXT_WORD_S

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def build(wanted: Mapping[str, Any], source: Source, cache: Path, key: str) -> Prepared:
    """Prepare aside and move in one step; the pointer comes last. Call with the lock held."""
    from bench.data.contents import image_content, labelled_text_content, series_content, text_content

    makers = {"image": image_content, "text": text_content}
    makers |= {"series": series_content, "labelled_text": labelled_text_content}
    with _told_while_it_lasts(f"preparing data {wanted['name']}, which is done once and kept in {cache}"):
        content = makers[wanted["kind"]](source.load(), wanted)
    for note in content.notes:
        print(f"note: data={wanted['name']}: {note}", file=sys.stderr, flush=True)
    try:
        (cache / "building").mkdir()
        with tempfile.TemporaryDirectory(dir=cache / "building") as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            new.mkdir()
            sizes = content.write(new)
            fingerprint = content.fingerprint()
            meta = {
                "name": wanted["name"],
                "kind": wanted["kind"],
                "fingerprint": fingerprint,
                "files": sizes,
            } | content.meta
            if content.notes:
                meta["notes"] = list(content.notes)
            (new / "meta.json").write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
            folder = cache / f"{wanted['name']}-{fingerprint}"
            if whole(folder) is None:
                if folder.exists():
                    os.replace(folder, old)
                os.replace(new, folder)
            link = Path(scratch) / "pointer.json"
            link.write_text(json.dumps({"folder": folder.name}))
            os.replace(link, pointer(cache, key))
    except OSError as error:
        raise BadInput(
            f"cannot write the data cache {cache}: {error.strerror}; make room or choose another folder"
        ) from error
    return load(folder)
