"""Where are runs carried out? On this machine, on SLURM, on Ray: a launcher takes cells and gives their records."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from bench.config.run_config import RunConfig
from bench.sweep.run_or_load import Record, RunOrLoad


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
