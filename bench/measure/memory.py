"""How much memory a step takes: the exact peak over tensors, by kind, and apart from it the process's own."""

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
    """Bytes of all tensors on the model's device at the moment of `step` when they are most, and by kind.

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
    """Bytes of all tensors after each operation of `step`, and where in the step that was.

    The most of them is the total of `peak_bytes`, which says what `step` and `inputs` are.
    """
    device = _device(model)
    step()
    tracker = _Timeline(device)
    tracker.track_external(model, optimizer, *inputs)
    _follow(tracker, model, step)
    return tracker.moments


def state_bytes(model: nn.Module, optimizer: Optimizer, step: Callable[[], object]) -> dict[str, int]:
    """Bytes of what a training run holds from step to step: parameters, gradients, optimizer_state.

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
    """What `state_bytes` finds under fused AdamW, told from the plan's counts alone: the same keys.

    element_bytes: of one parameter. Each has a gradient and two moments, and each tensor a float32 step count.
    """
    one = num_params * element_bytes
    return {"parameters": one, "gradients": one, "optimizer_state": 2 * one + 4 * num_tensors}


def device_peak_bytes(step: Callable[[], object], device: torch.device) -> dict[str, int]:
    """What CUDA's allocator says about one call of `step`, at the most; empty on other devices.

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
    """Largest resident set of this process so far (getrusage's ru_maxrss): code, libraries and all."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB


class _Timeline(MemTracker):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.on, self.moments = device, []

    def __torch_dispatch__(self, func: Any, *rest: Any) -> Any:
        result = super().__torch_dispatch__(func, *rest)
        place = frozenset(self._mod_tracker.parents), self._mod_tracker.is_bw
        self.moments.append(Moment(place, str(func), self._curr_mem_snap[self.on]["Total"]))
        return result


class _Owner(nn.Module):
    """Called once, it shows the tracker all parameters of its model.

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
    """What the distinct of these tensors take; None takes nothing."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors if tensor is not None}.values())


def _by_kind(snapshot: dict) -> dict[str, int]:
    """One device's snapshot under our words."""
    return {_KINDS[getattr(kind, "value", kind)]: count for kind, count in snapshot.items()}
