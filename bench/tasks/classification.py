"""What a classification task trains on and is scored by."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.meters import metrics
from bench.tasks.cross_entropy import tallied
from bench.training.module import Training


class Classification(Training):
    """Batches are (inputs [B, ...], labels [B]); of data in groups, when it is scored, the group [B] too."""

    unit = "images/s"

    def size(self, batch: Any) -> int:
        return len(batch[1])

    def loss(self, batch: Any) -> Tensor:
        inputs, labels = batch
        return F.cross_entropy(self.model(inputs), labels)

    def tally(self, batch: Any) -> dict[str, Tensor]:
        inputs, labels, *groups = batch
        logits = self.model(inputs)
        sums = tallied(logits, labels)
        for group in groups:
            size = self.meta["num_groups"]
            right = group[logits.argmax(-1) == labels]
            sums |= {
                "group_correct": right.bincount(minlength=size),
                "group_count": group.bincount(minlength=size),
            }
        return sums

    def each(self, batch: Any) -> dict[str, Tensor]:
        inputs, labels, *groups = batch
        logits = self.model(inputs)
        scores = {
            "nll": F.cross_entropy(logits, labels, reduction="none").double(),
            "correct": logits.argmax(-1) == labels,
        }
        return scores | ({"group": groups[0]} if groups else {"cluster": torch.arange(len(labels))})

    def score(self, sums: Mapping[str, Any], split: str) -> dict[str, Any]:
        scores = {
            "nll": sums["nll"] / sums["count"],
            "accuracy": metrics.accuracy(sums["correct"], sums["count"]),
            "examples": int(sums["count"]),
        }
        if "group_count" in sums:
            scores["groups"] = {key: [int(n) for n in sums[f"group_{key}"]] for key in ("correct", "count")}
        return scores


class TextClassification(Classification):
    """Batches are (tokens [B, T], labels [B])."""

    unit = "sentences/s"
