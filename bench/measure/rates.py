"""How fast this machine can be: its matrix products and its copies, measured; its data sheet, where there is one."""

import warnings
from collections.abc import Callable

import torch
from lightning.fabric.utilities.throughput import get_available_flops

from bench.measure.cold import buffer_bytes
from bench.measure.turns import seconds_of

CPU_SIDES = (512, 1024)
CUDA_SIDES = (2048, 4096, 8192)
"""Rows of the square matrices: the fastest lie in the caches on a CPU, and fill all units of a GPU."""

LEAST_CALLS = 3
SECONDS = 0.2


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the fastest of several products of square matrices of this dtype, with torch's threads as they are.

    A product of n x n matrices is 2 n^3 FLOP. A bound from above for real networks: the shortest call of
    the best size counts.
    """
    sides = CUDA_SIDES if device.type == "cuda" else CPU_SIDES
    return max(2 * side**3 / _seconds_of_product(side, dtype, device) for side in sides)


def copy_rate(device: torch.device) -> float:
    """Bytes/s of the fastest of several copies of a buffer that fits in no cache, read and written bytes together."""
    source = torch.zeros(buffer_bytes(device), dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * source.numel() / _shortest(lambda: target.copy_(source), device)


def datasheet_rate(dtype: torch.dtype, device: torch.device) -> float | None:
    """FLOP/s of dense products by the maker's data sheet, from Lightning's table; None where it has none."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the table does not know it
        found = get_available_flops(device, dtype)
    return None if found is None else float(found)


def _seconds_of_product(side: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return _shortest(lambda: torch.mm(left, right, out=product), device)


def _shortest(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the shortest of LEAST_CALLS, or of as many as take SECONDS, after one that counts nowhere."""
    call()
    seconds: list[float] = []
    while len(seconds) < LEAST_CALLS or sum(seconds) < SECONDS:
        seconds.append(seconds_of(call, device))
    return min(seconds)
