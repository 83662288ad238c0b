"""What the machine can do: figures of a plausible size, and no data sheet where there is none."""

import pytest
import torch

from bench.meters import flops
from bench.meters.flops import copy_rate, datasheet_rate, matmul_rate
from bench.meters.timing import seconds_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "CPU_SIDES", (128, 256))
    monkeypatch.setattr(flops, "SECONDS", 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_products(dtype: torch.dtype) -> None:
    assert 1e8 < matmul_rate(dtype, CPU) < 1e15


def test_the_rate_is_that_of_the_best_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock on which every product takes a second, the largest is the fastest."""
    monkeypatch.setattr(flops, "seconds_of", lambda call, device: 1.0)
    assert matmul_rate(torch.float32, CPU) == 2 * 256**3


def test_copies() -> None:
    assert 1e8 < copy_rate(CPU) < 1e13


def test_a_copy_counts_what_is_read_and_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flops, "buffer_bytes", lambda device: 100)
    monkeypatch.setattr(flops, "seconds_of", lambda call, device: 1.0)
    assert copy_rate(CPU) == 200


def test_a_cpu_has_no_data_sheet() -> None:
    assert datasheet_rate(torch.float32, CPU) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_device_at_hand_is_not_faster_than_its_data_sheet(
    dtype: torch.dtype, device: torch.device
) -> None:
    known = datasheet_rate(dtype, device) or float("inf")
    least = 1e8 if known == float("inf") else 0.1 * known
    assert least < matmul_rate(dtype, device) < known
    assert copy_rate(device) > 1e8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_call_that_does_nothing_takes_no_time() -> None:
    assert seconds_of(lambda: None, torch.device("cuda")) < 0.1
