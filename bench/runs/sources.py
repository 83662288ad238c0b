"""Hash what a run is made from: the files of the suite as git does, and the rules of the claims it may judge."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bench.runs import machine

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the suite's code."""


@functools.cache
def trees() -> dict[str, str]:
    """Return the git tree hashes of bench/ and conf/, of the files as they lie here.

    Uncommitted edits count, and no git is needed. They are read once a process. In a checkout without edits they
    are `git rev-parse HEAD:bench` and `HEAD:conf`; a wheel, which has conf/ inside bench/, gives the same.
    """
    return {"bench": tree_hash(PACKAGE, frozenset({"conf"})), "conf": tree_hash(machine.CONF)}


def tree_hash(folder: Path, left_out: frozenset[str] = frozenset()) -> str:
    """Return the hash that git gives a folder of plain files.

    Caches of Python and hidden files are left out, as are the names in `left_out`; of the folders below, none is.
    """
    entries = []
    for path in folder.iterdir():
        if path.name in left_out or path.name == "__pycache__" or path.name.startswith("."):
            continue
        if path.is_dir():
            if (inner := tree_hash(path)) != EMPTY:  # git knows no empty folder
                entries.append((f"{path.name}/".encode(), b"40000", inner))
        else:
            entries.append((path.name.encode(), b"100644", _object_hash("blob", path.read_bytes())))
    lines = (
        mode + b" " + name.rstrip(b"/") + b"\0" + bytes.fromhex(hash_)
        for name, mode, hash_ in sorted(entries)
    )
    return _object_hash("tree", b"".join(lines))


def _object_hash(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


EMPTY = _object_hash("tree", b"")


@functools.cache
def rules(sweep: str | None) -> dict[str, str]:
    """Return the hash of the rule of each claim that names this sweep, by the claim's id.

    A record that holds it shows that the rule was fixed before the run. A claim file that is no mapping has none.
    """
    hashes = {}
    for path in sorted((machine.CONF / "claims").glob("*.yaml")):
        try:
            claim = yaml.safe_load(path.read_bytes())
        except yaml.YAMLError:
            continue
        sweeps = claim.get("sweep") if isinstance(claim, dict) else None
        if sweep is not None and sweep in (sweeps if isinstance(sweeps, list) else [sweeps]):
            hashes[str(claim.get("id"))] = rule_hash(claim)
    return hashes


def rule_hash(claim: Mapping[str, Any]) -> str:
    """Return a short hash of what decides a claim: its test with the arguments, its rule and how parts count."""
    decides = {key: claim.get(key) for key in ("test", "rule", "overall")}
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:12]


def history() -> frozenset[str] | None:
    """Return what this checkout's history holds: the commits of HEAD, and `BENCH CONF`, their two tree hashes.

    Returns:
        None where that is not known: the suite was installed, or the clone is shallow.
    """
    is_ours = machine.provenance()["commit"] is not None
    if not is_ours or machine.git("rev-parse", "--is-shallow-repository") != "false":
        return None
    commits = machine.git("rev-list", "HEAD").split()
    revs = "".join(f"{commit}:{name}\n" for commit in commits for name in ("bench", "conf"))
    answers = [line.split()[0] for line in machine.git("cat-file", "--batch-check", stdin=revs).splitlines()]
    pairs = (f"{bench} {conf}" for bench, conf in zip(answers[::2], answers[1::2], strict=True))
    return frozenset([*commits, *pairs])
