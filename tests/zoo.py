"""Small networks of many architectures of `transformers`, from configs alone: nothing is downloaded."""

import inspect
from typing import Any

import torch
import transformers as hub
from torch import nn

_TEXT = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GPT2 = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32, "n_inner": 32}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 2}
_BART = {
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
_BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "ffn_dim": 32}
_MOE = {"num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
_MOE |= {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1}
_MOE |= {"n_shared_experts": 1}
_IMAGE = {"image_size": 32, "patch_size": 8, "num_channels": 3, "num_labels": 4}
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "num_stages": 2, "embed_dim": 8}
_STAGES |= {"num_heads": [2, 2], "window_size": 2, "layer_type": "basic"}

CAUSAL = """
Llama Mistral Qwen2 Qwen3 Gemma Gemma2 Phi Phi3 Olmo Olmo2 StableLm Starcoder2 Cohere Cohere2
Granite Glm Glm4 GPTNeoX GPTNeo GPTJ GPT2 GPTBigCode OPT Bloom Falcon Mpt CodeGen XGLM Helium
SmolLM3 Ernie4_5 Nemotron Mixtral Qwen2Moe Qwen3Moe Olmoe GraniteMoe Phimoe DeepseekV2 DeepseekV3
GptOss Jamba JetMoe Mamba Mamba2 FalconMamba Bamba RecurrentGemma Rwkv Persimmon BioGpt CTRL
OpenAIGPT Arcee SeedOss
""".split()  # noqa: SIM905  read as text
MASKED = """
Bert Roberta Electra DistilBert Albert MobileBert DebertaV2 Deberta MPNet ConvBert RoFormer
XLMRoberta Camembert Ernie FNet Nystromformer Yoso Longformer BigBird ModernBert Esm Funnel LayoutLM
IBert MegatronBert RemBert XLM Flaubert
""".split()  # noqa: SIM905  read as text
BOTH = """
T5 MT5 Bart MBart Pegasus Marian Blenderbot BlenderbotSmall LongT5 SwitchTransformers M2M100 PLBart
ProphetNet UMT5
""".split()  # noqa: SIM905  read as text
IMAGES = """
ViT DeiT Beit Swin Swinv2 ConvNext ConvNextV2 ResNet RegNet PoolFormer Dinov2 MobileViT MobileNetV1
MobileNetV2 PvtV2 Hiera ViTMSN FocalNet Data2VecVision Cvt
""".split()  # noqa: SIM905  read as text

SUFFIXES = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "WithLMHeadModel")
NOT_FOR = {
    "Falcon": ["head_dim"],
    "CodeGen": ["head_dim", "num_attention_heads"],
    "Funnel": ["num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"],
    "ProphetNet": ["num_hidden_layers", "num_attention_heads"],
    "Swin": ["num_attention_heads", "num_hidden_layers", "hidden_size"],
    "Swinv2": ["num_attention_heads", "num_hidden_layers", "hidden_size"],
    "RegNet": ["layer_type"],
    "Bit": ["layer_type"],
    "Hiera": ["patch_size", "hidden_size"],
}
"""Keys that would be taken for others."""
OWN: dict[str, dict[str, Any]] = {
    "DeepseekV2": {
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
    },
    "DeepseekV3": {
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
    },
    "GPTJ": {"rotary_dim": 4},
    "CodeGen": {"rotary_dim": 4, "n_head": 4},
    "GPTNeo": {
        "num_hidden_layers": 4,
        "num_layers": 4,
        "attention_types": [[["global", "local"], 2]],
        "num_heads": 2,
    },
    "ConvNext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1], "num_stages": 4},
    "ConvNextV2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1], "num_stages": 4},
    "MobileNetV1": {"depth_multiplier": 0.25},
    "MobileNetV2": {"depth_multiplier": 0.1},
    "OPT": {"word_embed_proj_dim": 16},
    "Mpt": {"d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 32},
    "Bloom": {"n_layer": 3, "n_head": 2},
    "XGLM": {"d_model": 16, "attention_heads": 2, "num_layers": 3, "ffn_dim": 32},
    "Jamba": {"mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "num_hidden_layers": 4},
    "Mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1, "state_size": 8, "chunk_size": 8},
    "Bamba": {
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
        "mamba_d_state": 8,
        "attn_layer_indices": [1],
    },
    "RecurrentGemma": {"lru_width": 16, "attention_window_size": 8, "num_hidden_layers": 4},
    "Rwkv": {"attention_hidden_size": 16},
    "CTRL": {"dff": 32},
    "DistilBert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "Albert": {"embedding_size": 16},
    "Electra": {"embedding_size": 16},
    "MobileBert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "RoFormer": {"embedding_size": 16},
    "ConvBert": {"embedding_size": 16, "conv_kernel_size": 3, "head_ratio": 1},
    "Funnel": {"block_sizes": [2, 2], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32},
    "XLM": {"emb_dim": 16, "n_layers": 3, "n_heads": 2},
    "Flaubert": {"emb_dim": 16, "n_layers": 3, "n_heads": 2},
    "Longformer": {"attention_window": 4},
    "ModernBert": {
        "cls_token_id": 1,
        "sep_token_id": 2,
        "global_attn_every_n_layers": 2,
        "local_attention": 8,
    },
    "Esm": {"mask_token_id": 3, "vocab_list": None},
    "ProphetNet": {"hidden_size": 16, "num_encoder_layers": 2, "num_decoder_layers": 2}
    | {"num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2},
    "Hiera": {
        "embed_dim": 8,
        "depths": [1, 2],
        "num_heads": [1, 2],
        "image_size": [32, 32],
        "patch_kernel": [7, 7],
    }
    | {"masked_unit_size": [2, 2], "num_query_pool": 1},
    "Swinv2": {"pretrained_window_sizes": [0, 0]},
    "PvtV2": {"hidden_sizes": [8, 16], "depths": [2, 2], "num_encoder_blocks": 2, "patch_sizes": [7, 3]}
    | {"sr_ratios": [2, 1], "mlp_ratios": [2, 2], "num_attention_heads": [1, 2], "strides": [4, 2]},
    "Segformer": {"hidden_sizes": [8, 16], "depths": [2, 2], "num_encoder_blocks": 2, "patch_sizes": [7, 3]}
    | {"sr_ratios": [2, 1], "mlp_ratios": [2, 2], "num_attention_heads": [1, 2], "strides": [4, 2]}
    | {"decoder_hidden_size": 16},
    "PoolFormer": {"hidden_sizes": [8, 16], "depths": [2, 2], "num_encoder_blocks": 2, "patch_sizes": [7, 3]}
    | {"strides": [4, 2], "padding": [2, 1], "mlp_ratio": 2.0},
    "Cvt": {"embed_dim": [8, 16], "num_heads": [1, 2], "depth": [1, 2], "cls_token": [False, True]},
    "MobileViT": {"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 8]}
    | {"num_attention_heads": 2, "patch_size": 2},
}


def build(name: str) -> nn.Module:
    """A small one of this architecture, in evaluation mode. ValueError where this transformers has none."""
    family, suffixes = "causal", SUFFIXES
    if name in IMAGES:
        family, suffixes = "image", ("ForImageClassification",)
    elif name in BOTH:
        family, suffixes = "both", ("ForConditionalGeneration", "MTModel")
    elif name in MASKED:
        suffixes = ("ForMaskedLM", "WithLMHeadModel", "ForCausalLM")
    kind = next((getattr(hub, name + suffix) for suffix in suffixes if hasattr(hub, name + suffix)), None)
    if kind is None:
        raise ValueError(f"transformers {hub.__version__} has no {name}")
    sizes = {
        "causal": _TEXT | _GPT2 | _MOE,
        "both": _TEXT | _T5 | _BART | _MOE | {"num_experts": 2},
        "image": _TEXT | _IMAGE | _STAGES,
    }[family] | OWN.get(name, {})
    config = kind.config_class
    names = set(inspect.signature(config.__init__).parameters) | set(getattr(config, "__annotations__", ()))
    names |= set(dir(config)) | set(getattr(config, "attribute_map", {}))
    for base in config.__mro__:
        names |= set(getattr(base, "__annotations__", ()))
    wanted = names - {*NOT_FOR.get(name, ())}
    torch.manual_seed(0)
    return kind(config(**{key: value for key, value in sizes.items() if key in wanted})).eval()
