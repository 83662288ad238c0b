"""Every tying starts as a guess and learns: a broken network compares with nothing (decision 8)."""

import pytest
from grid import CELLS, applies, build, guess, kind, score, steps

APPLYING = [(task, tying) for task, tying in CELLS if applies(task, tying)]
EVERY, STEPS = 40, 200


def of(its):
    return pytest.mark.parametrize(("task", "tying"), [pair for pair in APPLYING if kind(pair[0]) == its])


def learned(built, is_enough):
    """Whether its first loss is that of a guess, and its scores of the test split are soon enough."""
    assert built.module.loss(built.batches[0]).item() == pytest.approx(guess(built), rel=0.05)
    optimizer = built.module.adamw()
    for _ in range(0, STEPS, EVERY):
        steps(built, EVERY, optimizer)
        if is_enough(score(built.module, built.data.test_dataloader())):
            return True
    return False


@of("text")
def test_it_beats_the_unigram_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = built.data.meta["floors"]["unigram_perplexity"]
    assert learned(built, lambda scores: scores["perplexity"] < 0.8 * floor), floor


@of("labelled_text")
def test_it_labels_twice_as_many_rows_rightly_as_a_guess_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = max(built.data.meta["floors"]["majority_accuracy"], 1 / built.data.meta["num_classes"])
    assert learned(built, lambda scores: scores["accuracy"] > 2 * floor), floor


@of("series")
def test_it_beats_the_last_value_by_far_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = built.data.meta["floors"]["naive_mae"]
    assert learned(built, lambda scores: scores["mae"] < 0.9 * floor), floor


@of("image")
def test_it_beats_the_majority_class_by_far_within_200_steps(cell, task, tying):
    built = build(cell(task, tying))
    floor = built.data.meta["floors"]["majority_accuracy"]
    assert learned(built, lambda scores: scores["accuracy"] > 4 * floor), floor


def test_every_cell_is_of_a_kind_that_learns():
    assert {kind(task) for task, _ in APPLYING} == {"text", "labelled_text", "series", "image"}
