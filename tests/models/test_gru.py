"""The GRU language model: shapes, carried state, first loss, tied or not."""

import math

import pytest
import torch
from torch.nn import functional as F

from bench.models.gru import GRULanguageModel
from bench.tying.errors import BadInput


def test_shapes_of_logits_and_state() -> None:
    logits, state = GRULanguageModel(11, depth=3, width=8)(torch.zeros(2, 5, dtype=torch.long))
    assert logits.shape == (2, 5, 11)
    assert logits.is_contiguous()
    assert state.shape == (3, 2, 8)


def test_two_windows_with_carried_state_are_one_long_window() -> None:
    torch.manual_seed(0)
    model = GRULanguageModel(11, depth=3, width=8).double().eval()
    tokens = torch.randint(0, 11, (2, 12))
    whole, last = model(tokens)
    first, state = model(tokens[:, :6])
    second, state = model(tokens[:, 6:], state.detach())
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-12)
    forgetful, _ = model(tokens[:, 6:])
    assert not torch.allclose(forgetful, second, rtol=0, atol=1e-5)


def test_a_later_token_changes_no_earlier_logit() -> None:
    torch.manual_seed(0)
    model = GRULanguageModel(11, depth=2, width=8).eval()
    tokens = torch.randint(0, 11, (1, 6))
    changed = tokens.clone()
    changed[0, 3] = (tokens[0, 3] + 1) % 11
    before, after = model(tokens)[0], model(changed)[0]
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3:], after[:, 3:])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("vocab_size", "width"), [(100, 64), (4000, 128)])
def test_first_loss_is_that_of_a_guess(vocab_size: int, width: int, tied: bool) -> None:
    torch.manual_seed(0)
    model = GRULanguageModel(vocab_size, depth=4, width=width)
    if tied:
        model.output.weight = model.embedding.weight
    tokens = torch.randint(0, vocab_size, (8, 33))
    loss = F.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(vocab_size), rel=0.1)


@pytest.mark.parametrize("tied", [False, True])
def test_it_learns_what_follows_what(tied: bool) -> None:
    torch.manual_seed(0)
    model = GRULanguageModel(10, depth=2, width=32)
    if tied:
        model.output.weight = model.embedding.weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = (torch.arange(17) * 3 + torch.arange(8).unsqueeze(1)) % 10  # the next token is this one plus 3
    for _ in range(40):
        loss = F.cross_entropy(model(tokens[:, :-1])[0].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_bad_sizes_are_named() -> None:
    with pytest.raises(BadInput, match="depth is 0"):
        GRULanguageModel(11, depth=0)
    with pytest.raises(BadInput, match=r"dropout is -0\.1"):
        GRULanguageModel(11, dropout=-0.1)


def test_a_smaller_start_is_of_the_weights_of_the_blocks_alone() -> None:
    whole, half = ({}, {"init_scale": 0.5})
    for given in (whole, half):
        torch.manual_seed(0)
        given |= dict(GRULanguageModel(11, depth=2, width=8, **given).named_parameters())
    for name, weight in whole.items():
        is_scaled = name.startswith("blocks.") and weight.ndim == 2
        assert torch.equal(half[name], 0.5 * weight if is_scaled else weight), name
