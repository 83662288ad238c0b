"""What a task x model x tying costs, measured alone on the machine beside its untied twin: memory, time, FLOPs."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench import assembly, machine
from bench.controls import controlled, untied
from bench.cost import capacity, times
from bench.cost.sides import Side, built, tensors
from bench.measure import energy
from bench.measure.disk import checkpoint_bytes
from bench.measure.flops import flops_of
from bench.measure.memory import device_peak_bytes, peak_bytes, peak_rss_bytes, predicted_bytes, state_bytes
from bench.worker import settle

SECONDS_OF_ENERGY = 2.0
"""Training steps for so long, at least, between two readings of a GPU's energy counter."""


def main(folder: Path, launched: float) -> None:
    """Measure and record the cost that is asked for in `folder`, while nothing else of ours runs here."""
    with machine.alone():
        settle(folder, "cost.json", lambda request, config: measure(config, launched))


def measure(config: Mapping[str, Any], launched: float) -> dict[str, Any]:
    """The cost record's own part. Dropout and weight decay are 0: a cost does not depend on them.

    The twin is the same network with the same initial weights, untied; for `none` that is itself again, whose
    ratios show the meter's own noise. A control is measured at its own size, against the twin of its tying.
    """
    trainer = config["trainer"]
    torch.set_num_threads(trainer["threads"])
    device = assembly.device(config)
    data = assembly.data_module(config)
    sized, control = controlled(config, data.shapes)
    tied, twin = built(sized, data, device), built(untied(config), data, device)
    batch = tied.placed(next(iter(data.train_dataloader())))
    with _precision(trainer["precision"], device):
        compile_s = _first_step_s(tied, batch) if trainer["compile"] else None
        memory = _memory(tied, batch, device) | {
            "largest_batch": capacity.largest(tied, batch, config["measure"]["memory_gib"]),
        }
        flops = {"train_step": flops_of(tied.step(batch)), "inference": flops_of(tied.infer(batch))}
        timed = times.measure(tied, twin, batch, config, device)
        joules = energy.of_calls(tied.step(batch), device, SECONDS_OF_ENERGY)
    return {
        "num_params": tied.num_params,
        "num_params_untied": twin.num_params,
        "control": control,
        "memory": {**memory, "peak_rss_bytes": peak_rss_bytes()},
        **timed,
        "flops": flops | times.rate(flops["train_step"], timed["train_step"], trainer["precision"], device),
        "energy": joules,
        "compile_s": compile_s,
        "precision": trainer["precision"],
        "output_precision": trainer["output_precision"],
        "threads": trainer["threads"],
        "device": assembly.device_name(device),
        "seconds": time.time() - launched,
    }


def _memory(side: Side, batch: list[Any], device: torch.device) -> dict[str, Any]:
    """Bytes by the exact meter. RuntimeError where what is held is not what the plan predicts."""
    model, optimizer, inputs = side.module.model, side.optimizer, tensors(batch)
    step, infer = side.step(batch), side.infer(batch)
    predicted = predicted_bytes(*side.predicted)
    held = state_bytes(model, optimizer, step)
    if held != predicted:
        raise RuntimeError(f"the plan predicted {predicted} bytes, the tied model holds {held}")
    train_step = peak_bytes(model, optimizer, step, inputs)
    allocated = device_peak_bytes(step, device)
    optimizer.zero_grad(set_to_none=True)  # gradients that are still alive would count as inference's
    return {
        "state": held,
        "predicted": predicted,
        "train_step": train_step,
        "inference": peak_bytes(model, None, infer, inputs[:1]),
        "meter": "MemTracker",
        "checkpoint_bytes": checkpoint_bytes(model),
        **allocated,
    }


def _first_step_s(side: Side, batch: list[Any]) -> float:
    """Seconds of the step that compiles, and of the next one less: what compiling costs, once a process."""
    began = time.perf_counter()
    side.step(batch)()
    compiled = time.perf_counter()
    side.step(batch)()
    return (compiled - began) - (time.perf_counter() - compiled)


def _precision(precision: str, device: torch.device) -> contextlib.AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
