"""Measure memory: the exact peak of a step by kind, bytes on disk, and the largest batch that fits."""

import io
import itertools
import resource
import sys
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.optim import Optimizer

# Our word for each of the tracker's kinds. What a step makes inside optimizer.step() the tracker books as
# optimizer state; only what outlives the step is state, and the rest is moved to the temporaries.
_KINDS = {
    "Total": "total",
    "Parameter": "parameters",
    "Buffer": "buffers",
    "Gradient": "gradients",
    "Optstate": "optimizer_state",
    "Activation": "activations",
    "Temp": "temporaries",
    "Other": "inputs",
}


class Moment(NamedTuple):
    """After one operation of a step: the modules it is within, and whether backward; its name; bytes held."""

    place: Hashable
    operation: str
    held: int


def peak_bytes(
    model: nn.Module, optimizer: Optimizer | None, step: Callable[[], object], inputs: Sequence[Tensor] = ()
) -> dict[str, int]:
    """Measure the bytes of all tensors on the model's device at the moment of `step` when they are most, and by kind.

    Keys: total, and parameters, buffers, gradients, optimizer_state, activations, temporaries, inputs,
    which add up to it. A storage counts once however many names it has. `step` calls `model`, or a method of
    it, exactly once; it is run twice, and the second time counts, so that the optimizer's state exists (a
    training step trains: hand in a model to throw away). `inputs` are the batch's tensors, which nothing else
    would find. A gradient is a temporary until the backward pass hands it over. Scratch memory inside one
    kernel is not seen. Raises ValueError for a model without parameters.
    """
    device = _device(model)
    step()
    tracker = MemTracker()
    tracker.track_external(model, optimizer, *inputs)
    state = _by_kind(tracker.get_tracker_snapshot()[device])["optimizer_state"]
    _follow(tracker, model, step)
    peak = _by_kind(tracker.get_tracker_snapshot("peak")[device])
    peak["temporaries"] += peak["optimizer_state"] - state
    peak["optimizer_state"] = state
    return peak


def timeline(
    model: nn.Module, optimizer: Optimizer | None, step: Callable[[], object], inputs: Sequence[Tensor] = ()
) -> list[Moment]:
    """Measure the bytes of all tensors after each operation of `step`, and where in the step that was.

    The most of them is the total of `peak_bytes`, which says what `step` and `inputs` are.
    """
    device = _device(model)
    step()
    tracker = _Timeline(device)
    tracker.track_external(model, optimizer, *inputs)
    _follow(tracker, model, step)
    return tracker.moments


def state_bytes(model: nn.Module, optimizer: Optimizer, step: Callable[[], object]) -> dict[str, int]:
    """Measure the bytes of what a training run holds from step to step: parameters, gradients, optimizer_state.

    A tensor counts once however many names it has, and what a library keeps beside it does not count (cuDNN's
    buffers, whole, are in `peak_bytes`). `step` is run once, so that all of it exists: it trains, and leaves
    its gradients.
    """
    step()
    parameters = list(model.parameters())
    state = [value for values in optimizer.state.values() for value in values.values()]
    return {
        "parameters": _bytes(parameters),
        "gradients": _bytes(p.grad for p in parameters),
        "optimizer_state": _bytes(state),
    }


def predicted_bytes(num_params: int, num_tensors: int, element_bytes: int) -> dict[str, int]:
    """Predict what `state_bytes` finds under fused AdamW, from the plan's counts alone: the same keys.

    element_bytes: of one parameter. Each has a gradient and two moments, and each tensor a float32 step count.
    """
    weights = num_params * element_bytes
    return {"parameters": weights, "gradients": weights, "optimizer_state": 2 * weights + 4 * num_tensors}


def device_peak_bytes(step: Callable[[], object], device: torch.device) -> dict[str, int]:
    """Return what CUDA's allocator says about one call of `step`, at the most; empty on other devices.

    peak_allocated_bytes: given out to tensors, everything of this process. peak_reserved_bytes: taken from the
    device, its cache of free blocks included (which is emptied before).
    """
    if device.type != "cuda":
        return {}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
    }


def peak_rss_bytes() -> int:
    """Return the largest resident set of this process so far (getrusage's ru_maxrss): code, libraries and all."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB


class _Timeline(MemTracker):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.on, self.moments = device, []

    def __torch_dispatch__(self, func: Any, *arguments: Any) -> Any:
        result = super().__torch_dispatch__(func, *arguments)
        place = frozenset(self._mod_tracker.parents), self._mod_tracker.is_bw
        self.moments.append(Moment(place, str(func), self._curr_mem_snap[self.on]["Total"]))
        return result


class _Owner(nn.Module):
    """Shows the tracker, when it is called, all parameters of its model.

    Otherwise the gradient of a parameter that is used outside the forward pass of its own module would be taken
    for a temporary.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> None:
        pass


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError("a memory meter needs a model with at least one parameter, whose device is measured")
    return parameter.device


def _follow(tracker: MemTracker, model: nn.Module, step: Callable[[], object]) -> None:
    """Run `step` under the tracker."""
    with warnings.catch_warnings():
        # The tracker's hooks outlive a module that is made within the step, and say so; the peak is not
        # touched.
        warnings.filterwarnings("ignore", message="Module is None. Skipping")
        with tracker:
            _Owner(model)()
            step()


def _bytes(tensors: Iterable[Tensor | None]) -> int:
    """Return the bytes that the distinct ones of these tensors take; None takes nothing."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors if tensor is not None}.values())


def _by_kind(snapshot: dict) -> dict[str, int]:
    """Return one device's snapshot under our words."""
    return {_KINDS[getattr(kind, "value", kind)]: count for kind, count in snapshot.items()}


def checkpoint_bytes(model: nn.Module) -> int:
    """Return the bytes of the file that `torch.save` makes of the state dict; a shared tensor is in it once."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()


DOUBLINGS = 4
"""How often the first batch is doubled, at most, to find batches that the peak grows evenly from."""

Line = tuple[int, int]
"""Bytes after one operation: with no example at all, and by how much they grow with every `examples` more."""


def largest_batch(peak_of: Callable[[int], int], limit_bytes: int) -> int:
    """Return the largest number of examples whose peak is at most `limit_bytes`; 0 where one is too many.

    peak_of: bytes at the peak with so many examples, growing with them without end (`peak_by_batch`).
    """
    fits, too_many = 0, 1
    while peak_of(too_many) <= limit_bytes:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if peak_of(middle) <= limit_bytes else (fits, middle)
    return fits


def peak_by_batch(
    timeline_of: Callable[[int], Sequence[Moment]], examples: int = 8, tolerance: float = 0.0
) -> Callable[[int], int]:
    """Return the peak bytes of a step as a function of the number of examples, found from three small batches.

    timeline_of: that step with so many examples, really run (`bench.meters.memory.timeline`).
    examples: in the smallest batch that is run. With fewer, a loop that has less than one block is told too
        large.
    tolerance: share of the peak that its third batch may be off: 0, but for allocators that round sizes up.

    What is held after an operation is a constant and so much an example. The peak is the most of these lines,
    and which of them that is changes with the batch: so all of them are drawn, through n and 2 n examples, and
    the peak of 4 n must lie on them, or n is doubled. Where a place in the step has more operations with more
    examples (a loop over blocks of rows), the most after each operation of one name is such a line.
    Raises ValueError where no n will do.
    """
    small, large, third = (timeline_of(times * examples) for times in (1, 2, 4))
    for _ in range(DOUBLINGS):
        peak_of = _most(_lines(small, large), examples)
        peak = max(moment.held for moment in third)
        if abs(peak_of(4 * examples) - peak) <= tolerance * peak:
            return peak_of
        examples *= 2
        small, large, third = large, third, timeline_of(4 * examples)
    raise ValueError(f"the peak memory of this step does not grow evenly up to {4 * examples} examples")


def _most(lines: set[Line], examples: int) -> Callable[[int], int]:
    return lambda batch: max((constant + batch * growth // examples for constant, growth in lines), default=0)


def _lines(small: Sequence[Moment], large: Sequence[Moment]) -> set[Line]:
    """Return the lines through a batch and one of twice its size; none where they do not pass the same places."""
    ours, theirs = _by_place(small), _by_place(large)
    if [place for place, _ in ours] != [place for place, _ in theirs]:
        return set()
    pairs: list[tuple[int, int]] = []
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        if len(one) == len(other):
            pairs += [(a.held, b.held) for a, b in zip(one, other, strict=True)]
        else:
            first, second = _by_operation(one), _by_operation(other)
            pairs += [(first.get(operation, held), held) for operation, held in second.items()]
    return {(2 * a - b, b - a) for a, b in pairs}


def _by_place(moments: Sequence[Moment]) -> list[tuple[object, list[Moment]]]:
    groups = itertools.groupby(moments, lambda moment: moment.place)
    return [(place, list(group)) for place, group in groups]


def _by_operation(moments: Sequence[Moment]) -> dict[str, int]:
    """Return the most that is held after any operation of each name."""
    most: dict[str, int] = {}
    for moment in moments:
        most[moment.operation] = max(moment.held, most.get(moment.operation, 0))
    return most
