"""Hidden units are found where their order is free, and matched so that their order makes no difference."""

import math

import pytest
import torch
from pretrained import KNOWN, made, read
from torch import nn

from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.tying import NotApplicable
from bench.tying.similarity import align, aligned_cosine, hidden_of
from bench.tying.structure import parts_of

FEED_FORWARD = ["gpt2", "llama", "bert", "t5", "vit"]


@torch.no_grad()
def permute(model, block, seed=0):
    """Put the hidden units of a block in another order."""
    hidden = hidden_of(model, block)
    order = torch.randperm(hidden.units, generator=torch.Generator().manual_seed(seed))
    for name, axis in hidden.axes:
        parameter = model.get_submodule(block).get_parameter(name)
        parameter.copy_(parameter.index_select(axis, order))
    return order


def like_the_first(model, one, other):
    """The second block becomes a copy of the first."""
    model.get_submodule(other).load_state_dict(model.get_submodule(one).state_dict())


class Network(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.layers = nn.ModuleList(blocks)


def two_layers(first, second):
    """A block that is a feed-forward part with these weights."""
    block = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        block[0].weight.copy_(torch.tensor(first)[:, None])
        block[2].weight.copy_(torch.tensor(second)[None])
    return block


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_the_function_of_a_permuted_block_is_the_same(name):
    model = made(name)
    before = read(name, model)
    one, other = parts_of(model).stack[:2]
    assert hidden_of(model, one).units == 64 if name == "gpt2" else 32
    order = permute(model, one)
    assert not torch.equal(order, torch.arange(len(order)))
    torch.testing.assert_close(read(name, model), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_a_permuted_block_is_itself_again(name):
    model = made(name)
    one, other = parts_of(model).stack[-2:]
    like_the_first(model, one, other)
    assert align(model, one, other).raw == pytest.approx(1)
    permute(model, other)
    found = align(model, one, other)
    assert found.cosine == pytest.approx(1, abs=1e-5) and found.raw < 0.9
    assert aligned_cosine(model, one, other) == found.cosine


@pytest.mark.parametrize("norm", [{}, {"norm": "group"}])
def test_channels_between_two_convolutions_are_hidden_units(norm):
    torch.manual_seed(0)
    model = ResNet(1, 10, depth=3, stages=1, width=8, **norm).eval()
    images = torch.randn(4, 1, 8, 8)
    if norm:
        with pytest.raises(NotApplicable, match="norm between the convolutions"):
            hidden_of(model, "blocks.0")
        return
    with torch.no_grad():
        model.blocks[0].norm1.weight.uniform_(0.5, 2)
        like_the_first(model, "blocks.0", "blocks.1")
        permute(model, "blocks.1")
        assert align(model, "blocks.0", "blocks.1").cosine == pytest.approx(1, abs=1e-5)
        like_the_first(model, "blocks.0", "blocks.1")
        before = model(images)
        order = permute(model, "blocks.0")
        norm = model.blocks[0].norm1  # what it holds of a unit goes where the unit goes
        for own in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            own.copy_(own[order])
        torch.testing.assert_close(model(images), before)


def test_the_best_order_is_found_by_hand():
    # Unit by unit (in, out): (3, 0) and (0, 1) against (0, 3) and (1, 0). As stored 3 * 0 + 0 + 0 + 1 * 0 = 0;
    # exchanged 3 * 1 + 1 * 3 = 6, of norms sqrt(10) each.
    model = Network(two_layers([3.0, 0.0], [0.0, 1.0]), two_layers([0.0, 1.0], [3.0, 0.0]))
    model.layers[0].append(nn.Identity())
    with pytest.raises(
        NotApplicable
    ):  # one number in, one out, two hidden units: the widths differ, but not the ends
        hidden_of(Network(nn.Linear(2, 2)), "layers.0")
    found = align(model, "layers.0", "layers.1")
    assert (found.raw, found.cosine) == (0, pytest.approx(0.6))


@pytest.mark.parametrize("seed", range(5))
def test_aligned_is_never_below_raw_and_above_nothing_at_random(seed):
    torch.manual_seed(seed)
    model = KNOWN["llama"].make()
    one, other = parts_of(model).stack[:2]
    found = align(model, one, other)
    assert found.cosine >= found.raw
    assert found.cosine > 0.1 > abs(found.raw)  # 32 units of 48 random numbers each
    assert align(model, other, one).cosine == pytest.approx(found.cosine, rel=1e-6)
    assert align(model, one, one).cosine == align(model, one, one).raw == pytest.approx(1)


def test_half_precision_is_matched_in_float32():
    model = made("llama")
    whole = align(model, *parts_of(model).stack[:2]).cosine
    assert align(model.bfloat16(), *parts_of(model).stack[:2]).cosine == pytest.approx(whole, abs=1e-2)


def test_two_models_are_aligned_block_by_block():
    model, other = made("gpt2"), made("gpt2")
    block = parts_of(model).stack[0]
    permute(other, block)
    found = align(model, block, block, elsewhere=other)
    assert found.cosine == pytest.approx(1, abs=1e-5) and found.raw < 0.9


def without_weights():
    return Network(two_layers([0.0, 0.0], [0.0, 0.0]), two_layers([1.0, 0.0], [0.0, 1.0]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: GRULanguageModel(10, depth=2, width=8), "no feed-forward layers"),
        (lambda: Network(nn.Linear(4, 4), nn.Linear(4, 4)), "no feed-forward layers"),
        (lambda: ResNet(1, 10, depth=2, stages=2, width=8), "have 8 and 16 hidden units"),
        (without_weights, "are 0"),
    ],
)
def test_what_has_no_hidden_units_says_why(model, reason):
    model = model()
    with pytest.raises(NotApplicable, match=reason):
        align(model, *parts_of(model).stack[:2])
    assert aligned_cosine(model, *parts_of(model).stack[:2]) is None


def test_layers_that_are_no_chain_are_not_permuted():
    class Fused(nn.Module):
        """Gate and up in one matrix, as Phi-3 has them: a unit has two rows."""

        def __init__(self):
            super().__init__()
            self.mlp = nn.ModuleDict({"gate_up": nn.Linear(4, 16), "down": nn.Linear(8, 4)})

    with pytest.raises(NotApplicable, match="no chain .* mlp.gate_up 4 -> 16, mlp.down 8 -> 4"):
        hidden_of(Network(Fused(), Fused()), "layers.0")


def test_more_units_than_can_be_matched_in_time(monkeypatch):
    monkeypatch.setattr("bench.tying.similarity.MOST", 31)
    model = made("llama")
    with pytest.raises(NotApplicable, match="32 hidden units are too many to match: at most 31"):
        align(model, *parts_of(model).stack[:2])


def test_the_number_of_units_alone_makes_chance_smaller():
    def chance(units):
        torch.manual_seed(0)
        sizes = [(nn.Linear(64, units), nn.Linear(units, 64)) for _ in range(2)]
        blocks = [nn.ModuleDict({"fc": into, "fc_out": out}) for into, out in sizes]
        return align(Network(*blocks), "layers.0", "layers.1").cosine

    # The best of n matches grows like sqrt(2 ln n) of a cosine's spread, here 1 / sqrt(128).
    for units in (16, 256):
        assert 0 < chance(units) < math.sqrt(2 * math.log(units) / 128)
