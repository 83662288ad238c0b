"""What a network trains on and is scored by that reads several digits at once: each digit of the label by itself."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.meters import metrics
from bench.tasks.cross_entropy import tallied
from bench.training.module import Training


class DigitsInOrder(Training):
    """Batches are (pictures [B, C, H, W], labels [B]); the model gives logits [B, K, 10], one output for each digit.

    A label is a number of K decimal digits, the first of which is the first output's. Loss and scores are means over
    digits: with a task for each output digit_accuracy is the mean of the tasks' accuracies.
    """

    unit = "images/s"

    def size(self, batch: Any) -> int:
        return len(batch[1])

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return logits [B, K, 10] and the digits [B, K] that the outputs should say."""
        pictures, labels = batch
        logits = self.model(pictures)
        powers = 10 ** torch.arange(logits.shape[1], device=labels.device).flip(0)
        return logits, labels[:, None] // powers % 10

    def loss(self, batch: Any) -> Tensor:
        logits, digits = self._read(batch)
        return F.cross_entropy(logits.flatten(0, 1), digits.flatten())

    def tally(self, batch: Any) -> dict[str, Tensor]:
        logits, digits = self._read(batch)
        return tallied(logits.flatten(0, 1), digits.flatten())

    def each(self, batch: Any) -> dict[str, Tensor]:
        """A cluster is a picture."""
        logits, digits = self._read(batch)
        return {
            "nll": F.cross_entropy(logits.transpose(1, 2), digits, reduction="none").flatten().double(),
            "correct": (logits.argmax(-1) == digits).flatten(),
            "cluster": torch.arange(len(digits)).repeat_interleave(digits.shape[1]),
        }

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        return {
            "nll": sums["nll"] / sums["count"],
            "digit_accuracy": metrics.accuracy(sums["correct"], sums["count"]),
            "digits": int(sums["count"]),
        }


class DigitsInAnyOrder(DigitsInOrder):
    """The same of a set of digits: of all orders of a label's digits that counts which has the least nll.

    Source: Locatello et al. 2020 (Slot Attention), section 2.2, who find that order by the Hungarian algorithm; of a
    few digits all orders can be tried.
    """

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        logits, digits = super()._read(batch)
        count = digits.shape[1]
        orders = torch.tensor(list(permutations(range(count))), device=digits.device)
        nll = -logits.detach().log_softmax(-1).gather(2, digits[:, None].expand(-1, count, -1))
        totals = nll[:, torch.arange(count, device=digits.device), orders].sum(-1)
        return logits, digits.gather(1, orders[totals.argmin(1)])
