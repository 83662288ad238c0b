"""Texts whose perplexity is known, scored by the code that scores runs."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.models.gru import GRULanguageModel
from bench.tasks.language_modeling import LanguageModeling
from bench.training import distributed
from bench.tying import TyingPlan

NOT_SCORED = -100
ROUNDING = 1e-6
"""Of float32, as a share."""


def test_a_guess_among_8_words_is_3_bits_a_word() -> None:
    """Of words of 6 bytes it is half a bit a byte."""
    words = torch.arange(41) * 3 % 8
    scored = scores(network(8), words, lengths=(16, 16, 8), bytes_a_word=6)
    assert scored["perplexity"] == pytest.approx(8, rel=ROUNDING)
    assert scored["bits_per_byte"] == pytest.approx(0.5, rel=ROUNDING)


def test_where_the_word_before_tells_the_next_the_perplexity_is_1() -> None:
    """0 1 2 ... 9 0 1 ...: the embedding is one-hot, and the output is its successor."""
    model = network(10)
    model.embedding.weight.data = torch.eye(10)
    model.output.weight.data = 1000 * torch.eye(10).roll(1, dims=0)
    scored = scores(model, torch.arange(41) % 10, lengths=(16, 16, 8))
    assert scored["perplexity"] == pytest.approx(1, rel=ROUNDING)
    assert scored["next_token_accuracy"] == pytest.approx(1, rel=ROUNDING)


def test_the_perplexity_of_a_known_distribution_is_that_of_its_entropy() -> None:
    """One word in four is the rare one, and the network knows it. All of those stand in the first, shorter batches:
    a mean of the batches' perplexities is another number."""
    model = network(2)
    model.output.bias.data = torch.tensor([0.25, 0.75]).log()
    scored = scores(model, torch.tensor([1] + [0] * 10 + [1] * 30), lengths=(4, 6, 30))
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert scored["perplexity"] == pytest.approx(math.exp(entropy), rel=ROUNDING)
    assert scored["next_token_accuracy"] == pytest.approx(0.75, rel=ROUNDING)


def network(vocabulary: int) -> GRULanguageModel:
    """A language model of one layer, as wide as its vocabulary, that says nothing: all weights but norms' are 0."""
    model = GRULanguageModel(vocabulary, depth=1, width=vocabulary)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            torch.nn.init.zeros_(parameter)
    return model


@torch.no_grad()
def scores(
    model: GRULanguageModel, words: Tensor, lengths: Sequence[int], bytes_a_word: int = 1
) -> dict[str, Any]:
    """Scores of all of the text `words` but its first, in batches of these lengths.

    Each batch reads a word twice at its start, and is not scored on the first of them.
    """
    read, told = words[:-1].split(lengths), words[1:].split(lengths)
    size = sum(lengths)
    meta = {"sizes": {"test": size}, "oov": {"test": 0}, "bytes": {"test": bytes_a_word * size}}
    settings = {"weight_decay": 0.0, "form": None, "meta": meta, "output_precision": None}
    module = LanguageModeling(model, TyingPlan(), optimizer={"shared_lr": None}, **settings).eval()
    module.on_validation_epoch_start()
    for index, (inputs, targets) in enumerate(zip(read, told, strict=True)):
        inputs, targets = torch.cat([inputs[:1], inputs]), torch.cat([torch.tensor([NOT_SCORED]), targets])
        module.validation_step((inputs[None], targets[None], True), index)
    return module.score(distributed.total(**module.sums), "test")
