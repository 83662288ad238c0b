"""Calls that take a known time."""

import math
import time
from collections.abc import Iterator

import torch

from bench.measure import energy
from bench.measure.cold import evictor
from bench.measure.rates import copy_rate, datasheet_rate, matmul_rate
from bench.measure.turns import in_turns, seconds_of, suspicion, turns_of
from bench.selftest.check import Check, about, between, exactly

CPU = torch.device("cpu")
SHORT_S, LONG_S = 0.01, 0.02
LIMITS = {"warmup": 1, "min_turns": 10, "min_seconds": 0.0, "max_seconds": 5.0}


def checks() -> Iterator[Check]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield from _latency()
    yield from _contention()
    yield _cold(device)
    yield from _rates(device)
    yield _energy(device)


def _latency() -> Iterator[Check]:
    pair = in_turns(lambda: time.sleep(LONG_S), lambda: time.sleep(SHORT_S), device=CPU, **LIMITS)
    for seconds, timing in ((LONG_S, pair.tied), (SHORT_S, pair.untied)):
        what = f"median of calls that sleep {seconds * 1e3:g} ms"
        yield about("latency", what, "ms", seconds * 1e3, timing.median_s * 1e3, tolerance=0.1)
    yield about(
        "ratio", "20 ms of sleep over 10 ms, in turns", "", LONG_S / SHORT_S, pair.ratio, tolerance=0.1
    )
    same = in_turns(lambda: time.sleep(SHORT_S), lambda: time.sleep(SHORT_S), device=CPU, **LIMITS)
    yield about("ratio", "a sleep over the same sleep", "", 1.0, same.ratio, tolerance=0.1)


def _contention() -> Iterator[Check]:
    """A call that works for 5 ms of the processor's time and ends after 50 ms has it for a tenth of the time.

    So long that it is done in time where it has to share the processor.
    """
    pair = in_turns(lambda: _work(0.005, 0.05), lambda: _work(0.005, 0.05), device=CPU, **LIMITS)
    yield about("contention", "5 ms of work in 50 ms", "", 0.1, pair.on_cpu, tolerance=0.2)
    yield exactly("contention", "is suspect", "", 1, suspicion(pair.on_cpu, threads=1) is not None)


def _work(processor_s: float, wall_s: float) -> None:
    began, on_processor = time.perf_counter(), time.process_time()
    while time.process_time() - on_processor < processor_s:
        pass
    time.sleep(max(0.0, began + wall_s - time.perf_counter()))


def _cold(device: torch.device) -> Check:
    """Bytes that fit in every cache are read faster when they are there: by the lower end of the ratio's interval."""
    weights, evict = torch.ones(2**18, device=device), evictor(device)

    def cold() -> tuple[float]:
        evict()
        return (seconds_of(weights.sum, device),)

    def warm() -> tuple[float]:
        weights.sum()
        return (seconds_of(weights.sum, device),)

    (pair,) = turns_of(cold, warm, device=device, **LIMITS)
    low = math.nan if pair.low is None else pair.low
    return between("cold caches", "reading 1 MiB, cold over warm, at least", "", 1, low, math.inf)


def _rates(device: torch.device) -> Iterator[Check]:
    """More than nothing, and no more than the data sheet says, where there is one."""
    for dtype in (torch.float32, torch.bfloat16):
        most = datasheet_rate(dtype, device) or math.inf
        what = f"matrix products in {str(dtype).removeprefix('torch.')}"
        yield between("rate", what, "FLOP/s", 1, matmul_rate(dtype, device), most)
    yield between("rate", "copies", "B/s", 1, copy_rate(device), math.inf)


def _energy(device: torch.device) -> Check:
    """What cannot be counted is said to be so, and is not 0."""
    square = torch.ones(1024, 1024, device=device)
    found = energy.of_calls(lambda: square @ square, device, seconds=1.0)
    if "unavailable" in found:
        return exactly("energy", "not counted here, and not told as 0", "", 1, "train_step_j" not in found)
    return between("energy", "a matrix product", "J", 1e-6, found["train_step_j"], math.inf)
