"""How cost grows: seconds and exact peak memory of a training step against each size of a language model."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM
from bench.perf.pace import Pace
from bench.perf.sidebyside import medians
from bench.perf.stepping import CPU
from bench.perf.words import WordStep
from bench.tying import strategies

WINDOW, HEADS = 32, 4
NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "GRU": lambda vocabulary, depth, width: GRULanguageModel(vocabulary, depth, width),
    "transformer": lambda vocabulary, depth, width: CausalLM(
        vocabulary, WINDOW, depth=depth, width=width, heads=HEADS
    ),
}


class Sizes(NamedTuple):
    """tied: how many of the last blocks share their weights; 1: none."""

    depth: int = 4
    width: int = 64
    vocabulary: int = 2000
    batch: int = 8
    tied: int = 1


AXES: dict[str, tuple[Sizes, ...]] = {
    "depth": tuple(Sizes(depth=n) for n in (2, 4, 8, 16)),
    "width": tuple(Sizes(width=n) for n in (32, 64, 128, 256)),
    "vocabulary": tuple(Sizes(vocabulary=n) for n in (1000, 4000, 16_000, 64_000)),
    "batch": tuple(Sizes(batch=n) for n in (4, 8, 16, 32)),
    "tied": tuple(Sizes(depth=16, width=128, tied=n) for n in (2, 4, 8, 16)),
}
TINY = Sizes(depth=2, width=8, vocabulary=50, batch=2)


def measure(pace: Pace) -> dict[str, Any]:
    """Per network and axis: sizes, seconds, bytes, and the exponent of either with its standard error."""
    rows = []
    for name, make in NETWORKS.items():
        for axis, sizes in AXES.items():
            if pace.tiny:
                sizes = [TINY._replace(**{axis: getattr(TINY, axis) * n}) for n in (1, 2)]
                sizes = [one._replace(depth=max(one.depth, one.tied)) for one in sizes]
            rows.append({"network": name, "axis": axis, **_along(axis, sizes, make, pace.rounds)})
    return {"base": Sizes()._asdict(), "window": WINDOW, "rounds": pace.rounds, "rows": rows}


def _along(axis: str, sizes: Sequence[Sizes], make: Callable[..., nn.Module], rounds: int) -> dict[str, Any]:
    steps = {getattr(size, axis): _step(make, size) for size in sizes}
    seconds = medians(steps, rounds)
    peaks = {at: step.peak_bytes() for at, step in steps.items()}
    values = {"at": list(steps), "step_s": list(seconds.values()), "peak_bytes": list(peaks.values())}
    fitted = {key: exponent(values["at"], values[key]) for key in ("step_s", "peak_bytes")}
    return {**values, "exponents": fitted}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float | None]:
    """b of cost = a x size ** b by least squares of the logarithms, and its standard error (None below 3 points)."""
    xs, ys = [math.log(x) for x in sizes], [math.log(y) for y in costs]
    n, mean_x, mean_y = len(xs), sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    if n < 3:
        return slope, None
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    return slope, math.sqrt(left / (n - 2) / spread)


def _step(make: Callable[[int, int, int], nn.Module], sizes: Sizes) -> WordStep:
    torch.manual_seed(0)
    model = make(sizes.vocabulary, sizes.depth, sizes.width)
    strategies.top_k(model, k=sizes.tied).apply(model)
    return WordStep(model, sizes.vocabulary, sizes.batch, WINDOW, CPU)
