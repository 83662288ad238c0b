"""Bytes and operations that can be counted by hand."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.measure.capacity import largest_batch, peak_by_batch
from bench.measure.disk import checkpoint_bytes
from bench.measure.flops import flops_of
from bench.measure.memory import peak_bytes, predicted_bytes, state_bytes, timeline
from bench.selftest.check import Check, about, exactly

FLOAT = 4
"""Bytes of a float32."""

MATRICES, WIDTH, ROWS = 3, 200, 50
MATRIX, ACTIVATION = WIDTH * WIDTH, ROWS * WIDTH
"""Elements."""


class Chain(nn.Module):
    """x [N, 200] through three matrices of 200 x 200, or three times through one; no bias."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(MATRICES))
        if shared:
            for layer in self.layers:
                layer.weight = self.layers[0].weight

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def checks() -> Iterator[Check]:
    yield from _memory()
    yield from _capacity()
    yield from _disk()
    yield from _flops()


def _memory() -> Iterator[Check]:
    for name, shared, tensors in (("three matrices", False, MATRICES), ("one matrix, three times", True, 1)):
        model, x = Chain(shared), torch.ones(ROWS, WIDTH)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        held = state_bytes(model, optimizer, _training_step(model, optimizer, x))
        predicted = predicted_bytes(tensors * MATRIX, tensors, FLOAT)
        known = {
            "parameters": tensors * MATRIX * FLOAT,
            "gradients": tensors * MATRIX * FLOAT,
            "optimizer_state": tensors * (2 * MATRIX + 1) * FLOAT,  # two moments, and a step count
        }
        for kind, count in known.items():
            yield exactly("memory", f"{kind.replace('_', ' ')} of {name}", "B", count, held[kind])
            yield exactly("prediction", f"{kind.replace('_', ' ')} of {name}", "B", count, predicted[kind])
    peak = _inference(peak_bytes, ROWS)
    what = "activations of inference: two neighbours"
    yield exactly("memory", what, "B", 2 * ACTIVATION * FLOAT, peak["activations"])
    total = (MATRICES * MATRIX + 3 * ACTIVATION) * FLOAT  # the input, too
    yield exactly("memory", "peak of inference", "B", total, peak["total"])


def _training_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(x).sum().backward()
        optimizer.step()

    return step


def _inference(meter: Callable[..., Any], rows: int) -> Any:
    """What a meter of memory says about inference on so many rows."""
    model, x = Chain(shared=False), torch.ones(rows, WIDTH)

    @torch.no_grad()
    def infer() -> None:
        model(x)

    return meter(model, None, infer, [x])


def _capacity() -> Iterator[Check]:
    """The matrices take 480,000 B, and a row and its two neighbouring activations 2,400 B."""
    limit, row = 1_000_000_000, 3 * WIDTH * FLOAT
    known = (limit - MATRICES * MATRIX * FLOAT) // row
    found = largest_batch(peak_by_batch(lambda rows: _inference(timeline, rows)), limit)
    yield exactly("largest batch", f"rows of inference in {limit:,} B", "", known, found)


def _disk() -> Iterator[Check]:
    """A file has a header, and each name in it takes some bytes."""
    for name, shared, tensors in (("three matrices", False, MATRICES), ("one matrix, three times", True, 1)):
        found = checkpoint_bytes(Chain(shared))
        yield about("checkpoint", name, "B", tensors * MATRIX * FLOAT, found, tolerance=0.02)


def _flops() -> Iterator[Check]:
    x, y = torch.ones(64, 128), torch.ones(128, 32)
    yield exactly("FLOPs", "[64, 128] @ [128, 32]", "", 2 * 64 * 128 * 32, flops_of(lambda: x @ y))
    images, kernel = torch.ones(2, 3, 16, 16), torch.ones(8, 3, 3, 3)
    yield exactly(
        "FLOPs",
        "convolution 3 x 3, 3 to 8 channels, of 2 images of 16 x 16",
        "",
        2 * (2 * 16 * 16) * 8 * (3 * 3 * 3),
        flops_of(lambda: F.conv2d(images, kernel, padding=1)),
    )
    once = 2 * ROWS * MATRIX
    for name, shared in (("three matrices", False), ("one matrix, three times", True)):
        model, x = Chain(shared), torch.ones(ROWS, WIDTH)
        # Backward: the gradient of each matrix, and of each input but the first's.
        known = once * (MATRICES + 2 * MATRICES - 1)
        found = flops_of(lambda model=model, x=x: model(x).sum().backward())
        yield exactly("FLOPs", f"forward and backward through {name}", "", known, found)
