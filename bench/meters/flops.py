"""Count floating-point operations, measure what this machine can do, and read a GPU's energy counter."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from bench.meters.timing import buffer_bytes, seconds_of

Shape = Sequence[int]


def flops_of(call: Callable[[], object]) -> int:
    """Count the floating-point operations of one `call`: those of matmul, convolution, attention, recurrent layers.

    A multiplication and an addition are two. A weight that is used twice counts twice: tying changes nothing.
    Causal attention counts in full, half of it masked. What is element by element does not count.
    """
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        call()
    return counter.get_total_flops()


def _recurrent(inputs: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Count each matrix of each layer and direction times each step of each sequence."""
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


# What torch's own table lacks (torch 2.13): attention on a CPU, and cuDNN's recurrent layers.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(
        *shapes[:3]
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: (
        sdpa_backward_flop_count(*shapes[:4])
    ),
    torch.ops.aten._cudnn_rnn: _recurrent,
    torch.ops.aten._cudnn_rnn_backward: lambda *shapes, **_: 2 * _recurrent(*shapes),
}


CPU_SIDES = (512, 1024)
CUDA_SIDES = (2048, 4096, 8192)
"""Rows of the square matrices: the fastest lie in the caches on a CPU, and fill all units of a GPU."""

LEAST_CALLS = 3
SECONDS = 0.2


def matmul_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Measure FLOP/s: the fastest of several products of square matrices of this dtype, torch's threads as they are.

    A product of n x n matrices is 2 n^3 FLOP. A bound from above for real networks: the shortest call of
    the best size counts.
    """
    sides = CUDA_SIDES if device.type == "cuda" else CPU_SIDES
    return max(2 * side**3 / _seconds_of_product(side, dtype, device) for side in sides)


def copy_rate(device: torch.device) -> float:
    """Measure bytes/s, read and written together: the fastest of several copies of a buffer that fits in no cache."""
    source = torch.zeros(buffer_bytes(device), dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * source.numel() / _shortest(lambda: target.copy_(source), device)


def datasheet_rate(dtype: torch.dtype, device: torch.device) -> float | None:
    """Return FLOP/s of dense products by the maker's data sheet, from Lightning's table; None where it has none."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the table does not know it
        rate = get_available_flops(device, dtype)
    return None if rate is None else float(rate)


def _seconds_of_product(side: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return _shortest(lambda: torch.mm(left, right, out=product), device)


def _shortest(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the shortest of LEAST_CALLS, or of as many as take SECONDS, after one not counted."""
    call()
    seconds: list[float] = []
    while len(seconds) < LEAST_CALLS or sum(seconds) < SECONDS:
        seconds.append(seconds_of(call, device))
    return min(seconds)


def of_calls(
    step: Callable[[], object],
    device: torch.device,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float | str]:
    """Measure {"train_step_j": joules of one `step`}, a mean over calls for `seconds`, or {"unavailable": why}.

    The whole GPU's energy, idle draw and others' work included. The counter moves about ten times a second:
    ask for a second or more. Never 0: a counter that did not move measured nothing.
    """
    if device.type != "cuda":
        return {"unavailable": "energy is counted on NVIDIA GPUs only"}
    try:
        import pynvml
    except ImportError:
        return {"unavailable": "NVML's Python binding is not installed: pip install nvidia-ml-py"}
    try:
        pynvml.nvmlInit()
        try:
            joules = _joules_of_call(step, _counter(pynvml, device), device, seconds, clock)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return {"unavailable": f"NVML: {error}"}
    if joules <= 0:
        return {"unavailable": "the GPU's energy counter did not move"}
    return {"train_step_j": joules}


def _counter(nvml: Any, device: torch.device) -> Callable[[], int]:
    """Return what reads the millijoules since the driver was loaded (Volta and later), of the GPU that torch means."""
    uuid = torch.cuda.get_device_properties(device).uuid  # NVML's order need not be CUDA's
    handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)


def _joules_of_call(
    step: Callable[[], object],
    read: Callable[[], int],
    device: torch.device,
    seconds: float,
    clock: Callable[[], float],
) -> float:
    calls = 0
    torch.cuda.synchronize(device)
    before, begin = read(), clock()
    while calls == 0 or clock() - begin < seconds:
        step()
        calls += 1
        torch.cuda.synchronize(device)
    return (read() - before) / 1000 / calls
