"""A method of the user's own: a function and a yaml in a folder outside bench/, and nothing else."""

from pathlib import Path

import pytest
from command import Bench
from record_maker import every_setting

from bench.runs.tying_spec import OTHER, SPARE

FUNCTION = """
from bench.tying import cross_layer
from bench.tying.methods import blocks_of


def every_second(model, step, scope="weights"):
    depth = len(blocks_of(model))
    return cross_layer(model, scope=scope).within([at if at % step else 0 for at in range(depth)])
"""
CHOICE = """
# Every second block is one.
scope: weights
parts:
  every_second: {_target_: mine.every_second, _partial_: true, step: 2, scope: "${tying.scope}"}
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """The folder of somebody who has a method of her own: what a new method touches is these two files."""
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "conf" / "tying").mkdir(parents=True)
    (tmp_path / "conf" / "tying" / "every_second.yaml").write_text(CHOICE)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    return tmp_path


def test_two_files_make_a_method_that_runs_and_stands_in_the_tables(bench: Bench, outside: Path) -> None:
    sweep = ["-m", "tying=every_second,none,cross_layer", "seed=1", "measure.max_seconds=0", "model.stages=1"]
    result = bench(*sweep, f"--config-dir={outside / 'conf'}", PYTHONPATH=str(outside))
    assert result.returncode == 0, result.stderr
    records = {record["tying"]: record for record in bench.records().values()}
    assert sorted(records) == ["cross_layer", "every_second(step=2)", "none"]
    mine = records["every_second(step=2)"]
    assert mine["status"] == "done" and mine["steps"] == 2
    assert mine["spec"]["parts"] == [{"method": "every_second", "keys": {"scope": "weights", "step": 2}}]
    sizes = [records[tying]["num_params"] for tying in ("cross_layer", "every_second(step=2)", "none")]
    assert sizes == sorted(set(sizes))
    page = every_setting((bench.results / "custom" / "summary.md").read_text())
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in records][:3] == ["none", "cross_layer", "every_second(step=2)"]
    picture = (bench.results / "custom" / "image_cnn_pareto.svg").read_text().lower()
    assert SPARE[0] in picture and OTHER not in picture
    again = bench(
        "tying=every_second", *sweep[2:], f"--config-dir={outside / 'conf'}", PYTHONPATH=str(outside)
    )
    assert again.returncode == 0, again.stderr
    assert bench.records().keys() == {record["id"] for record in records.values()}
