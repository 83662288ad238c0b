"""Scores of a forecast that is known: the naive one, and a Gaussian's density in the head."""

import math

import pytest
import torch
from grid import build, score, steps
from torch import nn

from bench.runs.worker import Diverged
from bench.tasks.forecasting import Forecasting, gaussian_nll
from bench.tying import TyingPlan
from bench.tying.errors import BadInput

TASK = "series_gru"


class Constant(nn.Module):
    """Says the same mean and log-variance of every change."""

    def __init__(self, mean: float, log_variance: float = 0.0) -> None:
        super().__init__()
        self.said = mean, log_variance

    def forward(self, changes):
        return tuple(torch.full_like(changes, value) for value in self.said)


def scored(model, *batches):
    settings = {"weight_decay": 0.0, "form": None, "meta": {"columns": ["a"]}, "output_precision": None}
    return score(Forecasting(model, TyingPlan(), optimizer={"shared_lr": None}, **settings), batches)


def batch_of(*told):
    told = torch.tensor(told)[None, :, None]
    return torch.zeros(1, len(told[0]) + 1, 1), told


def test_a_gaussians_density_in_the_head():
    at_the_mean = gaussian_nll(torch.tensor(3.0), torch.tensor(0.0), torch.tensor(3.0))
    assert at_the_mean.item() == pytest.approx(0.5 * math.log(2 * math.pi))
    two_off = gaussian_nll(torch.tensor(3.0), torch.tensor(math.log(4)), torch.tensor(5.0))
    assert (two_off - at_the_mean).item() == pytest.approx(math.log(2) + 0.5)


def test_the_density_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_variance, values = torch.randn(3, 50, dtype=torch.float64)
    expected = -torch.distributions.Normal(mean, (0.5 * log_variance).exp()).log_prob(values)
    torch.testing.assert_close(gaussian_nll(mean, log_variance, values), expected)


def test_scores_in_the_head():
    """Forecast 1; the changes are 1, 3 and, after one that is not scored, -2: off by 0, 2 and 3."""
    found = scored(Constant(1.0), batch_of(1.0, 3.0), batch_of(math.nan, -2.0))
    assert found["steps"] == 3
    assert found["mae"] == pytest.approx(5 / 3) and found["rmse"] == pytest.approx(math.sqrt(13 / 3))
    assert found["mae_over_naive"] == pytest.approx(5 / 6)
    assert found["nll"] == pytest.approx(0.5 * math.log(2 * math.pi) + 13 / 6)


def test_where_nothing_changes_there_is_no_ratio():
    assert scored(Constant(1.0), batch_of(0.0, 0.0))["mae_over_naive"] is None


def test_the_naive_forecast_scores_the_floors_of_the_data(cell):
    built = build(cell(TASK))
    built.module.model, floors = Constant(0.0), built.data.meta["floors"]
    found = score(built.module, built.data.test_dataloader())
    assert {f"naive_{name}": found[name] for name in ("mae", "rmse", "nll")} == pytest.approx(
        floors, rel=1e-5
    )
    assert found["mae_over_naive"] == 1.0


def test_a_network_is_scored_with_half_a_window_of_past(cell):
    built = build(cell(TASK, "none", "task.batches.window=8", "+task.batches.eval_batch_size=7"))
    steps(built, 30)
    found = score(built.module, built.data.test_dataloader())
    parts = [torch.from_numpy(part) for part in _changes(built)]
    series, size = torch.cat(parts), len(parts[-1])
    total = 0.0
    for end in [*range(len(series) - size + 4, len(series), 4), len(series)]:  # four at a time, eight to read
        read, told = series[None, end - 9 : end - 1], series[end - 4 : end]
        fresh = min(4, size - 4 * ((size - 1) // 4)) if end == len(series) else 4
        with torch.no_grad():
            mean, _ = built.model(read)
        total += (mean[0, -fresh:] - told[-fresh:]).abs().sum().item()
    assert found["steps"] == size and found["mae"] == pytest.approx(total / size, rel=1e-5)


def _changes(built):
    import numpy as np

    folder = built.config["data"]["folder"]
    return [np.load(f"{folder}/{split}_changes.npy") for split in ("train", "val", "test")]


def test_a_wrong_forecast_is_no_divergence_but_what_has_no_end_is(cell):
    module = build(cell(TASK)).module

    def look(nll: float) -> None:
        module.last_loss = torch.tensor(nll)
        module._stop_if_diverged()

    look(-2.0)  # a density may be above one
    look(5.0)
    for nll in (math.nan, math.inf, 101.0):
        with pytest.raises(Diverged, match="the loss was -2 at the first"):
            look(nll)


def test_there_is_no_output_layer_to_round():
    settings = {"optimizer": {"shared_lr": None}, "weight_decay": 0.0, "form": None, "meta": {}}
    with pytest.raises(BadInput, match="leave it null"):
        Forecasting(Constant(0.0), TyingPlan(), output_precision="bf16", **settings)
