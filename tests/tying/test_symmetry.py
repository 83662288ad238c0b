"""What a tie by a symmetry promises: the network then has that symmetry, and the untied one has not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.models.autoencoder import Autoencoder
from bench.models.local import LocallyConnected, LocalNet
from bench.models.rotated import RotatedNet
from bench.models.siamese import Siamese
from bench.tying import NotApplicable, TyingPlan, cross_layer, over_positions, rotations, transpose
from bench.tying.apply import weight
from bench.tying.errors import BadInput


def begun(model):
    """The model in float64 with biases that are not 0, so that a bias of one place can be told from another's."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model.double()


@pytest.mark.parametrize(("picture", "kernel"), [((6, 5), (3, 2)), ((1, 9), (1, 4))])
def test_over_positions_makes_a_convolution(picture, kernel):
    layer = begun(LocallyConnected(picture, 3, 4, kernel))
    x = torch.randn(2, 3, *picture, dtype=torch.float64)
    filters, biases = layer.weight[0].detach().clone(), layer.bias[0].detach().clone()
    convolved = F.conv2d(x, filters, biases)
    assert layer(x).shape == convolved.shape and not torch.allclose(layer(x), convolved)
    plan = over_positions(layer)
    assert plan.num_params(layer) == filters.numel() + biases.numel()
    torch.testing.assert_close(plan.apply(layer, example=x)(x), convolved)


def test_rotations_make_logits_that_a_quarter_turn_does_not_change():
    model, x = begun(RotatedNet(2, 5, depth=3, width=2)), torch.randn(3, 2, 9, 9, dtype=torch.float64)

    def is_blind(model):
        turns = [model(torch.rot90(x, turn, (2, 3))) for turn in range(4)]
        return all(torch.allclose(logits, turns[0], rtol=1e-10) for logits in turns)

    assert not is_blind(model)
    plan = rotations(model)
    shared = 2 * 2 * 9 + 2 * (2 * 8 * 9) + 3 * 2
    assert plan.num_params(model) == shared + sum(p.numel() for p in model.classifier.parameters())
    assert is_blind(plan.apply(model, example=x))


def test_twins_do_not_care_which_picture_is_first():
    model, pairs = begun(Siamese(2, 2, (4, 3))), torch.randn(5, 2, 4, 3, dtype=torch.float64)
    assert not torch.allclose(model(pairs), model(pairs.flip(1)))
    cross_layer(model, scope="all").apply(model, example=pairs)
    torch.testing.assert_close(model(pairs), model(pairs.flip(1)))
    assert model(pairs[:, :1].expand(-1, 2, -1, -1)).argmax(1).all()  # a picture is the same as itself


def test_a_transposed_decoder_multiplies_by_the_encoder():
    model, x = begun(Autoencoder(1, 10, (3, 4), depth=2, width=5)), torch.randn(2, 1, 3, 4).double()
    transpose(model).apply(model, example=x)
    matrices = [weight(model, f"{part}.{at}.weight") for part in ("encoder", "decoder") for at in (0, 2)]
    assert torch.equal(matrices[3], matrices[0].t()) and torch.equal(matrices[2], matrices[1].t())
    assert model(x).shape == x.shape and len({p.data_ptr() for p in model.parameters()}) == 6


def test_one_position_and_no_such_layer_tie_nothing():
    assert over_positions(LocallyConnected((3, 3), 1, 2, (3, 3))) == TyingPlan()
    plain = nn.Sequential(nn.Linear(2, 2))
    for method in (over_positions, rotations, transpose):
        with pytest.raises(NotApplicable, match="in this network"):
            method(plain)
    with pytest.raises(NotApplicable, match="not the encoder's transposed"):
        transpose(nn.ModuleDict({part: nn.Sequential(nn.Linear(2, 3)) for part in ("encoder", "decoder")}))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: LocalNet(1, 2, (4, 4), (3, 3), depth=2), "a kernel of 3 x 3 does not fit into 2 x 2"),
        (lambda: LocalNet(1, 2, (4, 0), (3, 3)), r"model.picture is \[4, 0\]"),
        (lambda: LocalNet(1, 2, (8, 8), (3, 3), pool="mean"), "it must be max or none"),
        (lambda: Siamese(1, 10, (8, 8)), "each must be 2"),
        (lambda: Autoencoder(1, 10, (8, 8))(torch.zeros(1, 1, 7, 8)), r"set model.picture=\[7,8\]"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, reason):
    with pytest.raises(BadInput, match=reason):
        make()


def test_a_layer_that_says_what_it_is_not_is_refused():
    layer = nn.Linear(2, 3)
    layer.positions = 4
    with pytest.raises(BadInput, match="its first axis must be that of the positions"):
        over_positions(nn.Sequential(layer))
    model = RotatedNet(1, 2, depth=1)
    model.layers[0] = nn.Conv2d(1, 6, 3)
    model.layers[0].rotations, model.layers[0].turned_inputs = 4, False
    with pytest.raises(BadInput, match="come in fours"):
        rotations(model)
