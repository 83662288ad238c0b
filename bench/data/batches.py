"""What images and text share: a sized loader without workers, the epoch, and a rank's part of a batch."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import torch

from bench.errors import BadInput


class Batches:
    """Iterates over `batches(0)` anew each time; `len()` is their number, the same on every rank.

    The state is the position: after `load_state_dict` the next iteration is `batches(position)`, all batches but
    the first `position`, none of which is made.
    """

    def __init__(self, length: int, batches: Callable[[int], Iterator[Any]]) -> None:
        self.length = length
        self.batches = batches
        self._start = self._position = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        # As late as the first batch: a trainer asks for the iterator before it knows where to go on.
        start, self._start = self._start, 0
        for position, batch in enumerate(self.batches(start), start + 1):
            self._position = position
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._start = self._position = state["position"]


class RankedDataModule(lightning.LightningDataModule):
    """Knows seed, epoch and rank; outside a Trainer the epoch is 0 and there is one rank.

    A batch is the whole batch of the optimizer's step: of its rows, a rank owns every world_size-th, so that
    ranks together see what one process sees, and evaluation is neither padded nor repeated.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def generator(self) -> torch.Generator:
        """The random numbers of this seed and epoch, apart from every other stream: a run's data order."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        # Seeds differ in the low bits only; manual_seed mixes them well (Mersenne twister initialisation).
        return torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)

    @property
    def rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """This rank's rows."""
        return rows[self.trainer.global_rank :: self.trainer.world_size] if self.trainer else rows

    def check_batch_size(self, batch_size: int) -> None:
        """Ranks average their gradients with equal weight, so each needs the same number of rows."""
        ranks = self.trainer.world_size if self.trainer else 1
        if batch_size % ranks:
            raise BadInput(
                f"batch_size={batch_size} cannot be shared by {ranks} ranks: make it a multiple of {ranks}"
            )

    def eval_slices(self, count: int, batch_size: int) -> list[slice]:
        """Consecutive slices that cover `count` rows; one too small for every rank joins its neighbour."""
        ranks = self.trainer.world_size if self.trainer else 1
        starts = list(range(0, count, max(batch_size, ranks)))
        if len(starts) > 1 and count - starts[-1] < ranks:
            starts.pop()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], count], strict=True)]


def check_positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise BadInput(f"{name}={value!r} is not allowed: give a whole number from 1")


def check_limit(limit: int | None, available: int, unit: str) -> None:
    check_positive(train_limit=limit)
    if limit is not None and limit > available:
        raise BadInput(
            f"data.train_limit={limit}: train has {available} {unit}; give at most that, or null for all"
        )
