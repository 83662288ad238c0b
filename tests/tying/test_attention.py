"""What attention shares: heads, keys with values, layers; what must be kept of a token; grouped-query models."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.tying import NotApplicable, Tie, TyingPlan, gates, gqa, hashed, k_equals_v, kv_across_layers, mqa
from bench.tying.attention import grouped_query, kv_numbers_per_token
from bench.tying.errors import BadInput

TOKENS = {"input_ids": torch.arange(6)[None]}
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 16, "vocab_size": 11}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0}
CONFIGS = {
    "llama": lambda **more: LlamaConfig(**SIZES | SPECIAL, intermediate_size=24, **more),
    "qwen2": lambda **more: Qwen2Config(
        **SIZES | SPECIAL, intermediate_size=24, num_key_value_heads=4, **more
    ),
    "gpt2": lambda **more: GPT2Config(**SIZES | SPECIAL, **more),
}
METHODS = {
    "mqa": (mqa, 2 * 2 * 4),
    "gqa": (lambda model: gqa(model, kv_heads=2), 2 * 2 * 8),
    "k_equals_v": (k_equals_v, 2 * 16),
    "kv_across_layers": (lambda model: kv_across_layers(model, repeats=2), 2 * 2 * 16),
    "all of them": (lambda model: mqa(model) + k_equals_v(model) + kv_across_layers(model, repeats=2), 2 * 4),
}


def network(kind, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](tie_word_embeddings=False)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases begin at zero, which would be equal by chance
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_shared_is_proven_counted_and_kept_once(kind, method):
    model = network(kind)
    make, kept = METHODS[method]
    assert kv_numbers_per_token(model) == 2 * 2 * 16
    plan = make(model)
    predicted = plan.num_params(model)
    assert predicted < sum(p.numel() for p in model.parameters())
    plan.apply(model, example=TOKENS)
    plan.verify(model)
    assert predicted == sum(p.numel() for p in model.parameters())
    assert kv_numbers_per_token(model) == kept
    assert make(model) == plan


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_model_with_shared_heads_is_a_grouped_query_model(kind, heads):
    """Its weights are those of the grouped-query model to the bit, each head as often as it is used."""
    model = network(kind).double()
    plan = gqa(model, kv_heads=heads)
    plan.apply(model)
    exported = grouped_query(model)
    assert exported.config.num_key_value_heads == heads
    assert sum(p.numel() for p in exported.parameters()) == plan.num_params(model)
    for ours, theirs in zip(model.model.layers, exported.model.layers, strict=True):
        for name in ("k_proj", "v_proj"):
            rows = theirs.self_attn.get_submodule(name).weight.view(heads, 1, 4, 16)
            used = rows.expand(-1, 4 // heads, -1, -1).reshape(16, 16)
            assert torch.equal(ours.self_attn.get_submodule(name).weight, used)
    torch.testing.assert_close(exported(**TOKENS).logits, model(**TOKENS).logits, rtol=0, atol=1e-14)
    assert kv_numbers_per_token(exported) == kv_numbers_per_token(model)


def test_what_has_no_such_config_or_no_equal_heads_is_not_exported():
    with pytest.raises(NotApplicable, match="num_key_value_heads"):
        grouped_query(network("gpt2"))
    model = network("llama")
    layer = model.model.layers[0].self_attn.k_proj
    TyingPlan((mqa(model).ties[0],)).apply(model)
    assert grouped_query(model).config.num_key_value_heads == 4
    assert layer.weight.shape == (16, 16)


def test_as_many_heads_or_layers_as_there_are_tie_nothing():
    model = network("llama")
    assert gqa(model, kv_heads=4) == kv_across_layers(model, repeats=1) == TyingPlan()
    assert gqa(model, kv_heads=1) == mqa(model)


@pytest.mark.parametrize("heads", [0, 3, 8, True, 1.0])
def test_heads_that_do_not_divide_are_refused(heads):
    with pytest.raises(BadInput, match="the 4 heads of .* fall into equal groups of: 1, 2, 4"):
        gqa(network("llama"), kv_heads=heads)


@pytest.mark.parametrize(
    ("make", "model", "reason"),
    [
        (mqa, lambda: GRULanguageModel(11, depth=2, width=8), "no keys and values"),
        (k_equals_v, lambda: ResNet(1, 2, depth=3, stages=1, width=4), "no keys and values"),
        (gates, lambda: network("llama"), "no GRU or LSTM"),
        (
            lambda m: hashed(m, fraction=0.5, scope="recurrent"),
            lambda: network("llama"),
            "within scope 'recurrent'",
        ),
    ],
)
def test_what_a_network_has_not_is_not_applicable_with_its_reason(make, model, reason):
    with pytest.raises(NotApplicable, match=reason):
        make(model())


def test_gates_and_hashes_leave_what_they_say():
    model = GRULanguageModel(11, depth=2, width=8)
    ties = gates(model).ties
    assert [tie.views[0].shape for tie in ties] == [(8, 8)] * 2
    plan = hashed(model, fraction=0.125)
    assert all(tie.views[0].shape == (1, 24) for tie in plan.ties) and len(plan.ties) == 4
    assert plan == hashed(model, fraction=0.125) and plan != hashed(model, fraction=0.25)
    with pytest.raises(BadInput, match="fraction is 0"):
        hashed(model, fraction=0)
    assert isinstance(plan.ties[0], Tie)
