"""The parts of the page, each measured by its name."""

import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch

from bench.perf import growth, output, steps
from bench.perf.subjects import TASKS, Subject, language_models, of_tasks, smallest
from bench.perf.timing import Pace
from bench.runs import machine

VERSIONS = ("torch", "lightning", "transformers", "accelerate")

Subjects = list[Subject]

PARTS: dict[str, Callable[[Subjects, Pace], dict[str, Any]]] = {
    "floor": steps.floor,
    "overhead": lambda subjects, pace: steps.overhead([smallest(), *subjects], pace),
    "defaults": lambda subjects, pace: steps.defaults(language_models(subjects), pace),
    "output": lambda _, pace: output.measure(pace),
    "precision": lambda _, pace: steps.precision(pace),
    "growth": lambda _, pace: growth.measure(pace),
    "compile": lambda subjects, pace: steps.compiled([one for one in subjects if one.name in TASKS], pace),
    "gpu": lambda _, pace: _on_gpu(pace),
}


def _on_gpu(pace: Pace) -> dict[str, Any]:
    if not machine.gpus():
        return growth.holes("no GPU here")
    return growth.on_gpu(pace, torch.device("cuda"))


def measure(part: str, pace: Pace) -> dict[str, Any]:
    """Figures of a part as plain values, with where they come from."""
    subjects = of_tasks(pace.tiny) if part in ("floor", "overhead", "defaults", "compile") else []
    return {**PARTS[part](subjects, pace), "provenance": provenance(part)}


def provenance(part: str) -> dict[str, Any]:
    known = machine.provenance()
    on_gpu = part == "gpu" and machine.gpus()
    return {
        **{key: known[key] for key in ("commit", "dirty", "cores", "python")},
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "device": torch.cuda.get_device_name() if on_gpu else known["processor"],
        "threads": torch.get_num_threads(),
    }
