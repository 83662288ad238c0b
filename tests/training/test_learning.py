"""Every tying starts as a guess and learns: a broken network compares with nothing (decision 8)."""

import pytest
from grid import CELLS, applies, build, guess, kind, score, steps

APPLYING = [(task, tying) for task, tying in CELLS if applies(task, tying)]
EVERY, STEPS = 40, 200


@pytest.mark.parametrize(("task", "tying"), APPLYING)
def test_the_first_loss_is_that_of_a_guess(cell, task, tying):
    built = build(cell(task, tying))
    assert built.module.loss(built.batches[0]).item() == pytest.approx(guess(built), rel=0.05)


@pytest.mark.parametrize(("task", "tying"), [pair for pair in APPLYING if kind(pair[0]) == "text"])
def test_it_beats_the_unigram_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = built.data.meta["floors"]["unigram_perplexity"]
    optimizer = built.module.adamw()
    for _ in range(0, STEPS, EVERY):
        steps(built, EVERY, optimizer)
        if score(built.module, built.data.test_dataloader())["perplexity"] < 0.8 * floor:
            return
    pytest.fail(f"perplexity is not below 0.8 x {floor:.1f} after {STEPS} steps")


@pytest.mark.parametrize(("task", "tying"), [pair for pair in APPLYING if kind(pair[0]) == "labelled_text"])
def test_it_labels_twice_as_many_rows_rightly_as_a_guess_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = max(built.data.meta["floors"]["majority_accuracy"], 1 / built.data.meta["num_classes"])
    optimizer = built.module.adamw()
    for _ in range(0, STEPS, EVERY):
        steps(built, EVERY, optimizer)
        if score(built.module, built.data.test_dataloader())["accuracy"] > 2 * floor:
            return
    pytest.fail(f"accuracy is not above 2 x {floor:.2f} after {STEPS} steps")


@pytest.mark.parametrize(("task", "tying"), [pair for pair in APPLYING if kind(pair[0]) == "series"])
def test_it_beats_the_last_value_by_far_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = built.data.meta["floors"]["naive_mae"]
    optimizer = built.module.adamw()
    for _ in range(0, STEPS, EVERY):
        steps(built, EVERY, optimizer)
        if score(built.module, built.data.test_dataloader())["mae"] < 0.9 * floor:
            return
    pytest.fail(f"the mean absolute error is not below 0.9 x {floor:.2f} after {STEPS} steps")


@pytest.mark.parametrize(("task", "tying"), [pair for pair in APPLYING if kind(pair[0]) == "image"])
def test_it_beats_the_majority_class_by_far_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = built.data.meta["floors"]["majority_accuracy"]
    optimizer = built.module.adamw()
    for _ in range(0, STEPS, EVERY):
        steps(built, EVERY, optimizer)
        if score(built.module, built.data.test_dataloader())["accuracy"] > 4 * floor:
            return
    pytest.fail(f"accuracy is not above 4 x {floor:.2f} after {STEPS} steps")
