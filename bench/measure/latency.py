"""How long a call takes: warm-up, then a minimum of calls and of seconds; median and tail with their n."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

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


def time_calls(
    fn: Callable[[], object],
    *,
    warmup: int,
    min_calls: int,
    min_seconds: float,
    max_seconds: float,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times single calls of `fn` until there are min_calls and min_seconds, or max_seconds are over.

    The warm-up calls come first and count nowhere. `synchronize`, where given, is waited for within every
    call. At least one call is timed, whatever max_seconds says.
    """

    def call() -> None:
        fn()
        if synchronize is not None:
            synchronize()

    for _ in range(warmup):
        call()
    seconds: list[float] = []
    begin = clock()
    while not _enough(len(seconds), clock() - begin, min_calls, min_seconds, max_seconds):
        start = clock()
        call()
        seconds.append(clock() - start)
    return summarise(seconds)


def time_cuda_calls(
    fn: Callable[[], object], *, warmup: int, min_calls: int, min_seconds: float, max_seconds: float
) -> Timing:
    """Times single calls of `fn` on the current CUDA stream: a pair of events per call, one wait at the end.

    Nothing waits between calls, so what is timed is the device's work in a full queue. Seconds for the
    limits are those of the device, estimated from the warm-up (at least one call). Raises RuntimeError
    where there is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("time_cuda_calls needs a CUDA device; time_calls is for the CPU")
    warm = time_calls(
        fn,
        warmup=1,
        min_calls=max(warmup, 1),
        min_seconds=0,
        max_seconds=max_seconds,
        synchronize=torch.cuda.synchronize,
    )
    calls = planned_calls(warm.median_s, min_calls, min_seconds, max_seconds)
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in ("start", "stop")] for _ in range(calls)]
    for start, stop in pairs:
        start.record()
        fn()
        stop.record()
    torch.cuda.synchronize()
    return summarise([start.elapsed_time(stop) / 1000 for start, stop in pairs])  # it counts milliseconds


def planned_calls(call_seconds: float, min_calls: int, min_seconds: float, max_seconds: float) -> int:
    """How many calls of call_seconds each fill the limits of `time_calls`; at least 1."""
    wanted = max(min_calls, math.ceil(min_seconds / call_seconds))
    return max(1, min(wanted, math.ceil(max_seconds / call_seconds)))


def summarise(seconds: Sequence[float]) -> Timing:
    """Median, nearest-rank 90th and 99th percentile, and n, of at least one duration in seconds."""
    ordered = sorted(seconds)
    p99 = _nearest_rank(ordered, 99) if len(ordered) >= CALLS_FOR_P99 else None
    return Timing(statistics.median(ordered), _nearest_rank(ordered, 90), p99, len(ordered))


def _enough(calls: int, elapsed: float, min_calls: int, min_seconds: float, max_seconds: float) -> bool:
    if calls == 0:
        return False
    return elapsed >= max_seconds or (calls >= min_calls and elapsed >= min_seconds)


def _nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` % of the values do not exceed; exact, in whole numbers."""
    return ordered[-(-percent * len(ordered) // 100) - 1]
