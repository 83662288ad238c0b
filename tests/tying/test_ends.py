"""Which tensors are the input embedding and the output matrix of a network that does not say it."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from bench.tying import NotApplicable, embedding, joint_embedding, soft_embedding
from bench.tying.structure import parts_of

WORDS, WIDTH = 20, 4
GPT2 = GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)


class Gpt(nn.Module):
    """A small GPT under the names that people give its parts; nothing in it knows of tying."""

    def __init__(self, words=WORDS, places=8, tokens="wte", positions="wpe", head="lm_head"):
        super().__init__()
        self.transformer = nn.ModuleDict(
            {tokens: nn.Embedding(words, WIDTH), positions: nn.Embedding(places, WIDTH)}
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, words), nn.Linear(words, WIDTH)) for _ in range(2)
        )
        setattr(self, head, nn.Linear(WIDTH, words, bias=False))
        self.names = tokens, positions, head

    def forward(self, tokens):
        embed, place, head = self.names
        hidden = self.transformer[embed](tokens) + self.transformer[place](torch.arange(tokens.shape[1]))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return getattr(self, head)(hidden)


def modules(**named):
    return nn.ModuleDict(named)


def ends(model):
    parts = parts_of(model)
    return parts.embedding, parts.unembedding


NAMES = [
    ("wte", "wpe", "lm_head"),
    ("tok_emb", "pos_emb", "head"),
    ("token_embedding_table", "position_embedding_table", "lm_head"),
]


@pytest.mark.parametrize("places", [8, WORDS, 64])
@pytest.mark.parametrize(("tokens", "positions", "head"), NAMES)
def test_tokens_are_told_from_places_and_heads_from_blocks(tokens, positions, head, places):
    """As many places as words, or more, mislead nobody, nor do layers of that size in the blocks."""
    model = Gpt(WORDS, places, tokens, positions, head)
    assert ends(model) == (f"transformer.{tokens}.weight", f"{head}.weight")


def words(count=WORDS):
    return nn.Embedding(count, WIDTH)


def layer(count=WORDS):
    return nn.Linear(WIDTH, count)


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        (modules(a=words(), b=layer()), ("a.weight", "b.weight")),
        (modules(a=words(), b=layer(2)), ("a.weight", None)),  # a classifier
        (modules(a=words(), token_type=words(2), b=layer(2)), ("a.weight", None)),  # one of sentence pairs
        (modules(a=words(), b=layer(), c=layer()), ("a.weight", None)),  # two heads: which one?
        (modules(a=words(), b=words(), c=layer()), (None, None)),  # two vocabularies of one size
        (modules(a=words(), b=words(30), c=layer()), (None, None)),  # the head is not that of the larger one
        (modules(user=words(), item=words(30), head=layer(30)), ("item.weight", "head.weight")),
        (modules(a=layer(), b=layer()), (None, None)),
        (modules(lm=GPT2LMHeadModel(GPT2)), ("lm.transformer.wte.weight", "lm.lm_head.weight")),
    ],
)
def test_what_is_not_plain_is_not_guessed(model, seen):
    assert ends(model) == seen
    if None in seen:
        with pytest.raises(NotApplicable, match="embedding in this network"):
            embedding(model)


def soft(model):
    return soft_embedding(model, strength=0.1)


@pytest.mark.parametrize("method", [embedding, joint_embedding, soft])
def test_methods_of_the_embeddings_take_such_a_network(method):
    torch.manual_seed(0)
    model = Gpt()
    plan = method(model)
    before = ends(model)
    plan.apply(model, example=torch.arange(5)[None])
    assert ends(model) == before == ("transformer.wte.weight", "lm_head.weight")
    plan.verify(model)
    shared = model.lm_head.weight is model.transformer["wte"].weight
    assert shared is (method is embedding)
