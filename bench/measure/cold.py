"""Cold caches: what is called next finds neither its weights nor its inputs there, and fetches them from memory."""

from collections.abc import Callable
from pathlib import Path

import torch

CPUS = Path("/sys/devices/system/cpu")
"""Where Linux tells the sizes of the caches."""

UNTOLD_CACHE = 64 * 2**20
"""Bytes of the last-level cache where nobody tells."""

TIMES_THE_CACHE = 4
"""A cache replaces its lines only roughly in the order of their use: at twice its size some of them stay."""


def evictor(device: torch.device, cpus: Path = CPUS) -> Callable[[], None]:
    """A call that reads and writes a buffer of `buffer_bytes`, which it keeps: milliseconds, and that much memory.

    Written alone would not do: large fills may go past the caches.
    """
    buffer = torch.zeros(buffer_bytes(device, cpus) // 4, dtype=torch.int32, device=device)

    def evict() -> None:
        buffer.add_(1)

    return evict


def buffer_bytes(device: torch.device, cpus: Path = CPUS) -> int:
    """Bytes that fit in no cache of the device: 4 times its last-level cache."""
    if device.type == "cuda":
        cache = torch.cuda.get_device_properties(device).L2_cache_size
    else:
        cache = max((_bytes(path) for path in cpus.glob("cpu*/cache/index*/size")), default=UNTOLD_CACHE)
    return TIMES_THE_CACHE * cache


def _bytes(path: Path) -> int:
    """What sysfs tells: 32768K, 8M or plain bytes."""
    told = path.read_text().strip()
    scale = {"K": 2**10, "M": 2**20, "G": 2**30}.get(told[-1:], 1)
    return int(told.rstrip("KMG")) * scale
