"""The encoder that classifies text: padding that says nothing, no weight unread, every option honoured or refused."""

import math

import pytest
import torch
from torch.nn import functional as F

from bench.models.transformer import PAD_ID, TextClassifier
from bench.tying.errors import BadInput

ARCHITECTURES = ["bert", "electra", "distilbert"]
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def small(architecture: str = "bert", **options: object) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(
        50, 3, 8, architecture=architecture, **{"depth": 2, "width": 16, "heads": 2, **options}
    )


@every_architecture
def test_padding_changes_no_logit_and_any_word_does(architecture: str) -> None:
    model = small(architecture).eval()
    tokens = torch.tensor([[5, 6, 7, 8]])
    padded = F.pad(tokens, (0, 4), value=PAD_ID)
    beside_a_longer_one = torch.cat([padded, torch.full((1, 8), 9)])
    logits = model(tokens)
    assert logits.shape == (1, 3)
    torch.testing.assert_close(model(padded), logits, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(beside_a_longer_one)[:1], logits, rtol=1e-4, atol=1e-6)
    for place in range(4):
        changed = tokens.clone()
        changed[0, place] = 20
        assert not torch.allclose(model(changed), logits, rtol=1e-4, atol=1e-6)


@every_architecture
def test_a_row_of_padding_alone_is_a_number(architecture: str) -> None:
    assert small(architecture)(torch.zeros(1, 8, dtype=torch.long)).isfinite().all()


@every_architecture
def test_every_weight_is_read(architecture: str) -> None:
    model = small(architecture)
    model(torch.arange(1, 17).reshape(2, 8)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert [name for name, p in model.named_parameters() if p.ndim > 1 and not p.grad.any()] == []


@every_architecture
def test_the_first_loss_is_that_of_a_guess(architecture: str) -> None:
    model = TextClassifier(1000, 8, 32, architecture=architecture, depth=4, width=128, heads=4)
    tokens, labels = torch.randint(1, 1000, (64, 32)), torch.arange(64) % 8
    assert F.cross_entropy(model(tokens), labels).item() == pytest.approx(math.log(8), rel=0.05)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"architecture": "bertt"}, "'bertt' is unknown"),
        ({"architecture": "t5"}, "t5 does not encode rows of 8 tokens"),
        ({"architecture": "roberta"}, r"roberta does not encode .* \+model.config.max_position_embeddings"),
        ({"config": {"max_position_embeddings": 4}}, "bert does not encode rows of 8 tokens"),
        ({"config": {"hidden_sise": 24}}, "'hidden_sise' is unknown to architecture bert"),
        ({"width": 15}, "width 15 does not divide into 2 heads"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_bad_input_is_named_in_one_line(options: dict, wrong: str) -> None:
    with pytest.raises(BadInput, match=wrong) as raised:
        small(**options)
    assert "\n" not in str(raised.value)


def test_what_counts_positions_otherwise_works_with_the_key_that_the_refusal_names() -> None:
    model = small("roberta", config={"max_position_embeddings": 9})
    assert model(torch.ones(1, 8, dtype=torch.long)).shape == (1, 3)
