"""Layers that use the keys and values of a layer before them."""

import copy

import pytest
import torch

from bench.models.kv_activations import SharedKeysAndValues
from bench.models.transformer import CausalLM
from bench.tying import mqa
from bench.tying.attention import kv_numbers_per_token
from bench.tying.errors import BadInput

SIZES = {"depth": 4, "width": 16, "heads": 2}
TOKENS = torch.tensor([[1, 4, 2, 9, 3, 3]])


def model(kind=SharedKeysAndValues, **more):
    torch.manual_seed(0)
    return kind(11, 8, "llama", **SIZES, **more).double().eval()


def test_a_layer_reads_the_keys_and_values_of_the_first_of_its_group():
    """It answers as a network does whose second layer is given them by hand."""
    shared, plain = model(), model(CausalLM)
    plain.load_state_dict(shared.state_dict(), strict=False)
    made = {}
    for at, layer in enumerate(plain.model.model.layers):
        for name in ("k_proj", "v_proj"):
            projection = layer.self_attn.get_submodule(name)
            if at % 2 == 0:
                projection.register_forward_hook(lambda _, __, out, name=name: made.update({name: out}))
            else:
                projection.register_forward_hook(lambda _, __, ___, name=name: made[name])
    assert torch.equal(shared(TOKENS)[0], plain(TOKENS)[0])
    assert kv_numbers_per_token(shared) * 2 == kv_numbers_per_token(plain) == 4 * 2 * 16
    assert not torch.equal(shared(TOKENS)[0], model(CausalLM)(TOKENS)[0])


def test_one_repeat_shares_nothing():
    assert torch.equal(model(repeats=1)(TOKENS)[0], model(CausalLM)(TOKENS)[0])


def test_a_copy_has_its_own_and_heads_can_be_shared_besides():
    shared = model()
    shared(TOKENS)[0].sum().backward()
    twin = copy.deepcopy(shared)
    with torch.no_grad():
        twin.model.model.layers[0].self_attn.k_proj.weight.mul_(2)
    assert not torch.equal(twin(TOKENS)[0], shared(TOKENS)[0])
    mqa(twin).apply(twin, example=TOKENS)
    assert kv_numbers_per_token(twin) * 2 == kv_numbers_per_token(shared)


def test_a_token_is_decoded_as_it_is_read():
    shared, past = model(), None
    for at in range(TOKENS.shape[1]):
        logits, past = shared.decode(TOKENS[:, at : at + 1], past)
        torch.testing.assert_close(logits[:, -1], shared(TOKENS[:, : at + 1])[0][:, -1])


def test_a_fused_layer_is_refused():
    with pytest.raises(BadInput, match="by one layer"):
        SharedKeysAndValues(11, 8, "gpt2", **SIZES)
    with pytest.raises(BadInput, match="repeats"):
        model(repeats=0)
