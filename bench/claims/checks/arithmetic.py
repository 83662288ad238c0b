"""Check claims that are exact: counts of parameters, gradients, decay, checkpoints, scales at the start.

They are taken of the bench's own networks at their default sizes, and of random batches: no data is needed.
"""

import copy
import functools
import io
from collections.abc import Iterator, Mapping, Sequence

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from bench.claims.evaluate import Measure, Part
from bench.models.transformer import CausalLM
from bench.runs import machine
from bench.training.optimizer import decay_groups
from bench.tying import NotApplicable, Tie, TyingPlan, methods
from bench.tying.structure import Parts

SHAPES = {
    "image_cnn": {"in_channels": 1, "num_classes": 10},
    "text_gru": {"vocab_size": 4000},
    "text_transformer": {"vocab_size": 4000},
}
"""Sizes of the data that a task has: digits, and the words of pydocs."""
PIXELS, WINDOW, BATCH = 8, 32, 8


@functools.cache
def _config(task: str, tying: str = "none") -> DictConfig:
    with initialize_config_dir(str(machine.CONF), version_base="1.3"):
        return compose("config", [f"task={task}", f"tying={tying}"])


def network(task: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the network of a task, untied and without dropout; its weights depend on the seed alone."""
    torch.manual_seed(seed)
    return instantiate(_config(task).model, **SHAPES[task], dropout=0.0).to(dtype)


def plans(tasks: Sequence[str], tyings: Sequence[str]) -> Iterator[tuple[str, str, TyingPlan]]:
    """Yield task, tying and plan, without the networks that cannot be tied so."""
    for task in tasks:
        for tying in tyings:
            parts = instantiate(_config(task, tying).tying.parts)
            try:
                yield task, tying, methods.compose(network(task), parts=list(parts.values()))
            except NotApplicable:
                continue


def tied_copy(model: nn.Module, plan: TyingPlan) -> nn.Module:
    return plan.apply(copy.deepcopy(model))


def batch(task: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return random inputs and targets of the task's kind."""
    generator = torch.Generator().manual_seed(seed)
    if task == "image_cnn":
        images = torch.randn(BATCH, 1, PIXELS, PIXELS, generator=generator, dtype=torch.float64)
        return images.to(dtype), torch.randint(SHAPES[task]["num_classes"], (BATCH,), generator=generator)
    tokens = torch.randint(SHAPES[task]["vocab_size"], (BATCH, WINDOW + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    out = model(inputs)
    return out[0] if isinstance(out, tuple) else out


def loss(model: nn.Module, task: str, seed: int = 1) -> Tensor:
    """Return the mean cross entropy of a batch in float64."""
    inputs, targets = batch(task, seed, torch.float64)
    return F.cross_entropy(logits(model, inputs).flatten(0, -2), targets.flatten())


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def embeddings(tasks: Sequence[str]) -> list[Part]:
    """Measure `ratio`: tied over untied parameters of input embedding and output matrix; `whole`: percent saved in all.

    For GPT-2 small as published (its position embedding is counted in the whole alone), and networks of ours.
    """
    with torch.device("meta"):
        gpt2 = GPT2LMHeadModel(GPT2Config(tie_word_embeddings=False))
    models = {"GPT-2 small": (gpt2, ("transformer.wte.weight", "lm_head.weight"))}
    for task in tasks:
        model = network(task)
        models[task] = (model, (model.parts.embedding, model.parts.unembedding))
    parts = []
    for name, (model, matrices) in models.items():
        count = sum(model.get_parameter(matrix).numel() for matrix in matrices)
        before, after = parameters(model), TyingPlan((Tie(matrices),)).num_params(model)
        measures = (
            Measure("ratio", (count - (before - after)) / count, "of the embedding parameters"),
            Measure("whole", 100 * (before - after) / before, "% of the model saved"),
        )
        note = f"model of {before:,} parameters, {after:,} tied; embeddings {count:,}"
        parts.append(Part(name, measures, [note]))
    return parts


def albert() -> list[Part]:
    """Measure `factor`: parameters of BERT-large over those of ALBERT-large, and of BERT-large with layers shared."""
    large = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
    with torch.device("meta"):
        bert = BertModel(BertConfig(**large))
        small = AlbertModel(AlbertConfig(**large, embedding_size=128))
    whole, published, shared = parameters(bert), parameters(small), _layers_shared(bert)
    parts = []
    for name, before, after in (
        ("ALBERT-large", whole, published),
        ("BERT-large, layers shared and nothing else", whole, shared),
        ("what is left: the factorised embedding, 128 wide", shared, published),
    ):
        measure = Measure("factor", before / after, "x fewer parameters")
        parts.append(Part(name, (measure,), [f"{before:,} against {after:,}"], decides=before == whole))
    return parts


def _layers_shared(bert: nn.Module) -> int:
    """Count the parameters of a BERT whose encoder layers share everything, by the plan that the bench ties with."""
    stack = tuple(f"encoder.layer.{index}" for index in range(len(bert.encoder.layer)))
    bert.parts = Parts(stack=stack, embedding=None, unembedding=None, role=lambda name: "other")
    return methods.cross_layer(bert, scope="all").num_params(bert)


def twelve_layers() -> list[Part]:
    """Measure what sharing 12 encoder layers of width 768 saves, as `floats` and as `megabytes` of float32."""
    with torch.device("meta"):
        base = BertModel(BertConfig())
    saved = parameters(base) - _layers_shared(base)
    attention = sum(
        p.numel() for name, p in base.encoder.named_parameters() if "attention" in name and p.ndim == 2
    )
    parts = []
    for name, count in (
        ("12 layers of BERT-base, 11 saved", saved),
        ("the attention projections of all 12", attention),
    ):
        floats, megabytes = count / 1e6, 4 * count / 1e6
        measures = (Measure("floats", floats, "million"), Measure("megabytes", megabytes, "MB in float32"))
        parts.append(Part(name, measures, decides=count == saved))
    return parts


def convolutions() -> list[Part]:
    """Measure `factor`: weights of a layer with a kernel of its own at each place, over those of the convolution.

    One part per shape of convolution in the bench's CNN. `positions` is H'W'; `error` is how far the layer with
    equal kernels everywhere is from the convolution: the two are twins, not merely of one size.
    """
    model = network("image_cnn", dtype=torch.float64)
    parts: dict[str, Part] = {}

    def compare(conv: nn.Conv2d, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        name = f"{conv.in_channels} to {conv.out_channels} channels, {out.shape[2]} x {out.shape[3]} places"
        if name not in parts:
            parts[name] = Part(name, _local_twin(conv, inputs[0], out))

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(compare)
    with torch.no_grad():
        model(batch("image_cnn", dtype=torch.float64)[0])
    return list(parts.values())


def _local_twin(conv: nn.Conv2d, x: Tensor, out: Tensor) -> tuple[Measure, ...]:
    patches = F.unfold(x, conv.kernel_size, padding=conv.padding, stride=conv.stride)
    local = conv.weight.flatten(1).expand(patches.shape[2], -1, -1).contiguous()
    local_out = torch.einsum("bip,poi->bop", patches, local).view_as(out)
    error = float((local_out - out).abs().max() / out.abs().max())
    return (
        Measure("factor", local.numel() / conv.weight.numel(), "x the weights"),
        Measure("positions", float(out.shape[2] * out.shape[3]), "places"),
        Measure("error", rounded(error), "at most, relative"),
    )


def rounded(error: float) -> float:
    """Return an error at two digits; one of rounding, which no two machines share, as the power of ten above it."""
    bound = 1e-14
    while bound < error < 1e-6:
        bound *= 10
    return float(f"{max(error, bound):.1e}")


def _largest_errors(pairs: Mapping[str, Sequence[tuple[Tensor, Tensor]]]) -> tuple[Measure, ...]:
    """Return a measure per name: the largest relative error of its (value, expected) pairs."""
    errors = {
        name: [float((value - expected).norm() / expected.norm()) for value, expected in values]
        for name, values in pairs.items()
    }
    return tuple(Measure(name, rounded(max(values)), "relative") for name, values in errors.items())


def gradients(tasks: Sequence[str], tyings: Sequence[str]) -> list[Part]:
    """Measure `sum_error`: how far a tied tensor's gradient is from the sum over its uses in the untied twin.

    The largest relative error over the tied tensors, in float64, one batch; `mean_error` the same for the mean.
    """
    parts = []
    for task, tying, plan in plans(tasks, tyings):
        twin = network(task, dtype=torch.float64)
        tied = tied_copy(twin, plan)
        twin.load_state_dict(tied.state_dict())
        for model in (tied, twin):
            loss(model, task).backward()
        pairs: dict[str, list[tuple[Tensor, Tensor]]] = {"sum_error": [], "mean_error": []}
        for tie in plan.ties:
            gradient = tied.get_parameter(tie.names[0]).grad
            total = sum(twin.get_parameter(name).grad for name in tie.names)
            pairs["sum_error"].append((gradient, total))
            pairs["mean_error"].append((gradient, total / len(tie.names)))
        note = f"tied tensors {len(plan.ties)}, uses {sum(len(tie.names) for tie in plan.ties)}"
        parts.append(Part(f"{task}, {tying}", _largest_errors(pairs), [note]))
    return parts


def decay(tasks: Sequence[str], tyings: Sequence[str], lr: float, weight_decay: float) -> list[Part]:
    """Measure after one AdamW step without a gradient how far tied tensors are from (1 - lr x weight_decay) of theirs.

    `once_error` from one factor; `per_use_error` from one factor per use. Largest over the tensors, relative.
    """
    parts, factor = [], 1 - lr * weight_decay
    for task, tying, plan in plans(tasks, tyings):
        tied = tied_copy(network(task, dtype=torch.float64), plan)
        before = {name: p.detach().clone() for name, p in tied.named_parameters(remove_duplicate=False)}
        groups, _ = decay_groups(tied, weight_decay)
        for parameter in tied.parameters():
            parameter.grad = torch.zeros_like(parameter)
        torch.optim.AdamW(groups, lr=lr).step()
        roles = [(name, len(tie.names)) for tie in plan.ties for name in tie.names]
        pairs = {
            "once_error": [(tied.get_parameter(name).detach(), factor * before[name]) for name, _ in roles],
            "per_use_error": [
                (tied.get_parameter(name).detach(), factor**uses * before[name]) for name, uses in roles
            ],
        }
        parts.append(Part(f"{task}, {tying}", _largest_errors(pairs)))
    return parts


def checkpoints(tasks: Sequence[str], layers: int, width: int) -> list[Part]:
    """Measure `size`: bytes on disk of a model shared along its depth over those of the untied.

    `of_depth` is `size` times the depth: a claim of 1/L is one of `of_depth` = 1. First for the layers alone, norms
    and biases shared too, then for whole networks of the bench. `reload_error`: how far the outputs are after saving
    and loading; the tie holds.
    """
    torch.manual_seed(1)
    alone = CausalLM(vocab_size=8, window=8, depth=layers, width=width, heads=4)
    blocks = nn.ModuleList(alone.get_submodule(block) for block in alone.parts.stack)
    before = len(_checkpoint(blocks))
    methods.cross_layer(alone, scope="all").apply(alone)
    parts = [_size(f"the {layers} layers alone", layers, before, len(_checkpoint(blocks)))]
    for task, _, plan in plans(tasks, ["cross_layer"]):
        untied = network(task)
        before, tied = len(_checkpoint(untied)), tied_copy(untied, plan)
        saved = _checkpoint(tied)
        error = Measure("reload_error", _reload_error(task, plan, tied, saved))
        parts.append(_size(f"{task}, whole", len(untied.parts.stack), before, len(saved), error))
    return parts


def _size(name: str, depth: int, before: int, after: int, *more: Measure) -> Part:
    ratio = after / before
    measures = (
        Measure("size", ratio, "of the untied"),
        Measure("of_depth", ratio * depth, f"x 1/{depth}"),
        *more,
    )
    return Part(name, measures, [f"{before:,} bytes untied, {after:,} shared"])


def _checkpoint(model: nn.Module) -> bytes:
    """Return what torch.save writes."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.getvalue()


@torch.no_grad()
def _reload_error(task: str, plan: TyingPlan, tied: nn.Module, saved: bytes) -> float:
    """Return the largest difference of outputs after loading into a tied network of other weights."""
    loaded = tied_copy(network(task, seed=2), plan)
    loaded.load_state_dict(torch.load(io.BytesIO(saved), weights_only=True))
    plan.verify(loaded)
    inputs = batch(task)[0]
    one, other = (logits(model.eval(), inputs) for model in (tied, loaded))
    return float((one - other).abs().max())
