"""trainer.quantize: the trained network in int8 is scored beside the float one, and no number of the run moves."""

import math

import pytest
from cell_maker import composed
from grid import build
from omegaconf import OmegaConf
from record_maker import entry, record, write_sweep
from test_use_curves import BUDGET, SAME

from bench.analysis.frame import rows
from bench.analysis.runs import read_sweep
from bench.config.refusals import check
from bench.sweep.run_or_load import ensure_run
from bench.tying.errors import BadInput
from bench.tying.int8 import num_bytes, quantize

TYINGS = {"image_cnn": "cross_layer", "text_gru": "albert", "text_transformer": "albert"}


@pytest.mark.parametrize("task", TYINGS)
def test_a_run_with_it_is_the_run_without(cell, task):
    asked = ("dropout=0.2", *BUDGET)
    plain = cell(task, TYINGS[task], *asked)
    small = cell(task, TYINGS[task], *asked, "trainer.quantize=true")
    assert plain.id != small.id and plain.cost == small.cost
    before, after = ensure_run(plain), ensure_run(small)
    assert (before["status"], after["status"]) == ("done", "done"), (before["reason"], after["reason"])
    assert {key: before[key] for key in SAME} == {key: after[key] for key in SAME}
    assert before["int8"] is None

    int8 = after["int8"]
    assert int8["test"].keys() == after["test"].keys()
    assert int8["test"]["nll"] != after["test"]["nll"]
    assert math.isclose(int8["test"]["nll"], after["test"]["nll"], rel_tol=0.02)
    model = build(small).model
    assert int8["bytes_float"] == num_bytes(model)
    assert int8["bytes"] == num_bytes(quantize(model)) < int8["bytes_float"] / 2


def test_flat_rows_have_both_scores_and_runs_without_have_none(tmp_path):
    lines = [entry(seed=seed) for seed in (1, 2)]
    int8 = {"test": {"nll": 4.7, "perplexity": 110.0, "oov": None}, "bytes": 30, "bytes_float": 100}
    write_sweep(tmp_path, lines, [record(lines[0], int8=int8), record(lines[1])])
    small, plain = rows(read_sweep(tmp_path, "quick")[0])
    assert (small["int8_test_nll"], small["int8_test_perplexity"]) == (4.7, 110.0)
    assert (small["int8_bytes"], small["int8_bytes_float"]) == (30, 100)
    assert plain["int8_test_nll"] is None and plain["test_perplexity"] == 100.0


def test_two_processes_score_as_one(cell):
    """Each rank has a share of the test split; the sums are one."""
    given = (*BUDGET, "trainer.quantize=true", "model.norm=group")
    one, two = (ensure_run(cell("image_cnn", "cross_layer", *given, f"trainer.devices={n}")) for n in (1, 2))
    assert two["status"] == "done", two["reason"]
    assert two["int8"]["test"]["examples"] == one["int8"]["test"]["examples"]
    assert math.isclose(two["int8"]["test"]["nll"], one["int8"]["test"]["nll"], rel_tol=1e-3)
    assert two["int8"]["bytes"] == one["int8"]["bytes"]


def test_a_compiled_network_has_none():
    config = OmegaConf.to_container(
        composed("trainer.quantize=true", "trainer.compile=default"), resolve=True
    )
    with pytest.raises(BadInput, match=r"trainer.quantize=true .*trainer.compile"):
        check(config)
