"""Cold caches: the size of what evicts, and that what was evicted is slower to read."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from quiet import quiet

from bench.meters.timing import UNTOLD_CACHE, buffer_bytes, evictor, seconds_of, turns_of

CPU = torch.device("cpu")


@pytest.fixture
def cpus(tmp_path: Path) -> Path:
    """Two processors with caches of 48 KiB, 1 MiB and 32 MiB."""
    for cpu in ("cpu0", "cpu1"):
        for index, size in enumerate(("48K", "1024K", "32M")):
            folder = tmp_path / cpu / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            (folder / "size").write_text(f"{size}\n")
    return tmp_path


def test_the_buffer_is_four_times_the_largest_cache(cpus: Path, tmp_path: Path) -> None:
    assert buffer_bytes(CPU, cpus) == 4 * 32 * 2**20
    assert buffer_bytes(CPU, tmp_path / "nowhere") == 4 * UNTOLD_CACHE


@quiet
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kib", [256, 1024])
def test_what_was_evicted_is_slower_to_read(device: torch.device, kib: int) -> None:
    """By the lower end of the interval of the ratio: so few bytes fit into every cache."""
    weights, evict = torch.ones(kib * 2**8, device=device), evictor(device)

    def read_after(before: Callable[[], object]) -> Callable[[], tuple[float]]:
        def measure() -> tuple[float]:
            before()
            return (seconds_of(weights.sum, device),)

        return measure

    (pair,) = turns_of(
        read_after(evict),
        read_after(weights.sum),
        warmup=1,
        min_turns=20,
        min_seconds=0.0,
        max_seconds=20.0,
        device=device,
    )
    assert pair.low > 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_buffer_is_larger_than_its_cache() -> None:
    gpu = torch.device("cuda")
    assert buffer_bytes(gpu) > torch.cuda.get_device_properties(gpu).L2_cache_size
    evictor(gpu)()
