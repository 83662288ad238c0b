"""Where the numbers of the ledger come from: of each sweep its commits, data, machine and versions."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from bench.records import Status
from bench.report.order import natural

if TYPE_CHECKING:
    from pandas import DataFrame

PACKAGES = ("torch", "transformers")
"""What the arithmetic and exact claims are computed with."""
COLUMNS = ("results_version", "device", "threads", "python")


def lines(frames: Sequence[tuple[str, "DataFrame"]]) -> list[str]:
    """One line of the computed claims, and one per sweep; a value that not all runs share says how many do."""
    made = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [f"Arithmetic and exact claims: computed with {made}.", *(_line(*frame) for frame in frames)]


def _line(name: str, frame: "DataFrame") -> str:
    done = frame[frame.status == Status.DONE]
    data = sorted({f"{d} {f}" for d, f in zip(done["data"], done["fingerprint"], strict=True)})
    said = [f"data {', '.join(data)}"] if data else []
    if "commit" in done.columns:
        dirty = done["dirty"] if "dirty" in done.columns else [False] * len(done)
        pairs = zip(done["commit"].dropna(), dirty, strict=False)
        said.append(
            f"commit {_counted([str(commit)[:10] + ' (dirty)' * (d is True) for commit, d in pairs])}"
        )
    versions = [column for column in done.columns if column.startswith("version_")]
    for column in (*COLUMNS, *sorted(versions)):
        if column in done.columns and done[column].notna().any():
            values = [f"{v:g}" if isinstance(v, float) else str(v) for v in done[column].dropna()]
            said.append(f"{column.removeprefix('version_')} {_counted(values)}")
    return f"{name}: {len(done)} of {len(frame)} runs done; {'; '.join(said)}."


def _counted(values: Sequence[str]) -> str:
    names = sorted(set(values), key=natural)
    if len(names) == 1:
        return names[0]
    return ", ".join(f"{name} ({list(values).count(name)} of {len(values)})" for name in names)
