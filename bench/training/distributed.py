"""Join the processes of one run, its ranks: the same weights, different rows. With one process nothing happens here."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

RENDEZVOUS_S = 60.0
"""How long the first rank waits for the others at the start. They wait for it: it may have to wait its turn."""

SILENCE_S = 600.0
"""How long a rank waits for the others in the middle of a run; one that died is noticed at once."""


def connect(count: int, identity: str, *, gpu: bool, rendezvous: Path | None) -> None:
    """Meet the other ranks of the environment in the new file `rendezvous`, and be ready to sum with them.

    RuntimeError on all ranks alike where one does not come or holds a config of another `identity`.
    """
    in_environment = int(os.environ.get("WORLD_SIZE", "1"))
    if in_environment != count:
        raise RuntimeError(f"the config asks for {count} ranks and the environment names {in_environment}")
    if count == 1:
        return
    rank, store = int(os.environ["RANK"]), dist.FileStore(str(rendezvous), count)
    _compare_configs(store, rank, count, identity)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else None
    if device is not None:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=SILENCE_S),
        device_id=device,
    )


def _compare_configs(store: dist.Store, rank: int, count: int, identity: str) -> None:
    """Raise RuntimeError where ranks hold different configs: their sums would mean nothing, and nobody would notice."""
    store.set(f"config/{rank}", identity)
    identities = {}
    for other in range(count):
        patience = timedelta(seconds=RENDEZVOUS_S) if other else timedelta(days=1)
        try:
            store.wait([f"config/{other}"], patience)
        except RuntimeError as error:
            raise RuntimeError(f"rank {other} did not come within {patience}") from error
        identities[other] = store.get(f"config/{other}").decode()
    if len(set(identities.values())) > 1:
        pairs = ", ".join(f"rank {other} {name}" for other, name in identities.items())
        raise RuntimeError(f"the ranks of this run hold different configs: {pairs}")


def close() -> None:
    """Leave the other ranks, after a run that ended well."""
    if count() > 1:
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if count() > 1 else 0


def total(**sums: Tensor | float) -> dict[str, Any]:
    """Return each number summed over all ranks, in double precision; a vector as a list."""
    values = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in sums.items()}
    if count() > 1 and values:
        packed = torch.cat([value.reshape(-1).to(_device()) for value in values.values()])
        dist.all_reduce(packed)
        pieces = packed.split([value.numel() for value in values.values()])
        values = {
            name: piece.view(value.shape) for (name, value), piece in zip(values.items(), pieces, strict=True)
        }
    return {name: value.tolist() for name, value in values.items()}


def broadcast(number: int) -> int:
    """Return the first rank's number on all ranks: a decision that all must take alike."""
    if count() == 1:
        return number
    shared = torch.tensor(number, device=_device())
    dist.broadcast(shared, 0)
    return int(shared)


def share_buffers(model: nn.Module) -> None:
    """Give every rank the buffers of the first rank, which are the ones that are saved."""
    if count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def gather(value: Any) -> list[Any]:
    """Return every rank's value on all ranks, in the order of ranks."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Wait until all ranks have come here."""
    if count() > 1:
        dist.barrier()


def _device() -> torch.device:
    on_gpu = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
