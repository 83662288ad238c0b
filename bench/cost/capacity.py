"""The largest batch of a training step and of an inference that a given memory holds."""

from collections.abc import Callable
from typing import Any

from bench.cost.sides import Side, resized, tensors
from bench.measure.capacity import largest_batch, peak_by_batch
from bench.measure.memory import timeline

GIB = 2**30

ROUNDED = 1e-3
"""Share of a peak by which it may be off a line on CUDA, where the tracker rounds each storage up to 512 bytes."""


def largest(side: Side, batch: list[Any], limit_gib: float) -> dict[str, Any]:
    """Examples, by the exact meter, of either; None, with the reason, where memory does not grow evenly."""
    limit = int(limit_gib * GIB)
    found: dict[str, Any] = {"limit_bytes": limit}
    tolerance = ROUNDED if side.device.type == "cuda" else 0.0
    for what, call, optimizer in (
        ("train_step", side.step, side.optimizer),
        ("inference", side.infer, None),
    ):

        def timeline_of(examples: int, call: Callable = call, optimizer: Any = optimizer) -> list[Any]:
            side.optimizer.zero_grad(set_to_none=True)
            part = resized(batch, examples)
            inputs = tensors(part) if optimizer else tensors(part)[:1]
            return timeline(side.module.model, optimizer, call(part), inputs)

        try:
            found[what] = largest_batch(peak_by_batch(timeline_of, tolerance=tolerance), limit)
        except ValueError as reason:
            found |= {what: None, f"{what}_reason": str(reason)}
    return found
