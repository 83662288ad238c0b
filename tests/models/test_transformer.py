"""The causal language models of `transformers`: causal, untied, every option honoured or refused."""

import math

import pytest
import torch
from torch.nn import functional as F

from bench.models.checks import dropout_sites
from bench.models.transformer import CausalLM
from bench.tying.errors import BadInput

ARCHITECTURES = ["gpt2", "llama", "gpt_neox"]


def small(architecture: str, **options: object) -> CausalLM:
    return CausalLM(50, 8, architecture=architecture, **{"depth": 2, "width": 16, "heads": 2, **options})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shapes_at_the_full_window(architecture: str) -> None:
    logits, state = small(architecture)(torch.randint(0, 50, (3, 8)))
    assert logits.shape == (3, 8, 50)
    assert state is None


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_later_token_changes_no_earlier_logit(architecture: str) -> None:
    torch.manual_seed(0)
    model = small(architecture).eval()
    tokens = torch.randint(0, 50, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (tokens[0, 5] + 1) % 50
    before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, 5], after[:, 5], rtol=0, atol=1e-3)


def test_an_encoder_is_refused_and_accepted_as_a_decoder() -> None:
    with pytest.raises(BadInput, match="sees later tokens"):
        small("bert")
    assert (
        not small("bert", config={"is_decoder": True})(torch.zeros(1, 8, dtype=torch.long))[0].isnan().any()
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sizes_arrive(architecture: str) -> None:
    model = small(architecture, depth=3, heads=4)
    assert len(model.parts.stack) == 3
    assert model.model.config.num_attention_heads == 4
    assert model.get_parameter(model.parts.embedding).shape == (50, 16)
    assert model.get_parameter(model.parts.unembedding).shape == (50, 16)
    widest = max(
        p.numel() for name, p in model.named_parameters() if model.parts.role(name) == "feed_forward"
    )
    assert widest == 16 * 64


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embedding_and_output_are_two_tensors(architecture: str) -> None:
    parts = (model := small(architecture)).parts
    embedding, output = model.get_parameter(parts.embedding), model.get_parameter(parts.unembedding)
    assert embedding.data_ptr() != output.data_ptr()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_first_loss_is_that_of_a_guess(architecture: str, tied: bool) -> None:
    torch.manual_seed(0)
    model = CausalLM(1000, 32, architecture=architecture, depth=4, width=128, heads=4)
    if tied:
        model.model.get_output_embeddings().weight = model.model.get_input_embeddings().weight
    tokens = torch.randint(0, 1000, (8, 32))
    loss = F.cross_entropy(model(tokens)[0][:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(1000), rel=0.1)


def test_dropout_reaches_every_site_of_each_architecture() -> None:
    gpt2 = dropout_sites(small("gpt2", dropout=0.25))
    assert set(gpt2.values()) == {0.25}
    assert (
        len(gpt2) == 1 + 2 * 3
    )  # embedding, and in each block: attention weights, attention output, feed-forward
    llama = dropout_sites(small("llama", dropout=0.25))
    assert llama == {f"model.model.layers.{block}.self_attn.attention_dropout": 0.25 for block in (0, 1)}
    assert dropout_sites(small("gpt2")) == {}


def test_config_keys_reach_the_model_under_either_name() -> None:
    assert small("gpt2", config={"n_inner": 24}).model.transformer.h[0].mlp.c_fc.weight.shape == (16, 24)
    assert len(small("gpt2", config={"n_layer": 1}).parts.stack) == 1
    assert len(small("gpt2", config={"num_hidden_layers": 1}).parts.stack) == 1
    assert small("llama", config={"num_key_value_heads": 1}).model.model.layers[
        0
    ].self_attn.k_proj.weight.shape == (8, 16)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"architecture": "gpt5000"}, "'gpt5000' is unknown"),
        ({"architecture": "t5"}, "t5 cannot be built"),
        ({"architecture": "mamba", "dropout": 0.1}, "mamba has no dropout"),
        ({"config": {"n_innner": 24}}, "'n_innner' is unknown to architecture gpt2"),
        ({"config": {"n_layer": "two"}}, "expected int, got str"),
        ({"width": 15}, "width 15 does not divide into 2 heads"),
        ({"dropout": 1.5}, r"dropout is 1\.5"),
        ({"depth": 2.5}, r"depth is 2\.5"),
    ],
)
def test_bad_input_is_named_in_one_line(options: dict, wrong: str) -> None:
    with pytest.raises(BadInput, match=wrong) as raised:
        small(**{"architecture": "gpt2", **options})
    assert "\n" not in str(raised.value)
