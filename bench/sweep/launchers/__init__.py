"""Where are runs carried out? On this machine, on SLURM, on Ray: a launcher takes cells and gives their records."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from bench.config.run_config import RunConfig
from bench.sweep.run_or_load import Record, RunOrLoad
from bench.tying.errors import BadInput

WHOLE = "a whole number >= 1"


class Launcher(Protocol):
    """Imports its library where it is used, because what a user starts must answer at once."""

    def check(self, cells: Sequence[RunConfig]) -> None:
        """Raise BadInput, before anything starts, where these cells cannot be run here."""

    def map(
        self, ensure: RunOrLoad, cells: Sequence[RunConfig], started: Callable[[RunConfig], None]
    ) -> Iterator[tuple[RunConfig, Record | None]]:
        """Yield each cell with its record, as they end; call `started` when one begins.

        Closing the iterator ends what it started.
        """


def reachable(cell: RunConfig) -> RunConfig:
    """Return the cell with a runs folder that means the same on every machine."""
    return replace(cell, options={**cell.options, "runs": str(cell.runs.resolve())})


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise BadInput, with what is allowed, where a setting of a launcher does not hold."""
    if not holds:
        raise BadInput(f"hydra.launcher.{name}={value} is not allowed: it must be {allowed}")


def is_count(value: object) -> bool:
    """Tell whether a value is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
