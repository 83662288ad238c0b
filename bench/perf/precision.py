"""What a step takes in each precision that a run can be given: the ground for the defaults of conf/task."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.measure.turns import seconds_of, turns_of
from bench.perf.loops import adamw, same_loss, stepper
from bench.perf.pace import Pace
from bench.perf.stepping import CPU, suspect
from bench.perf.subjects import TASKS, TINY, composed, subject

NAMES = (*TASKS, "main/text_gru", "main/text_transformer")
"""Tasks at their default sizes, and the language models at those of the `main` sweep."""

PLAIN = (None, "32-true")
PRECISIONS = (("bf16", "32-true"), ("bf16", "bf16-mixed"))
"""trainer.output_precision and trainer.precision; either is compared with PLAIN."""


def measure(pace: Pace) -> dict[str, Any]:
    """Bare steps over the first batch, in turns with single precision throughout."""
    named = TINY if pace.tiny else dict.fromkeys(NAMES, ())
    rows = []
    for task, sizes in named.items():
        for output, below in PRECISIONS:
            speaks = not task.endswith("image_cnn")
            if speaks or below != "32-true":  # an image network has no output layer worth a precision
                rows.append(_compared(task, sizes, output if speaks else None, below, pace))
    return {"rows": rows}


def _compared(task: str, sizes: Sequence[str], output: str | None, below: str, pace: Pace) -> dict[str, Any]:
    (pair,) = turns_of(
        _measured(task, sizes, output, below),
        _measured(task, sizes, *PLAIN),
        warmup=1,
        min_turns=pace.turns,
        min_seconds=pace.least_s / 2,
        max_seconds=pace.most_s,
        device=CPU,
    )
    row = {"subject": task, "output_precision": output, "precision": below}
    return {**row, "pair": pair.as_record(), "suspect": suspect(pair)}


def _measured(task: str, sizes: Sequence[str], output: str | None, below: str) -> Callable[[], tuple[float]]:
    """Seconds of the second step of a fresh copy, as copies differ by where they lie in memory."""
    asked = (f"trainer.output_precision={output or 'null'}", f"trainer.precision={below}")
    one = subject(composed(f"task={task}", *asked, *sizes), task)
    (batch,) = one.batches(1)

    def measured() -> tuple[float]:
        model = one.fresh().train()
        step = stepper(model, same_loss(one, model), adamw(one, model), one.config["optimizer"]["clip"])

        def call() -> None:
            with torch.autocast(CPU.type, torch.bfloat16, enabled=below == "bf16-mixed"):
                step(batch)

        call()
        return (seconds_of(call, CPU),)

    return measured
