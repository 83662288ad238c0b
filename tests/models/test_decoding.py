"""What the language models offer besides logits: hidden states for the output layer, and token by token."""

import pytest
import torch

from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM

ARCHITECTURES = ("gpt2", "llama", "gpt_neox")


def made(kind: str):
    torch.manual_seed(0)
    if kind == "gru":
        return GRULanguageModel(50, depth=2, width=16).eval()
    return CausalLM(50, 8, architecture=kind, depth=2, width=16, heads=2).eval()


every_model = pytest.mark.parametrize("kind", ["gru", *ARCHITECTURES])
TOKENS = torch.arange(16).view(2, 8)


@every_model
@torch.no_grad()
def test_logits_are_the_output_layer_of_the_hidden_states(kind):
    model = made(kind)
    hidden, _ = model.hidden(TOKENS)
    torch.testing.assert_close(model.output_layer(hidden), model(TOKENS)[0], rtol=0, atol=1e-6)
    last, _ = model.hidden(TOKENS, last=3)
    torch.testing.assert_close(last, hidden[:, -3:], rtol=0, atol=1e-6)


@every_model
@torch.no_grad()
def test_token_by_token_is_the_whole_window(kind):
    model = made(kind)
    whole = model(TOKENS)[0]
    logits, past = model.decode(TOKENS[:, :4])
    assert logits.shape == (2, 1, 50)
    for at in range(4, 8):
        torch.testing.assert_close(logits[:, 0], whole[:, at - 1], rtol=0, atol=1e-5)
        logits, past = model.decode(TOKENS[:, at : at + 1], past)
    torch.testing.assert_close(logits[:, 0], whole[:, 7], rtol=0, atol=1e-5)


def test_an_architecture_that_caps_its_logits_has_no_linear_output_layer():
    capped = CausalLM(
        50, 8, architecture="gemma2", depth=2, width=16, heads=2, config={"final_logit_softcapping": 0.001}
    )
    assert capped.output_layer is None
    assert capped.training  # asking has changed nothing


@every_model
def test_the_output_layer_is_the_parameter_itself(kind):
    model = made(kind)
    assert model.output_layer.weight is dict(model.named_parameters())[model.parts.unembedding]
