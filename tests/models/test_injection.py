"""Injection of the embedded input: what it adds, where, and that it goes along with a copy."""

import copy

import pytest
import torch

from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM
from bench.tying import methods
from bench.tying.errors import BadInput

KINDS = {
    "gru": lambda **more: GRULanguageModel(11, depth=more.pop("depth", 3), width=8, **more),
    "gpt2": lambda **more: CausalLM(11, 8, "gpt2", depth=more.pop("depth", 3), width=8, heads=2, **more),
    "llama": lambda **more: CausalLM(11, 8, "llama", depth=more.pop("depth", 3), width=8, heads=2, **more),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
TOKENS = torch.tensor([[1, 4, 2, 9, 3, 3]])


def model(kind, **more):
    torch.manual_seed(0)
    return KINDS[kind](**more).double().eval()


def read_by_blocks(network):
    """What each block reads, and what it gives."""
    seen = []
    blocks = [network.get_submodule(name) for name in network.parts.stack]
    first = lambda x: x[0] if isinstance(x, tuple) else x  # noqa: E731
    # After the injection's own: hooks are called in the order in which they came.
    handles = [
        block.register_forward_hook(
            lambda _, given, out: seen.append((given[0].detach(), first(out).detach()))
        )
        for block in blocks
    ]
    network(TOKENS)
    for handle in handles:
        handle.remove()
    return seen


@every_kind
def test_each_block_after_the_first_reads_the_embedded_input_too(kind):
    plain, injected = read_by_blocks(model(kind)), read_by_blocks(model(kind, injection="add"))
    embedded = injected[0][0]
    assert torch.equal(embedded, plain[0][0])
    for (_, before), (given, _) in zip(injected, injected[1:], strict=False):
        torch.testing.assert_close(given, before + embedded, rtol=0, atol=1e-12)
    for (_, before), (given, _) in zip(plain, plain[1:], strict=False):
        assert torch.equal(given, before)


@every_kind
def test_one_block_has_nothing_to_add_to(kind):
    one, other = (model(kind, depth=1, injection=way)(TOKENS)[0] for way in ("none", "add"))
    assert torch.equal(one, other)


@every_kind
def test_it_has_no_parameters_and_changes_no_initial_weight(kind):
    one, other = (model(kind, injection=way).state_dict() for way in ("none", "add"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@every_kind
def test_a_copy_has_an_injection_of_its_own(kind):
    """Also one made in training, between a step and the next."""
    original = model(kind, injection="add").train()
    original(TOKENS)[0].sum().backward()
    twin = copy.deepcopy(original)
    with torch.no_grad():
        twin.get_parameter(twin.parts.embedding).mul_(2)
    for network in (original, twin):
        seen = read_by_blocks(network)
        torch.testing.assert_close(seen[1][0], seen[0][1] + seen[0][0], rtol=0, atol=1e-12)
    assert not torch.allclose(original(TOKENS)[0], twin(TOKENS)[0])


@every_kind
def test_a_tied_network_injects_as_well(kind):
    network = model(kind, injection="add")
    methods.cross_layer(network).apply(network)
    seen = read_by_blocks(network)
    torch.testing.assert_close(seen[2][0], seen[1][1] + seen[0][0], rtol=0, atol=1e-12)


@every_kind
def test_decoding_token_by_token_gives_the_logits_of_the_whole(kind):
    network, past, logits = model(kind, injection="add"), None, []
    whole = network(TOKENS)[0]
    for at in range(TOKENS.shape[1]):
        out, past = network.decode(TOKENS[:, at : at + 1], past)
        logits.append(out)
    torch.testing.assert_close(torch.cat(logits, 1), whole, rtol=0, atol=1e-6)


@every_kind
def test_another_word_is_refused(kind):
    with pytest.raises(BadInput, match=r"model\.injection=mul is not allowed: it must be none or add"):
        model(kind, injection="mul")
