"""Compute the floors that a network has to beat: n-gram perplexity and naive Bayes accuracy. numpy only."""

import numpy as np

DISCOUNT = 0.75


def unigram_perplexity(train: np.ndarray, test: np.ndarray, vocab_size: int) -> float:
    """Return exp(nats per token) of `test` under train's frequencies plus one count for every word."""
    return perplexity(unigram(train, vocab_size)[test])


def trigram_perplexity(train: np.ndarray, test: np.ndarray, vocab_size: int) -> float:
    """Return exp(nats per token) of `test` under a trigram interpolated with the bigram, and that with the unigram.

    Absolute discounting (Ney, Essen and Kneser 1994): p(w | h) = max(c(hw) - D, 0) / c(h) + D t(h) / c(h) p(w
    | shorter h), t(h) the number of different words seen after h, D = 0.75; the shorter history alone where h
    was never seen. The words before the first are <eos> (id 0), and histories reach over line ends, as a
    network's do.
    """
    p = unigram(train, vocab_size)[test]
    for order in (1, 2):
        p = interpolate(
            p,
            histories(train, order, vocab_size),
            train,
            histories(test, order, vocab_size),
            test,
            vocab_size,
        )
    return perplexity(p)


def unigram(train: np.ndarray, vocab_size: int) -> np.ndarray:
    return (np.bincount(train, minlength=vocab_size) + 1) / (len(train) + vocab_size)


def perplexity(p: np.ndarray) -> float:
    return float(np.exp(-np.log(p).mean()))


def histories(tokens: np.ndarray, order: int, vocab_size: int) -> np.ndarray:
    """Return the `order` words before each token as one integer, int64 [N]; keys stay below 2**63."""
    padded = np.concatenate([np.zeros(order, dtype=np.int64), tokens])
    keys = np.zeros(len(tokens), dtype=np.int64)
    for i in range(order):
        keys = keys * vocab_size + padded[i : i + len(tokens)]
    return keys


def interpolate(
    shorter: np.ndarray,
    train_h: np.ndarray,
    train: np.ndarray,
    test_h: np.ndarray,
    test: np.ndarray,
    vocab_size: int,
) -> np.ndarray:
    """Return p(test | test_h) from the counts of (train_h, train), `shorter` = p(test | shorter history)."""
    grams, counts = np.unique(train_h * vocab_size + train, return_counts=True)
    known, first = np.unique(grams // vocab_size, return_index=True)
    kinds = np.diff(np.append(first, len(grams)))
    totals = np.add.reduceat(counts, first)
    c = lookup(grams, counts, test_h * vocab_size + test)
    total, kind = lookup(known, totals, test_h), lookup(known, kinds, test_h)
    seen = (np.maximum(c - DISCOUNT, 0) + DISCOUNT * kind * shorter) / np.maximum(total, 1)
    return np.where(total > 0, seen, shorter)


def lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return values[keys == wanted], 0 where there is none; `keys` ascending."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)


def naive_bayes_accuracy(
    train: tuple[np.ndarray, np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray, np.ndarray],
    vocab_size: int,
) -> float:
    """Return the share of `test` that the multinomial model of `train` labels rightly, one count added to every word.

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
