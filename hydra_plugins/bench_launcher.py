"""Hydra's default launcher here: compose every cell, then conduct them all from this one process.

Hydra takes launchers from the namespace package `hydra_plugins` alone, which is why this is not in bench/.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from bench import machine, sweep, tables
from bench.cell import Cell, from_hydra
from bench.errors import BadInput
from bench.records import DONE, FAILED, require_writable


class LocalLauncher(Launcher):
    """Runs `workers` runs at a time, each in a fresh process; null: as many as there are cores for.

    All cells are composed and checked before the first starts, so that a mistake in one costs nothing.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        cells = [self._compose(overrides) for overrides in job_overrides]
        for place in (cells[0].runs, Path(cells[0].options["results"])):
            require_writable(place)
        cells, records = sweep.conduct(cells, self._workers(cells[0]))
        options = cells[0].options
        tables.build(cells[0].runs, Path(options["results"]), [options["sweep"]["name"]])
        failed = [record for record in records if record["status"] == FAILED]
        if failed:
            raise sweep.RunFailed(
                f"{len(failed)} of {len(records)} runs failed: {failed[0]['reason']}; retry=true runs them again"
            )
        return [_returned(*job) for job in zip(job_overrides, cells, records, strict=True)]

    def _compose(self, overrides: Sequence[str]) -> Cell:
        cfg = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            del cfg["hydra"]
            cfg.sweep.name = cfg.sweep.name or "custom"
        return from_hydra(cfg)

    def _workers(self, cell: Cell) -> int:
        if self.workers is None:
            return max(1, machine.cores() // cell.config["trainer"]["threads"])
        if not isinstance(self.workers, int) or self.workers < 1:
            raise BadInput(
                f"hydra.launcher.workers={self.workers} is not allowed: it must be a whole number >= 1"
            )
        return self.workers


def _returned(overrides: Sequence[str], cell: Cell, record: dict[str, Any]) -> JobReturn:
    """What a sweeper that searches needs: the headline metric on validation, None where the run has none."""
    metric = cell.config["task"]["metric"]["name"]
    value = record["val"][metric] if record["status"] == DONE else None
    return JobReturn(overrides=overrides, cfg=None, status=JobStatus.COMPLETED, _return_value=value)
