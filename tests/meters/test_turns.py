"""Pairs in turns: steps of known length on a clock of our own, and the interval against simulation."""

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from quiet import quiet

from bench.meters.timing import (
    RESOLUTION,
    Pair,
    in_turns,
    median_interval,
    other_processes,
    seconds_of,
    suspicion,
    turns_of,
)

CPU = torch.device("cpu")
LIMITS = {"warmup": 2, "min_turns": 10, "min_seconds": 0.0, "max_seconds": 1e6, "device": CPU}


class Clock:
    """Time that passes only when told to, and who passed it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls = ""

    def __call__(self) -> float:
        return self.now

    def works(self, name: str, seconds: float) -> Callable[[], None]:
        def work() -> None:
            self.calls += name
            self.now += seconds

        return work


def test_the_ratio_of_known_steps() -> None:
    clock = Clock()
    pair = in_turns(clock.works("A", 0.5), clock.works("B", 2.0), clock=clock, **LIMITS)
    assert (pair.ratio, pair.turns) == (0.25, 10)
    assert (pair.tied.median_s, pair.untied.median_s) == (0.5, 2.0)
    assert (pair.tied.n, pair.untied.n) == (20, 20)
    assert (pair.low, pair.high) == (0.25 * (1 - RESOLUTION), 0.25 * (1 + RESOLUTION))


def test_either_side_goes_first_and_last_in_a_turn_as_often() -> None:
    clock = Clock()
    turns_of(
        lambda: (clock.works("A", 1.0)() or 1.0,),
        lambda: (clock.works("B", 1.0)() or 1.0,),
        clock=clock,
        **LIMITS | {"min_turns": 2, "warmup": 1},
    )
    assert clock.calls == "AB" + "ABBA" + "ABBA"


def test_a_call_follows_one_of_its_own() -> None:
    limits = LIMITS | {"min_turns": 1, "warmup": 0}
    clock = Clock()
    in_turns(clock.works("A", 1.0), clock.works("B", 1.0), clock=clock, **limits)
    assert clock.calls == "AABBBBAA"


def test_a_slow_warm_up_counts_nowhere() -> None:
    seconds = iter([50.0, 50.0, *[1.0] * 20])
    (pair,) = turns_of(lambda: (next(seconds),), lambda: (1.0,), **LIMITS)
    assert (pair.ratio, pair.tied.p90_s) == (1.0, 1.0)


def test_a_drift_and_the_place_within_a_turn_cancel() -> None:
    """Each call is 1 % slower than the one before, whosever it was."""
    slowness = iter(1.01**index for index in range(10**6))
    (pair,) = turns_of(
        lambda: (3.0 * next(slowness),), lambda: (next(slowness),), **LIMITS | {"min_turns": 40}
    )
    assert pair.ratio == pytest.approx(3.0, rel=1e-4)
    assert pair.low <= 3.0 <= pair.high


def test_what_the_second_call_of_two_takes_more_is_in_no_ratio() -> None:
    """Two equal sides, of which the one that goes second takes twice as long: single ratios are 1/2 and 2."""
    place = iter([1.0, 1.0, 1.0, 1.0] + [1.0, 2.0] * 1000)
    (pair,) = turns_of(lambda: (next(place),), lambda: (next(place),), **LIMITS)
    assert (pair.ratio, pair.low, pair.high) == (1.0, 1 - RESOLUTION, 1 + RESOLUTION)


def test_an_outlier_moves_nothing() -> None:
    seconds = iter([1.0] * 5 + [1000.0] + [1.0] * 100)
    (pair,) = turns_of(lambda: (next(seconds),), lambda: (0.5,), **LIMITS)
    assert pair.ratio == 2.0
    assert (pair.low, pair.high) == pytest.approx((2.0, 2.0), rel=2 * RESOLUTION)


def test_each_duration_of_a_measure_has_its_pair() -> None:
    first, rest = turns_of(lambda: (3.0, 0.5), lambda: (1.0, 1.0), **LIMITS)
    assert (first.ratio, rest.ratio) == (3.0, 0.5)
    with pytest.raises(ValueError, match="longer"):
        turns_of(lambda: (3.0,), lambda: (1.0, 1.0), **LIMITS)


@pytest.mark.parametrize(
    ("changed", "turns"),
    [
        ({}, 10),
        ({"min_turns": 3}, 3),
        ({"min_seconds": 160.0}, 20),
        ({"max_seconds": 20.0}, 3),
        ({"max_seconds": 0.0}, 1),
    ],
)
def test_both_minima_hold_until_the_maximum(changed: dict, turns: int) -> None:
    """A turn takes 8 seconds: either side twice, and once before each."""
    clock = Clock()
    limits = LIMITS | changed
    assert in_turns(clock.works("A", 1.0), clock.works("B", 1.0), clock=clock, **limits).turns == turns


def test_few_turns_have_no_interval() -> None:
    clock = Clock()
    limits = LIMITS | {"min_turns": 4}
    pair = in_turns(clock.works("A", 1.0), clock.works("B", 1.0), clock=clock, **limits)
    assert (pair.ratio, pair.low, pair.high) == (1.0, None, None)


def test_a_record_is_plain() -> None:
    (pair,) = turns_of(lambda: (1.0,), lambda: (2.0,), **LIMITS)
    timing = {"p99_s": None, "n": 20}
    assert pair.as_record() == {
        "tied": {"median_s": 1.0, "p90_s": 1.0} | timing,
        "untied": {"median_s": 2.0, "p90_s": 2.0} | timing,
        "ratio": 0.5,
        "low": 0.5 * (1 - RESOLUTION),
        "high": 0.5 * (1 + RESOLUTION),
        "turns": 10,
    }


def sleeps(seconds: float, taken: list[float]) -> Callable[[], None]:
    """Return a step that sleeps, and adds to `taken` how long it slept."""

    def step() -> None:
        began = time.perf_counter()
        time.sleep(seconds)
        taken.append(time.perf_counter() - began)

    return step


@quiet
def test_sleeping_steps_on_the_real_clock() -> None:
    """Each median and the ratio within a tenth of what the sleeps took: 20 ms and 10 ms, longer on a busy machine."""
    long, short = [], []
    pair = in_turns(sleeps(0.02, long), sleeps(0.01, short), **LIMITS)
    assert min(long) >= 0.02 and min(short) >= 0.01
    assert pair.tied.median_s == pytest.approx(statistics.median(long), rel=0.1)
    assert pair.untied.median_s == pytest.approx(statistics.median(short), rel=0.1)
    assert pair.ratio == pytest.approx(statistics.median(long) / statistics.median(short), rel=0.1)
    assert pair.on_cpu < 0.5 and "another process" in suspicion(pair.on_cpu, 1)


@quiet
def test_a_sleep_over_the_same_sleep() -> None:
    assert in_turns(sleeps(0.01, []), sleeps(0.01, []), **LIMITS).ratio == pytest.approx(1.0, rel=0.1)


@quiet
def test_contention_on_the_real_clocks() -> None:
    """A call that works for 5 ms and ends after 50 ms has the processor for a tenth of the time.

    It is so long that the work is done in time also where the processor is shared.
    """

    def works() -> None:
        began, on_processor = time.perf_counter(), time.process_time()
        while time.process_time() - on_processor < 0.005:
            pass
        time.sleep(max(0.0, began + 0.05 - time.perf_counter()))

    pair = in_turns(works, works, **LIMITS)
    assert pair.on_cpu == pytest.approx(0.1, rel=0.2)
    assert suspicion(pair.on_cpu, threads=1) is not None


@pytest.mark.parametrize(
    ("n", "smallest"), [(0, None), (5, None), (6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (50, 18)]
)
def test_the_interval_is_that_of_the_textbooks(n: int, smallest: int | None) -> None:
    """The k-th smallest and the k-th largest of 1..n."""
    expected = (None, None) if smallest is None else (smallest, n + 1 - smallest)
    assert median_interval(list(range(n, 0, -1))) == expected


@pytest.mark.parametrize("n", [10, 20, 50])
def test_the_interval_holds_the_median_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(0)
    for draw, median in ((rng.standard_normal, 0.0), (rng.standard_exponential, np.log(2))):
        intervals = [median_interval(list(sample)) for sample in draw((4000, n))]
        assert 0.93 < np.mean([low <= median <= high for low, high in intervals]) < 0.995


def test_contention_by_processor_time() -> None:
    busy = {"clock": Clock(), "processor_clock": Clock()}

    def works() -> None:
        busy["clock"].now += 1.0
        busy["processor_clock"].now += 0.75

    pair = in_turns(works, works, **busy, **LIMITS)
    assert pair.on_cpu == 0.75
    assert suspicion(pair.on_cpu, threads=1) == "another process had the processor for 25% of the time"
    assert suspicion(1.0, threads=1) is suspicion(0.95, threads=2) is suspicion(2.0, threads=2) is None
    assert suspicion(1.8, threads=1) == "this process used 1.8 cores, and should have used 1 at most"
    assert suspicion(None, threads=1) is None


def test_others_on_a_gpu() -> None:
    gpu, here = torch.device("cuda"), os.getpid()
    assert other_processes(gpu, lambda _: [here, 1, here]) == "GPU in use by another process (pid 1)"
    assert other_processes(gpu, lambda _: [here]) is None
    assert other_processes(gpu, lambda _: [1]) is None  # the pids of another namespace
    assert other_processes(gpu, lambda _: None) is None
    assert other_processes(CPU, lambda _: [here, 1]) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_events_agree_with_the_clock() -> None:
    gpu = torch.device("cuda")
    small, large = torch.randn(2048, 2048, device=gpu), torch.randn(4096, 4096, device=gpu)
    pair: Pair = in_turns(
        lambda: large @ large, lambda: small @ small, **LIMITS | {"min_turns": 30, "device": gpu}
    )
    assert pair.on_cpu is None and 4.0 < pair.ratio < 12.0

    def waited() -> None:
        _ = large @ large
        torch.cuda.synchronize()

    assert pair.tied.median_s == pytest.approx(min(seconds_of(waited, CPU) for _ in range(30)), rel=0.3)
