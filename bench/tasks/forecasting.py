"""What a task on time series trains on and is scored by: the likelihood of the next change, and its error."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.training.module import Training
from bench.tying.errors import BadInput


class Forecasting(Training):
    """Batches are (inputs [B, T, C], targets [B, S <= T, C], the changes after the last S, NaN where not scored).

    Errors are in units of the root mean square change of the training split, channel by channel. The naive
    forecast is that nothing changes. BadInput for output_precision=bf16.
    """

    unit = "steps/s"

    # The density of a wrong forecast has no lower bound: one surprising batch costs several nats.
    slack = 100.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.in_bf16:
            raise BadInput(
                "trainer.output_precision=bf16 is for the output layer of language models: leave it null"
            )

    def size(self, batch: Any) -> int:
        inputs = batch[0]
        return inputs.shape[0] * inputs.shape[1]

    def loss(self, batch: Any) -> Tensor:
        inputs, targets = batch
        return gaussian_nll(*self.model(inputs), targets).mean()

    def tally(self, batch: Any) -> dict[str, Tensor]:
        inputs, targets = batch
        told = ~targets.isnan()
        mean, log_variance = (x[:, -targets.shape[1] :][told].double() for x in self.model(inputs))
        changes = targets[told].double()
        return {
            "nll": gaussian_nll(mean, log_variance, changes).sum(),
            "absolute": (changes - mean).abs().sum(),
            "square": (changes - mean).square().sum(),
            "naive": changes.abs().sum(),
            "count": told.sum(),
        }

    def each(self, batch: Any) -> dict[str, Tensor]:
        """A cluster is a window: neighbouring steps of one series."""
        inputs, targets = batch
        told = ~targets.isnan()
        mean, log_variance = (x[:, -targets.shape[1] :][told].double() for x in self.model(inputs))
        window = torch.arange(len(targets)).view(-1, 1, 1).expand(targets.shape)[told.cpu()]
        return {"nll": gaussian_nll(mean, log_variance, targets[told].double()), "cluster": window}

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        """Return means over all values, steps x channels; mae_over_naive is None where nothing changed."""
        values = sums["count"]
        return {
            "nll": sums["nll"] / values,
            "mae": sums["absolute"] / values,
            "rmse": math.sqrt(sums["square"] / values),
            "mae_over_naive": sums["absolute"] / sums["naive"] if sums["naive"] else None,
            "steps": int(values) // len(self.meta["columns"]),
        }


def gaussian_nll(mean: Tensor, log_variance: Tensor, values: Tensor) -> Tensor:
    """Return the negative log-density in nats of each value under its Gaussian (Nix and Weigend 1994, equation 3)."""
    square = (values - mean).square() * (-log_variance).exp()
    return 0.5 * (math.log(2 * math.pi) + log_variance + square)
