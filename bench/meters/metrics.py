"""Pure functions on numbers: means and their spread, perplexity, accuracy."""

import math
from collections.abc import Iterable
from typing import NamedTuple


class Estimate(NamedTuple):
    """A mean, the sample standard deviation (None where n = 1) and how many values it is made of."""

    mean: float
    sd: float | None
    n: int


def mean_sd(values: Iterable[float]) -> Estimate:
    """Return mean and sample standard deviation (divisor n - 1), in the unit of the values.

    One value has no spread: sd is None, not 0. NaN and infinity stay in the result, they are never dropped.
    Raises ValueError for no values at all.
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("the mean of no values: give at least one")
    n = len(values)
    if not all(math.isfinite(value) for value in values):
        return Estimate(sum(values) / n, math.nan if n > 1 else None, n)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, 1)
    # Two passes: the one-pass form loses every digit where the values are close together. And hypot: the
    # square of a diverged run's perplexity overflows.
    return Estimate(mean, math.hypot(*(value - mean for value in values)) / math.sqrt(n - 1), n)


def perplexity(nll_sum: float, tokens: int) -> float:
    """Return exp of the mean negative log-likelihood: nll_sum in nats over all the tokens scored.

    The quotient of two sums, never the mean of per-batch ones. Infinite where exp overflows.
    """
    _positive(tokens, "tokens")
    try:
        return math.exp(nll_sum / tokens)
    except OverflowError:
        return math.inf


def bits_per_byte(nll_sum_nats: float, n_bytes: int) -> float:
    """Return the negative log-likelihood in bits per byte of the raw text: what compares across tokenisers."""
    _positive(n_bytes, "bytes")
    return nll_sum_nats / math.log(2) / n_bytes


def accuracy(correct: int, n: int) -> float:
    """Return the share of n examples that were right, 0 to 1."""
    _positive(n, "examples")
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} right of {n} examples: give a count between 0 and {n}")
    return correct / n


def _positive(count: int, unit: str) -> None:
    if count <= 0:
        raise ValueError(f"{count} {unit}: a mean needs at least one")
