"""The forecaster of time series: shapes, the past alone, near the naive forecast, bounded spread."""

import pytest
import torch

from bench.models.gru import BOUND, GRUForecaster
from bench.tying.errors import BadInput


def test_a_gaussian_for_every_channel_of_every_step() -> None:
    mean, log_variance = GRUForecaster(3, depth=2, width=8)(torch.zeros(2, 5, 3))
    assert mean.shape == log_variance.shape == (2, 5, 3)


def test_a_later_change_moves_no_earlier_forecast() -> None:
    torch.manual_seed(0)
    model, changes = GRUForecaster(2, depth=3, width=8), torch.randn(1, 6, 2)
    later = changes.clone()
    later[0, 3] += 1
    for before, after in zip(model(changes), model(later), strict=True):
        assert torch.equal(before[:, :3], after[:, :3])
        assert not torch.isclose(before[:, 3:], after[:, 3:], rtol=0, atol=1e-6).any()


def test_it_starts_near_the_naive_forecast_at_variance_one() -> None:
    torch.manual_seed(0)
    mean, log_variance = GRUForecaster(1)(torch.randn(8, 32, 1))
    assert 0 < mean.abs().mean() < 0.2 and log_variance.abs().mean() < 0.2


def test_the_log_variance_is_bounded() -> None:
    model = GRUForecaster(1, depth=1, width=4)
    for sign in (-1, 1):
        torch.nn.init.constant_(model.output.bias, sign * 1e4)
        assert torch.equal(model(torch.randn(2, 3, 1))[1], torch.full((2, 3, 1), sign * BOUND))


def test_its_parts_say_that_nothing_embeds() -> None:
    model = GRUForecaster(1, depth=3, width=4)
    parts, names = model.parts, dict(model.named_parameters())
    assert parts.stack == ("blocks.0", "blocks.1", "blocks.2")
    assert parts.embedding is parts.unembedding is None
    roles = {parts.role(name) for name in names if name.startswith("blocks.1.")}
    assert roles == {"input", "recurrent", "bias", "norm"}


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"depth": 0}, {"width": 1.5}, {"dropout": 1.0}])
def test_wrong_sizes(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        GRUForecaster(**{"channels": 1, **wrong})
