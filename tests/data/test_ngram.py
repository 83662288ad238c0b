"""The floors, on counts done by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.baselines import histories, interpolate, trigram_perplexity, unigram, unigram_perplexity

TRAIN = np.array([1, 2, 1, 2, 1, 0])


def test_unigram_adds_one() -> None:
    np.testing.assert_allclose(unigram(TRAIN, 3), [2 / 9, 4 / 9, 3 / 9])
    assert unigram_perplexity(TRAIN, np.array([0, 2]), 3) == pytest.approx((2 / 9 * 3 / 9) ** -0.5)


def test_histories_start_at_eos() -> None:
    assert histories(np.array([1, 2, 1]), 1, 10).tolist() == [0, 1, 2]
    assert histories(np.array([1, 2, 1]), 2, 10).tolist() == [0, 1, 12]


def test_trigram_by_hand() -> None:
    # Bigrams of train: 0 1, 1 2 twice, 2 1 twice, 1 0.
    test = np.array([1, 2, 1])
    bigram = [
        (1 - 0.75) / 1 + 0.75 * 1 / 1 * (4 / 9),  # 0 -> 1
        (2 - 0.75) / 3 + 0.75 * 2 / 3 * (3 / 9),  # 1 -> 2
        (2 - 0.75) / 2 + 0.75 * 1 / 2 * (4 / 9),  # 2 -> 1
    ]
    trigram = [
        (1 - 0.75) / 1 + 0.75 * 1 / 1 * bigram[0],  # 0 0 -> 1
        (1 - 0.75) / 1 + 0.75 * 1 / 1 * bigram[1],  # 0 1 -> 2
        (2 - 0.75) / 2 + 0.75 * 1 / 2 * bigram[2],  # 1 2 -> 1
    ]
    assert trigram_perplexity(TRAIN, test, 3) == pytest.approx(np.prod(trigram) ** (-1 / 3))


def test_unseen_history_falls_back() -> None:
    shorter = np.array([0.125])
    assert interpolate(shorter, np.array([0]), np.array([1]), np.array([2]), np.array([1]), 3) == shorter


@given(st.lists(st.integers(0, 4), min_size=3, max_size=60), st.integers(0, 4), st.integers(0, 4))
def test_probabilities_sum_to_one(train: list[int], a: int, b: int) -> None:
    tokens, words = np.array(train), np.arange(5)
    p = unigram(tokens, 5)
    for order, history in ((1, b), (2, a * 5 + b)):
        p = interpolate(p, histories(tokens, order, 5), tokens, np.full(5, history), words, 5)
    assert p.sum() == pytest.approx(1)
