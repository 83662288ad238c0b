"""torch.compile: what a step takes with it and without, and what it takes before the first."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from bench import assembly, machine
from bench.errors import BadInput
from bench.measure.turns import in_turns
from bench.perf.loops import adamw, same_loss, stepper
from bench.perf.pace import Pace
from bench.perf.stepping import CPU, suspect
from bench.perf.subjects import Subject

CACHE = "TORCHINDUCTOR_CACHE_DIR"

FIRST = 3
"""Steps that compile: of a new state, of one that is carried, and what these make of a second look."""


def measure(
    subjects: Sequence[Subject], pace: Pace, modes: Sequence[str] = ("default",), device: torch.device = CPU
) -> dict[str, Any]:
    """The compiled step over the plain one, in turns, and the seconds of the first steps; or why there is none."""
    rows = []
    for subject in subjects:
        for mode in modes:
            rows.append({"subject": subject.name, "mode": mode, **_compared(subject, mode, pace, device)})
    return {"first": FIRST, "rows": rows}


def _compared(subject: Subject, mode: str, pace: Pace, device: torch.device) -> dict[str, Any]:
    try:
        machine.check_compiler(mode)
    except BadInput as reason:
        return {"reason": str(reason)}
    with _empty_cache():
        compiled, plain = _step(subject, mode, device), _step(subject, None, device)
        began = time.perf_counter()
        for _ in range(FIRST):
            compiled()
        first = time.perf_counter() - began
        pair = in_turns(
            compiled,
            plain,
            warmup=2,
            min_turns=pace.turns,
            min_seconds=pace.least_s / 4,
            max_seconds=pace.most_s,
            device=device,
        )
    return {"pair": pair.as_record(), "suspect": suspect(pair), "first_s": first}


def _step(subject: Subject, mode: str | None, device: torch.device) -> Callable[[], None]:
    """A bare step of a copy over the first batches, one after another."""
    model = subject.fresh().train().to(device)
    assembly.compile_in_place(model, mode)
    step = stepper(
        model, same_loss(subject, model), adamw(subject, model), subject.config["optimizer"]["clip"]
    )
    batches = [
        [item.to(device) if isinstance(item, torch.Tensor) else item for item in batch]
        for batch in subject.batches(2 * FIRST)
    ]
    taken = 0

    def one() -> None:
        nonlocal taken
        step(batches[taken % len(batches)])
        taken += 1

    return one


@contextlib.contextmanager
def _empty_cache() -> Iterator[None]:
    """Without, the seconds of a second call would be those of reading what the first had compiled."""
    before = os.environ.get(CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE] = folder
        try:
            yield
        finally:
            os.environ.pop(CACHE)
            if before is not None:
                os.environ[CACHE] = before
