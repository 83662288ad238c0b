"""What a sentence embedding trains on and is scored by: the embeddings of the network that training began from."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.module import Training


class SentenceEmbedding(Training):
    """Batches are (tokens [B, T], labels [B], which are not read); the model embeds a row as a vector of length one.

    The loss is half the squared distance to the original's embedding, 1 - cosine: the nll of a Gaussian of variance 1,
    without its constant. At the original its gradient is 0 exactly, so `none` stays what it is.

    Source: Hinton et al. 2015, for learning from another network; Reimers and Gurevych 2020, section 3, for embeddings.
    """

    unit = "sentences/s"
    learns_from_original = True

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        self._original: list[nn.Module] = []  # a list: its weights are no part of this module

    def learn_from(self, original: nn.Module) -> None:
        """Take the network whose embeddings are the targets. Without one, as where a step is timed, it is the model."""
        self._original = [copy.deepcopy(original).eval().requires_grad_(False)]

    def size(self, batch: Any) -> int:
        return len(batch[0])

    def _pair(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the embeddings of the model and of the original, [B, W] each."""
        tokens, ours = batch[0], self.model(batch[0])
        if not self._original:
            return ours, ours.detach()
        with torch.no_grad():
            return ours, self._original[0].to(ours.device, ours.dtype)(tokens)

    def loss(self, batch: Any) -> Tensor:
        ours, theirs = self._pair(batch)
        return (ours - theirs).square().sum(-1).mean() / 2

    def tally(self, batch: Any) -> dict[str, Tensor]:
        ours, theirs = (side.double() for side in self._pair(batch))
        return {
            "nll": (ours - theirs).square().sum() / 2,
            "cosine": (ours * theirs).sum(),
            "count": torch.tensor(len(ours), device=ours.device),
            **ranked(ours, theirs),
        }

    def each(self, batch: Any) -> dict[str, Tensor]:
        ours, theirs = (side.double() for side in self._pair(batch))
        return {"nll": (ours - theirs).square().sum(-1) / 2, "cluster": torch.arange(len(ours))}

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        """Return means over sentences; rank_correlation is over pairs of one batch, None where there is no order."""
        pairs = sums["pairs"]
        return {
            "nll": sums["nll"] / sums["count"],
            "cosine": sums["cosine"] / sums["count"],
            "rank_correlation": sums["rank_correlation"] / pairs if pairs else None,
            "examples": int(sums["count"]),
        }


def ranked(ours: Tensor, theirs: Tensor) -> dict[str, Tensor]:
    """Return how many pairs of rows there are, and that times Spearman's correlation of their similarities.

    Both are 0 for fewer than three rows, and where all similarities of a side are equal.
    """
    one, other = torch.triu_indices(len(ours), len(ours), offset=1, device=ours.device)
    ranks = [_ranks((side[one] * side[other]).sum(-1)) for side in (ours, theirs)]
    none = ours.new_zeros(())
    if len(ours) < 3 or any(bool((side == side[:1]).all()) for side in ranks):
        return {"rank_correlation": none, "pairs": none}
    centred = [side - side.mean() for side in ranks]
    correlation = F.cosine_similarity(*centred, dim=0)
    return {"rank_correlation": correlation * len(one), "pairs": none + len(one)}


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value, float64, the mean of their ranks for equal ones."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts - 1) / 2)[group]
