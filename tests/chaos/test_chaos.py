"""The chaos run in short form, and that what compares its ends would see a difference."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.compare import differences, leftovers

ROOT = Path(__file__).parents[2]
RECORD = {
    "id": "a" * 12,
    "status": "done",
    "test": {"nll": 0.1 + 0.2, "accuracy": 0.5},
    "val": {"nll": float("nan")},
    "seconds": {"total": 1.0},
    "attempts": 1,
    "resumed_from": [],
}
COST = {
    "status": "done",
    "train_step": {"ratio": 0.9},
    "latency": {"one": {"ratio": 0.9}},
    "memory": {"checkpoint_bytes": 100, "peak_rss_bytes": 900},
    "flops": {"train_step": 10, "share_of_peak": 0.5},
    "suspect": [],
}
PAGE = """# image_cnn

| tying | test | note |
| :--- | ---: | :--- |
| none | {test} |  |

| tying | train step ms<br>(median) | train step<br>ratio [95 %] | peak MiB<br>(train step) | batch latency<br>ratio, warm | % of peak<br>rate | compilation<br>s |
| :--- | ---: | ---: | ---: | ---: | ---: | ---: |
| none | {step} ? | **{step} [0.9, {step}]** | {peak} | {step} | {step} | {step} |

- Floors: a | line of text
- Timing: {step} turns.
- Timing of none is suspect (?): {step} %.
"""  # noqa: E501


def write(folder: Path, record: dict[str, Any], step: str = "1.0", peak: str = "9.5") -> Path:
    files = {
        "runs/aaaaaaaaaaaa/record.json": json.dumps(record),
        "runs/aaaaaaaaaaaa/curves.csv": "epoch,step\n0.5,1\n",
        "runs/costs/c/cost.json": json.dumps(timed(float(step))),
        "runs/sweeps/killed.json": json.dumps({"runs": []}),
        "results/killed/summary.md": PAGE.format(step=step, peak=peak, test=0.5),
        "results/killed/image_cnn.csv": f"id,total_s,train_step_ratio,peak\na,{step},{step},{peak}\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def timed(seconds: float) -> dict[str, Any]:
    """The cost as measured by a slower or faster machine."""
    flops, memory = {**COST["flops"], "share_of_peak": seconds}, {**COST["memory"], "peak_rss_bytes": seconds}
    pairs = {"train_step": {"ratio": seconds}, "latency": {"one": {"ratio": seconds}}}
    return {**COST, **pairs, "flops": flops, "memory": memory, "suspect": [f"{seconds} %"]}


def test_time_and_attempts_make_no_difference(tmp_path: Path) -> None:
    other = {**RECORD, "seconds": {"total": 2.0}, "attempts": 3, "resumed_from": [5, 9]}
    assert differences(write(tmp_path / "a", RECORD), write(tmp_path / "b", other, step="3.0")) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": {"nll": 0.3, "accuracy": 0.5}}, "test.nll is 0.30000000000000004 and 0.3"),
        ({"test": {"nll": 0.1 + 0.2}}, "test.accuracy is 0.5 and null"),
        ({"val": {"nll": 0.0}}, "val.nll is NaN and 0.0"),
        ({"status": "failed"}, 'status is "done" and "failed"'),
    ],
)
def test_the_last_bit_makes_a_difference(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    found = differences(write(tmp_path / "a", RECORD), write(tmp_path / "b", {**RECORD, **changed}))
    assert found == [f"aaaaaaaaaaaa/record.json: {said}"]


@pytest.mark.parametrize("key", ["checkpoint_bytes", "state"])
def test_bytes_of_a_cost_make_a_difference(tmp_path: Path, key: str) -> None:
    one, other = write(tmp_path / "a", RECORD), write(tmp_path / "b", RECORD)
    memory = {**COST["memory"], key: 101}
    (other / "runs/costs/c/cost.json").write_text(json.dumps({**timed(1.0), "memory": memory}))
    (said,) = differences(one, other)
    assert said.startswith(f"costs/c/cost.json: memory.{key} is ") and said.endswith(" and 101")


def test_tables_and_missing_and_damaged_files_make_one_too(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", RECORD), write(tmp_path / "b", RECORD, peak="9.6")
    assert differences(one, other) == [
        "results/killed/summary.md differs",
        "results/killed/image_cnn.csv differs",
    ]
    other = write(tmp_path / "c", RECORD)
    (other / "runs/costs/c/cost.json").write_text("{")
    (other / "runs/sweeps/more.json").write_text("{}")
    (other / "runs/aaaaaaaaaaaa/curves.csv").unlink()
    assert differences(one, other) == [
        "costs/c/cost.json is damaged",
        "sweeps/more.json is in one of them alone",
        "runs/aaaaaaaaaaaa/curves.csv is in one of them alone",
    ]


def test_what_is_left_over_is_named(tmp_path: Path) -> None:
    runs = write(tmp_path / "a", RECORD) / "runs"
    assert leftovers(runs) == []
    names = ["aaaaaaaaaaaa/.claim", "aaaaaaaaaaaa/.record.json.m-1-2-0.tmp", "aaaaaaaaaaaa/last.ckpt"]
    for name in names:
        (runs / name).touch()
    assert leftovers(runs) == names


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_sweep_that_is_killed_ends_as_one_left_alone(tmp_path: Path) -> None:
    """4 runs, half of them of two ranks, and 4 kills. All other faults: `make chaos`."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "tests"}
    command = [sys.executable, "-m", "chaos", "--runs", "4", "--kills", "4", "--faults"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path / "chaos")],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal: every record, every table, and nothing left over" in done.stdout
    assert " of 4 kills came after the first checkpoint" in done.stdout
    assert " NO " not in done.stdout
    assert len(list((tmp_path / "chaos" / "disturbed" / "runs").glob("*/record.json"))) == 4
    shutil.rmtree(tmp_path / "chaos")
