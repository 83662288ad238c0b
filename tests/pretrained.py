"""Small networks of `transformers`, random weights, with something for each of them to read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hub
from torch import Tensor, nn

TOKENS = {"input_ids": torch.arange(8).reshape(2, 4)}
IMAGES = {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)}
_OWN = {"num_hidden_layers": 4, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}


@dataclass(frozen=True)
class Known:
    """How it is made, what it reads, and where its blocks are."""

    make: Callable[..., nn.Module]
    reads: dict[str, Tensor]
    stack: str
    blocks: int = 4


def gpt2(**more: Any) -> nn.Module:
    sizes = {"n_layer": 4, "n_embd": 16, "n_head": 2, "vocab_size": 50, "n_positions": 8}
    return hub.GPT2LMHeadModel(hub.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, **more))


def llama(**more: Any) -> nn.Module:
    return hub.LlamaForCausalLM(hub.LlamaConfig(**_OWN, vocab_size=50, **more))


def bert(**more: Any) -> nn.Module:
    return hub.BertForMaskedLM(hub.BertConfig(**_OWN, vocab_size=50, max_position_embeddings=8, **more))


def t5(**more: Any) -> nn.Module:
    sizes = {"num_layers": 4, "d_model": 16, "num_heads": 2, "d_kv": 8, "d_ff": 32, "vocab_size": 50}
    return hub.T5ForConditionalGeneration(hub.T5Config(**sizes, **more))


def vit(**more: Any) -> nn.Module:
    return hub.ViTForImageClassification(hub.ViTConfig(**_OWN, image_size=8, patch_size=4, **more))


def resnet(**more: Any) -> nn.Module:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [3, 3], "layer_type": "basic"}
    return hub.ResNetForImageClassification(hub.ResNetConfig(**sizes, **more))


KNOWN = {
    "gpt2": Known(gpt2, TOKENS, "transformer.h"),
    "llama": Known(llama, TOKENS, "model.layers"),
    "bert": Known(bert, TOKENS, "bert.encoder.layer"),
    "t5": Known(t5, TOKENS | {"decoder_input_ids": torch.arange(6).reshape(2, 3)}, "decoder.block"),
    "vit": Known(vit, IMAGES, "vit.layers"),
    "resnet": Known(resnet, IMAGES, "resnet.encoder.stages.*.layers.*", 6),
}


def made(name: str, **more: Any) -> nn.Module:
    """The network in evaluation mode, its weights those of one seed."""
    torch.manual_seed(0)
    return KNOWN[name].make(**more).eval()


@torch.no_grad()
def read(name: str, model: nn.Module) -> Tensor:
    return model(**KNOWN[name].reads).logits
