"""Sweeps on a real Ray of this machine: the records of the default launcher, a worker that dies, Ctrl-C."""

import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Bench, refused, until

from bench.sweep.launchers.ray import Ray
from bench.tying.errors import BadInput

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (pip's [ray])"
)

RAY = ["-m", "hydra/launcher=ray", "hydra.launcher.init={num_cpus:2}"]
LONG = ["trainer.limit_train_batches=null", "trainer.max_epochs=25", "trainer.checkpoint_every_s=0.2"]


def outcomes(bench: Bench) -> dict[str, Any]:
    keys = ("status", "val", "test", "num_params", "best_epoch")
    return {run_id: [record.get(key) for key in keys] for run_id, record in bench.records().items()}


def ray_worker(bench: Bench) -> int:
    """The process of Ray that is at a run which has a checkpoint: above the fork server, which is above the run."""
    until(lambda: next(bench.runs.glob("*/last.ckpt"), None), "a checkpoint")
    return parent(parent(next(iter(bench.workers().values()))))


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@needs_ray
def test_records_are_those_of_the_default_launcher_and_are_not_made_twice(
    make: Callable[[], Bench],
) -> None:
    here, there = make(), make()
    sweep = ["tying=none,top_k", "seed=1,2"]
    first = there.as_a_user(*RAY, *sweep)
    assert first.returncode == 0, first.stderr
    assert here("-m", *sweep).returncode == 0
    assert outcomes(there) == outcomes(here)
    assert len(outcomes(here)) == 4

    stamps = there.stamps()
    assert there.as_a_user(*RAY, *sweep).returncode == 0
    assert there.stamps() == stamps


@needs_ray
def test_a_worker_that_dies_fails_its_run_alone_which_then_goes_on(make: Callable[[], Bench]) -> None:
    here, there = make(), make()
    process = there.start_python(*RAY, *LONG, "seed=1")
    os.kill(ray_worker(there), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    (record,) = there.records().values()
    assert record["status"] == "failed"
    assert record["reason"].startswith("Ray: ")
    assert record["reason"] in said

    again = there("-m", *LONG, "seed=1", "retry=true")  # on whichever engine
    assert again.returncode == 0, again.stderr
    (record,) = there.records().values()
    assert record["attempts"] == 2 and len(record["resumed_from"]) == 1
    assert here(*LONG, "seed=1").returncode == 0
    assert outcomes(there) == outcomes(here)


@needs_ray
def test_ctrl_c_ends_everything_and_keeps_checkpoints(bench: Bench) -> None:
    process = bench.start_python(*RAY, *LONG, "seed=1,2,3")
    worker = ray_worker(bench)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    until(lambda: not bench.workers() and not Path(f"/proc/{worker}").exists(), "all processes to end")
    assert not bench.records()
    assert list(bench.runs.glob("*/last.ckpt"))


@needs_ray
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("num_cpus=3", ["num_cpus=3", "at most 2"]),
        ("num_gpus=99", ["num_gpus=99", "at most"]),
        ("address=nowhere:1", ["no cluster at nowhere:1"]),
    ],
)
def test_what_the_cluster_does_not_have_is_one_line(bench: Bench, setting: str, said: list[str]) -> None:
    refused(bench.as_a_user(*RAY, f"hydra.launcher.{setting}", "seed=1"), *said)
    assert not bench.records()


def test_settings_are_checked_before_ray_starts() -> None:
    for name in ("num_cpus", "num_gpus"):
        for value in (0, -1, 1.5, True, "x"):
            with pytest.raises(BadInput, match=f"hydra.launcher.{name}={value} is not allowed"):
                Ray(**{name: value})
    assert Ray(num_gpus=0.25).num_gpus == 0.25
