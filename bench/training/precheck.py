"""Build what cells are made of, before any of them is run: what refuses it refuses the command."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.runs.store import NoRecord, read_json, write_json
from bench.runs.worker import one_line
from bench.training import build
from bench.tying import TyingPlan
from bench.tying.errors import BadInput

MOST_PARAMS = 100_000_000
"""A larger network is built without its numbers alone: what only its answers tell, its run finds out."""


def main(folder: Path, launched: float) -> None:
    """Write to `folder/refusals.json` what refuses each config of `folder/configs.json`: a line, or None."""
    configs = read_json(folder / "configs.json")["configs"]
    write_json(folder / "refusals.json", {"refusals": [refusal(config) for config in configs]})


def refusal(config: Mapping[str, Any]) -> str | None:
    """Return why the data, the network, its control or its tying is refused as bad input; None where none is.

    All else that goes wrong is left to the run itself, whose log then has a traceback.
    """
    try:
        shapes, meta = _served(_text(config["data"]), _text(config["task"]["batches"]))
        sized, _ = build.controlled(config, shapes)
        keys = ("model", "task", "dropout", "optimizer", "weight_decay", "trainer")
        model = _built(_text({key: sized[key] for key in keys}), _text(shapes), _text(meta))
        build.plan_for(sized, model).check(model)
    except NoRecord:  # data that are gone meanwhile are no fault of the config
        return None
    except BadInput as reason:
        return one_line(reason)
    except Exception:
        return None
    return None


def _kept_with_its_refusal(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Remember what `ask` answers, and also what it raises: cells share their data and their network."""

    @functools.cache
    def outcome(*question: Any) -> tuple[Any, Exception | None]:
        try:
            return ask(*question), None
        except Exception as error:
            return None, error

    def answer(*question: Any) -> Any:
        value, error = outcome(*question)
        if error is not None:
            raise error
        return value

    return answer


@_kept_with_its_refusal
def _served(data: str, batches: str) -> tuple[dict[str, int], Mapping[str, Any]]:
    """Return the shapes and the meta data of a data module that can serve batches of each split."""
    config = {"data": json.loads(data), "task": {"batches": json.loads(batches)}, "seed": 0}
    module = build.data_module(config)
    for loader in (module.train_dataloader, module.val_dataloader, module.test_dataloader):
        loader()
    return module.shapes, module.meta


@_kept_with_its_refusal
def _built(config: str, shapes: str, meta: str) -> nn.Module:
    """Return the network without its numbers. It and what trains it were built with them, unless it has too many."""
    config, shapes = {**json.loads(config), "seed": 0, "tying": {"form": None}}, json.loads(shapes)
    with torch.device("meta"):
        network = build.network(config, shapes, config["dropout"])
    if sum(parameter.numel() for parameter in network.parameters()) <= MOST_PARAMS:
        whole = build.network(config, shapes, config["dropout"])
        build.training(config, whole, TyingPlan(), json.loads(meta))
    return network


def _text(section: Mapping[str, Any]) -> str:
    return json.dumps(section, sort_keys=True)
