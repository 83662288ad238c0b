"""What a task x model x tying costs, measured alone on the machine: step time, latency, peak memory."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bench import assembly, machine
from bench.measure.latency import Timing, time_calls, time_cuda_calls
from bench.measure.memory import peak_bytes, peak_rss_bytes
from bench.training import Training
from bench.worker import settle

WARMUP = 3
"""Calls before the first that counts."""


def main(folder: Path, launched: float) -> None:
    """Measure and record the cost that is asked for in `folder`, while nothing else of ours runs here."""
    with machine.alone():
        settle(folder, "cost.json", lambda request, config: measure(config, launched))


def measure(config: Mapping[str, Any], launched: float) -> dict[str, Any]:
    """The cost record's own part. Dropout and weight decay are 0: a cost does not depend on them."""
    torch.set_num_threads(config["trainer"]["threads"])
    device = assembly.device(config)
    data = assembly.data_module(config)
    model = assembly.network(config, data.shapes, dropout=0.0)
    plan = assembly.plan_for(config, model)
    untied = assembly.tie(config, model, plan)
    dtype = torch.float64 if config["trainer"]["precision"] == "64-true" else torch.float32
    module = assembly.training({**config, "weight_decay": 0.0}, model, plan, data.meta).to(device, dtype)
    batch = _to(next(iter(data.train_dataloader())), device, dtype)
    optimizer = module.adamw()

    timer = _timer(device, config["measure"])
    with torch.autocast(device.type, torch.bfloat16, enabled=config["trainer"]["precision"] == "bf16-mixed"):
        step = _step(module, optimizer, batch)
        train_step = timer(step)
        train_peak = peak_bytes(model, optimizer, step, [t for t in batch if isinstance(t, torch.Tensor)])
        optimizer.zero_grad(set_to_none=True)  # gradients that are still alive would count as inference's
        infer = _inference(module, batch)
        inference = timer(infer)
        inference_peak = peak_bytes(model, None, infer, batch[:1])
    batches = config["task"]["batches"]
    return {
        "num_params": sum(p.numel() for p in model.parameters()),
        "num_params_untied": untied,
        "train_step": dataclasses.asdict(train_step),
        "inference": {
            **dataclasses.asdict(inference),
            "batch": batches["batch_size"],
            "window": batches.get("window"),
        },
        "peak_memory": {
            "train_step_bytes": train_peak["total"],
            "inference_bytes": inference_peak["total"],
            "train_step_parts": train_peak,
            "meter": "MemTracker",
        },
        "peak_rss_bytes": peak_rss_bytes(),
        "device": assembly.device_name(device),
        "seconds": time.time() - launched,
    }


def _step(module: Training, optimizer: torch.optim.Optimizer, batch: Any) -> Callable[[], None]:
    """One whole training step, as the trainer takes it."""

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        module.loss(batch).backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        module.after_step(optimizer)

    module.train()
    return step


def _inference(module: Training, batch: Any) -> Callable[[], None]:
    """One forward pass over the same batch, in eval mode, no gradients."""

    @torch.no_grad()
    def infer() -> None:
        module.model(batch[0])

    module.eval()
    return infer


def _timer(device: torch.device, limits: Mapping[str, Any]) -> Callable[[Callable[[], None]], Timing]:
    time_on = time_cuda_calls if device.type == "cuda" else time_calls
    return lambda fn: time_on(fn, warmup=WARMUP, **limits)


def _to(batch: Any, device: torch.device, dtype: torch.dtype) -> list[Any]:
    return [
        item.to(device, dtype if item.is_floating_point() else None)
        if isinstance(item, torch.Tensor)
        else item
        for item in batch
    ]
