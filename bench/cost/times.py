"""Times of a tied network and of its untied twin, in turns: training step, forward passes, generation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from bench.cost.sides import Side, resized
from bench.measure.cold import evictor
from bench.measure.rates import datasheet_rate, matmul_rate
from bench.measure.turns import Pair, other_processes, seconds_of, suspicion, turns_of

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
