"""Training through us against training without us: the same work in other loops, and their habits in them."""

import contextlib
import functools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.measure.memory import peak_bytes
from bench.measure.turns import Pair, suspicion, turns_of
from bench.perf import others
from bench.perf.loops import AHEAD, Losses, Watched, adamw, by_hand, ours, plain_loss, same_loss, stepper
from bench.perf.pace import QUICK, Pace
from bench.perf.subjects import Subject

Way = Callable[[Subject, nn.Module, Watched, Path], None]

CPU = torch.device("cpu")
BY_HAND, HUGGING_FACE, LIGHTNING = "hand-written loop", "transformers.Trainer", "Lightning, default settings"
SCORED = 20
"""Batches of the validation split that losses are compared on."""


def ways(subject: Subject, losses: Losses, talks: bool) -> dict[str, Way]:
    """The other ways to train `subject`; transformers.Trainer for language models alone."""
    found = {
        BY_HAND: functools.partial(by_hand, losses=losses),
        HUGGING_FACE: functools.partial(others.hugging_face, losses=losses, talks=talks),
        LIGHTNING: functools.partial(others.lightning_default, losses=losses, talks=talks),
    }
    return {name: way for name, way in found.items() if subject.speaks or name != HUGGING_FACE}


def overhead(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """Same precision, same loss, same batches, nothing logged: what is left is what a loop costs."""
    rows = []
    for subject in subjects:
        for name, way in ways(subject, same_loss, talks=False).items():
            rows.append({"subject": subject.name, "way": name, **compared(subject, way, pace)})
    return {"rows": rows}


def defaults(subjects: Sequence[Subject], pace: Pace) -> dict[str, Any]:
    """Ours as it comes against the others as they come, on language models: speed, memory, and the loss reached."""
    rows = []
    for subject in subjects:
        reached = score(subject, trained(subject, ours, pace.quality_steps))
        peak = peak_of_step(subject, same_loss)
        for name, way in ways(subject, plain_loss, talks=True).items():
            if name == BY_HAND:
                continue
            rows.append(
                {
                    "subject": subject.name,
                    "way": name,
                    **compared(subject, way, pace),
                    "nll": reached,
                    "nll_of_way": score(subject, trained(subject, way, pace.quality_steps)),
                    "peak_bytes": peak,
                    "peak_bytes_of_way": peak_of_step(subject, plain_loss),
                }
            )
    return {"quality_steps": pace.quality_steps, "rows": rows}


def compared(subject: Subject, way: Way, pace: Pace) -> dict[str, Any]:
    """Ours over `way`: a turn of a side is a whole `fit` of a fresh copy of the network over the same batches."""
    steps = _steps_of_a_turn(subject, way, pace)
    batches = subject.batches(steps + AHEAD)
    (pair,) = turns_of(
        lambda: (_seconds(subject, ours, batches),),
        lambda: (_seconds(subject, way, batches),),
        warmup=1,
        min_turns=pace.turns,
        min_seconds=pace.least_s,
        max_seconds=pace.most_s,
        device=CPU,
    )
    return {"pair": pair.as_record(), "steps": steps, "suspect": suspect(pair)}


def _steps_of_a_turn(subject: Subject, way: Way, pace: Pace) -> int:
    seconds = _seconds(subject, way, subject.batches(QUICK.steps + AHEAD))
    return max(QUICK.steps, min(pace.steps, round(pace.turn_s / seconds)))


def suspect(pair: Pair) -> str | None:
    return suspicion(pair.on_cpu, torch.get_num_threads())


def trained(subject: Subject, way: Way, steps: int) -> nn.Module:
    """A copy of the network after that many steps."""
    model = subject.fresh()
    _train(subject, model, way, Watched(subject.batches(steps)))
    return model


def _seconds(subject: Subject, way: Way, batches: Sequence[Any]) -> float:
    watched = Watched(batches)
    _train(subject, subject.fresh(), way, watched)
    return watched.seconds()


def _train(subject: Subject, model: nn.Module, way: Way, watched: Watched) -> None:
    with tempfile.TemporaryDirectory() as folder, _silence():
        way(subject, model, watched, Path(folder))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What trainers print goes nowhere; that they print is part of what they cost."""
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
    """Mean nll on the first batches of the validation split, in full precision, in nats."""
    module = subject.module(model).eval()
    nll = count = 0.0
    for index, batch in enumerate(subject.data.val_dataloader()):
        if index == SCORED:
            break
        sums = module.tally(batch)
        nll, count = nll + float(sums["nll"]), count + float(sums["count"])
    return nll / count


def peak_of_step(subject: Subject, losses: Losses) -> int:
    """Exact peak of a training step, in bytes."""
    model = subject.fresh().train()
    optimizer = adamw(subject, model)
    step = stepper(model, losses(subject, model), optimizer, subject.config["optimizer"]["clip"])
    (batch,) = subject.batches(1)
    tensors = [item for item in batch if isinstance(item, torch.Tensor)]
    return peak_bytes(model, optimizer, lambda: step(batch), tensors)["total"]
