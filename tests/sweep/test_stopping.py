"""Seeds until it is decided: who goes on, who stops, and that records and tables say so."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cell_maker import made
from record_maker import every_setting

from bench.analysis import archive
from bench.analysis.runs import read_sweep
from bench.report.tables import build
from bench.runs.store import Status, read_json, write_json
from bench.sweep import manifest, stopping
from bench.sweep.sweep import run_sweep

Value = Callable[[str, int], float | None]
"""Tying and seed -> test accuracy; None for a run that diverged."""


def cells_of(folder: Path, *tyings, seeds=8, given=()):
    places = {"runs": str(folder / "runs"), "results": str(folder / "results")}
    common = ("sweep.name=mine", "measure.max_seconds=0", "sweep.stop.margin=0.01", *given)
    cells = [made(f"tying={tying}", f"seed={seed}", *common) for seed in range(seeds) for tying in tyings]
    return [replace(cell, options={**cell.options, **places}) for cell in cells]


def record_of(cell, value):
    scores = {"accuracy": value, "nll": 1.0}
    header = {
        **cell.header(),
        "config": cell.config,
        "reason": None,
        "num_params": 10,
        "num_params_untied": 20,
    }
    if value is None:
        return {**header, "status": "diverged", "reason": "nan"}
    return {**header, "status": "done", "test": scores, "val": scores, "train": scores}


class Recorder:
    """A launcher that trains nothing: it writes each run's record with the accuracy that `value` gives."""

    def __init__(self, value: Value) -> None:
        self.value, self.turns = value, []

    def check(self, cells):
        pass

    def map(self, ensure, cells, started):
        self.turns.append([(cell.label, cell.config["seed"]) for cell in cells])
        for cell in cells:
            started(cell)
            record = record_of(cell, self.value(cell.label, cell.config["seed"]))
            write_json(cell.folder / "record.json", record)
            yield cell, record


def clear(tying, seed):
    """cross_layer is far better than none at all seeds, top_k is anything."""
    shift = {"none": 0.0, "cross_layer": 0.1}.get(tying, 0.2 * math.sin(seed))
    return 0.5 + shift + 0.01 * math.sin(7 * seed) + 0.001 * math.cos(5 * seed + len(tying))


def test_a_sweep_ends_early_and_its_records_and_tables_say_so(tmp_path, capsys):
    cells, launcher = cells_of(tmp_path, "none", "cross_layer"), Recorder(clear)
    result = run_sweep(cells, launcher, sweep=True)
    trained = [run for turn in launcher.turns for run in turn]
    assert trained == [(tying, seed) for tying in ("none", "cross_layer") for seed in range(3)]
    skipped = [record for record in result.records if record["status"] == Status.NOT_RUN]
    assert len(skipped) == 10 and len(result.records) == len(cells) == 16
    assert skipped[0]["reason"] == "sweep.stop: decided after 3 of 8 seeds"
    assert not result.shortfalls(began=0.0)
    sentence = (
        "cross_layer, dropout 0, weight decay 0: different after 3 of 8 seeds (margin 0.01), accuracy +0.1 ["
    )
    assert f"no more seeds: image_cnn on digits, {sentence}" in capsys.readouterr().err
    runs, note = read_sweep(tmp_path / "runs", "mine")
    assert len(runs) == 6 and sentence in note and "hold over all looks" in note
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    settings = every_setting((folder / "summary.md").read_text())
    assert sentence in settings and "not run yet" not in settings
    assert sentence in archive.read(folder / archive.FILE).note


def test_what_is_not_decided_gets_all_its_seeds_and_so_does_what_it_is_compared_with(tmp_path):
    cells, launcher = cells_of(tmp_path, "none", "cross_layer", "top_k", given=["tying.k=3"]), Recorder(clear)
    run_sweep(cells, launcher, sweep=True)
    trained = [run for turn in launcher.turns for run in turn]
    seeds = {tying: sorted(seed for label, seed in trained if label == tying) for tying, _ in trained}
    assert seeds["none"] == seeds["top_k(k=3)"] == list(range(8)) and seeds["cross_layer"] == [0, 1, 2]
    assert len(launcher.turns) == 1 + 5


def test_equivalent_is_decided_too_and_a_diverged_run_never_is(tmp_path):
    def alike(tying, seed):
        return None if (tying, seed) == ("top_k(k=3)", 1) else 0.5 + 1e-4 * math.sin(seed + len(tying))

    cells, launcher = cells_of(tmp_path, "none", "cross_layer", "top_k", given=["tying.k=3"]), Recorder(alike)
    run_sweep(cells, launcher, sweep=True)
    (text,) = read_json(manifest.path(cells[0]))["stopped"].values()
    assert "cross_layer" in text and "equivalent after 3 of 8 seeds" in text
    assert ("top_k(k=3)", 7) in launcher.turns[-1]


def test_without_a_none_or_a_margin_every_seed_is_run(tmp_path):
    launcher = Recorder(clear)
    run_sweep(cells_of(tmp_path / "a", "cross_layer"), launcher, sweep=True)
    assert sum(map(len, launcher.turns)) == 8
    launcher = Recorder(clear)
    run_sweep(
        cells_of(tmp_path / "b", "none", "cross_layer", given=["sweep.stop.margin=null"]),
        launcher,
        sweep=True,
    )
    assert list(map(len, launcher.turns)) == [16]


def test_the_same_command_again_decides_the_same_and_one_without_a_margin_takes_the_word_back(tmp_path):
    cells = cells_of(tmp_path, "none", "cross_layer", given=["reuse=true"])
    run_sweep(cells, Recorder(clear), sweep=True)
    before, launcher = manifest.path(cells[0]).read_bytes(), Recorder(clear)
    run_sweep(cells, launcher, sweep=True)
    assert manifest.path(cells[0]).read_bytes() == before and launcher.turns == []
    more = cells_of(tmp_path, "none", "cross_layer", given=["reuse=true", "sweep.stop.margin=null"])
    run_sweep(more, Recorder(clear), sweep=True)
    content = read_json(manifest.path(cells[0]))
    assert "stopped" not in content and len(content["runs"]) == 16


def test_over_all_looks_no_difference_is_seldom_called_one():
    cells = cells_of(
        Path("nowhere"), "none", *["cross_layer"] * 1, seeds=10, given=["sweep.stop.margin=1e-9"]
    )
    rng, wrong, sweeps = np.random.Generator(np.random.PCG64(5)), 0, 1_000
    for _ in range(sweeps):
        values = dict(
            zip([cell.id for cell in cells], 0.5 + 0.01 * rng.standard_normal(len(cells)), strict=True)
        )
        told = stopping.train(
            cells, lambda turn, values=values: {c.id: record_of(c, values[c.id]) for c in turn}
        )[1]
        wrong += any("different" in text for text in told.values())
    # At the last of ten seeds nothing is left to skip, so that some of the 5 % are not told here.
    assert 0.02 <= wrong / sweeps <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / sweeps)


@pytest.mark.parametrize(
    "metric, within", [("accuracy", 0.01), ("perplexity", math.log(1.01)), ("mae", 0.02)]
)
def test_the_margin_is_on_the_scale_of_the_metric(metric, within):
    from bench.analysis.power import margin_on_scale, scale_of
    from bench.analysis.runs import Metric

    given = Metric(metric, "max" if metric == "accuracy" else "min")
    assert margin_on_scale(given, 0.01, 2.0) == pytest.approx(within)
    assert scale_of(given) == ("nll" if metric == "perplexity" else metric)
