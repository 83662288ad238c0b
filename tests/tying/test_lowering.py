"""`convolutional`: a network of one filter for all positions, as the convolutions that it is."""

import pytest
import torch
from torch import nn

from bench.models.gru import GRULanguageModel
from bench.models.local import LocalNet
from bench.tying import NotApplicable, over_positions
from bench.tying.lowering import convolutional


@pytest.fixture(params=["max", "none"])
def tied(request):
    torch.manual_seed(0)
    model = LocalNet(1, 10, (8, 8), (3, 3), depth=2, width=4, pool=request.param)
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.normal_()
    return over_positions(model).apply(model)


def step(model, pictures):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(pictures).square().mean().backward()
    optimizer.step()
    return model(pictures)


def test_it_computes_the_same_before_and_after_a_step(tied):
    pictures, lowered = torch.randn(5, 1, 8, 8), convolutional(tied)
    assert [type(layer) for layer in lowered.layers] == [nn.Conv2d, nn.Conv2d]
    torch.testing.assert_close(lowered(pictures), tied(pictures))
    torch.testing.assert_close(step(lowered, pictures), step(tied, pictures))


def test_it_has_as_many_parameters_and_leaves_the_model_alone(tied):
    before = {name: value.clone() for name, value in tied.state_dict().items()}
    lowered = convolutional(tied)
    assert sum(p.numel() for p in lowered.parameters()) == sum(p.numel() for p in tied.parameters())
    step(lowered, torch.randn(2, 1, 8, 8))
    assert tied.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in tied.state_dict().items())


def test_it_draws_no_random_number(tied):
    state = torch.get_rng_state()
    convolutional(tied)
    assert torch.equal(state, torch.get_rng_state())


def test_different_filters_and_other_networks_are_told():
    with pytest.raises(NotApplicable, match=r"layers\.0 has different filters"):
        convolutional(LocalNet(1, 10, (8, 8), (3, 3)))
    with pytest.raises(NotApplicable, match="a filter for each position"):
        convolutional(GRULanguageModel(10))
