"""Naive Bayes on counts of words: the accuracy that a classifier of text has to beat. numpy only."""

import numpy as np


def naive_bayes_accuracy(
    train: tuple[np.ndarray, np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray, np.ndarray],
    vocab_size: int,
) -> float:
    """Share of `test` that the multinomial model of `train` labels rightly, one count added to every word.

    Either is (tokens [N], offsets [R + 1] of its rows in them, labels [R]), each row at least one token long. Of
    equals the first class wins.

    Source: McCallum and Nigam 1998, section 2.2.
    """
    tokens, offsets, labels = train
    classes = int(max(labels.max(), test[2].max())) + 1
    of_token = np.repeat(labels, np.diff(offsets))
    counts = (
        np.bincount(of_token * vocab_size + tokens, minlength=classes * vocab_size).reshape(classes, -1) + 1
    )
    logs = np.log(counts / counts.sum(1, keepdims=True)).T
    prior = np.log((np.bincount(labels, minlength=classes) + 1) / (len(labels) + classes))
    scores = prior + np.add.reduceat(logs[test[0]], test[1][:-1])
    return float((scores.argmax(1) == test[2]).mean())
