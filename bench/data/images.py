"""Prepared images as batches."""

from pathlib import Path

import numpy as np
import torch

from bench.data.batches import Batches
from bench.data.examples import Examples


class ImageData(Examples):
    """Batches (images float32 [B, C, H, W], zero mean and unit variance over train; labels int64 [B]).

    Kept as uint8 in memory and normalised a batch at a time. Order and `train_limit` are those of `Examples`; of
    data in groups, evaluation yields the group of each test example int64 [B] too.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        seed: int,
        train_limit: int | None = None,
        eval_batch_size: int = 256,
    ) -> None:
        super().__init__(folder, batch_size, seed, train_limit, eval_batch_size)
        self.images = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_images.npy")) for s in self.meta["sizes"]
        }
        self.groups = {
            path.stem.removesuffix("_groups"): torch.from_numpy(np.load(path))
            for path in Path(folder).glob("*_groups.npy")
        }
        if train_limit is not None:
            self.images["train"] = self.images["train"][self.kept]
        mean, std = (torch.tensor(self.meta[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.scale, self.shift = 1 / (255 * std), mean / std

    @property
    def shapes(self) -> dict[str, int]:
        return {"in_channels": self.meta["shape"][0], "num_classes": self.meta["num_classes"]}

    def probe_dataloader(self) -> Batches:
        """A fixed part of train, as large as val at most: what the generalisation gap is measured against."""
        return self.in_order("train", torch.arange(min(len(self.labels["train"]), len(self.labels["val"]))))

    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images = self.images[split][rows].float().mul_(self.scale).sub_(self.shift)
        groups = (self.groups[split][rows],) if split in self.groups else ()
        return images, self.labels[split][rows], *groups
