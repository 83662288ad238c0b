"""Sweeps on a real SLURM of one node: the records of the default launcher, preemption, lost jobs, Ctrl-C."""

import math
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_sandbox
from command import Bench, refused, until

from bench.sweep.launchers.slurm import ENDED, Slurm, gpus_of, minutes_of
from bench.tying.errors import BadInput

SLURM = ["-m", "hydra/launcher=slurm", "hydra.launcher.mem_gb=2", "hydra.launcher.timeout_min=20"]
LONG = ["trainer.limit_train_batches=null", "trainer.max_epochs=25", "trainer.checkpoint_every_s=0.2"]


class Sandbox:
    """SLURM's commands with the variables that lead to the cluster of the tests."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def __call__(self, *command: str) -> str:
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    def jobs(self) -> dict[str, str]:
        """State by job, of all that there were."""
        told = self("squeue", "--noheader", "--array", "--states=all", "-o", "%i|%T")
        return dict(line.split("|") for line in told.splitlines())

    def running(self) -> list[str]:
        return [job for job, state in self.jobs().items() if state == "RUNNING"]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Sandbox]:
    pytest.importorskip("submitit", reason="submitit is not installed (pip's [slurm])")
    if reason := slurm_sandbox.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    with slurm_sandbox.cluster(folder) as env:
        yield Sandbox(env)
    shutil.rmtree(folder, ignore_errors=True)


def outcomes(bench: Bench) -> dict[str, Any]:
    keys = ("status", "val", "test", "num_params", "best_epoch")
    return {run_id: [record.get(key) for key in keys] for run_id, record in bench.records().items()}


def one_run(bench: Bench) -> Path:
    """Folder of the run that has trained for long enough to have a checkpoint."""
    return until(lambda: next(bench.runs.glob("*/last.ckpt"), None), "a checkpoint").parent


def test_records_are_those_of_the_default_launcher_and_are_not_made_twice(
    make: Callable[[], Bench], slurm: Sandbox
) -> None:
    here, there = make(), make()
    sweep = ["tying=none,top_k", "seed=1,2"]
    before = set(slurm.jobs())
    packed = [*SLURM, "hydra.launcher.runs_per_job=2", *sweep]
    first = there.as_a_user(*packed, **slurm.env)
    assert first.returncode == 0, first.stderr
    assert len(set(slurm.jobs()) - before) == 3  # two at once in each: 2 costs, then 4 runs
    assert here("-m", *sweep).returncode == 0
    assert outcomes(there) == outcomes(here)
    assert len(outcomes(here)) == 4

    jobs, stamps = slurm.jobs(), there.stamps()
    assert there.as_a_user(*packed, **slurm.env).returncode == 0
    assert there.stamps() == stamps
    assert slurm.jobs() == jobs


def test_a_preempted_run_goes_on_from_its_checkpoint_to_the_same_numbers(
    make: Callable[[], Bench], slurm: Sandbox
) -> None:
    here, there = make(), make()
    process = there.start_python(*SLURM, *LONG, "seed=1", **slurm.env)
    folder = one_run(there)
    (job,) = slurm.running()
    slurm("scancel", "--signal=USR2", job)  # what SLURM sends before the time is over, and where it preempts
    until(lambda: slurm.jobs()[job] == "PENDING", "the job to be back in the queue")
    assert (folder / "last.ckpt").exists() and not (folder / "record.json").exists()
    time.sleep(2)  # SLURM would wait for two minutes, so that the node is done with the job's first start
    slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    (record,) = there.records().values()
    assert record["attempts"] == 2 and len(record["resumed_from"]) == 1
    assert here(*LONG, "seed=1").returncode == 0
    assert outcomes(there) == outcomes(here)


def test_a_job_that_is_lost_leaves_a_failed_record_that_names_it(bench: Bench, slurm: Sandbox) -> None:
    process = bench.start_python(*SLURM, *LONG, "seed=1", **slurm.env)
    one_run(bench)
    (job,) = slurm.running()
    slurm("scancel", job)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    (record,) = bench.records().values()
    assert record["status"] == "failed"
    assert f"SLURM job {job} ended as CANCELLED" in record["reason"]
    assert f"{bench.runs}/slurm/{job}_0_log.err" in record["reason"]
    assert record["reason"] in said


def test_ctrl_c_cancels_the_jobs(bench: Bench, slurm: Sandbox) -> None:
    process = bench.start_python(*SLURM, *LONG, "seed=1,2,3", **slurm.env)
    until(slurm.running, "a job that runs")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    until(lambda: set(slurm.jobs().values()) <= ENDED, "the jobs to end")
    assert not bench.records()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("partition=nope", ["partition=nope", "there are only"]),
        ("cpus_per_task=999", ["cpus_per_task=999", "at most 2", "partition only"]),
        ("gpus_per_node=1", ["gpus_per_node=1", "at most 0"]),
        ("mem_gb=999", ["mem_gb=999", "at most"]),
        ("timeout_min=61", ["timeout_min=61", "at most 60"]),
        ("additional_parameters={nodelist:nope}", ["Invalid node name"]),
    ],
)
def test_what_the_cluster_does_not_have_is_one_line(
    bench: Bench, slurm: Sandbox, setting: str, said: list[str]
) -> None:
    refused(bench.as_a_user(*SLURM, f"hydra.launcher.{setting}", "seed=1", **slurm.env), *said)
    assert not bench.records()


def test_settings_are_checked_before_slurm_is_asked() -> None:
    for name in ("timeout_min", "array_parallelism", "runs_per_job", "rounds_per_job", "gpus_per_node"):
        for value in (0, 1.5, True, "x"):
            with pytest.raises(BadInput, match=f"hydra.launcher.{name}={value} is not allowed"):
                Slurm(**{name: value})
    with pytest.raises(BadInput, match="mem_gb=-1"):
        Slurm(mem_gb=-1)
    with pytest.raises(BadInput, match="signal_delay_s=60.*fewer seconds than timeout_min=1"):
        Slurm(timeout_min=1, signal_delay_s=60)


def test_without_slurm_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (pip's [slurm])")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="sbatch, srun.* not found"):
        Slurm().check([])


def test_limits_of_a_partition_are_read() -> None:
    assert minutes_of("30:00") == 30
    assert minutes_of("1:00:30") == 60.5
    assert minutes_of("2-12:00:00") == 2 * 1440 + 720
    assert minutes_of("infinite") == math.inf
    assert gpus_of("(null)") == 0
    assert gpus_of("gpu:2(S:0)") == 2
    assert gpus_of("gpu:h200:4(S:0-1),nvme:1") == 4
    assert gpus_of("gpu:1,gpu:a100:2") == 3
