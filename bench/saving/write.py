"""From a model to its file."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from bench.errors import BadInput
from bench.quantize import is_quantised, stored_plan
from bench.records import written_atomically
from bench.saving.content import (
    FORMAT,
    OUTPUT,
    READS,
    Example,
    answer_of,
    as_data,
    digest,
    names_of,
    plain,
    stored_as,
)
from bench.tying import TyingPlan


def save(model: nn.Module, plan: TyingPlan, path: str | Path, example: Example | None = None) -> None:
    """Write the model, which `plan` was applied to, to `path`: all of it or nothing. It may be quantised since.

    example: keyword arguments of `model`, kept in the file with what it answers, which `load` compares.
    Raises BadInput where a tie of the plan is not one tensor in the model, and where `path` cannot be written.
    """
    path, names = Path(path), names_of(model)
    try:
        stored_plan(plan, names).verify(model)
    except RuntimeError as error:
        raise BadInput(f"{error}: apply the plan before the model is saved") from error
    stored = stored_as(names)
    tensors = {name: plain(names[name]) for name in dict.fromkeys(stored.values())}
    if example is not None:
        tensors |= {READS + key: plain(value) for key, value in example.items()}
        tensors[OUTPUT] = plain(answer_of(model, example))
    metadata = {
        "format": FORMAT,
        "plan": json.dumps([as_data(tie) for tie in plan.ties]),
        "shared": json.dumps({name: first for name, first in stored.items() if name != first}),
        "model": json.dumps(_description(model)),
    }
    if is_quantised(model):
        metadata["quantised"] = "int8"
    metadata["sha256"] = digest(tensors, metadata)
    with written_atomically(path) as temporary:
        try:
            safetensors.torch.save_file(tensors, temporary, metadata)
        except safetensors.SafetensorError as error:
            raise BadInput(f"cannot write {path}: {error}; choose a folder with space left") from error


def _description(model: nn.Module) -> dict[str, Any] | None:
    """Class and config of a model of the `transformers` package; None of any other."""
    if type(model).__module__.partition(".")[0] != "transformers":
        return None
    return {"transformers": type(model).__name__, "config": model.config.to_dict()}
