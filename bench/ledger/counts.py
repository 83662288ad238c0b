"""Arithmetic claims: parameters of networks that are built, on the meta device where they are large."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from bench.anatomy import Parts
from bench.ledger import networks
from bench.ledger.parts import Measure, Part
from bench.tying import Tie, TyingPlan, strategies

BERT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}


def embeddings(tasks: Sequence[str]) -> list[Part]:
    """`ratio`: tied over untied parameters of input embedding and output matrix; `whole`: percent saved in all.

    For GPT-2 small as published (its position embedding is counted in the whole alone), and networks of ours.
    """
    with torch.device("meta"):
        small = GPT2LMHeadModel(GPT2Config(tie_word_embeddings=False))
    found = [_embedding("GPT-2 small", small, "transformer.wte.weight", "lm_head.weight")]
    for task in tasks:
        model = networks.network(task)
        found.append(_embedding(task, model, model.parts.embedding, model.parts.unembedding))
    return found


def _embedding(name: str, model: nn.Module, embedding: str, output: str) -> Part:
    plan = TyingPlan((Tie((embedding, output)),))
    one, two = (dict(model.named_parameters())[key].numel() for key in (embedding, output))
    before, after = networks.parameters(model), plan.num_params(model)
    ratio = (one + two - (before - after)) / (one + two)
    measures = (
        Measure("ratio", ratio, "of the embedding parameters"),
        Measure("whole", 100 * (before - after) / before, "% of the model saved"),
    )
    return Part(name, measures, f"model of {before:,} parameters, {after:,} tied; embeddings {one + two:,}")


def albert() -> list[Part]:
    """`factor`: parameters of BERT-large over those of ALBERT-large, and of BERT-large with its layers shared."""
    with torch.device("meta"):
        bert = BertModel(BertConfig(**BERT_LARGE))
        small = AlbertModel(AlbertConfig(**BERT_LARGE, embedding_size=128))
    whole, published = networks.parameters(bert), networks.parameters(small)
    shared = _layers_shared(bert).num_params(bert)
    return [
        Part("ALBERT-large", _factor(whole, published), f"{whole:,} against {published:,}"),
        Part(
            "BERT-large, layers shared and nothing else",
            _factor(whole, shared),
            f"{whole:,} against {shared:,}",
        ),
        Part(
            "what is left: the factorised embedding, 128 wide",
            _factor(shared, published),
            f"{shared:,} against {published:,}",
            decides=False,
        ),
    ]


def _factor(before: int, after: int) -> tuple[Measure, ...]:
    return (Measure("factor", before / after, "x fewer parameters"),)


def _layers_shared(bert: nn.Module) -> TyingPlan:
    """All of every encoder layer with its namesakes, by the plan that the bench ties with."""
    depth = len(bert.encoder.layer)
    stack = tuple(f"encoder.layer.{index}" for index in range(depth))
    bert.parts = Parts(stack=stack, embedding=None, unembedding=None, role=lambda name: "other")
    return strategies.cross_layer(bert, scope="all")


def twelve_layers() -> list[Part]:
    """What sharing 12 encoder layers of width 768 saves, as `floats` and as `megabytes` of float32."""
    with torch.device("meta"):
        base = BertModel(BertConfig())
    saved = networks.parameters(base) - _layers_shared(base).num_params(base)
    attention = sum(
        p.numel() for name, p in base.encoder.named_parameters() if "attention" in name and p.ndim == 2
    )
    return [
        Part("12 layers of BERT-base, 11 saved", _floats(saved)),
        Part("the attention projections of all 12", _floats(attention), decides=False),
    ]


def _floats(count: int) -> tuple[Measure, ...]:
    return (Measure("floats", count / 1e6, "million"), Measure("megabytes", 4 * count / 1e6, "MB in float32"))


def convolutions() -> list[Part]:
    """`factor`: weights of a layer with a kernel of its own at each place, over those of the convolution.

    One part per shape of convolution in the bench's CNN. `positions` is H'W'; `error` is how far the layer with
    equal kernels everywhere is from the convolution: the two are twins, not merely of one size.
    """
    model = networks.network("image_cnn", dtype=torch.float64)
    seen: dict[str, Part] = {}

    def look(conv: nn.Conv2d, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        name = f"{conv.in_channels} to {conv.out_channels} channels, {out.shape[2]} x {out.shape[3]} places"
        if name not in seen:
            seen[name] = Part(name, _against_local(conv, inputs[0], out))

    hooks = [m.register_forward_hook(look) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(networks.batch("image_cnn", dtype=torch.float64)[0])
    for hook in hooks:
        hook.remove()
    return list(seen.values())


def _against_local(conv: nn.Conv2d, x: torch.Tensor, out: torch.Tensor) -> tuple[Measure, ...]:
    patches = F.unfold(x, conv.kernel_size, padding=conv.padding, stride=conv.stride)
    positions = patches.shape[2]
    local = conv.weight.flatten(1).expand(positions, -1, -1).contiguous()
    made = torch.einsum("bip,poi->bop", patches, local).view_as(out)
    error = float((made - out).abs().max() / out.abs().max())
    return (
        Measure("factor", local.numel() / conv.weight.numel(), "x the weights"),
        Measure("positions", float(out.shape[2] * out.shape[3]), "places"),
        Measure("error", rounded(error), "at most, relative"),
    )


def rounded(error: float) -> float:
    """An error at two digits; one of rounding, which no two machines share, as the power of ten above it."""
    bound = 1e-14
    while bound < error < 1e-6:
        bound *= 10
    return float(f"{max(error, bound):.1e}")
