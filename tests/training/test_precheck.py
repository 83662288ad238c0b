"""What cells are made of is built before they run: every good cell passes, and bad input is a line of its own."""

import pytest
from grid import CELLS, TASKS, Grid

from bench.sweep import sweep
from bench.sweep.run_or_load import ensure_run
from bench.training import precheck
from bench.training.precheck import refusal
from bench.tying.errors import BadInput


@pytest.mark.parametrize(("task", "tying"), CELLS)
def test_a_good_cell_is_let_through(grid: Grid, task, tying):
    """Also where its tying cannot be applied, which its record says."""
    assert refusal(grid.cell(task, tying).config) is None


@pytest.mark.parametrize("task", TASKS)
def test_a_good_control_is_let_through(grid: Grid, task):
    assert refusal(grid.cell(task, "cross_layer", "control=params").config) is None


BAD = [
    ("image_cnn", ["model.depth=7"], "depth 7 does not divide into 2 stages"),
    ("image_cnn", ["model.norm=layer"], "norm 'layer' is unknown"),
    ("text_transformer", ["+model.config.x=1"], "config key 'x' is unknown to architecture gpt2"),
    ("text_transformer", ["model.width=15"], "width 15 does not divide into 4 heads"),
    ("text_transformer", ["model.architecture=bert"], "sees later tokens"),
    ("text_transformer", ["model.architecture=rwkv", "dropout=0.2"], "has no dropout"),
    ("text_transformer", ["model.architecture=t5"], "architecture t5"),
    ("text_gru", ["task.batches.window=1000000"], "exceeds the"),
    ("text_gru", ["data.train_limit=100000000"], "train has"),
    ("series_gru", ["task.batches.window=100000"], "is longer than the"),
    ("text_classifier", ["data.train_limit=100000000"], "train has"),
    ("image_cnn", ["relaxed", "tying.rank=999"], "rank is 999"),
]


@pytest.mark.parametrize(("task", "overrides", "words"), BAD, ids=lambda word: str(word)[:40])
def test_bad_input_is_refused_in_a_line(grid: Grid, task, overrides, words):
    tying, *overrides = overrides if overrides[0] == "relaxed" else ["none", *overrides]
    reason = refusal(grid.cell(task, tying, *overrides).config)
    assert reason is not None and words in reason and "\n" not in reason


def test_a_large_network_is_built_without_its_numbers_alone(grid: Grid, monkeypatch):
    """Of its sizes it is refused all the same."""
    monkeypatch.setattr(precheck, "MOST_PARAMS", 0)
    devices = []
    network = precheck.build.network
    monkeypatch.setattr(
        precheck.build,
        "network",
        lambda *given: devices.append(next((made := network(*given)).parameters()).device.type) or made,
    )
    assert refusal(grid.cell("image_cnn", "none", "model.width=3").config) is None
    assert set(devices) == {"meta"}
    assert "does not divide" in refusal(
        grid.cell("image_cnn", "none", "model.width=3", "model.depth=7").config
    )


def test_only_what_is_not_recorded_is_asked_about_and_each_network_once(grid: Grid, monkeypatch):
    cells = [grid.cell("image_cnn", "none", f"seed={seed}") for seed in (1, 2, 3)]
    asked = []

    def answer(self, module, folder, threads):
        asked.extend(sweep.recorded(folder / "configs.json")["configs"])
        sweep.write_json(folder / "refusals.json", {"refusals": [None, "it is bad"]})

    monkeypatch.setattr(sweep.Runner, "run", answer)
    monkeypatch.setattr(type(ensure_run), "load", lambda self, cell: {"status": "done"})
    sweep._refuse_bad_input(cells, ensure_run)
    assert asked == []
    monkeypatch.setattr(type(ensure_run), "load", lambda self, cell: None)
    with pytest.raises(BadInput, match="it is bad"):
        sweep._refuse_bad_input(cells, ensure_run)
    assert len(asked) == 1


def test_a_process_that_dies_without_an_answer_refuses_nothing(grid: Grid, monkeypatch):
    monkeypatch.setattr(sweep.Runner, "run", lambda *given, **named: None)
    assert sweep.refusal([grid.cell("image_cnn")]) is None
