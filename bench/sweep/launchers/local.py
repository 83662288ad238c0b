"""Runs on this machine, several at once; each is processes of its own, joblib's threads wait for them."""

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bench.config.run_config import RunConfig
from bench.runs import machine
from bench.runs.process import Interrupted, Runner
from bench.sweep.launchers import WHOLE, is_count, require
from bench.sweep.run_or_load import Record, RunOrLoad


class Joblib:
    """n_jobs: runs at once; null: as many as there are cores, or GPUs, for. runs_per_gpu: so many share one."""

    def __init__(self, n_jobs: int | None = None, runs_per_gpu: int = 1) -> None:
        for name, value in (("n_jobs", n_jobs), ("runs_per_gpu", runs_per_gpu)):
            require(value is None or is_count(value), name, value, WHOLE)
        self.n_jobs, self.runs_per_gpu = n_jobs, runs_per_gpu

    def check(self, cells: Sequence[RunConfig]) -> None:
        for cell in cells:
            machine.check_devices(**_settings(cell))
            machine.check_compiler(cell.config["trainer"]["compile"])

    def at_once(self, cells: Sequence[RunConfig]) -> int:
        """Return how many of them go on at once."""
        return self._places(cells).qsize()

    def map(
        self, ensure: RunOrLoad, cells: Sequence[RunConfig], started: Callable[[RunConfig], None]
    ) -> Iterator[tuple[RunConfig, Record | None]]:
        import joblib

        places, runner = self._places(cells), Runner()

        def run_one(cell: RunConfig) -> tuple[RunConfig, Record | None]:
            place = places.get()
            try:
                started(cell)
                return cell, ensure(replace(cell, options={**cell.options, "gpus": place}), runner)
            except Interrupted:  # the others are saving where they are
                raise
            except BaseException:
                runner.kill_all()  # joblib waits for what is running before it tells
                raise
            finally:
                places.put(place)

        parallel = joblib.Parallel(
            n_jobs=places.qsize(), backend="threading", return_as="generator_unordered", batch_size=1
        )
        yield from parallel(joblib.delayed(run_one)(cell) for cell in cells)

    def _places(self, cells: Sequence[RunConfig]) -> "queue.SimpleQueue[str | None]":
        """Return an entry for each run that may go on at once: the GPUs that it shall see, None for a run without."""
        devices = max(cell.config["trainer"]["devices"] for cell in cells)
        threads = max(cell.config["trainer"]["threads"] for cell in cells)
        gpus = machine.gpus() if all(_settings(cell)["accelerator"] != "cpu" for cell in cells) else []
        sets = [",".join(gpus[gpu : gpu + devices]) for gpu in range(0, len(gpus) - devices + 1, devices)]
        offered = sets * self.runs_per_gpu or [None] * max(1, machine.cores() // (threads * devices))
        count = len(offered) if self.n_jobs is None else self.n_jobs
        places: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for index in range(count):
            places.put(offered[index % len(offered)])
        return places


def _settings(cell: RunConfig) -> dict[str, object]:
    return {key: cell.config["trainer"][key] for key in ("devices", "threads", "accelerator")}
