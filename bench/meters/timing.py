"""Time calls: one alone, with cold caches, and two in turns in one process with the ratio's interval."""

import contextlib
import dataclasses
import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def summarise(seconds: Sequence[float]) -> Timing:
    """Return median, nearest-rank 90th and 99th percentile, and n, of at least one duration in seconds."""
    ordered = sorted(seconds)
    p99 = _nearest_rank(ordered, 99) if len(ordered) >= CALLS_FOR_P99 else None
    return Timing(statistics.median(ordered), _nearest_rank(ordered, 90), p99, len(ordered))


def _nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest value that at least `percent` % of the values do not exceed; exact, in whole numbers."""
    return ordered[-(-percent * len(ordered) // 100) - 1]


CPUS = Path("/sys/devices/system/cpu")
"""Where Linux tells the sizes of the caches."""

UNTOLD_CACHE = 64 * 2**20
"""Bytes of the last-level cache where nobody tells."""

TIMES_THE_CACHE = 4
"""A cache replaces its lines only roughly in the order of their use: at twice its size some of them stay."""


def evictor(device: torch.device) -> Callable[[], None]:
    """Return a call that reads and writes a buffer of `buffer_bytes`, which it keeps: some milliseconds.

    Written alone would not do: large fills may go past the caches.
    """
    buffer = torch.zeros(buffer_bytes(device) // 4, dtype=torch.int32, device=device)

    def evict() -> None:
        buffer.add_(1)

    return evict


def buffer_bytes(device: torch.device, cpus: Path = CPUS) -> int:
    """Return how many bytes fit in no cache of the device: 4 times its last-level cache."""
    if device.type == "cuda":
        cache = torch.cuda.get_device_properties(device).L2_cache_size
    else:
        cache = max((_bytes(path) for path in cpus.glob("cpu*/cache/index*/size")), default=UNTOLD_CACHE)
    return TIMES_THE_CACHE * cache


def _bytes(path: Path) -> int:
    """Read a size as sysfs writes it: 32768K, 8M or plain bytes."""
    size = path.read_text().strip()
    scale = {"K": 2**10, "M": 2**20, "G": 2**30}.get(size[-1:], 1)
    return int(size.rstrip("KMG")) * scale


RESOLUTION = 0.005
"""No interval is narrower than ratio * (1 -+ RESOLUTION), however many turns there are.

Two copies of one network differ by up to 0.3 % for as long as they live (where their tensors lie in memory, and
in which order they were made), which more turns of the same two copies do not show.
"""

LEAST_ON_CPU = 0.9
MOST_ON_CPU = 1.1
"""Processor seconds per second: the least of one core, the most of every thread that torch may use."""


@dataclass(frozen=True)
class Pair:
    """Seconds of the tied and of the untied call, and tied / untied: the median of the turns' ratios.

    low..high is its 95 % interval, no narrower than RESOLUTION; None below 6 turns. on_cpu is the processor
    time of this process, all threads together, per second of wall time while the turns went on; None where
    a GPU does the work.
    """

    tied: Timing
    untied: Timing
    ratio: float
    low: float | None
    high: float | None
    turns: int
    on_cpu: float | None

    def as_record(self) -> dict[str, Any]:
        """Return plain values for a record; on_cpu is for `suspicion` and left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "on_cpu"}


def in_turns(
    tied: Callable[[], object],
    untied: Callable[[], object],
    *,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    **limits: Any,
) -> Pair:
    """Time single calls in turns: `turns_of` with `tied` and `untied`, each by `seconds_of`, and its limits.

    Before each of them goes, not timed, the same call: what is timed then finds in the caches what its own kind left
    there, not the other.
    """

    def timed(call: Callable[[], object]) -> Callable[[], tuple[float]]:
        def measure() -> tuple[float]:
            call()
            return (seconds_of(call, device, clock),)

        return measure

    (pair,) = turns_of(timed(tied), timed(untied), device=device, clock=clock, **limits)
    return pair


def turns_of(
    measure_tied: Callable[[], Sequence[float]],
    measure_untied: Callable[[], Sequence[float]],
    *,
    warmup: int,
    min_turns: int,
    min_seconds: float,
    max_seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    processor_clock: Callable[[], float] = time.process_time,
) -> tuple[Pair, ...]:
    """Return one Pair for each of the durations (seconds, more than 0) that the two measures return, equally many each.

    A turn measures either side twice, tied, untied, untied, tied; its ratio is the geometric mean of the
    two, in which drift and the place within a turn cancel: a median over ratios of single calls could fall
    on the calls that went first. Turns end with min_turns and min_seconds reached, or with max_seconds over,
    not before the first. The first `warmup` measures of each side count nowhere.
    """
    sides = (measure_tied, measure_untied)
    for side in sides * warmup:
        side()
    turns: list[tuple[Sequence[float], ...]] = []
    begin, on_processor = clock(), processor_clock()
    elapsed = 0.0
    while not turns or elapsed < max_seconds and (len(turns) < min_turns or elapsed < min_seconds):
        turns.append((measure_tied(), measure_untied(), measure_untied(), measure_tied()))
        elapsed = clock() - begin
    share = None if device.type == "cuda" else (processor_clock() - on_processor) / (clock() - begin)
    by_entry = zip(*(zip(*turn, strict=True) for turn in turns), strict=True)
    return tuple(_pair(entry, share) for entry in by_entry)


def seconds_of(
    call: Callable[[], object], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Measure the seconds of one call: by `clock` on the CPU, by a pair of events on the current stream on CUDA.

    There the device is idle and its queue empty when the call begins, and what is timed ends with its last
    kernel: nothing of the call before runs into it, and the first launch counts as it does for a request.
    """
    if device.type != "cuda":
        start = clock()
        call()
        return clock() - start
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    began.record()
    call()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1000  # it counts milliseconds


def median_interval(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Return two of the values that hold the median of their distribution between them, in 95 % of cases or more.

    Of the pairs k-th smallest, k-th largest the narrowest whose binomial coverage is enough, whatever the
    distribution; values are taken as independent. None below 6 values. Source: H. A. David and H. N.
    Nagaraja, Order Statistics, 3rd edition, Wiley 2003, section 7.1.
    """
    n, ordered = len(values), sorted(values)
    allowed = 2**n // 40  # of the 2**n ways in which n values fall below or above the median: 2.5 % a side
    rank, below, ways = 0, 1, 1  # below: the ways in which at most `rank` values fall below it
    while below <= allowed:
        rank += 1
        ways = ways * (n - rank + 1) // rank
        below += ways
    return (ordered[rank - 1], ordered[n - rank]) if rank else (None, None)


def suspicion(share: float | None, threads: int) -> str | None:
    """Return why seconds measured with this Pair.on_cpu cannot be trusted, or None. `threads` is what torch may use.

    Between 0.9 and 1.1 x threads of one core is right: a step of several threads has parts of one alone.
    """
    if share is None:
        return None
    if share < LEAST_ON_CPU:
        return f"another process had the processor for {1 - share:.0%} of the time"
    if share > MOST_ON_CPU * threads:
        return f"this process used {share:.1f} cores, and should have used {threads} at most"
    return None


def other_processes(
    device: torch.device, pids: Callable[[torch.device], Sequence[int] | None] | None = None
) -> str | None:
    """Return why times on this GPU cannot be trusted: who else computes on it. None on a CPU, or where none can say.

    `pids` lists the processes on the device, by default as nvidia-smi does. Where it does not list this
    process, which has used the device, its numbers are those of another namespace and say nothing.
    """
    if device.type != "cuda":
        return None
    computing = (pids or _compute_pids)(device)
    if computing is None or os.getpid() not in computing:
        return None
    others = sorted(set(computing) - {os.getpid()})
    return f"GPU in use by another process (pid {', '.join(map(str, others))})" if others else None


def _compute_pids(device: torch.device) -> list[int] | None:
    command = [
        "nvidia-smi",
        f"--id=GPU-{torch.cuda.get_device_properties(device).uuid}",
        "--query-compute-apps=pid",
        "--format=csv,noheader",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        listing = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return [int(line) for line in listing.split()]
    return None


def _pair(turns: Sequence[tuple[float, float, float, float]], share: float | None) -> Pair:
    ratios = [
        math.sqrt(tied / untied * tied_last / untied_last) for tied, untied, untied_last, tied_last in turns
    ]
    ratio = statistics.median(ratios)
    low, high = median_interval(ratios)
    if low is not None and high is not None:
        low, high = min(low, ratio * (1 - RESOLUTION)), max(high, ratio * (1 + RESOLUTION))
    tied, untied = ([turn[place] for turn in turns for place in places] for places in ((0, 3), (1, 2)))
    return Pair(summarise(tied), summarise(untied), ratio, low, high, len(ratios), share)
