"""What an autoencoder trains on and is scored by: the pictures that it is given."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.training.module import Training


class Autoencoding(Training):
    """Batches are (pictures [B, C, H, W], labels [B], which are not read); the model gives the pictures back.

    The loss is half the mean squared error of a pixel: the nll of a Gaussian of variance 1, without its constant. A
    pixel's unit is the standard deviation of all pixels of train.
    """

    unit = "images/s"

    def size(self, batch: Any) -> int:
        return len(batch[0])

    def _squares(self, batch: Any) -> Tensor:
        """Return the mean squared error of each picture, [B]."""
        pictures = batch[0]
        return (self.model(pictures) - pictures).square().flatten(1).mean(1)

    def loss(self, batch: Any) -> Tensor:
        return self._squares(batch).mean() / 2

    def tally(self, batch: Any) -> dict[str, Tensor]:
        squares = self._squares(batch).double()
        return {"square": squares.sum(), "count": torch.tensor(len(squares), device=squares.device)}

    def each(self, batch: Any) -> dict[str, Tensor]:
        squares = self._squares(batch).double()
        return {"nll": squares / 2, "cluster": torch.arange(len(squares))}

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        """Return means over pictures."""
        mse = sums["square"] / sums["count"]
        return {"nll": mse / 2, "mse": mse, "examples": int(sums["count"])}
