"""What calls take in joules, by the GPU's own counter through NVML."""

import time
from collections.abc import Callable
from typing import Any

import torch


def of_calls(
    step: Callable[[], object],
    device: torch.device,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float | str]:
    """{"train_step_j": joules of one `step`}, a mean over calls for `seconds`, or {"unavailable": why}.

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
    """Reads the millijoules since the driver was loaded (Volta and later), of the GPU that torch means."""
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
