"""Hydra's launchers here: compose every cell, then run them all from this one process, wherever runs are to go on.

Hydra takes launchers from the namespace package `hydra_plugins` alone, which is why this is not in bench/.
"""

import functools
import inspect
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_class
from omegaconf import DictConfig, open_dict

from bench.config.compose import Composer
from bench.config.run_config import RunConfig, check_one_run, check_one_sweep, checked, with_data
from bench.report import tables
from bench.runs.store import Status, require_writable
from bench.sweep import measure, sweep
from bench.sweep.dry_run import report
from bench.sweep.launchers import Launcher
from bench.tying.errors import BadInput


class ComposingLauncher(HydraLauncher):
    """Composes and checks all cells before the first starts, so that a mistake in one costs nothing."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.compose = Composer(hydra_context.config_loader, config)
        self.app = task_function

    def cells(self, job_overrides: Sequence[Sequence[str]]) -> list[RunConfig]:
        asked = [self._checked(overrides) for overrides in job_overrides]
        check_one_sweep([config for config, _ in asked])  # before data are prepared
        cells = [
            with_data(config, unused, overrides)
            for (config, unused), overrides in zip(asked, job_overrides, strict=True)
        ]
        check_one_run(cells)
        return cells

    def _checked(self, overrides: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        cfg = self.compose(overrides)
        with open_dict(cfg):
            cfg.sweep.name = cfg.sweep.name or "custom"
        return checked(cfg)


class BenchLauncher(ComposingLauncher):
    """Runs a sweep with the launcher of runs at the dotted path `engine`; all other keys are that class's own."""

    def __init__(self, engine: str, **settings: Any) -> None:
        self.launcher_path, self.settings = engine, settings

    @functools.cached_property
    def launcher(self) -> Launcher:
        """Made at the first launch and kept for the next ones. Not by Hydra, which would wrap what is refused."""
        kind = get_class(self.launcher_path)
        known = list(inspect.signature(kind).parameters)
        for key in self.settings:
            if key not in known:
                raise BadInput(f"unknown key hydra.launcher.{key}: allowed are {', '.join(known)}")
        return kind(**self.settings)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        cells = self.cells(job_overrides)
        options = cells[0].options
        began = time.time()
        result = sweep.run_sweep(cells, self.launcher, sweep=True)
        tables.build(cells[0].runs, Path(options["results"]), [options["sweep"]["name"]])
        self.app.shortfalls += result.shortfalls(began)
        return [_returned(*job) for job in zip(job_overrides, *result, strict=True)]


class DryRunLauncher(ComposingLauncher):
    """Says what a sweep would run, what is recorded, and how long the rest will take; writes nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        print(report(self.cells(job_overrides)))
        return [_job(overrides, 0.0) for overrides in job_overrides]


class MeasureLauncher(ComposingLauncher):
    """Measures what the cells cost, each cost alone on this machine, and prints it; trains nothing."""

    def __init__(self, again: bool) -> None:
        self.again = again

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        cells = self.cells(job_overrides)
        require_writable(cells[0].runs)
        began = time.time()
        measured = sweep.measure(cells, self.again)
        print(measure.report(measured))
        failed = [record for _, record in measured if record["status"] == Status.FAILED]
        before = sweep.recorded_before(failed, began)
        if len(measured) == 1 and failed and failed[0].get("bad_input"):
            raise BadInput(
                f"{failed[0]['reason']}{before}" + ("; retry=true measures it again" if before else "")
            )
        if failed:
            self.app.shortfalls.append(
                f"{len(failed)} of {len(measured)} measurements failed: {failed[0]['reason']}{before}; "
                "retry=true measures them again"
            )
        return [_job(overrides, 0.0) for overrides in job_overrides]


def _returned(overrides: Sequence[str], cell: RunConfig, record: dict[str, Any]) -> JobReturn:
    """What a sweeper that searches needs: the headline metric on validation, the worst there is for a run that
    diverged, None where there is none."""
    metric = cell.config["task"]["metric"]
    if record["status"] == Status.DIVERGED:
        return _job(overrides, math.inf if metric["mode"] == "min" else -math.inf)
    return _job(overrides, record["val"][metric["name"]] if record["status"] == Status.DONE else None)


def _job(overrides: Sequence[str], value: float | None) -> JobReturn:
    return JobReturn(overrides=overrides, cfg=None, status=JobStatus.COMPLETED, _return_value=value)
