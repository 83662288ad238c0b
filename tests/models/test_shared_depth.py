"""What networks with a block of their own at each step become once the blocks are one."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from bench.models.implicit import ImplicitNet
from bench.models.over_time import OverTime, TrellisNet, UnrolledGRU
from bench.tying import cross_layer
from bench.tying.errors import BadInput

TOKENS = torch.arange(24).reshape(2, 12) % 7


def seeded(kind, *args, **sizes):
    torch.manual_seed(1)
    return kind(*args, **sizes).double()


def tied(model, example):
    return cross_layer(model, scope="all").apply(model, example=example)


def test_one_cell_for_all_steps_is_an_ordinary_gru():
    model = seeded(UnrolledGRU, 7, depth=12, width=5)

    def ordinary():
        gru = nn.GRU(5, 5, batch_first=True).double()
        gru.load_state_dict({f"{name}_l0": value for name, value in model.stack[0].state_dict().items()})
        return gru(model.embedding(TOKENS), model.start.expand(1, 2, -1).contiguous())[0]

    assert not torch.allclose(model.hidden(TOKENS)[0], ordinary())
    tied(model, TOKENS)
    torch.testing.assert_close(model.hidden(TOKENS)[0], ordinary())


def test_a_trellis_network_shares_over_depth_what_it_shares_over_time():
    model = tied(seeded(TrellisNet, 7, depth=4, width=3), TOKENS)
    layer = 2 * 3 * 4 * 3 * 2 + 4 * 3
    outside = (model.embedding.weight, model.start, *model.output_layer.parameters())
    assert sum(p.numel() for p in model.parameters()) == layer + sum(p.numel() for p in outside)


@pytest.mark.parametrize(("kind", "seen"), [(UnrolledGRU, 12), (TrellisNet, 5)])
def test_a_position_sees_itself_and_what_is_before_it_as_far_as_the_stack_reaches(kind, seen):
    model = seeded(kind, 7, depth=12 if kind is UnrolledGRU else 4, width=3)
    embedded = model.embedding(TOKENS[:1]).detach().requires_grad_()
    for position in (0, 7, 11):
        (gradient,) = torch.autograd.grad(model.states(embedded)[0, position].sum(), embedded)
        reached = gradient[0].abs().sum(1).nonzero().flatten().tolist()
        assert reached == list(range(max(0, position - seen + 1), position + 1))


@pytest.mark.parametrize("kind", [UnrolledGRU, TrellisNet])
def test_the_last_positions_are_those_of_all(kind):
    model: OverTime = seeded(kind, 7, depth=12, width=3)
    logits, state = model(TOKENS)
    assert logits.shape == (2, 12, 7) and state is None
    assert torch.equal(model(TOKENS, last=5)[0], logits[:, -5:])


def test_a_window_longer_than_the_stack_is_refused():
    with pytest.raises(BadInput, match="a window has 12 tokens, and the network 11 cells.*model.depth=12"):
        UnrolledGRU(7, depth=11)(TOKENS)


def test_one_block_for_all_steps_goes_to_its_fixed_point():
    model, pictures = seeded(ImplicitNet, 1, 4, (3, 2), depth=60, width=5), torch.randn(4, 1, 3, 2).double()

    def moves():
        return [(after - before).norm().item() for before, after in pairwise(model.states(pictures))]

    assert min(moves()) > 0.1
    tied(model, pictures)
    first, *_, last = moves()
    assert first > 0.1 and last < 1e-6
    *_, end = model.states(pictures)
    fixed = torch.tanh(model.blocks[0](end) + model.injection(pictures.flatten(1)))
    torch.testing.assert_close(end, fixed, rtol=0, atol=1e-6)
