"""The least that a training step can take on this machine, from its operations and bytes, and what it takes."""

from collections.abc import Sequence
from typing import Any

import torch

from bench.cross_entropy import linear_cross_entropy
from bench.measure.flops import flops_of
from bench.measure.rates import copy_rate, matmul_rate
from bench.perf.loops import adamw, same_loss, stepper
from bench.perf.pace import Pace
from bench.perf.sidebyside import medians
from bench.perf.stepping import CPU
from bench.perf.subjects import Subject

PASSES = 10
"""Over each weight's four bytes after the backward pass: clipping reads a gradient, then reads and writes it; AdamW
reads weight, gradient and two moments, and writes weight and two moments."""

ELEMENT = 4


def measure(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """floor_s = FLOPs over the matmul rate of their precision + PASSES over the weights at the copy rate."""
    rates = {
        "float32": matmul_rate(torch.float32, CPU),
        "bfloat16": matmul_rate(torch.bfloat16, CPU),
        "copy": copy_rate(CPU),
    }
    counts = {subject.name: _counts(subject) for subject in subjects}
    calls = {subject.name: _step(subject) for subject in subjects}
    took = medians(calls, pace.rounds)
    rows = []
    for name, (body, output, precision, moved) in counts.items():
        floor = body / rates["float32"] + output / rates[precision] + moved / rates["copy"]
        flops = {"body_flops": body, "output_flops": output, "output_precision": precision}
        rows.append({"subject": name, **flops, "bytes": moved, "floor_s": floor, "step_s": took[name]})
    return {"rates": rates, "passes": PASSES, "rounds": pace.rounds, "rows": rows}


def _counts(subject: Subject) -> tuple[int, int, str, int]:
    """FLOPs of a step below the output layer, and in it; the latter's precision; bytes that are moved after it."""
    total = flops_of(_step(subject))
    moved = PASSES * ELEMENT * sum(p.numel() for p in subject.model.parameters())
    if not subject.speaks:
        return total, 0, "float32", moved
    layer = subject.model.output_layer
    (batch,) = subject.batches(1)
    hidden = torch.zeros(batch[1].numel(), layer.in_features, requires_grad=True)
    precision = "bfloat16" if subject.config["trainer"]["output_precision"] == "bf16" else "float32"

    def output() -> None:
        dtype = getattr(torch, precision)
        linear_cross_entropy(hidden, layer.weight, layer.bias, batch[1].flatten(), dtype).backward()

    within = flops_of(output)
    layer.zero_grad(set_to_none=True)
    return total - within, within, precision, moved


def _step(subject: Subject) -> Any:
    """A bare training step of a copy, on one batch over and over."""
    model = subject.fresh().train()
    step = stepper(
        model, same_loss(subject, model), adamw(subject, model), subject.config["optimizer"]["clip"]
    )
    (batch,) = subject.batches(1)
    return lambda: step(batch)
