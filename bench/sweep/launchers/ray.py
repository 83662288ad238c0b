"""Ray: a run is a task, on a cluster of this machine's cores or on one that is there; its processes start on the
worker that has the task, and a worker is used again, so that it pays the imports once."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from bench.config.run_config import RunConfig
from bench.runs import machine, process
from bench.runs.worker import one_line
from bench.sweep.launchers import is_count, reachable, require
from bench.sweep.run_or_load import Record, RunOrLoad, imports_of
from bench.tying.errors import BadInput

RAY = "ray==2.60.0"

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1", "RAY_DEDUP_LOGS": "0"}
"""Nothing is reported to anyone; a run without GPUs sees none."""

POLL_S = 0.5
LAST_S = process.GRACE_S + 2
"""How long what was cancelled has to save where it is."""


class Ray:
    """address: null starts a cluster here, which ends with this process; else as ray.init has it.

    num_cpus, num_gpus: of one run; null: threads x devices, and devices where trainer.accelerator is gpu. A fraction
    of a GPU lets several runs share it. init: further arguments of ray.init.
    """

    def __init__(
        self,
        address: str | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
            is_share = value is None or is_count(value) or (isinstance(value, float) and 0 < value < 1)
            is_whole = isinstance(value, float) and value > 0 and value.is_integer()
            require(is_share or is_whole, name, value, "a whole number, or a fraction between 0 and 1")
        self.address, self.num_cpus, self.num_gpus = address, num_cpus, num_gpus
        self.init = OmegaConf.to_container(OmegaConf.create(dict(init or {})))

    def check(self, cells: Sequence[RunConfig]) -> None:
        if importlib.util.find_spec("ray") is None:
            raise BadInput(
                f"hydra/launcher=ray needs Ray, which is not installed: .venv/bin/pip install {RAY}"
            )
        if self.address is None:
            most = {"CPU": machine.cores(), "GPU": len(machine.gpus())}
            most |= {kind: self.init[key] for kind, key in _SETTINGS.items() if key in self.init}
        else:
            most = self._cluster().cluster_resources()
        for cell in cells:
            for kind, wanted in zip(_SETTINGS, self._need(cell), strict=True):
                has = most.get(kind, 0)
                require(wanted <= has, _SETTINGS[kind], wanted, f"at most {has:g}: what the cluster has")

    def map(
        self, ensure: RunOrLoad, cells: Sequence[RunConfig], started: Callable[[RunConfig], None]
    ) -> Iterator[tuple[RunConfig, Record | None]]:
        ray = self._cluster()
        task = ray.remote(max_retries=0)(_on_worker)
        modules = imports_of(cells)
        left = {}
        try:
            for cell in cells:
                cpus, gpus = self._need(cell)
                sized = task.options(num_cpus=cpus, num_gpus=gpus, name=f"{cell.label} {cell.config['seed']}")
                left[sized.remote(ensure, reachable(cell), modules)] = cell
            yield from self._ended(ray, left, ensure, started)
        finally:
            for reference in left:
                ray.cancel(reference)
            if left:
                ray.wait(list(left), num_returns=len(left), timeout=LAST_S)

    def _ended(
        self, ray: Any, left: dict[Any, RunConfig], ensure: RunOrLoad, started: Callable[[RunConfig], None]
    ) -> Iterator[tuple[RunConfig, Record | None]]:
        """Yield each cell as its task ends, which is then removed from `left`."""
        begun: set[str] = set()
        cores = int(ray.cluster_resources().get("CPU", 1))
        while left:
            ended, _ = ray.wait(list(left), num_returns=1, timeout=POLL_S)
            for reference in [*ended, *list(left)[: 2 * cores]]:  # Ray takes tasks in the order given
                cell = left[reference]
                if cell.id not in begun and (reference in ended or ensure.is_elsewhere(cell)):
                    begun.add(cell.id)
                    started(cell)
            for reference in ended:
                cell = left.pop(reference)
                yield cell, _fetched(ray, reference, ensure, cell)

    def _need(self, cell: RunConfig) -> tuple[float, float]:
        trainer = cell.config["trainer"]
        cpus = self.num_cpus or trainer["threads"] * trainer["devices"]
        return cpus, self.num_gpus or (trainer["devices"] if trainer["accelerator"] == "gpu" else 0)

    def _cluster(self) -> Any:
        os.environ |= QUIET
        import ray

        if ray.is_initialized():
            return ray
        local = {"num_cpus": machine.cores(), "include_dashboard": False, "object_store_memory": 10**8}
        local |= {"_node_ip_address": "127.0.0.1"}
        address = {"address": self.address} if self.address else {"address": "local", **local}
        environment = {"env_vars": {"PYTHONPATH": str(machine.ROOT)}}
        quiet = {"logging_level": "ERROR", "log_to_driver": False, "runtime_env": environment}
        try:
            ray.init(**(address | quiet | self.init))
        except (ConnectionError, ValueError, TypeError, RuntimeError) as error:
            where = self.address or "this machine"
            raise BadInput(f"hydra/launcher=ray: no cluster at {where}: {one_line(error)}") from error
        return ray


_SETTINGS = {"CPU": "num_cpus", "GPU": "num_gpus"}


def _on_worker(ensure: RunOrLoad, cell: RunConfig, modules: Sequence[str]) -> Record | None:
    """Call `ensure` on a worker of Ray, in a thread, so that this one can hear that it is cancelled."""
    process.preload(modules)
    # Else each run's process would import what this one was started from, which is Ray: two seconds.
    vars(sys.modules["__main__"]).pop("__file__", None)
    # Ray gives each task its GPUs, the fork server knows those of the first alone.
    cell = replace(cell, options={**cell.options, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")})
    runner = process.Runner()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(ensure, cell, runner)
        try:
            while not wait([future], timeout=POLL_S).done:
                pass
        except BaseException:
            runner.stop_all()
            raise
        return future.result()


def _fetched(ray: Any, reference: Any, ensure: RunOrLoad, cell: RunConfig) -> Record | None:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:  # the worker died, or its node did
        return ensure.record_loss(cell, f"Ray: {one_line(error)}")
