"""Prepared examples with labels as batches: what images and sentences share."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.batches import Batches, RankedDataModule, check_limit, check_positive
from bench.data.prepare import load

SUBSET_SEED = 0  # of train_limit: not the run's, so that seeds share one training set


class Examples(RankedDataModule):
    """Batches of a split's rows and their labels, all of them in memory: no workers, no Python code per example.

    Training is shuffled by (seed, epoch) and drops the last partial batch; evaluation yields every example once,
    in order. `train_limit`: that many training examples; a smaller limit's are among a larger one's.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        seed: int,
        train_limit: int | None,
        eval_batch_size: int,
    ) -> None:
        super().__init__(seed)
        self.meta: dict[str, Any] = load(folder).meta
        check_positive(batch_size=batch_size, eval_batch_size=eval_batch_size)
        available = self.meta["sizes"]["train"]
        check_limit(train_limit, available, "examples")
        self.eval_batch_size = eval_batch_size
        self.labels = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_labels.npy")) for s in self.meta["sizes"]
        }
        self.kept = subset(available, train_limit) if train_limit is not None else torch.arange(available)
        self.labels["train"] = self.labels["train"][self.kept]
        # A training set below the batch size is one batch, not none.
        self.batch_size = min(batch_size, len(self.kept))

    @abstractmethod
    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(inputs, labels, ...) of these rows."""

    def train_dataloader(self) -> Batches:
        self.check_batch_size(self.batch_size)
        return Batches(len(self.labels["train"]) // self.batch_size, self.train_batches)

    def val_dataloader(self) -> Batches:
        return self.in_order("val", torch.arange(len(self.labels["val"])))

    def test_dataloader(self) -> Batches:
        return self.in_order("test", torch.arange(len(self.labels["test"])))

    def train_batches(self, start: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        order = torch.randperm(len(self.labels["train"]), generator=self.generator())
        for rows in order.split(self.batch_size)[start:]:
            if len(rows) == self.batch_size:
                yield self.batch("train", self.share(rows))

    def in_order(self, split: str, rows: torch.Tensor) -> Batches:
        slices = self.eval_slices(len(rows), self.eval_batch_size)
        return Batches(
            len(slices), lambda start: (self.batch(split, self.share(rows[part])) for part in slices[start:])
        )


def subset(available: int, count: int) -> torch.Tensor:
    """`count` of `available` rows, ascending; nested in count."""
    order = torch.randperm(available, generator=torch.Generator().manual_seed(SUBSET_SEED))
    return order[:count].sort().values
