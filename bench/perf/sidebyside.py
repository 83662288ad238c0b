"""More than two calls timed side by side: the median of each over rounds."""

import statistics
import time
from collections.abc import Callable, Mapping


def medians(calls: Mapping[float, Callable[[], object]], rounds: int) -> dict[float, float]:
    """Median seconds of each call over that many rounds, every other one backwards, so that drift cancels.

    Each call is made twice before it counts.
    """
    for call in calls.values():
        call()
        call()
    seconds: dict[float, list[float]] = {name: [] for name in calls}
    for index in range(rounds):
        order = list(calls.items())
        for name, call in order if index % 2 == 0 else reversed(order):
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(took) for name, took in seconds.items()}
