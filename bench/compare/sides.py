"""A set of results to compare: a folder, or what a commit has of it. The records.csv of its sweeps."""

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame

RECORDS = "records.csv"


@dataclass(frozen=True)
class Side:
    """`name` as the user gave it; `records`: sweep -> the bytes of its records.csv."""

    name: str
    records: dict[str, bytes]


def side(given: str, results: str = "results") -> Side:
    """A folder with records.csv in it, a folder of such folders, or a commit and its `results`.

    BadInput where it is none of them or has no records.
    """
    path = Path(given)
    found = _in_folder(path) if path.is_dir() else _in_commit(given, results)
    if not found:
        raise BadInput(
            f"{given}: no {RECORDS} there: give results/, results/SWEEP, or a commit that has them"
        )
    return Side(given, found)


def _in_folder(path: Path) -> dict[str, bytes]:
    paths = [path / RECORDS] if (path / RECORDS).exists() else sorted(path.glob(f"*/{RECORDS}"))
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
    paths = [Path(name) for name in names if Path(name).name == RECORDS]
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
    """The runs of a sweep, a row each. BadInput for a file that is no records.csv."""
    from pandas import read_csv
    from pandas.errors import EmptyDataError, ParserError

    where = f"{sweep}/{RECORDS} of {side.name}"
    try:
        frame = read_csv(io.BytesIO(side.records[sweep]), low_memory=False)
    except EmptyDataError:
        raise BadInput(f"{where} is empty: the sweep asked for no run") from None
    except (ParserError, UnicodeDecodeError) as error:
        raise BadInput(f"{where} is damaged: {error}") from error
    needed = {"id", "task", "data", "tying", "dropout", "weight_decay", "seed", "status", "metric"}
    if missing := sorted(needed - set(frame.columns)):
        raise BadInput(f"{where} has no column {missing[0]}: build the tables again (make tables)")
    return frame
