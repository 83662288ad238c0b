"""`python -m bench.measure` from outside: what it prints, what it leaves, and its exit codes."""

import functools
import json
import subprocess
import sys
from dataclasses import replace

import forked
import pytest
import record_maker
from cell_maker import made
from command import BROKEN, ROOT, TINY, Bench, refused

from bench.runs import machine
from bench.sweep.measure import report

GRID = ["tying=none,embedding,cross_layer"]


def measure(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.measure", *bench.places, *TINY, *words]
    return forked.run(command, ROOT, bench.env)


def costs(bench: Bench) -> dict[str, dict]:
    """Tying -> cost record."""
    found = [json.loads(path.read_text()) for path in bench.runs.glob("costs/*/cost.json")]
    return {record["tying"]: record for record in found}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["foo=1"], ["unknown key foo"]),
        (["tying=foo"], ["there is no tying=foo", "none", "top_k"]),
        (["tying=none,top_k", "dropout=0,1"], ["dropout=1", "[0, 1)"]),
        (["measure.min_calls=0"], ["measure.min_calls=0", "whole number >= 1"]),
        (["runs=/proc/nope"], ["/proc/nope", "choose a"]),
        (["hydra/launcher=slurm"], ["hydra/launcher=slurm", "this machine alone"]),
        pytest.param(
            ["trainer.accelerator=gpu"],
            ["trainer.accelerator=gpu", "there is no GPU here"],
            marks=pytest.mark.skipif(bool(machine.gpus()), reason="there is one"),
        ),
    ],
    ids=lambda words: " ".join(words) if "=" in words[0] else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(bench: Bench, words: list[str], said: list[str]) -> None:
    refused(measure(bench, *words), *said)
    assert not list(bench.runs.rglob("*"))


def test_help_has_examples_and_says_how_to_measure_again(bench: Bench) -> None:
    result = measure(bench, "--help")
    assert result.returncode == 0 and result.stderr == ""
    for word in ("python -m bench.measure task=text_gru", "retry=true", "--again", "Exit code:"):
        assert word in result.stdout
    assert "embedding + cross_layer: one block's weights" in result.stdout and "min_calls: " in result.stdout


@pytest.fixture(scope="module")
def measured(make) -> tuple[Bench, subprocess.CompletedProcess[str]]:
    bench = make()
    return bench, measure(bench, *GRID)


def test_it_prints_the_tables_the_holes_and_the_records(measured) -> None:
    bench, result = measured
    assert result.returncode == 0, result.stderr
    assert "measuring cost 3/3: 2 done, 1 not applicable, 0 failed, 0 left" in result.stderr
    for word in ("Memory: image_cnn on digits", "Time: image_cnn on digits", "n/a"):
        assert word in result.stdout
    assert "embedding: no input embedding in this network" in " ".join(result.stdout.split())
    for path in bench.runs.glob("costs/*/cost.json"):
        assert str(path) in result.stdout


def test_it_trains_nothing(measured) -> None:
    bench, _ = measured
    found = {tying: record["status"] for tying, record in costs(bench).items()}
    assert found == {"none": "done", "embedding": "not_applicable", "cross_layer": "done"}
    assert [path.name for path in bench.runs.iterdir()] == ["costs"] and not bench.results.exists()


def test_what_is_recorded_is_shown_and_not_measured(measured) -> None:
    bench, first = measured
    stamps = bench.stamps()
    result = measure(bench, *GRID, "seed=1,2", "dropout=0.2", "retry=true")
    assert (result.returncode, result.stdout, result.stderr) == (0, first.stdout, "")
    assert bench.stamps() == stamps


def test_again_measures_what_is_recorded(measured) -> None:
    bench, _ = measured
    before = bench.stamps()
    assert measure(bench, "--again", "tying=none").returncode == 0
    changed = [path for path, stamp in bench.stamps().items() if stamp != before[path]]
    assert [json.loads(path.read_text())["tying"] for path in changed] == ["none"]


def test_what_fails_is_a_row_and_is_measured_again_when_asked(bench: Bench) -> None:
    grid = [*BROKEN, "model.depth=6,9", "tying=none"]
    result = measure(bench, *grid)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: 1 of 2 measurements failed: RuntimeError: broken on purpose"), (
        result.stderr
    )
    assert "retry=true" in last and "Traceback" not in result.stderr
    assert "none model.depth=6" in result.stdout and "none model.depth=9" in result.stdout
    before = bench.stamps()
    assert measure(bench, *grid).returncode == 1 and bench.stamps() == before
    assert measure(bench, *grid, "retry=true").returncode == 1
    assert sum(bench.stamps()[path] != stamp for path, stamp in before.items()) == 1
    before = bench.stamps()
    refused(measure(bench, "model.depth=7"), "depth 7 does not divide")
    assert bench.stamps() == before


composed = functools.cache(made)


def pair(*overrides: str, **given):
    cell = composed(*overrides)
    line = {"cost": cell.cost, "tying": cell.label, "task": cell.config["task"]["name"]}
    return cell, {**record_maker.cost(line, **given), "task": line["task"], "data": "digits"}


def test_costs_of_one_tying_are_told_apart_by_what_differs() -> None:
    text = report([pair(f"trainer.threads={threads}") for threads in (1, 2)])
    assert "none trainer.threads=1 " in text and "none trainer.threads=2 " in text
    assert "trainer.threads" not in report([pair(), pair("tying=cross_layer")])


def test_tasks_have_tables_of_their_own() -> None:
    text = report([pair(), pair("task=text_gru")])
    assert (
        text.index("Memory: image_cnn") < text.index("Memory: text_gru") < text.index("Generation: text_gru")
    )
    assert "Generation: image_cnn" not in text


def test_a_suspect_cost_says_how_to_measure_it_again() -> None:
    assert report([pair(suspect=["one: another process"])]).endswith("with --again measures them anew")
    assert "--again" not in report([pair()])


def test_keys_that_are_not_used_are_noted_once() -> None:
    cell, record = pair("tying.k=3")
    text = report([(cell, record), (replace(cell), record)])
    assert text.endswith("\n\nnote: tying.k is not used by tying=none")
    assert text.count("note: ") == 1
