"""Exact claims on gradients, weight decay and checkpoints, computed on networks of the bench."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from bench.adamw import decay_groups
from bench.ledger import networks
from bench.ledger.counts import rounded
from bench.ledger.parts import Measure, Part
from bench.models.transformer import CausalLM
from bench.tying import TyingPlan, strategies


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
    strategies.cross_layer(alone, scope="all").apply(alone)
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
