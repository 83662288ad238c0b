"""Training steps of the tasks' networks: against their floor, other loops and trainers, precisions, torch.compile."""

import contextlib
import functools
import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.meters.flops import copy_rate, flops_of, matmul_rate
from bench.meters.memory import peak_bytes
from bench.meters.timing import in_turns, seconds_of, turns_of
from bench.perf.loops import (
    AHEAD,
    Losses,
    Watched,
    adamw,
    bare_step,
    by_hand,
    hugging_face,
    lightning_default,
    ours,
    plain_loss,
    same_loss,
)
from bench.perf.subjects import TASKS, TINY, Subject, composed, subject_of
from bench.perf.timing import CPU, QUICK, Pace, in_record, medians
from bench.runs import machine
from bench.tasks.cross_entropy import linear_cross_entropy
from bench.training import build
from bench.tying.errors import BadInput

PASSES = 10
"""Over each weight's four bytes after the backward pass: clipping reads a gradient, then reads and writes it; AdamW
reads weight, gradient and two moments, and writes weight and two moments."""

ELEMENT = 4

Way = Callable[[Subject, nn.Module, Watched, Path], None]

BY_HAND, HUGGING_FACE, LIGHTNING = "hand-written loop", "transformers.Trainer", "Lightning, default settings"
SCORED = 20
"""Batches of the validation split that losses are compared on."""

NAMES = (*TASKS, "main/text_gru", "main/text_transformer")
"""Tasks at their default sizes, and the language models at those of the `main` sweep."""

PLAIN = (None, "32-true")
PRECISIONS = (("bf16", "32-true"), ("bf16", "bf16-mixed"))
"""trainer.output_precision and trainer.precision; either is compared with PLAIN."""

MODE, CACHE = "default", "TORCHINDUCTOR_CACHE_DIR"

FIRST = 3
"""Steps that compile: of a new state, of one that is carried, and what these make of a second look."""


def floor(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """Measure bare steps, and the least that they could take.

    floor_s = FLOPs over the matmul rate of their precision + PASSES over the weights at the copy rate.
    """
    rates = {
        "float32": matmul_rate(torch.float32, CPU),
        "bfloat16": matmul_rate(torch.bfloat16, CPU),
        "copy": copy_rate(CPU),
    }
    counts = {subject.name: _counts(subject) for subject in subjects}
    calls = {subject.name: _step_again(subject) for subject in subjects}
    took = medians(calls, pace.rounds)
    rows = []
    for name, (body, output, precision, moved) in counts.items():
        least = body / rates["float32"] + output / rates[precision] + moved / rates["copy"]
        flops = {"body_flops": body, "output_flops": output, "output_precision": precision}
        rows.append({"subject": name, **flops, "bytes": moved, "floor_s": least, "step_s": took[name]})
    return {"rates": rates, "passes": PASSES, "rounds": pace.rounds, "rows": rows}


def _counts(subject: Subject) -> tuple[int, int, str, int]:
    """Return the FLOPs of a step below the output layer and in it, the precision there, and bytes moved after it."""
    total = flops_of(_step_again(subject))
    moved = PASSES * ELEMENT * sum(p.numel() for p in subject.model.parameters())
    if not subject.speaks:
        return total, 0, "float32", moved
    layer = subject.model.output_layer
    (batch,) = subject.batches(1)
    hidden = torch.zeros(batch[1].numel(), layer.in_features, requires_grad=True)
    precision = "bfloat16" if subject.config["trainer"]["output_precision"] == "bf16" else "float32"

    def output() -> None:
        dtype = getattr(torch, precision)
        linear_cross_entropy(hidden, layer.weight, layer.bias, batch[1].flatten(), dtype).backward()

    within = flops_of(output)
    layer.zero_grad(set_to_none=True)
    return total - within, within, precision, moved


def _step_again(subject: Subject) -> Callable[[], None]:
    """Return a bare training step of a copy, on one batch over and over."""
    model = subject.fresh().train()
    step = bare_step(subject, model)
    (batch,) = subject.batches(1)
    return lambda: step(batch)


def ways(subject: Subject, losses: Losses, logs: bool) -> dict[str, Way]:
    """Return the other ways to train `subject`; transformers.Trainer is for language models alone."""
    every = {
        BY_HAND: functools.partial(by_hand, losses=losses),
        HUGGING_FACE: functools.partial(hugging_face, losses=losses, logs=logs),
        LIGHTNING: functools.partial(lightning_default, losses=losses, logs=logs),
    }
    return {name: way for name, way in every.items() if subject.speaks or name != HUGGING_FACE}


def overhead(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """Compare ours with other loops at the same precision, loss and batches, nothing logged: what a loop costs."""
    rows = [
        {"subject": subject.name, "way": name, **compared(subject, way, pace)}
        for subject in subjects
        for name, way in ways(subject, same_loss, logs=False).items()
    ]
    return {"rows": rows}


def defaults(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """Compare ours with trainers, each with its default settings: speed, memory, and the loss reached."""
    rows = []
    for subject in subjects:
        reached = score(subject, trained(subject, ours, pace.quality_steps))
        peak = peak_of_step(subject, same_loss)
        for name, way in ways(subject, plain_loss, logs=True).items():
            if name == BY_HAND:
                continue
            row = {"subject": subject.name, "way": name, **compared(subject, way, pace)}
            theirs = score(subject, trained(subject, way, pace.quality_steps))
            row |= {"nll": reached, "nll_of_way": theirs}
            row |= {"peak_bytes": peak, "peak_bytes_of_way": peak_of_step(subject, plain_loss)}
            rows.append(row)
    return {"quality_steps": pace.quality_steps, "rows": rows}


def compared(subject: Subject, way: Way, pace: Pace) -> dict[str, Any]:
    """Time ours over `way`: a turn of a side is a whole `fit` of a fresh copy of the network over the same batches."""
    seconds = timed(subject, way, subject.batches(QUICK.steps + AHEAD))
    steps = max(QUICK.steps, min(pace.steps, round(pace.turn_s / seconds)))
    batches = subject.batches(steps + AHEAD)
    (pair,) = turns_of(
        lambda: (timed(subject, ours, batches),),
        lambda: (timed(subject, way, batches),),
        **pace.limits(),
    )
    return {**in_record(pair), "steps": steps}


def trained(subject: Subject, way: Way, steps: int) -> nn.Module:
    """Return a copy of the network after that many steps."""
    model = subject.fresh()
    _train(subject, model, way, Watched(subject.batches(steps)))
    return model


def timed(subject: Subject, way: Way, batches: Sequence[Any]) -> float:
    """Return the seconds of a step of a fresh copy that is trained on these batches."""
    watched = Watched(batches)
    _train(subject, subject.fresh(), way, watched)
    return watched.seconds()


def _train(subject: Subject, model: nn.Module, way: Way, watched: Watched) -> None:
    with tempfile.TemporaryDirectory() as folder, _silence():
        way(subject, model, watched, Path(folder))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what trainers print; that they print is part of what they cost."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@torch.no_grad()
def score(subject: Subject, model: nn.Module) -> float:
    """Return the mean nll on the first batches of the validation split, in full precision, in nats."""
    module = subject.module(model).eval()
    nll = count = 0.0
    for index, batch in enumerate(subject.data.val_dataloader()):
        if index == SCORED:
            break
        sums = module.tally(batch)
        nll, count = nll + float(sums["nll"]), count + float(sums["count"])
    return nll / count


def peak_of_step(subject: Subject, losses: Losses) -> int:
    """Return the exact peak of a training step, in bytes."""
    model = subject.fresh().train()
    optimizer = adamw(subject, model)
    step = bare_step(subject, model, losses, optimizer)
    (batch,) = subject.batches(1)
    tensors = [item for item in batch if isinstance(item, torch.Tensor)]
    return peak_bytes(model, optimizer, lambda: step(batch), tensors)["total"]


def precision(pace: Pace) -> dict[str, Any]:
    """Time bare steps over the first batch, in turns with single precision throughout."""
    rows = []
    for task, sizes in (TINY if pace.tiny else dict.fromkeys(NAMES, ())).items():
        for output, below in PRECISIONS:
            if task.endswith("image_cnn"):  # it has no output layer worth a precision
                if below == "32-true":
                    continue
                output = None
            lower, plain = (_seconds_of_step(task, sizes, *formats) for formats in ((output, below), PLAIN))
            (pair,) = turns_of(lower, plain, **pace.limits(1 / 2))
            rows.append({"subject": task, "output_precision": output, "precision": below, **in_record(pair)})
    return {"rows": rows}


def _seconds_of_step(
    task: str, sizes: Sequence[str], output: str | None, below: str
) -> Callable[[], tuple[float]]:
    """Return a clock of the second step of a fresh copy, as copies differ by where they lie in memory."""
    overrides = (f"trainer.output_precision={output or 'null'}", f"trainer.precision={below}")
    subject = subject_of(composed(f"task={task}", *overrides, *sizes), task)
    (batch,) = subject.batches(1)

    def measured() -> tuple[float]:
        model = subject.fresh().train()
        step = bare_step(subject, model)

        def call() -> None:
            with torch.autocast(CPU.type, torch.bfloat16, enabled=below == "bf16-mixed"):
                step(batch)

        call()
        return (seconds_of(call, CPU),)

    return measured


def compiled(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """Time the compiled step over the plain one, in turns, and its first steps; or say why there is none."""
    rows = [{"subject": subject.name, "mode": MODE, **_compiled(subject, pace)} for subject in subjects]
    return {"first": FIRST, "rows": rows}


def _compiled(subject: Subject, pace: Pace) -> dict[str, Any]:
    try:
        machine.check_compiler(MODE)
    except BadInput as reason:
        return {"reason": str(reason)}
    with _empty_cache():
        fast, plain = _steps_in_turn(subject, MODE), _steps_in_turn(subject, None)
        began = time.perf_counter()
        for _ in range(FIRST):
            fast()
        first = time.perf_counter() - began
        pair = in_turns(fast, plain, **pace.limits(1 / 4, warmup=2))
    return {**in_record(pair), "first_s": first}


def _steps_in_turn(subject: Subject, mode: str | None) -> Callable[[], None]:
    """Return a bare step of a copy over the first batches, one after another."""
    model = subject.fresh().train()
    build.compile_in_place(model, mode)
    step, batches = bare_step(subject, model), itertools.cycle(subject.batches(2 * FIRST))
    return lambda: step(next(batches))


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    """Give torch an empty cache of compiled code: else a second call would read what the first had compiled."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before
