"""The weights that a run begins from where `start` is set: the best of a run that was trained before."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.records import Status, recorded, run_folder
from bench.worker import Settled

WEIGHTS = "best.ckpt"
PREFIX = "model."
"""Of the network's own weights in a checkpoint of its training module."""


def inherit(model: nn.Module, runs: Path, run_id: str) -> dict[str, Any]:
    """Load the best weights of the finished run into the plain network, in place; what a record says of that run.

    That is {"run": its id, "val", "test": its scores}. Raises Settled, which makes a failed row, where it has not
    finished or has no weights any more.
    """
    folder = run_folder(runs, run_id)
    record = recorded(folder / "record.json")
    if record is None or record["status"] != Status.DONE:
        ended = "has no record" if record is None else f"is {record['status']}: {record['reason']}"
        raise Settled(f"the run to start from, {run_id}, {ended}")
    path = folder / WEIGHTS
    if not path.is_file():
        raise Settled(f"the run to start from has no {path} any more: delete {folder} and run it again")
    weights = weights_of(path)
    model.to(next(iter(weights.values())).dtype)  # before: loading would round what was trained in float64
    model.load_state_dict(weights)
    return {"run": run_id, "val": record["val"], "test": record["test"]}


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The network's own part of a run's best.ckpt, on the CPU."""
    saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix(PREFIX): value for name, value in saved.items() if name.startswith(PREFIX)}
