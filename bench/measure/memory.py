"""How much memory a step takes: the exact peak over tensors, by kind, and apart from it the process's own."""

import resource
import sys
import warnings
from collections.abc import Callable, Sequence

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


def peak_bytes(
    model: nn.Module, optimizer: Optimizer | None, step: Callable[[], object], inputs: Sequence[Tensor] = ()
) -> dict[str, int]:
    """Bytes of all tensors on the model's device at the moment of `step` when they are most, and by kind.

    Keys: total, and parameters, buffers, gradients, optimizer_state, activations, temporaries, inputs,
    which add up to it. A storage counts once however many names it has. `step` calls `model` exactly once;
    it is run twice, and the second time counts, so that the optimizer's state exists (a training step
    trains: hand in a model to throw away). `inputs` are the batch's tensors, which nothing else would find.
    A gradient is a temporary until the backward pass hands it over. Scratch memory inside one kernel is not
    seen. Raises ValueError for a model without parameters.
    """
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError("peak_bytes needs a model with at least one parameter, whose device is measured")
    device = parameter.device
    step()
    tracker = MemTracker()
    tracker.track_external(model, optimizer, *inputs)
    state = _by_kind(tracker.get_tracker_snapshot()[device])["optimizer_state"]
    with warnings.catch_warnings():
        # The tracker's hooks outlive a module that is made within the step, and say so; the peak is not
        # touched.
        warnings.filterwarnings("ignore", message="Module is None. Skipping")
        with tracker:
            step()
    peak = _by_kind(tracker.get_tracker_snapshot("peak")[device])
    peak["temporaries"] += peak["optimizer_state"] - state
    peak["optimizer_state"] = state
    return peak


def peak_rss_bytes() -> int:
    """Largest resident set of this process so far (getrusage's ru_maxrss): code, libraries and all."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024  # Linux counts in KiB


def _by_kind(snapshot: dict) -> dict[str, int]:
    """One device's snapshot under our words."""
    return {_KINDS[getattr(kind, "value", kind)]: count for kind, count in snapshot.items()}
