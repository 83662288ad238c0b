"""One side of a comparison of costs: its copies, its batches, and a compiled network's way."""

import pytest
import torch
from grid import CELLS, TASKS, applies

from bench.training import build, cost
from bench.training.cost import build_side, resized, tensors

CPU = torch.device("cpu")


def side_of(cell):
    return build_side(cell.config, build.data_module(cell.config), CPU)


def batch_of(cell, side):
    return side.placed(next(iter(build.data_module(cell.config).train_dataloader())))


@pytest.mark.parametrize(("task", "tying"), [pair for pair in CELLS if applies(*pair)])
def test_a_copy_is_tied_like_the_original_and_shares_nothing_with_it(cell, task, tying):
    asked = cell(task, tying)
    side = side_of(asked)
    fresh = side.fresh()
    theirs = {id(p) for p in side.module.model.parameters()}
    assert not theirs & {id(p) for p in fresh.module.model.parameters()}
    assert sum(p.numel() for p in fresh.module.model.parameters()) == side.num_params
    before = [p.clone() for p in side.module.model.parameters()]
    fresh.step(batch_of(asked, side))()
    after = list(side.module.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    moved = [p for p in fresh.module.model.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert moved and set(fresh.optimizer.state) == set(fresh.module.model.parameters())


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_of_any_size_goes_through_its_examples_again(cell, task):
    asked = cell(task)
    batch = batch_of(asked, side_of(asked))
    size = len(batch[0])
    more = resized(batch, size + 1)
    assert torch.equal(more[0][:size], batch[0]) and torch.equal(more[0][size], batch[0][0])
    assert {len(t) for t in tensors(resized(batch, 3))} == {3}
    assert [type(item) for item in more] == [type(item) for item in batch]


def test_a_compiled_network_is_compiled_once_and_stays(cell, monkeypatch):
    modes = []
    monkeypatch.setattr(torch, "compile", lambda call, mode: modes.append(mode) or call)
    side = side_of(cell("text_gru", "none", "trainer.compile=default"))
    assert side.fresh() is side and modes == ["default"]


def test_a_network_without_a_cache_is_not_asked_to_generate(cell, monkeypatch):
    asked = cell("text_gru", "none", "measure.cold=false", "measure.min_calls=1", "measure.min_seconds=0")
    side = side_of(asked)
    batch = batch_of(asked, side)
    assert cost._has_cache(side, batch)
    model = type(side.module.model)
    monkeypatch.setattr(model, "decode", lambda self, tokens, past=None: (self(tokens)[0][:, -1:], None))
    times = cost.measure_times(side, side, batch, asked.config)
    assert list(times["latency"]) == ["batch", "one"]


def test_cold_caches_are_measured_where_asked_for_alone(cell, monkeypatch):
    asked = cell("text_gru", "none", "measure.cold=false", "measure.min_calls=1", "measure.min_seconds=0")
    side = side_of(asked)
    monkeypatch.setattr(cost, "evictor", lambda device: pytest.fail("a buffer was made"))
    times = cost.measure_times(side, side, batch_of(asked, side), asked.config)
    assert list(times["latency"]) == ["batch", "one", "first_token", "per_token"]


def test_what_is_held_must_be_what_the_plan_predicts(cell):
    asked = cell("image_cnn", "cross_layer")
    side = side_of(asked)
    batch = batch_of(asked, side)
    assert cost.measure_memory(side, batch)["state"]["parameters"] == 4 * side.num_params
    wrong = cost.replace(side, predicted=(side.num_params + 1, *side.predicted[1:]))
    with pytest.raises(RuntimeError, match="the plan predicted .* the tied model holds"):
        cost.measure_memory(wrong, batch)
