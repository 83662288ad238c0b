"""Every example and every token of a split is scored once, whatever the batch size."""

import math

import pytest
import torch
from grid import TASKS, build, kind, score, steps
from torch.nn import functional as F

every_task = pytest.mark.parametrize("task", TASKS)
every_text = pytest.mark.parametrize("task", [task for task in TASKS if kind(task) == "text"])


@every_text
def test_perplexity_is_of_every_token_once_and_not_a_mean_of_batches(cell, task):
    built = build(cell(task, "none", "task.batches.window=7", "+task.batches.eval_batch_size=1"))
    steps(built, 30)
    batches = list(built.data.test_dataloader())
    whole = score(built.module, batches)
    parts = [score(built.module, [batch]) for batch in batches]
    assert whole["tokens"] == built.data.meta["sizes"]["test"] == sum(part["tokens"] for part in parts)
    assert len({part["tokens"] for part in parts}) > 1
    mean = sum(part["perplexity"] for part in parts) / len(parts)
    assert whole["perplexity"] == pytest.approx(math.exp(whole["nll"]))
    assert abs(whole["perplexity"] - mean) > 1e-3 * mean


def test_the_gru_is_scored_as_streams_read_in_one_go(cell):
    built = build(cell("text_gru", "none", "task.batches.window=7", "+task.batches.eval_streams=3"))
    steps(built, 30)
    scored = score(built.module, built.data.test_dataloader())
    tokens = built.data.tokens["test"].long()
    total = 0.0
    for stream in range(3):
        start, stop = len(tokens) * stream // 3, len(tokens) * (stream + 1) // 3
        inputs = torch.cat([tokens.new_zeros(1), tokens])[start:stop]
        with torch.no_grad():
            logits, _ = built.model(inputs[None])
        total += F.cross_entropy(logits[0].double(), tokens[start:stop], reduction="sum").item()
    assert scored["nll"] == pytest.approx(total / len(tokens), rel=1e-5)


def test_the_transformer_is_scored_with_half_a_window_of_context(cell):
    built = build(cell("text_transformer", "none", "task.batches.window=8"))
    steps(built, 30)
    scored = score(built.module, built.data.test_dataloader())
    tokens = built.data.tokens["test"].long()
    inputs = torch.cat([tokens.new_zeros(1), tokens])[:-1]
    total = 0.0
    for start in range(0, len(tokens), 4):  # four targets at a time, with the four inputs before them
        first = max(0, start - 4)
        with torch.no_grad():
            logits, _ = built.model(inputs[None, first : start + 4])
        wanted = tokens[start : start + 4]
        got = logits[0, start - first :].double()
        total += F.cross_entropy(got, wanted, reduction="sum").item()
    assert scored["nll"] == pytest.approx(total / len(tokens), rel=1e-5)


@every_task
def test_scores_do_not_depend_on_the_batch_size(cell, task):
    trained = build(cell(task))
    steps(trained, 5)
    found = []
    for size, eval_size in ((3, 7), (20, 40)):
        sizes = (f"task.batches.batch_size={size}", f"+task.batches.eval_batch_size={eval_size}")
        built = build(cell(task, "none", *sizes))
        built.model.load_state_dict(trained.model.state_dict())
        found.append(score(built.module, built.data.test_dataloader()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
