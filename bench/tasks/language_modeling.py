"""What a language model trains on and is scored by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.meters import metrics
from bench.tasks.cross_entropy import linear_cross_entropy, score, scores_of_rows, tallied
from bench.training.module import Training
from bench.tying.errors import BadInput


class LanguageModeling(Training):
    """Batches are (inputs [B, T], targets [B, S <= T] of the last S, -100 where not scored, fresh: no state).

    BadInput for output_precision=bf16 where the output layer is not linear.
    """

    unit = "tokens/s"

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if self.in_bf16 and model.output_layer is None:
            raise BadInput(
                "trainer.output_precision=bf16: this architecture does more than multiply at its output: "
                "set trainer.output_precision=null"
            )
        self.bins: FrequencyBins | None = None

    def evaluate(self, trainer: L.Trainer, batches: Any, split: str) -> dict[str, Any]:
        """Score a split; of test also bin by bin of how often its tokens were in train."""
        data = trainer.datamodule
        if split == "test":
            counts = data.tokens["train"].bincount(minlength=self.meta["vocab_size"])
            self.bins = FrequencyBins.of(counts, data.tokens["test"])
        try:
            return super().evaluate(trainer, batches, split)
        finally:
            self.bins = None

    def size(self, batch: Any) -> int:
        return batch[1].numel()

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return what the output layer reads [B * S, W], or logits where it is not linear, and targets [B * S].

        The state is carried from the batch before (truncated BPTT).
        """
        inputs, targets, fresh = batch
        shorter = {} if targets.shape == inputs.shape else {"last": targets.shape[1]}
        read = self.model if self.model.output_layer is None else self.model.hidden
        outputs, state = read(inputs, None if fresh else self.states[self.training], **shorter)
        # Evaluation in the middle of an epoch must not touch the state that training carries.
        self.states[self.training] = None if state is None else state.detach()
        return outputs.flatten(0, 1), targets.flatten()

    def loss(self, batch: Any) -> Tensor:
        outputs, targets = self._read(batch)
        layer = self.model.output_layer
        if layer is None:
            return F.cross_entropy(outputs, targets)
        rounds = self.in_bf16 or torch.is_autocast_enabled(outputs.device.type)
        dtype = torch.bfloat16 if rounds else layer.weight.dtype
        return linear_cross_entropy(outputs, layer.weight, layer.bias, targets, dtype)

    def tally(self, batch: Any) -> dict[str, Tensor]:
        outputs, targets = self._read(batch)
        layer = self.model.output_layer
        bins = None if self.bins is None else self.bins.of_token.to(targets.device)
        if layer is not None:
            return score(outputs, layer.weight, layer.bias, targets, bins)
        return tallied(outputs, targets, bins)

    def each(self, batch: Any) -> dict[str, Tensor]:
        """A cluster is a row of the batch: neighbouring tokens of one text."""
        outputs, targets = self._read(batch)
        layer, scored = self.model.output_layer, targets >= 0
        rows, columns = batch[1].shape
        weights = () if layer is None else (layer.weight, layer.bias)
        nll, correct = scores_of_rows(outputs[scored], targets[scored], *weights)
        cluster = torch.arange(rows).repeat_interleave(columns)[scored.cpu()]
        return {"nll": nll, "correct": correct, "cluster": cluster}

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        tokens = int(sums["count"])
        whole = tokens == self.meta["sizes"].get(split)
        oov = self.meta["oov"][split] if whole else None
        frequency = {"by_frequency": self.bins.report(sums)} if self.bins else {}
        return {
            "nll": sums["nll"] / tokens,
            "perplexity": metrics.perplexity(sums["nll"], tokens),
            "next_token_accuracy": metrics.accuracy(sums["correct"], tokens),
            "tokens": tokens,
            "oov": oov,
            "bits_per_byte": metrics.bits_per_byte(sums["nll"], self.meta["bytes"][split])
            if oov == 0
            else None,
            **frequency,
        }


FREQUENCY_BINS = 5


@dataclass(frozen=True)
class FrequencyBins:
    """Bins of a vocabulary by training counts, the most frequent tokens first, each with a like share of a split.

    Tokens of one count are in one bin, <unk> and <eos> among the others. A token is where the middle of its count's
    share lies, so that a bin can be larger than the next by the share of one count, and one can be empty.

    of_token: Number of the bin of each token, int64 [V]. counts: Training count of each token, int64 [V].
    """

    of_token: Tensor
    counts: Tensor

    @classmethod
    def of(cls, counts: Tensor, split: Tensor) -> "FrequencyBins":
        """Make the bins of a vocabulary with these counts, int64 [V], for a split, int [N]."""
        # Ranks by falling count, the same for equal counts.
        _, rank = torch.unique(-counts, return_inverse=True)
        mass = rank.bincount(split.bincount(minlength=len(counts)).double())
        middle = (mass.cumsum(0) - mass / 2) / mass.sum()
        return cls((middle * FREQUENCY_BINS).long().clamp(max=FREQUENCY_BINS - 1)[rank], counts)

    def report(self, sums: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return each bin: least and most training counts of its tokens, tokens scored, and their mean nll in nats."""
        bins = []
        for number in range(FREQUENCY_BINS):
            inside = self.counts[self.of_token == number]
            tokens = int(sums["bin_count"][number]) if number < len(sums["bin_count"]) else 0
            bins.append(
                {
                    "least": int(inside.min()) if len(inside) else None,
                    "most": int(inside.max()) if len(inside) else None,
                    "tokens": tokens,
                    "nll": float(sums["bin_nll"][number]) / tokens if tokens else None,
                }
            )
        return bins
