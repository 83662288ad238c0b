"""The stopwatch, against calls of known length on a clock of our own."""

import pytest
import torch

from bench.measure.latency import Timing, planned_calls, summarise, time_calls, time_cuda_calls


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls = 0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.calls += 1
        self.now += seconds


LIMITS = {"warmup": 3, "min_calls": 10, "min_seconds": 0.0, "max_seconds": 60.0}


def test_a_call_of_a_quarter_second_takes_a_quarter_second() -> None:
    clock = Clock()
    timing = time_calls(lambda: clock.work(0.25), clock=clock, **LIMITS)
    assert timing == Timing(median_s=0.25, p90_s=0.25, p99_s=None, n=10)
    assert clock.calls == 3 + 10


def test_a_slow_warm_up_counts_nowhere() -> None:
    clock = Clock()
    timing = time_calls(lambda: clock.work(50.0 if clock.calls < 3 else 0.5), clock=clock, **LIMITS)
    assert (timing.median_s, timing.n) == (0.5, 10)


def test_waiting_for_the_device_belongs_to_the_call() -> None:
    clock = Clock()
    timing = time_calls(lambda: None, synchronize=lambda: clock.work(0.5), clock=clock, **LIMITS)
    assert timing.median_s == 0.5


@pytest.mark.parametrize(
    ("changed", "calls"),
    [({"min_seconds": 8.0}, 32), ({"max_seconds": 1.0}, 4), ({"max_seconds": 0.0}, 1), ({"min_calls": 1}, 1)],
)
def test_both_minima_hold_until_the_maximum(changed: dict, calls: int) -> None:
    clock = Clock()
    assert time_calls(lambda: clock.work(0.25), clock=clock, **{**LIMITS, **changed}).n == calls
    limits = {**LIMITS, **changed}
    assert planned_calls(0.25, limits["min_calls"], limits["min_seconds"], limits["max_seconds"]) == calls


def test_median_and_tail_of_numbers_done_in_the_head() -> None:
    assert summarise([4.0, 1.0, 3.0, 2.0]) == Timing(2.5, 4.0, None, 4)
    assert summarise(range(1, 11)) == Timing(5.5, 9, None, 10)
    assert summarise(range(1, 101)) == Timing(50.5, 90, 99, 100)
    assert summarise([7.0]) == Timing(7.0, 7.0, None, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_cuda_events_without_cuda_are_refused() -> None:
    with pytest.raises(RuntimeError, match="needs a CUDA device"):
        time_cuda_calls(lambda: None, **LIMITS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_events_agree_with_the_clock() -> None:
    x = torch.randn(4096, 4096, device="cuda")
    limits = {"warmup": 5, "min_calls": 50, "min_seconds": 0.2, "max_seconds": 10.0}
    events = time_cuda_calls(lambda: x @ x, **limits)
    clock = time_calls(lambda: x @ x, synchronize=torch.cuda.synchronize, **limits)
    assert events.median_s == pytest.approx(clock.median_s, rel=0.3)
