"""Check claims that are exact: counts of parameters, gradients, decay, checkpoints, scales at the start."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from bench.analysis.statistics import interval
from bench.claims.checks import networks
from bench.claims.parts import Measure, Part
from bench.models.transformer import CausalLM
from bench.training.optimizer import decay_groups
from bench.tying import Tie, TyingPlan, methods
from bench.tying.structure import Parts

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
    return methods.cross_layer(bert, scope="all")


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


def gradients(tasks: Sequence[str], tyings: Sequence[str]) -> list[Part]:
    """`sum_error`: how far the gradient of a tied tensor is from the sum over its uses in the untied twin.

    The largest relative error over the tied tensors, in float64, one batch; `mean_error` the same for the mean.
    """
    return [_gradient(*where) for where in _tied(tasks, tyings)]


def _tied(tasks: Sequence[str], tyings: Sequence[str]) -> list[tuple[str, str, TyingPlan]]:
    """Task, tying and plan of the networks that can be tied so."""
    every = [(task, tying, networks.plan(task, tying)) for task in tasks for tying in tyings]
    return [(task, tying, plan) for task, tying, plan in every if plan is not None]


def _gradient(task: str, tying: str, plan: TyingPlan) -> Part:
    untied = networks.network(task, dtype=torch.float64)
    tied = networks.tied(untied, task, tying)
    twin = networks.twin(tied, untied)
    for model in (tied, twin):
        networks.loss(model, *networks.batch(task, dtype=torch.float64)).backward()
    own = dict(twin.named_parameters())
    errors: dict[str, list[float]] = {"sum_error": [], "mean_error": []}
    for tie in plan.ties:
        whole = tied.get_parameter(tie.names[0]).grad
        total = sum(own[name].grad for name in tie.names)
        for key, expected in (("sum_error", total), ("mean_error", total / len(tie.names))):
            errors[key].append(float((whole - expected).norm() / expected.norm()))
    measures = tuple(Measure(key, rounded(max(values)), "relative") for key, values in errors.items())
    uses = sum(len(tie.names) for tie in plan.ties)
    return Part(f"{task}, {tying}", measures, f"tied tensors {len(plan.ties)}, uses {uses}")


def decay(tasks: Sequence[str], tyings: Sequence[str], lr: float, weight_decay: float) -> list[Part]:
    """One AdamW step without a gradient: how far each tied tensor is from (1 - lr x weight_decay) of itself.

    `once_error` from one factor; `per_use_error` from one factor per use. Largest over the tensors, relative.
    """
    found = []
    for task, tying, plan in _tied(tasks, tyings):
        tied = networks.tied(networks.network(task, dtype=torch.float64), task, tying)
        before = {name: p.detach().clone() for name, p in tied.named_parameters(remove_duplicate=False)}
        groups, _ = decay_groups(tied, weight_decay)
        for parameter in tied.parameters():
            parameter.grad = torch.zeros_like(parameter)
        torch.optim.AdamW(groups, lr=lr).step()
        found.append(Part(f"{task}, {tying}", _decayed(plan, tied, before, 1 - lr * weight_decay)))
    return found


def _decayed(
    plan: TyingPlan, tied: nn.Module, before: Mapping[str, torch.Tensor], factor: float
) -> tuple[Measure, ...]:
    errors: dict[str, list[float]] = {"once_error": [], "per_use_error": []}
    for tie in plan.ties:
        for role in tie.names:
            now, then = tied.get_parameter(role).detach(), before[role]
            for key, power in (("once_error", 1), ("per_use_error", len(tie.names))):
                expected = factor**power * then
                errors[key].append(float((now - expected).norm() / expected.norm()))
    return tuple(Measure(key, rounded(max(values)), "relative") for key, values in errors.items())


def checkpoints(tasks: Sequence[str], layers: int, width: int) -> list[Part]:
    """`size`: bytes on disk of a model shared along its depth over those of the untied; `of_depth`: times the depth.

    A claim of 1/L is one of `of_depth` = 1. First for the layers alone, norms and biases shared too, then for
    whole networks of the bench. `reload_error`: how far the outputs are after saving and loading; the tie holds.
    """
    torch.manual_seed(1)
    alone = CausalLM(vocab_size=8, window=8, depth=layers, width=width, heads=4)
    blocks = [alone.get_submodule(block) for block in alone.parts.stack]
    size = _bytes(nn.ModuleList(blocks))
    methods.cross_layer(alone, scope="all").apply(alone)
    found = [_size(f"the {layers} layers alone", layers, size, _bytes(nn.ModuleList(blocks)))]
    for task in tasks:
        untied = networks.network(task)
        tied = networks.tied(untied, task, "cross_layer")
        part = _size(f"{task}, whole", len(untied.parts.stack), _bytes(untied), _bytes(tied))
        error = Measure("reload_error", _reloaded(task, tied), "")
        found.append(Part(part.name, (*part.measures, error), part.note))
    return found


def _size(name: str, depth: int, before: int, after: int) -> Part:
    ratio = after / before
    measures = (Measure("size", ratio, "of the untied"), Measure("of_depth", ratio * depth, f"x 1/{depth}"))
    return Part(name, measures, f"{before:,} bytes untied, {after:,} shared")


def _bytes(model: nn.Module) -> int:
    """Of the file that torch.save writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(model.state_dict(), path)
        return path.stat().st_size


@torch.no_grad()
def _reloaded(task: str, tied: nn.Module) -> float:
    """The largest difference of outputs after saving, and loading into a tied network of other weights."""
    other, inputs = (
        networks.tied(networks.network(task, seed=2), task, "cross_layer"),
        networks.batch(task)[0],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(tied.state_dict(), path)
        other.load_state_dict(torch.load(path, weights_only=True))
    networks.plan(task, "cross_layer").verify(other)
    one, two = (model.eval()(inputs) for model in (tied, other))
    one, two = (out[0] if isinstance(out, tuple) else out for out in (one, two))
    return float((one - two).abs().max())


def scales(tasks: Sequence[str], tying: str, seeds: int) -> list[Part]:
    """Ratios tied over untied, geometric means over seeds with the interval of their logarithms.

    `activation`: root mean square of what the last block gives; `gradient`: of the loss's gradient with respect
    to what the first block gives; `weight`: of the gradient of the blocks' weights, which a shared tensor gets
    from all its uses. One random batch a seed, in float64. One part per network of the bench.
    """
    found = []
    for task in tasks:
        logs: dict[str, list[float]] = {"activation": [], "gradient": [], "weight": []}
        for seed in range(1, seeds + 1):
            model = networks.network(task, seed, torch.float64)
            tied = _scales(networks.tied(model, task, tying), task, seed)
            untied = _scales(model, task, seed)
            for name in logs:
                logs[name].append(math.log(tied[name] / untied[name]))
        found.append(Part(task, tuple(_ratio(name, values) for name, values in logs.items())))
    return found


def _ratio(name: str, logs: list[float]) -> Measure:
    mean, low, high, n = interval(logs)
    ends = [None if end is None else math.exp(end) for end in (low, high)]
    return Measure(name, math.exp(mean), "x the untied", *ends, n, is_ratio=True)


def _scales(model: nn.Module, task: str, seed: int) -> dict[str, float]:
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)
        outputs[-1].retain_grad()

    blocks = [model.get_submodule(name) for name in model.parts.stack]
    for block in blocks:
        block.register_forward_hook(keep)
    networks.loss(model, *networks.batch(task, seed, torch.float64)).backward()
    weights = {id(p): p for block in blocks for p in block.parameters() if p.ndim >= 2}
    return {
        "activation": _rms([outputs[-1]]),
        "gradient": _rms([outputs[0].grad]),
        "weight": _rms([weight.grad for weight in weights.values()]),
    }


def _rms(tensors: Sequence[Tensor]) -> float:
    total = sum(float(tensor.detach().square().sum()) for tensor in tensors)
    return math.sqrt(total / sum(tensor.numel() for tensor in tensors))
