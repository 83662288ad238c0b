"""trainer.example_scores: each example of the test split beside the record, and no number of the run moves."""

import math

import numpy as np
import pytest
from cell_maker import composed, made
from omegaconf import OmegaConf
from test_use_curves import BUDGET, SAME

from bench.analysis import examples
from bench.config.refusals import check
from bench.sweep.run_or_load import ensure_run
from bench.tying.errors import BadInput

TASKS = ("image_cnn", "text_gru", "text_transformer", "text_classifier", "series_gru")


@pytest.mark.parametrize("task", TASKS)
def test_a_run_with_it_is_the_run_without_and_the_examples_sum_to_its_scores(cell, task):
    asked = ("dropout=0.2", *BUDGET)
    plain, scored = cell(task, "none", *asked), cell(task, "none", *asked, "trainer.example_scores=true")
    assert plain.id != scored.id and plain.cost == scored.cost
    before, after = ensure_run(plain), ensure_run(scored)
    assert (before["status"], after["status"]) == ("done", "done"), (before["reason"], after["reason"])
    assert {key: before[key] for key in SAME} == {key: after[key] for key in SAME}
    assert "example_scores" not in before and examples.load(plain.runs, plain.id) is None

    found, test = examples.load(scored.runs, scored.id), after["test"]
    n = len(found.scores["nll"])
    assert after["example_scores"] == {"file": "examples.npz", "n": n}
    assert n == test.get("tokens", test.get("examples", n)) == len(found.cluster)
    assert found.scores["nll"].mean() == pytest.approx(test["nll"], rel=1e-5)
    right = test.get("accuracy", test.get("next_token_accuracy"))
    if right is not None:
        assert math.isclose(found.scores["correct"].mean(), right, rel_tol=1e-12)
    else:
        assert "correct" not in found.scores
    clusters = np.unique(found.cluster)
    assert clusters.tolist() == list(range(len(clusters)))
    assert (len(clusters) < n) == (task in ("text_gru", "text_transformer", "series_gru"))


def test_it_is_off_and_then_in_no_identity():
    assert made("trainer.example_scores=null").id == made().id


def test_several_processes_are_refused():
    cfg = OmegaConf.to_container(composed("trainer.example_scores=true", "trainer.devices=2"), resolve=True)
    with pytest.raises(BadInput, match=r"trainer.example_scores=true .*trainer.devices=2"):
        check(cfg)
