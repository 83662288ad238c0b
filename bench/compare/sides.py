"""A set of results to compare: a folder, or what a commit has of it. The records of its sweeps."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.report.archive import FILE, parse
from bench.report.frame import frame
from bench.report.rows import rows

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Side:
    """`name` as the user gave it; `records`: sweep -> the bytes of its records.jsonl.gz."""

    name: str
    records: dict[str, bytes]


def side(given: str, results: str = "results") -> Side:
    """A folder with records.jsonl.gz in it, a folder of such folders, or a commit and its `results`.

    BadInput where it is none of them or has no records.
    """
    path = Path(given)
    found = _in_folder(path) if path.is_dir() else _in_commit(given, results)
    if not found:
        raise BadInput(f"{given}: no {FILE} there: give results/, results/SWEEP, or a commit that has them")
    return Side(given, found)


def _in_folder(path: Path) -> dict[str, bytes]:
    paths = [path / FILE] if (path / FILE).exists() else sorted(path.glob(f"*/{FILE}"))
    try:
        return {found.resolve().parent.name: found.read_bytes() for found in paths}
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}") from error


def _in_commit(commit: str, results: str) -> dict[str, bytes]:
    if commit.startswith("-") or _git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") is None:
        raise BadInput(
            f"{commit} is neither a folder nor a commit: give results/, results/SWEEP, or a commit"
        )
    names = (_git("ls-tree", "-r", "--name-only", commit, "--", f"{results}/") or b"").decode().splitlines()
    paths = [Path(name) for name in names if Path(name).name == FILE]
    return {path.parent.name: _git("show", f"{commit}:./{path}") or b"" for path in paths}


def _git(*arguments: str) -> bytes | None:
    """What git prints; None where it refuses."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise BadInput("git is not installed: compare two folders instead") from error
    except subprocess.CalledProcessError:
        return None


def read(side: Side, sweep: str) -> "DataFrame":
    """The runs of a sweep, a row each. BadInput for a file that is no archive of a sweep, and for one without a run."""
    where = f"{sweep}/{FILE} of {side.name}"
    runs = rows(parse(side.records[sweep], where))
    if not runs:
        raise BadInput(f"{where} is empty: the sweep asked for no run")
    return frame(runs)
