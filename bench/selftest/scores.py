"""Texts whose perplexity is known, scored by the code that scores runs."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bench import ranks
from bench.models.gru import GRULanguageModel
from bench.selftest.check import Check, about
from bench.training import LanguageModeling
from bench.tying import TyingPlan

NOT_SCORED = -100
ROUNDING = 1e-6
"""Of float32, as a share."""


def checks() -> Iterator[Check]:
    yield from _uniform()
    yield from _bigram()
    yield from _two_words()


def _uniform() -> Iterator[Check]:
    """A guess among 8 words is 3 bits a word; of words of 6 bytes it is half a bit a byte."""
    words = torch.arange(41) * 3 % 8
    scored = _scored(_network(8), words, lengths=(16, 16, 8), bytes_a_word=6)
    yield about("perplexity", "every one of 8 words equally likely", "", 8, scored["perplexity"], ROUNDING)
    yield about("bits per byte", "the same, words of 6 bytes", "bit", 0.5, scored["bits_per_byte"], ROUNDING)


def _bigram() -> Iterator[Check]:
    """Each word tells the next: 0 1 2 ... 9 0 1 ... The embedding is one-hot, and the output is its successor."""
    network = _network(10)
    network.embedding.weight.data = torch.eye(10)
    network.output.weight.data = 1000 * torch.eye(10).roll(1, dims=0)
    scored = _scored(network, torch.arange(41) % 10, lengths=(16, 16, 8))
    yield about("perplexity", "the word before tells the next", "", 1, scored["perplexity"], ROUNDING)
    yield about("accuracy", "the same", "", 1, scored["next_token_accuracy"], ROUNDING)


def _two_words() -> Iterator[Check]:
    """One word in four is the rare one, and the network knows it. All of those stand in the first, shorter batches:
    a mean of the batches' perplexities is another number."""
    network = _network(2)
    network.output.bias.data = torch.tensor([0.25, 0.75]).log()
    scored = _scored(network, torch.tensor([1] + [0] * 10 + [1] * 30), lengths=(4, 6, 30))
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    what = "two words, 1 in 4 and 3 in 4: exp(entropy)"
    yield about("perplexity", what, "", math.exp(entropy), scored["perplexity"], ROUNDING)
    yield about(
        "accuracy",
        "the same: the frequent word is guessed",
        "",
        0.75,
        scored["next_token_accuracy"],
        ROUNDING,
    )


def _network(vocabulary: int) -> GRULanguageModel:
    """A language model of one layer, as wide as its vocabulary, that says nothing: all weights but norms' are 0."""
    network = GRULanguageModel(vocabulary, depth=1, width=vocabulary)
    for name, parameter in network.named_parameters():
        if "norm" not in name:
            torch.nn.init.zeros_(parameter)
    return network


@torch.no_grad()
def _scored(
    network: GRULanguageModel, words: Tensor, lengths: Sequence[int], bytes_a_word: int = 1
) -> dict[str, Any]:
    """Scores of all of the text `words` but its first, in batches of these lengths.

    Each batch reads a word twice at its start, and is not scored on the first of them.
    """
    read, told = words[:-1].split(lengths), words[1:].split(lengths)
    size = sum(lengths)
    meta = {"sizes": {"test": size}, "oov": {"test": 0}, "bytes": {"test": bytes_a_word * size}}
    settings = {"weight_decay": 0.0, "form": None, "meta": meta, "output_precision": None}
    module = LanguageModeling(network, TyingPlan(), optimizer={}, **settings).eval()
    module.on_validation_epoch_start()
    for index, (inputs, targets) in enumerate(zip(read, told, strict=True)):
        inputs, targets = torch.cat([inputs[:1], inputs]), torch.cat([torch.tensor([NOT_SCORED]), targets])
        module.validation_step((inputs[None], targets[None], True), index)
    return module.score(ranks.total(**module.sums), "test")
