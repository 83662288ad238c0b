"""Prepared images as batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.batches import Batches, RankedDataModule, check_limit, check_positive
from bench.data.prepare import load

SUBSET_SEED = 0  # of train_limit: not the run's, so that seeds share one training set


class ImageData(RankedDataModule):
    """Batches (images float32 [B, C, H, W], zero mean and unit variance over train; labels int64 [B]).

    Kept as uint8 in memory and normalised a batch at a time: no workers, no Python code per example. Training
    is shuffled by (seed, epoch) and drops the last partial batch; evaluation yields every example once, in
    order. `train_limit`: that many training examples; a smaller limit's are among a larger one's.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        seed: int,
        train_limit: int | None = None,
        eval_batch_size: int = 256,
    ) -> None:
        super().__init__(seed)
        self.meta: dict[str, Any] = load(folder).meta
        check_positive(batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_limit(train_limit, self.meta["sizes"]["train"], "examples")
        self.eval_batch_size = eval_batch_size
        self.images = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_images.npy")) for s in self.meta["sizes"]
        }
        self.labels = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_labels.npy")) for s in self.meta["sizes"]
        }
        if train_limit is not None:
            chosen = subset(len(self.labels["train"]), train_limit)
            self.images["train"] = self.images["train"][chosen]
            self.labels["train"] = self.labels["train"][chosen]
        # A training set below the batch size is one batch, not none.
        self.batch_size = min(batch_size, len(self.labels["train"]))
        mean, std = (torch.tensor(self.meta[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.scale, self.shift = 1 / (255 * std), mean / std

    @property
    def shapes(self) -> dict[str, int]:
        return {"in_channels": self.meta["shape"][0], "num_classes": self.meta["num_classes"]}

    def train_dataloader(self) -> Batches:
        self.check_batch_size(self.batch_size)
        return Batches(len(self.labels["train"]) // self.batch_size, self.train_batches)

    def val_dataloader(self) -> Batches:
        return self.in_order("val")

    def test_dataloader(self) -> Batches:
        return self.in_order("test")

    def probe_dataloader(self) -> Batches:
        """A fixed part of train, as large as val at most: what the generalisation gap is measured against."""
        return self.in_order("train", min(len(self.labels["train"]), len(self.labels["val"])))

    def train_batches(self, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self.labels["train"]), generator=self.generator())
        for rows in order.split(self.batch_size)[start:]:
            if len(rows) == self.batch_size:
                yield self.batch("train", self.share(rows))

    def in_order(self, split: str, count: int | None = None) -> Batches:
        slices = self.eval_slices(count or len(self.labels[split]), self.eval_batch_size)
        rows = torch.arange(len(self.labels[split]))
        return Batches(
            len(slices), lambda start: (self.batch(split, self.share(rows[part])) for part in slices[start:])
        )

    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[split][rows].float().mul_(self.scale).sub_(self.shift), self.labels[split][rows]


def subset(available: int, count: int) -> torch.Tensor:
    """`count` of `available` rows, ascending; nested in count."""
    order = torch.randperm(available, generator=torch.Generator().manual_seed(SUBSET_SEED))
    return order[:count].sort().values
