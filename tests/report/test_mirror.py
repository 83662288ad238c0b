import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import record_maker as made

from bench.report.mirror import main
from bench.report.tables import build

WANDB = Path(sys.executable).with_name("wandb")


def test_wandbs_own_reader_finds_each_table_and_picture(tmp_path, capsys):
    made.write_sweep(tmp_path / "runs", *made.grid({"text_gru": "pydocs"}))
    folder = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)[0]
    command = [sys.executable, "-m", "bench.mirror", "--runs", str(tmp_path / "runs")]
    command += ["--results", str(tmp_path / "results")]
    env = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    for _ in range(2):  # made again, it is the same run
        done = forked.run(command, Path.cwd(), env)
        assert done.returncode == 0, done.stdout + done.stderr
    found = sorted((tmp_path / "runs" / "sweeps" / "wandb").glob("offline-run-*/*.wandb"))
    assert found and {path.name for path in found} == {"run-tables-quick.wandb"}
    told = subprocess.run(
        [WANDB, "leet", "inspect", "--summary", "--json", found[-1]], capture_output=True, check=True
    )
    summary = json.loads(told.stdout)["summary"]
    assert summary["text_gru"]["nrows"] == 20 and summary["summary"]["nrows"] == 5
    pictures = {f"plots/{path.stem}" for path in folder.glob("*.png")}
    assert pictures and pictures <= summary.keys()


def test_no_tables_is_one_line(tmp_path, capsys):
    assert main(["--results", str(tmp_path)]) == 2
    assert main(["--results", str(tmp_path), "--sweep", "quick"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: no tables in") for line in lines)
    assert not (tmp_path / "quick").exists()
