"""Measure a part of the page by its name."""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch

from bench.perf import growth, output, steps, views
from bench.perf.subjects import TASKS, of_tasks, smallest
from bench.perf.timing import Pace
from bench.runs import machine

VERSIONS = ("torch", "lightning", "transformers", "accelerate")

PARTS: dict[str, Callable[[Pace], dict[str, Any]]] = {
    "floor": lambda pace: steps.floor(of_tasks(pace.tiny), pace),
    "overhead": lambda pace: steps.overhead([smallest(), *of_tasks(pace.tiny)], pace),
    "defaults": lambda pace: steps.defaults([net for net in of_tasks(pace.tiny) if net.speaks], pace),
    "output": output.measure,
    "precision": steps.precision,
    "growth": growth.measure,
    "views": views.measure,
    "compile": lambda pace: steps.compiled([net for net in of_tasks(pace.tiny) if net.name in TASKS], pace),
    "gpu": lambda pace: (
        growth.on_gpu(pace, torch.device("cuda")) if machine.gpus() else growth.holes("no GPU here")
    ),
}


def measure(part: str, pace: Pace) -> dict[str, Any]:
    """Return the figures of a part as plain values, with where they come from."""
    figures, known = PARTS[part](pace), machine.provenance()
    provenance = {
        **{key: known[key] for key in ("commit", "dirty", "cores", "python")},
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "device": torch.cuda.get_device_name() if part == "gpu" and machine.gpus() else known["processor"],
        "threads": torch.get_num_threads(),
    }
    return {**figures, "provenance": provenance}
