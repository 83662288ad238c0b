"""Times of a tied network and of its untied twin, in turns: training step, forward passes, generation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from bench.cost.sides import Side, resized
from bench.measure import energy as joules
from bench.measure.cold import evictor
from bench.measure.rates import datasheet_rate, matmul_rate
from bench.measure.turns import Pair, in_turns, other_processes, seconds_of, suspicion, turns_of

WARMUP = 1
"""Measures of either side before the first that counts; each timed call has an untimed one before it besides."""

TOKENS = 16
"""Tokens of a turn that are generated after the first, at most."""


def measure(
    tied: Side, twin: Side, batch: list[Any], config: Mapping[str, Any], device: torch.device
) -> dict[str, Any]:
    """train_step and latency of the cost record, and what makes them suspect."""
    given = config["measure"]
    limits = {
        "warmup": WARMUP,
        "min_turns": given["min_calls"],
        "min_seconds": given["min_seconds"],
        "max_seconds": given["max_seconds"],
        "device": device,
    }
    window, evict = config["task"]["batches"].get("window"), evictor(device)
    one = resized(batch, 1)
    pairs = {
        "train_step": in_turns(tied.step(batch), twin.step(batch), **limits),
        "batch": in_turns(tied.infer(batch), twin.infer(batch), **limits),
        "batch_cold": in_turns(tied.infer(batch), twin.infer(batch), before=evict, **limits),
        "one": in_turns(tied.infer(one), twin.infer(one), **limits),
        "one_cold": in_turns(tied.infer(one), twin.infer(one), before=evict, **limits),
    }
    if window is not None:
        pairs |= _generation(tied, twin, one[0], limits)
    sizes = {"train_step": len(batch[0]), "batch": len(batch[0]), "batch_cold": len(batch[0])}
    told = {
        name: {**pair.as_record(), "batch": sizes.get(name, 1), "window": window}
        for name, pair in pairs.items()
    }
    return {
        "train_step": told.pop("train_step"),
        "latency": told,
        "suspect": _suspect(pairs, config["trainer"]["threads"], device),
    }


def _generation(tied: Side, twin: Side, tokens: torch.Tensor, limits: Mapping[str, Any]) -> dict[str, Pair]:
    """Of one text: from a prompt of half a window to its first token, and from there to the next, a mean over several.

    Without a cache of the architecture there is nothing to go on from: then no pair.
    """
    device = limits["device"]
    with torch.no_grad():
        if twin.module.model.eval().decode(tokens[:, :1])[1] is None:
            return {}
    found: dict[str, Pair] = {}
    for suffix, before in (("", None), ("_cold", evictor(device))):
        sides = [_generate(side, tokens, device, before) for side in (tied, twin)]
        first, per_token = turns_of(*sides, **limits)
        found |= {f"first_token{suffix}": first, f"per_token{suffix}": per_token}
    return found


def _generate(
    side: Side, tokens: torch.Tensor, device: torch.device, before: Callable[[], object] | None
) -> Callable[[], tuple[float, float]]:
    """Generate once; seconds of the first token, and of each further one. Greedy: the tokens do not matter."""
    model, prompt = side.module.model, tokens[:, : max(1, tokens.shape[1] // 2)]
    further = max(1, min(TOKENS, tokens.shape[1] - prompt.shape[1]))

    @torch.no_grad()
    def generate() -> tuple[float, float]:
        model.eval()
        state: dict[str, Any] = {"tokens": prompt, "past": None}

        def decode() -> None:
            logits, past = model.decode(state["tokens"], state["past"])
            state.update(tokens=logits[:, -1:].argmax(-1), past=past)

        if before is None:  # as `in_turns`: what is timed finds what its own kind left in the caches
            model.decode(prompt)
        seconds = []
        for _ in range(1 + further):
            if before is not None:
                before()
            seconds.append(seconds_of(decode, device))
        return seconds[0], sum(seconds[1:]) / further

    return generate


def energy(step: Callable[[], None], device: torch.device, seconds: float) -> dict[str, Any]:
    """Joules of a training step, where the device counts them."""
    return joules.of_calls(step, device, seconds)


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
