"""Measure what a task x model x tying costs beside its untied twin: memory, time, FLOPs, largest batch."""

import contextlib
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from bench.meters import flops as energy
from bench.meters.flops import datasheet_rate, flops_of, matmul_rate
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
from bench.runs.worker import settle
from bench.training import build
from bench.training.build import controlled, untied
from bench.training.module import Training


@dataclass(frozen=True)
class Side:
    """predicted: by the plan, before it was applied: unique parameters, their tensors, bytes of an element."""

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
        """A copy that shares no tensor with this one, its optimizer without state.

        A compiled network stays the one it is: a copy would be compiled anew, or call the code of the original.
        """
        if self.is_compiled:
            return self
        module = copy.deepcopy(self.module)
        return replace(self, module=module, optimizer=module.adamw())

    def placed(self, batch: Any) -> list[Any]:
        """A batch of the data module where this side can read it."""
        return [
            item.to(self.device, self.dtype if item.is_floating_point() else None)
            if isinstance(item, Tensor)
            else item
            for item in batch
        ]

    def step(self, batch: list[Any]) -> Callable[[], None]:
        """One whole training step, as the trainer takes it."""
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
        """One forward pass over a batch's inputs, in eval mode, no gradients."""
        model = self.module.model

        @torch.no_grad()
        def infer() -> None:
            model.eval()
            with parametrize.cached():
                model(batch[0])

        return infer


def built(config: Mapping[str, Any], data: L.LightningDataModule, device: torch.device) -> Side:
    """The network as the config asks for it, tied, and its optimizer."""
    dtype = torch.float64 if config["trainer"]["precision"] == "64-true" else torch.float32
    model = build.network(config, data.shapes, dropout=0.0)
    plan = build.plan_for(config, model)
    element = torch.empty((), dtype=dtype).element_size()
    predicted = (plan.num_params(model), plan.num_tensors(model), element)
    build.tie(config, model, plan, data)
    module = build.training({**config, "weight_decay": 0.0}, model, plan, data.meta).to(device, dtype)
    mode = config["trainer"]["compile"]
    build.compile_in_place(model, mode)
    return Side(module, module.adamw(), predicted, device, dtype, is_compiled=mode is not None)


def resized(batch: list[Any], examples: int) -> list[Any]:
    """A batch of so many examples: the first ones of `batch`, which is gone through again where it is too short."""
    rows = torch.arange(examples) % len(batch[0])
    return [item[rows.to(item.device)] if isinstance(item, Tensor) else item for item in batch]


def tensors(batch: list[Any]) -> list[Tensor]:
    return [item for item in batch if isinstance(item, Tensor)]


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


WARMUP = 1
"""Measures of either side before the first that counts; each timed call has an untimed one before it besides."""

TOKENS, TOKENS_COLD = 8, 2
"""Tokens of a turn that are generated after the first, at most. Fewer cold: before each of them all caches are
emptied, a quarter of a second where they are large, and further turns tell more than further tokens."""

FORWARD = ("batch", "batch_cold", "one", "one_cold")
GENERATION = ("first_token", "per_token", "first_token_cold", "per_token_cold")
"""Latencies of a cost record, in the order in which a turn measures them."""


def measure(
    tied: Side, twin: Side, batch: list[Any], config: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """train_step and latency of the cost record, and what makes them suspect.

    Each turn measures fresh copies of either side: two copies of one network differ in time by where they happen to
    lie in memory, by several per cent where they are large, and that must not stand in a ratio.
    """
    given, window = config["measure"], config["task"]["batches"].get("window")
    limits = {
        "warmup": WARMUP,
        "min_turns": -(-given["min_calls"] // 2),  # a turn is two calls of either side
        "min_seconds": given["min_seconds"],
        "max_seconds": given["max_seconds"],
        "device": device,
    }
    (train_step,) = turns_of(*(_training(side, batch, device) for side in (tied, twin)), **limits)
    speaks = window is not None and _has_cache(twin, batch)
    evict = evictor(device) if given["cold"] else None  # one: its buffer is as large as four times the caches
    names = (*FORWARD, *GENERATION) if speaks else FORWARD
    names = [name for name in names if evict or not name.endswith("_cold")]
    found = turns_of(*(_inference(side, batch, speaks, device, evict) for side in (tied, twin)), **limits)
    pairs = dict(zip(names, found, strict=True))
    whole = len(batch[0])
    return {
        "train_step": {**train_step.as_record(), "batch": whole, "window": window},
        "latency": {
            name: {**pair.as_record(), "batch": whole if name.startswith("batch") else 1, "window": window}
            for name, pair in pairs.items()
        },
        "suspect": _suspect({"train_step": train_step, **pairs}, config["trainer"]["threads"], device),
    }


def _training(side: Side, batch: list[Any], device: torch.device) -> Callable[[], tuple[float]]:
    """Seconds of a fresh copy's second step: the first makes the optimizer's state."""

    def measured() -> tuple[float]:
        step = side.fresh().step(batch)
        step()
        return (seconds_of(step, device),)

    return measured


def _inference(
    side: Side, batch: list[Any], speaks: bool, device: torch.device, evict: Callable[[], None] | None
) -> Callable[[], tuple[float, ...]]:
    """Seconds of a fresh copy for all of FORWARD, and of GENERATION where it speaks; cold is after `evict`, if at all.

    Warm: right after the same call, so that what is timed finds in the caches what its own kind left there.
    """
    one = resized(batch, 1)

    def measured() -> tuple[float, ...]:
        fresh, seconds = side.fresh(), []
        for call in (fresh.infer(batch), fresh.infer(one)):
            call()
            seconds.append(seconds_of(call, device))
            if evict is not None:
                evict()
                seconds.append(seconds_of(call, device))
        if speaks:
            seconds += _generated(fresh, one[0], device, None)
        if speaks and evict is not None:
            seconds += _generated(fresh, one[0], device, evict)
        return tuple(seconds)

    return measured


@torch.no_grad()
def _has_cache(side: Side, batch: list[Any]) -> bool:
    """Whether the architecture keeps what it has read: without, there is no next token without all those before."""
    model = side.module.model.eval()
    return hasattr(model, "decode") and model.decode(batch[0][:1, :1])[1] is not None


@torch.no_grad()
def _generated(
    side: Side, tokens: torch.Tensor, device: torch.device, before: Callable[[], object] | None
) -> list[float]:
    """Of one text, greedy: seconds from a prompt of half a window to its first token, and of each further one.

    `before` goes, not timed, before each of them; without it the prompt is read once more before.
    """
    model, prompt = side.module.model.eval(), tokens[:, : max(1, tokens.shape[1] // 2)]
    most = TOKENS if before is None else TOKENS_COLD
    further = max(1, min(most, tokens.shape[1] - prompt.shape[1]))
    state: dict[str, Any] = {"tokens": prompt, "past": None}

    def decode() -> None:
        logits, past = model.decode(state["tokens"], state["past"])
        state.update(tokens=logits[:, -1:].argmax(-1), past=past)

    if before is None:
        model.decode(prompt)
    seconds = []
    for _ in range(1 + further):
        if before is not None:
            before()
        seconds.append(seconds_of(decode, device))
    return [seconds[0], sum(seconds[1:]) / further]


def rate(
    flops: int, train_step: Mapping[str, Any], precision: str, device: torch.device
) -> dict[str, float | str | None]:
    """FLOP a second in the training step, and its share of what the device can do: by its data sheet, or measured."""
    per_s = flops / train_step["tied"]["median_s"]
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


def _suspect(pairs: Mapping[str, Pair], threads: int, device: torch.device) -> list[str]:
    """Why these times may not be the network's own; of several disturbed ones the worst is told."""
    shares = {name: pair.on_cpu for name, pair in pairs.items() if suspicion(pair.on_cpu, threads)}
    found = []
    if shares:
        worst = min(shares, key=shares.__getitem__)
        found.append(f"{suspicion(shares[worst], threads)} ({worst}, the worst of {len(shares)} disturbed)")
    busy = other_processes(device)
    return found + ([busy] if busy else [])


SECONDS_OF_ENERGY = 2.0
"""Training steps for so long, at least, between two readings of a GPU's energy counter."""


def main(folder: Path, launched: float) -> None:
    """Measure and record the cost that is asked for in `folder`, while nothing else of ours runs here."""
    with machine.alone():
        settle(folder, "cost.json", lambda request, config: measure_cost(config, launched))


def measure_cost(config: Mapping[str, Any], launched: float) -> dict[str, Any]:
    """The cost record's own part. Dropout and weight decay are 0: a cost does not depend on them.

    The twin is the same network with the same initial weights, untied; for `none` that is itself again, whose
    ratios show the meter's own noise. A control is measured at its own size, against the twin of its tying.
    """
    trainer = config["trainer"]
    torch.set_num_threads(trainer["threads"])
    device = build.device(config)
    data = build.data_module(config)
    sized, control = controlled(config, data.shapes)
    tied, twin = built(sized, data, device), built(untied(config), data, device)
    batch = tied.placed(next(iter(data.train_dataloader())))
    with _precision(trainer["precision"], device):
        compile_s = _first_step_s(tied, batch) if trainer["compile"] else None
        memory = _memory(tied, batch, device) | {
            "largest_batch": largest(tied, batch, config["measure"]["memory_gib"]),
        }
        flops = {"train_step": flops_of(tied.step(batch)), "inference": flops_of(tied.infer(batch))}
        timed = measure(tied, twin, batch, config, device)
        joules = energy.of_calls(tied.step(batch), device, SECONDS_OF_ENERGY)
    return {
        "num_params": tied.num_params,
        "num_params_untied": twin.num_params,
        "control": control,
        "memory": {**memory, "peak_rss_bytes": peak_rss_bytes()},
        **timed,
        "flops": flops | rate(flops["train_step"], timed["train_step"], trainer["precision"], device),
        "energy": joules,
        "compile_s": compile_s,
        "precision": trainer["precision"],
        "output_precision": trainer["output_precision"],
        "threads": trainer["threads"],
        "device": build.device_name(device),
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
