"""How long a call takes, over many of them: median and tail with their n."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# With fewer calls the 99th percentile is only the largest one, and says nothing that can be seen again.
CALLS_FOR_P99 = 100


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over n calls: median, and 90th and 99th percentile by nearest rank.

    p99_s is None below 100 calls.
    """

    median_s: float
    p90_s: float
    p99_s: float | None
    n: int


def summarise(seconds: Sequence[float]) -> Timing:
    """Median, nearest-rank 90th and 99th percentile, and n, of at least one duration in seconds."""
    ordered = sorted(seconds)
    p99 = _nearest_rank(ordered, 99) if len(ordered) >= CALLS_FOR_P99 else None
    return Timing(statistics.median(ordered), _nearest_rank(ordered, 90), p99, len(ordered))


def _nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` % of the values do not exceed; exact, in whole numbers."""
    return ordered[-(-percent * len(ordered) // 100) - 1]
