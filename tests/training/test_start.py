"""Runs that begin from the same run untied: which one that is, what is loaded, and what is made of it."""

from dataclasses import replace

import pytest
import record_maker
import torch
from cell_maker import made
from grid import build

from bench.analysis.groups import place, sections
from bench.analysis.runs import read_sweep
from bench.runs.store import read_json, write_json
from bench.runs.worker import EarlyExit
from bench.sweep.dry_run import report
from bench.sweep.launchers.local import Joblib
from bench.sweep.prerequisites import candidates
from bench.sweep.run_or_load import ensure_run
from bench.sweep.status import report as status
from bench.sweep.sweep import run_sweep
from bench.training import build as assembly
from bench.training.init_from_run import init_from_run
from bench.training.train import _begin

PLAIN = ("task=text_gru", "dropout=0.1", "weight_decay=1", "seed=3", "optimizer.lr=0.1")
TINY = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "measure.cold=false", "measure.min_calls=1")
TINY += ("measure.min_seconds=0", "measure.max_seconds=0.2")
START = (*TINY, "start=untied")


@pytest.mark.parametrize("tying", ["none", "cross_layer", "soft", "learned", "[embedding,top_k]"])
def test_it_begins_from_the_same_run_untied(tying):
    begun = made(*PLAIN, f"tying={tying}", "start=untied")
    assert begun.start.id == made(*PLAIN).id and begun.start.start is None
    assert made(*PLAIN, f"tying={tying}").start is None


@pytest.mark.parametrize(
    "more", ["seed=4", "dropout=0.5", "weight_decay=0", "model.width=8", "data.train_limit=9"]
)
def test_what_else_is_changed_is_changed_in_both(more):
    assert made(*PLAIN, "tying=cross_layer", "start=untied", more).start.id == made(*PLAIN, more).id


def test_it_has_a_budget_and_a_rate_of_its_own():
    begun = made(*PLAIN, "start=untied", "start.max_epochs=5", "start.lr=0.02", "trainer.use_gradients=true")
    alone = made(*PLAIN, "trainer.max_epochs=5", "optimizer.lr=0.02")
    assert begun.start.id == alone.id
    assert (begun.config["trainer"]["max_epochs"], begun.config["optimizer"]["lr"]) == (1, 0.1)


def test_a_search_of_rates_is_of_what_follows():
    begun = made(*PLAIN, "start=untied", "tying=cross_layer", "lr_search.factors=[0.5,1]")
    low, same = candidates(begun)
    assert low.start.id == same.start.id == made("task=text_gru", "optimizer.lr=0.1", "seed=0").id


def test_what_it_begins_from_and_how_is_part_of_the_identity():
    ids = {
        made(*PLAIN, "tying=cross_layer", *more).id
        for more in ((), ("start=untied",), ("start=untied", "start.merge=first"))
    }
    assert len(ids) == 3 and made(*PLAIN, "start=none").id == made(*PLAIN).id
    costs = {made(*PLAIN, "tying=cross_layer", f"start={start}").cost for start in ("none", "untied")}
    assert len(costs) == 1


def saved(cell, runs):
    """A record of `cell` with its weights, other than those of its seed; the weights."""
    built = build(cell)
    with torch.no_grad():
        for number, weight in enumerate(built.model.parameters()):
            weight.mul_(1 + number)
    folder = runs / cell.id
    write_json(
        folder / "record.json", {**cell.header(), "status": "done", "val": {"nll": 2.0}, "test": {"nll": 3.0}}
    )
    torch.save({"state_dict": built.module.state_dict(), "global_step": 1}, folder / "best.ckpt")
    return dict(built.model.state_dict())


@pytest.mark.parametrize("merge", ["mean", "first"])
def test_what_is_tied_begins_as_the_mean_or_the_first_of_what_was_trained(grid, tmp_path, merge):
    cell = grid.cell("text_transformer", "cross_layer", *START, f"start.merge={merge}")
    weights = saved(cell.start, tmp_path)
    data = assembly.data_module(cell.config)
    model = assembly.network(cell.config, data.shapes, 0.0)
    assert init_from_run(model, tmp_path, cell.start.id) == {
        "run": cell.start.id,
        "val": {"nll": 2.0},
        "test": {"nll": 3.0},
    }
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    plan = assembly.plan_for(cell.config, model)
    assembly.tie(cell.config, model, plan)
    for tie in plan.ties:
        before = torch.stack([weights[name] for name in tie.names])
        torch.testing.assert_close(
            model.get_parameter(tie.names[-1]), before.mean(0) if merge == "mean" else before[0]
        )
    assert plan.ties


@pytest.mark.parametrize(
    ("task", "tying", "kept"),
    [
        ("text_gru", ("grouped", "tying.grouping=[0,1,0,2]"), [0, 1, 3]),
        ("text_transformer", ("grouped", "tying.grouping=[0,1,1,2]"), [0, 1, 3]),
        ("text_transformer", ("cross_layer",), [0]),
        ("image_cnn", ("grouped", "tying.grouping=[0,1,1,2,3,3]", "model.depth=6"), [0, 1, 3, 4]),
    ],
)
def test_without_some_blocks_it_begins_from_the_trained_ones_that_are_left(grid, tmp_path, task, tying, kept):
    """The others go, and each that stays takes the next place of the shorter network."""
    cell = grid.cell(task, tying[0], *START, "model.depth=4", *tying[1:], "control=delete")
    shapes = assembly.data_module(cell.config).shapes
    weights = saved(cell.start, tmp_path)
    sized, control = assembly.controlled(cell.config, shapes)
    assert control["blocks"] == kept
    model = assembly.network(sized, shapes, 0.0)
    begun = _begin(model, cell.config, shapes, {"start": {"run": cell.start.id}}, tmp_path, control)
    assert begun["run"] == cell.start.id
    whole = assembly.names_of_blocks(cell.config, shapes)
    blocks = [name for name in whole if name not in {whole[number] for number in kept}]
    is_left = {name: not any(name.startswith(f"{block}.") for block in blocks) for name in weights}
    expected = [value for name, value in weights.items() if is_left[name]]
    assert len(expected) < len(weights)
    assert all(map(torch.equal, model.state_dict().values(), expected))
    assert len(model.state_dict()) == len(expected)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "has no record"),
        ({"status": "diverged", "reason": "the loss is nan"}, "is diverged: the loss is nan"),
        ({"status": "done", "reason": None}, "has no .*best.ckpt any more: delete .* and run it again"),
    ],
)
def test_without_its_weights_it_does_not_begin(tmp_path, record, reason):
    if record:
        write_json(tmp_path / "abc" / "record.json", record)
    with pytest.raises(EarlyExit, match=f"^the run to start from.*{reason}"):
        init_from_run(torch.nn.Linear(1, 1), tmp_path, "abc")


def test_a_failed_start_is_a_failed_row_that_says_so(grid, tmp_path):
    cell = grid.cell("text_gru", "cross_layer", *START, "seed=11")
    cell = replace(cell, options={**cell.options, "runs": str(tmp_path)})
    write_json(
        cell.start.folder / "record.json",
        {**cell.start.header(), "status": "failed", "reason": "no memory", "config": cell.start.config},
    )
    record = ensure_run(cell)
    assert (record["status"], record["reason"]) == (
        "failed",
        f"the run to start from, {cell.start.id}, is failed: no memory",
    )
    assert record["start"] == {"run": cell.start.id}


def test_from_end_to_end(grid):
    """At a rate of nearly nothing the untied network stays what it was; the tied one is that of the merged weights."""
    still = ("optimizer.lr=1e-9", "start.lr=0.01")
    cells = [grid.cell("text_gru", tying, *START, *still) for tying in ("none", "cross_layer")]
    _, (plain, tied) = run_sweep(cells, Joblib(n_jobs=1))
    begun = read_json(cells[0].runs / cells[0].start.id / "record.json")
    assert plain["status"] == tied["status"] == "done", (plain["reason"], tied["reason"])
    for record in (plain, tied):
        assert record["start"] == {"run": begun["id"], "val": begun["val"], "test": begun["test"]}
    assert plain["test"]["nll"] == pytest.approx(begun["test"]["nll"], rel=1e-5)
    assert tied["test"]["nll"] != pytest.approx(begun["test"]["nll"], rel=1e-5)
    assert tied["num_params"] < tied["num_params_untied"] == plain["num_params"]
    assert begun["start"] is None and begun["config"]["start"] is None
    assert (plain["tying"], tied["tying"]) == ("none, start=untied", "cross_layer, start=untied")


def test_a_dry_run_and_a_status_tell_of_starts_and_tables_do_not(tmp_path):
    kinds = [made(f"tying={tying}", "start=untied", "sweep.name=mine") for tying in ("none", "cross_layer")]
    cells = [replace(cell, options={**cell.options, "runs": str(tmp_path)}) for cell in kinds]
    text = report(cells)
    assert "starts: others begin from 1 run, 1 to run" in text
    assert "first to run:\n  image_cnn none dropout=0 wd=0 seed=1\n  image_cnn none, start=untied" in text
    start = cells[0].start
    write_json(
        start.folder / "record.json",
        {**start.header(), "status": "failed", "reason": "x", "config": start.config},
    )
    for cell in cells:
        ended = {**cell.header(), "status": "failed", "reason": "no start", "config": cell.config}
        write_json(cell.folder / "record.json", ended)
        write_json(
            tmp_path / "costs" / cell.cost / "cost.json",
            {"status": "failed", "reason": "y", "config": cell.config},
        )
    run_sweep(cells, Joblib(n_jobs=1), sweep=True)
    manifest = read_json(tmp_path / "sweeps" / "mine.json")
    assert [row["id"] for row in manifest["starts"]] == [start.id]
    assert "2 runs: 2 failed" in status(tmp_path) and "failed x 1: x" in status(tmp_path)
    start.folder.joinpath("record.json").unlink()
    assert "training what others start from: 1 run: 1 queued" in status(tmp_path)


def test_what_follows_a_start_stands_apart_beside_its_own_none(tmp_path):
    names = ["none", "cross_layer", "none, start=untied", "cross_layer, start=untied"]
    entries = [record_maker.entry(name, seed=seed) for name in names for seed in (1, 2)]
    record_maker.write_sweep(tmp_path, entries, [record_maker.record(entry) for entry in entries], [])
    plain, begun = sections(read_sweep(tmp_path, "quick")[0])
    assert (plain.variant, begun.variant) == ("", "start=untied")
    for section in (plain, begun):
        assert list(section.tyings) == ["none", "cross_layer"] and len(section.runs) == 4
    assert {run.tying for run in begun.runs} == set(names[2:])


def test_a_start_changes_no_family_and_comes_after():
    assert record_maker.spec_of("top_k(k=2), start=untied").family == "top_k"
    ordered = ["none", "none, start=untied", "cross_layer", "cross_layer, start=untied", "top_k(k=2)"]
    assert sorted({*ordered}, key=lambda label: place(record_maker.spec_of(label))) == ordered
