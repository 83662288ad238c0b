"""Sharing everything across depth is ALBERT (Lan et al. 2020): its sizes and its outputs, against transformers' own."""

import pytest
import torch
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, ElectraConfig, ElectraModel

from bench.tying.methods import cross_layer, sequence
from bench.tying.structure import Parts

SIZES = {  # of the four published models: layers, width, heads, parameters of transformers' AlbertModel
    "base": (12, 768, 12, 11_683_584),
    "large": (24, 1024, 16, 17_683_968),
    "xlarge": (24, 2048, 16, 58_724_864),
    "xxlarge": (12, 4096, 64, 222_595_584),
}


def named(model, depth):
    stack = tuple(f"encoder.layer.{at}" for at in range(depth))
    model.parts = Parts(stack=stack, embedding=None, unembedding=None, role=lambda name: "other")
    return model


def shape(depth, width, heads, **more):
    sizes = {"num_hidden_layers": depth, "hidden_size": width, "num_attention_heads": heads}
    return sizes | {"intermediate_size": 4 * width, **more}


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("depth", "width", "heads", "published"), SIZES.values(), ids=SIZES)
def test_sharing_the_layers_of_bert_gives_alberts_number_of_parameters(depth, width, heads, published):
    """ELECTRA's network is BERT's with ALBERT's embedding of 128; it has no pooler."""
    given = shape(depth, width, heads, vocab_size=30000, embedding_size=128)
    with torch.device("meta"):
        albert = AlbertModel(AlbertConfig(**given))
        bert = named(ElectraModel(ElectraConfig(**given)), depth)
    pooler = width * width + width
    assert count(albert) == published
    plan = cross_layer(bert, scope="all")
    assert plan.num_params(bert) + pooler == published
    plan.apply(bert)
    assert count(bert) + pooler == published


@pytest.mark.parametrize("groups", [1, 2])
def test_a_shared_stack_gives_the_outputs_of_albert(groups):
    """With more groups too: ALBERT's `num_hidden_groups` shares in sequence."""
    torch.manual_seed(0)
    same = {"hidden_act": "gelu", "attn_implementation": "eager", "vocab_size": 50}
    given = shape(6, 32, 4, **same)
    bert = named(BertModel(BertConfig(**given)), 6).eval()
    albert = AlbertModel(AlbertConfig(**given, embedding_size=32, num_hidden_groups=groups)).eval()
    tied = sequence(bert, groups=groups, scope="all").apply(bert)
    fill(albert, tied, 6 // groups)
    tokens = torch.randint(50, (3, 7))
    with torch.no_grad():
        ours, theirs = tied(tokens), albert(tokens)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state)
    torch.testing.assert_close(ours.pooler_output, theirs.pooler_output)


@torch.no_grad()
def fill(albert, bert, every):
    """Copy our weights into ALBERT's names."""
    albert.embeddings.load_state_dict(bert.embeddings.state_dict())
    albert.pooler.load_state_dict(bert.pooler.dense.state_dict())
    albert.encoder.embedding_hidden_mapping_in.weight.copy_(torch.eye(32))
    albert.encoder.embedding_hidden_mapping_in.bias.zero_()
    for at, group in enumerate(albert.encoder.albert_layer_groups):
        (into,), layer = group.albert_layers, bert.encoder.layer[at * every]
        attention, own = into.attention, layer.attention
        pairs = [(getattr(attention, name), getattr(own.self, name)) for name in ("query", "key", "value")]
        pairs += [(attention.dense, own.output.dense), (attention.LayerNorm, own.output.LayerNorm)]
        pairs += [(into.ffn, layer.intermediate.dense), (into.ffn_output, layer.output.dense)]
        pairs += [(into.full_layer_layer_norm, layer.output.LayerNorm)]
        for theirs, ours in pairs:
            theirs.load_state_dict(ours.state_dict())
