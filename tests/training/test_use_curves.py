"""Curves of per-use gradients: they are there where they are asked for, and change no number of the run."""

import csv

import pytest
from cell_maker import composed
from grid import build
from omegaconf import OmegaConf

from bench.config.schema import check
from bench.sweep.run_or_load import ensure_run
from bench.training.callbacks import USE_COLUMNS
from bench.tying.errors import BadInput

BUDGET = ("trainer.max_epochs=2", "trainer.limit_train_batches=3", "trainer.limit_eval_batches=2")
BUDGET += ("measure.min_calls=1", "measure.min_seconds=0", "measure.cold=false")
SAME = ("test", "val", "train", "curves", "spread", "gap", "clipped_share", "num_params")


@pytest.mark.parametrize("task", ["image_cnn", "text_gru"])
def test_a_run_with_them_is_the_run_without(cell, task):
    asked = ("dropout=0.2", *BUDGET)
    plain = cell(task, "cross_layer", *asked)
    with_uses = cell(task, "cross_layer", *asked, "trainer.use_gradients=true", "logger=csv")
    assert plain.id != with_uses.id
    before, after = ensure_run(plain), ensure_run(with_uses)
    assert (before["status"], after["status"]) == ("done", "done"), (before["reason"], after["reason"])
    assert {key: before[key] for key in SAME} == {key: after[key] for key in SAME}
    assert not (plain.folder / "uses.csv").exists()

    rows = list(csv.DictReader((with_uses.folder / "uses.csv").read_text().splitlines()))
    uses = {name for tie in build(with_uses).plan.ties for name in tie.names}
    validations = len(after["curves"]["step"])
    assert tuple(rows[0]) == USE_COLUMNS and len(rows) == validations * len(uses)
    assert {row["name"] for row in rows} == uses
    assert {int(row["step"]) for row in rows} == set(after["curves"]["step"])
    assert all(float(row["norm"]) > 0 and -1.001 <= float(row["cosine"]) <= 1.001 for row in rows)
    assert all(0 <= float(row["agreement"]) <= 1.001 for row in rows)
    first, last = (
        {row["norm"] for row in rows if int(row["step"]) == step}
        for step in (min(after["curves"]["step"]), max(after["curves"]["step"]))
    )
    assert first != last

    (file,) = with_uses.folder.rglob("metrics.csv")
    logged = set(file.read_text().splitlines()[0].split(","))
    assert {f"uses/{name}/{what}" for name in uses for what in ("norm", "cosine")} < logged
    assert "uses/agreement" in logged


def test_a_compiled_network_has_none():
    config = OmegaConf.to_container(
        composed("trainer.use_gradients=true", "trainer.compile=default"), resolve=True
    )
    with pytest.raises(BadInput, match=r"trainer.use_gradients=true .*trainer.compile"):
        check(config)
