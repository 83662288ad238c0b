"""Measure what a task x model x tying costs beside its untied twin: memory, time, FLOPs, energy, largest batch."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from bench.meters.flops import datasheet_rate, flops_of, matmul_rate
from bench.meters.flops import of_calls as energy_of_calls
from bench.meters.memory import (
    checkpoint_bytes,
    device_peak_bytes,
    largest_batch,
    peak_by_batch,
    peak_bytes,
    peak_rss_bytes,
    predicted_bytes,
    state_bytes,
    timeline,
)
from bench.meters.timing import Pair, evictor, other_processes, seconds_of, suspicion, turns_of
from bench.runs import machine
from bench.runs.worker import run_and_record
from bench.training import build
from bench.training.module import Training
from bench.tying.attention import kv_numbers_per_token
from bench.tying.structure import copied

SECONDS_OF_ENERGY = 2.0
"""The least time that training steps take between two readings of a GPU's energy counter."""

ROUNDED = 1e-3
"""Share of a peak by which it may be off a line on CUDA, where the tracker rounds each storage up to 512 bytes."""

WARMUP = 1
"""Measures of either side before the first that counts; each timed call has an untimed one before it besides."""

TOKENS, TOKENS_COLD = 8, 2
"""Tokens of a turn that are generated after the first, at most. Fewer cold: before each of them all caches are
emptied, a quarter of a second where they are large, and further turns tell more than further tokens."""

FORWARD = ("batch", "batch_cold", "one", "one_cold")
GENERATION = ("first_token", "per_token", "first_token_cold", "per_token_cold")
"""Latencies of a cost record, in the order in which a turn measures them."""

GIB = 2**30


def main(folder: Path, launched: float) -> None:
    """Measure and record the cost that is asked for in `folder`, while nothing else of ours runs here."""
    with machine.alone():
        run_and_record(folder, "cost.json", lambda request, config: measure_cost(config, launched))


def measure_cost(config: Mapping[str, Any], launched: float) -> dict[str, Any]:
    """Measure one cell. Returns the cost record's own part; dropout and weight decay are 0, as no cost depends on them.

    The twin is the same network with the same initial weights, untied. For `none` that is the network itself once
    more, whose ratios show the meter's own noise. A control is measured at its own size, against the twin of its tying.
    """
    trainer = config["trainer"]
    torch.set_num_threads(trainer["threads"])
    device = build.device(config)
    data = build.data_module(config)
    sized, control = build.controlled(config, data.shapes)
    tied, twin = build_side(sized, data, device), build_side(build.untied(config), data, device)
    batch = tied.placed(next(iter(data.train_dataloader())))
    with torch.autocast(device.type, torch.bfloat16, enabled=trainer["precision"] == "bf16-mixed"):
        compile_s = _compile_s(tied, batch) if trainer["compile"] else None
        memory = measure_memory(tied, batch)
        largest = measure_largest_batch(tied, batch, limit_bytes=int(config["measure"]["memory_gib"] * GIB))
        flops = {"train_step": flops_of(tied.step(batch)), "inference": flops_of(tied.infer(batch))}
        times = measure_times(tied, twin, batch, config)
        energy = energy_of_calls(tied.step(batch), device, SECONDS_OF_ENERGY)
    step_s = times["train_step"]["tied"]["median_s"]
    return {
        "num_params": tied.num_params,
        "num_params_untied": twin.num_params,
        "control": control,
        "memory": {**memory, "largest_batch": largest, "peak_rss_bytes": peak_rss_bytes()},
        **times,
        "flops": flops | _flop_rate(flops["train_step"] / step_s, trainer["precision"], device),
        "energy": energy,
        "compile_s": compile_s,
        "precision": trainer["precision"],
        "output_precision": trainer["output_precision"],
        "threads": trainer["threads"],
        "device": build.device_name(device),
        "seconds": time.time() - launched,
    }


@dataclass(frozen=True)
class Side:
    """One of the two networks that are compared, with its optimizer.

    predicted: by the plan, before it was applied: unique parameters, their tensors, bytes of an element.
    """

    module: Training
    optimizer: torch.optim.Optimizer
    predicted: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype
    is_compiled: bool

    @property
    def num_params(self) -> int:
        return self.predicted[0]

    def fresh(self) -> "Side":
        """Return a copy that shares no tensor with this one, its optimizer without state.

        A compiled network stays the one it is: a copy would be compiled anew, or call the code of the original.
        """
        if self.is_compiled:
            return self
        module = copied(self.module)
        return replace(self, module=module, optimizer=module.adamw())

    def placed(self, batch: Any) -> list[Any]:
        """Return a batch of the data module on this side's device, in its precision."""
        return [
            item.to(self.device, self.dtype if item.is_floating_point() else None)
            if isinstance(item, Tensor)
            else item
            for item in batch
        ]

    def step(self, batch: list[Any]) -> Callable[[], None]:
        """Return a call that takes one whole training step, as the trainer takes it."""
        module, optimizer = self.module, self.optimizer

        def step() -> None:
            module.train()
            optimizer.zero_grad(set_to_none=True)
            with parametrize.cached():
                loss = module.loss(batch)
            loss.backward()
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            module.after_step(optimizer)

        return step

    def infer(self, batch: list[Any]) -> Callable[[], None]:
        """Return a call that makes one forward pass over a batch's inputs, in eval mode, without gradients."""
        model = self.module.model

        @torch.no_grad()
        def infer() -> None:
            model.eval()
            with parametrize.cached():
                model(batch[0])

        return infer


def build_side(config: Mapping[str, Any], data: L.LightningDataModule, device: torch.device) -> Side:
    """Build and tie the network that the config asks for, with its optimizer."""
    dtype = torch.float64 if config["trainer"]["precision"] == "64-true" else torch.float32
    model = build.network(config, data.shapes, dropout=0.0)
    plan = build.plan_for(config, model)
    predicted = (plan.num_params(model), plan.num_tensors(model), dtype.itemsize)
    build.tie(config, model, plan, data)
    module = build.training({**config, "weight_decay": 0.0}, model, plan, data.meta).to(device, dtype)
    mode = config["trainer"]["compile"]
    build.compile_in_place(model, mode)
    return Side(module, module.adamw(), predicted, device, dtype, is_compiled=mode is not None)


def resized(batch: list[Any], examples: int) -> list[Any]:
    """Return a batch of so many examples: the first of `batch`, which is repeated where it is too short."""
    rows = torch.arange(examples) % len(batch[0])
    return [item[rows.to(item.device)] if isinstance(item, Tensor) else item for item in batch]


def tensors(batch: list[Any]) -> list[Tensor]:
    return [item for item in batch if isinstance(item, Tensor)]


def _compile_s(side: Side, batch: list[Any]) -> float:
    """Return the seconds of the step that compiles less those of the next one: what a process pays once."""
    began = time.perf_counter()
    side.step(batch)()
    compiled = time.perf_counter()
    side.step(batch)()
    return (compiled - began) - (time.perf_counter() - compiled)


def measure_memory(side: Side, batch: list[Any]) -> dict[str, Any]:
    """Return bytes by the exact meter. RuntimeError where the network does not hold what the plan predicts."""
    model, optimizer, inputs = side.module.model, side.optimizer, tensors(batch)
    step, infer = side.step(batch), side.infer(batch)
    predicted = predicted_bytes(*side.predicted)
    held = state_bytes(model, optimizer, step)
    if held != predicted:
        raise RuntimeError(f"the plan predicted {predicted} bytes, the tied model holds {held}")
    train_step = peak_bytes(model, optimizer, step, inputs)
    allocated = device_peak_bytes(step, side.device)
    optimizer.zero_grad(set_to_none=True)  # gradients that are still alive would count as inference's
    return {
        "state": held,
        "predicted": predicted,
        "train_step": train_step,
        "inference": peak_bytes(model, None, infer, inputs[:1]),
        "meter": "MemTracker",
        "checkpoint_bytes": checkpoint_bytes(model),
        **_kv_cache(side),
        **allocated,
    }


def _kv_cache(side: Side) -> dict[str, int]:
    """Return the bytes that a token's keys and values take; nothing where the network keeps none."""
    numbers = kv_numbers_per_token(side.module.model) if hasattr(side.module.model, "decode") else None
    return {} if numbers is None else {"kv_bytes_per_token": numbers * side.dtype.itemsize}


def measure_largest_batch(side: Side, batch: list[Any], limit_bytes: int) -> dict[str, Any]:
    """Return how many examples fit into the limit, for a training step and for inference, by the exact meter.

    None, with the reason, where memory does not grow evenly with the batch.
    """
    largest: dict[str, Any] = {"limit_bytes": limit_bytes}
    tolerance = ROUNDED if side.device.type == "cuda" else 0.0
    for name, call, optimizer in (
        ("train_step", side.step, side.optimizer),
        ("inference", side.infer, None),
    ):

        def timeline_of(examples: int, call: Callable = call, optimizer: Any = optimizer) -> list[Any]:
            side.optimizer.zero_grad(set_to_none=True)
            part = resized(batch, examples)
            inputs = tensors(part) if optimizer else tensors(part)[:1]
            return timeline(side.module.model, optimizer, call(part), inputs)

        try:
            largest[name] = largest_batch(peak_by_batch(timeline_of, tolerance=tolerance), limit_bytes)
        except ValueError as reason:
            largest |= {name: None, f"{name}_reason": str(reason)}
    return largest


def measure_times(tied: Side, twin: Side, batch: list[Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return `train_step` and `latency` of the cost record, and under `suspect` why they may not be the network's own.

    Each turn measures fresh copies of either side: two copies of one network differ in time by where they happen to
    lie in memory, by several per cent where they are large, and that must not stand in a ratio.
    """
    settings, window = config["measure"], config["task"]["batches"].get("window")
    limits = {
        "warmup": WARMUP,
        "min_turns": -(-settings["min_calls"] // 2),  # a turn is two calls of either side
        "min_seconds": settings["min_seconds"],
        "max_seconds": settings["max_seconds"],
        "device": tied.device,
    }
    (train_step,) = turns_of(_timed_step(tied, batch), _timed_step(twin, batch), **limits)
    generates = window is not None and _has_cache(twin, batch)
    # One for both: its buffer is four times as large as the caches.
    evict = evictor(tied.device) if settings["cold"] else None
    names = (*FORWARD, *GENERATION) if generates else FORWARD
    names = [name for name in names if evict or not name.endswith("_cold")]
    latencies = turns_of(
        *(_timed_inference(side, batch, generates, evict) for side in (tied, twin)), **limits
    )
    pairs = dict(zip(names, latencies, strict=True))
    size = len(batch[0])
    return {
        "train_step": {**train_step.as_record(), "batch": size, "window": window},
        "latency": {
            name: {**pair.as_record(), "batch": size if name.startswith("batch") else 1, "window": window}
            for name, pair in pairs.items()
        },
        "suspect": _suspect({"train_step": train_step, **pairs}, config["trainer"]["threads"], tied.device),
    }


def _timed_step(side: Side, batch: list[Any]) -> Callable[[], tuple[float]]:
    """Return a call that gives the seconds of a fresh copy's second step: the first makes the optimizer's state."""

    def seconds() -> tuple[float]:
        step = side.fresh().step(batch)
        step()
        return (seconds_of(step, side.device),)

    return seconds


def _timed_inference(
    side: Side, batch: list[Any], generates: bool, evict: Callable[[], None] | None
) -> Callable[[], tuple[float, ...]]:
    """Return a call that gives a fresh copy's seconds for all of FORWARD, and for GENERATION where it generates.

    Warm is right after the same call, so that what is timed finds in the caches what its own kind left there. Cold is
    after `evict`, and left out where that is None.
    """
    single = resized(batch, 1)

    def all_seconds() -> tuple[float, ...]:
        fresh, seconds = side.fresh(), []
        for call in (fresh.infer(batch), fresh.infer(single)):
            call()
            seconds.append(seconds_of(call, side.device))
            if evict is not None:
                evict()
                seconds.append(seconds_of(call, side.device))
        if generates:
            for before in (None,) if evict is None else (None, evict):
                seconds += _generation_seconds(fresh, single[0], before)
        return tuple(seconds)

    return all_seconds


@torch.no_grad()
def _has_cache(side: Side, batch: list[Any]) -> bool:
    """Tell whether the network keeps what it has read; else a next token needs all those before it once more."""
    model = side.module.model.eval()
    return hasattr(model, "decode") and model.decode(batch[0][:1, :1])[1] is not None


@torch.no_grad()
def _generation_seconds(side: Side, tokens: Tensor, evict: Callable[[], object] | None) -> list[float]:
    """Generate greedily after half a window. Returns the seconds to the first token, and of each further one.

    `evict` goes, not timed, before each token. Without it the prompt is read once before what is timed.
    """
    model, prompt = side.module.model.eval(), tokens[:, : max(1, tokens.shape[1] // 2)]
    most = TOKENS if evict is None else TOKENS_COLD
    further = max(1, min(most, tokens.shape[1] - prompt.shape[1]))
    state: dict[str, Any] = {"tokens": prompt, "past": None}

    def decode() -> None:
        logits, past = model.decode(state["tokens"], state["past"])
        state.update(tokens=logits[:, -1:].argmax(-1), past=past)

    if evict is None:
        model.decode(prompt)
    seconds = []
    for _ in range(1 + further):
        if evict is not None:
            evict()
        seconds.append(seconds_of(decode, side.device))
    return [seconds[0], sum(seconds[1:]) / further]


def _suspect(pairs: Mapping[str, Pair], threads: int, device: torch.device) -> list[str]:
    """Return why these times may not be the network's own; of several disturbed ones the worst is named."""
    shares = {name: pair.on_cpu for name, pair in pairs.items() if suspicion(pair.on_cpu, threads)}
    reasons = []
    if shares:
        worst = min(shares, key=shares.__getitem__)
        reasons.append(f"{suspicion(shares[worst], threads)} ({worst}, the worst of {len(shares)} disturbed)")
    busy = other_processes(device)
    return reasons + ([busy] if busy else [])


def _flop_rate(per_s: float, precision: str, device: torch.device) -> dict[str, float | str | None]:
    """Return the FLOP a second of a training step, and their share of the device's peak: data sheet, or measured."""
    dtype = {"bf16-mixed": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
    kind = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        peak, source = datasheet_rate(dtype, device), f"data sheet, {kind}"
    else:
        peak, source = matmul_rate(dtype, device), f"measured matmul, {kind}"
    return {
        "per_s": per_s,
        "peak_per_s": peak,
        "share_of_peak": None if peak is None else per_s / peak,
        "peak": None if peak is None else source,
    }
