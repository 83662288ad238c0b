"""Sweeps that are disturbed, from outside: nothing is lost, nothing is done twice, and it is said what happened."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import forked
import pytest
from command import BROKEN, ROOT, Bench, refused, until

LONG = ["model.width=8", "trainer.limit_train_batches=null", "trainer.max_epochs=30", "seed=1"]
LONG += ["measure.max_seconds=0"]
"""Some seconds of training, and no cost."""

MOVES = (
    "config",
    "seconds",
    "throughput",
    "peak_rss_bytes",
    "provenance",
    "attempts",
    "resumed_from",
    "ended_at",
    "sweep",
    "overrides",
)
"""What of a record may differ between an undisturbed run and another."""


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in MOVES}


def status(bench: Bench, *arguments: str) -> str:
    command = [sys.executable, "-m", "bench.status", "--runs", str(bench.runs), *arguments]
    shown = forked.run(command, ROOT, bench.env)
    shown.check_returncode()
    return shown.stdout


@pytest.fixture(scope="module")
def undisturbed(make) -> dict[str, Any]:
    bench = make()
    result = bench(*LONG)
    assert result.returncode == 0, result.stderr
    (record,) = bench.records().values()
    return record


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(bench: Bench, undisturbed) -> None:
    sweep = ["-m", *LONG, "sweep.name=mine", "trainer.checkpoint_every_s=0.2"]
    controller = bench.start(*sweep)
    (checkpoint,) = until(lambda: list(bench.runs.glob("*/last.ckpt")), "the first checkpoint")
    assert "1 running" in " ".join(status(bench).split()) or "running" in status(bench)
    controller.kill()
    controller.communicate()
    until(lambda: not bench.workers(), "the end of the run", seconds=20)
    assert bench.records() == {} and checkpoint.exists()
    assert "interrupted" in status(bench, "--sweep", "mine")
    dry = bench(*sweep, "hydra/launcher=dry_run")
    assert dry.returncode == 0 and "to resume" in dry.stdout
    assert bench.records() == {}

    result = bench(*sweep)
    assert result.returncode == 0, result.stderr
    (record,) = bench.records().values()
    assert record["attempts"] == 2 and len(record["resumed_from"]) == 1 and record["resumed_from"][0] > 0
    assert numbers(record) == numbers(undisturbed)
    kept = {path.name for path in (bench.runs / record["id"]).iterdir()}
    assert not {name for name in kept if name.endswith(".tmp")} | (kept & {".claim", "last.ckpt"})


def test_a_run_that_is_told_to_stop_saves_first(bench: Bench, undisturbed) -> None:
    """SIGTERM to the controller, as a cluster or a reboot sends it: what is lost is a step."""
    controller = bench.start("-m", *LONG)
    until(lambda: list(bench.runs.glob("*/best.ckpt")), "the first validation")
    controller.terminate()
    _, err = controller.communicate(timeout=60)
    assert controller.returncode == 130 and err.count("interrupted: what is recorded is kept") == 1
    (checkpoint,) = bench.runs.glob("*/last.ckpt")
    assert "stopped: at step" in (checkpoint.parent / "log").read_text()
    assert bench("-m", *LONG).returncode == 0
    (record,) = bench.records().values()
    assert record["attempts"] == 2 and numbers(record) == numbers(undisturbed)


def test_a_run_that_somebody_else_stops_is_interrupted_and_not_failed(bench: Bench) -> None:
    controller = bench.start("-m", *LONG)
    until(lambda: list(bench.runs.glob("*/best.ckpt")), "the first validation")
    (pid,) = bench.workers().values()
    os.kill(pid, signal.SIGTERM)
    _, err = controller.communicate(timeout=60)
    assert controller.returncode == 1 and bench.records() == {}
    assert err.splitlines()[-1] == "error: 1 of 1 runs were interrupted: the same command goes on"


def test_a_dying_rank_is_a_failed_row_and_the_sweep_goes_on(bench: Bench) -> None:
    two = ["-m", *LONG, "trainer.max_epochs=15", "trainer=ddp", "model.norm=group"]
    two += ["dropout=0,0.2", "hydra.launcher.n_jobs=1"]
    controller = bench.start(*two)

    def second_rank() -> int | None:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                target = Path(os.readlink(entry / "fd" / "1"))
                if target.name == "log-rank1" and (target.parent / "best.ckpt").exists():
                    return int(entry.name)
        return None

    os.kill(until(second_rank, "two ranks in training"), signal.SIGKILL)
    failed = until(bench.records, "the failed record", seconds=20)
    ((run_id, record),) = failed.items()
    assert record["status"] == "failed" and record["reason"].startswith("rank 1: killed by SIGKILL")
    assert (bench.runs / run_id / "log").exists() and (bench.runs / run_id / "log-rank1").exists()
    _, err = controller.communicate(timeout=120)
    assert controller.returncode == 1 and "1 of 2 runs failed: rank 1: killed by SIGKILL" in err
    assert sorted(record["status"] for record in bench.records().values()) == ["done", "failed"]

    result = bench(*two, "retry=true")
    assert result.returncode == 0, result.stderr
    assert {record["ranks"] for record in bench.records().values()} == {2}


def test_fail_fast_ends_the_sweep_at_its_first_failure(bench: Bench) -> None:
    grid = ["-m", *BROKEN, "model.depth=9,6", "seed=1,2,3", "hydra.launcher.n_jobs=1", "sweep.fail_fast=true"]
    result = bench(*grid)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        "error: sweep.fail_fast: none, seed 3: RuntimeError: broken on purpose"
    )
    assert bench.records() == {}  # it was the measurement of its cost that failed, and nothing was trained


def test_fail_fast_ends_what_is_running_too(bench: Bench) -> None:
    controller = bench.start("-m", *LONG, "dropout=0,0.2", "hydra.launcher.n_jobs=2", "sweep.fail_fast=true")
    until(lambda: len(list(bench.runs.glob("*/best.ckpt"))) == 2, "two runs in training")
    victim, pid = next(iter(bench.workers().items()))
    os.kill(pid, signal.SIGKILL)
    _, err = controller.communicate(timeout=20)
    assert controller.returncode == 1 and "sweep.fail_fast: none, seed 1: killed by SIGKILL" in err
    assert set(bench.records()) == {victim} and not bench.workers()


def test_a_newer_runs_folder_is_refused_and_left_alone(bench: Bench) -> None:
    assert bench("-m", "seed=1", "sweep.name=mine").returncode == 0
    for path in (*bench.runs.glob("*/record.json"), bench.runs / "sweeps" / "mine.json"):
        before = path.read_text()
        newer = json.dumps({**json.loads(before), "schema": 99})
        path.write_text(newer)
        refused(bench("-m", "seed=1", "sweep.name=mine"), str(path), "schema 99", "update the bench")
        assert path.read_text() == newer
        path.write_text(before)


def test_editing_conf_during_a_sweep_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    """A copy of the project whose yaml is edited, then broken, once the first of two runs has begun."""
    kept = ("bench", "conf", "hydra_plugins")
    for name in kept:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    sweep = ["-m", "seed=1,2", "hydra.launcher.n_jobs=1"]
    controller = bench.start_python(*sweep, cwd=tmp_path)
    until(lambda: list(bench.runs.glob("*/request.json")), "the first run")
    (tmp_path / "conf" / "task" / "image_cnn.yaml").write_text("optimizer: [broken")
    _, err = controller.communicate(timeout=120)
    assert controller.returncode == 0, err
    assert {record["config"]["optimizer"]["lr"] for record in bench.records().values()} == {0.003}
    stamps = bench.stamps()
    with bench.start_python(*sweep, cwd=tmp_path) as again:
        _, err = again.communicate(timeout=120)
    assert again.returncode == 2 and err.startswith("error: a file of conf/ is no yaml"), err
    assert "image_cnn.yaml" in err and err.count("\n") == 1
    assert bench.stamps() == stamps


def namespaced() -> list[str]:
    """Puts a command into a process namespace of its own, where it can see no process of ours, as on another host."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("process namespaces cannot be made here")
    return command


def test_two_machines_on_one_runs_folder_do_each_run_once(bench: Bench) -> None:
    grid = ["-m", "seed=1,2,3,4", "tying=none,cross_layer", "hydra.launcher.n_jobs=1"]
    here = bench.start(*grid)
    there = bench.start_python(*grid, inside=namespaced())
    first: dict[Path, int] = {}
    while any(process.poll() is None for process in (here, there)):
        for path, stamp in bench.stamps().items():
            assert first.setdefault(path, stamp) == stamp, f"{path} was written twice"
        time.sleep(0.01)
    ends = [process.communicate()[1] for process in (here, there)]
    assert (here.returncode, there.returncode) == (0, 0), ends
    assert bench.stamps() == first and len(bench.records()) == 8
    logs = [json.loads(path.read_text())["attempts"] for path in bench.runs.glob("*/attempts.json")]
    assert [len(attempts) for attempts in logs] == [1] * 8
    assert not list(bench.runs.rglob(".claim"))
