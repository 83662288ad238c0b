"""Begin a run from the weights of another one, and measure how alike its blocks are before they are tied."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from bench.data.batches import PAD_ID, SentenceData
from bench.runs.store import Status, recorded, run_folder
from bench.runs.worker import Settled
from bench.training import build
from bench.tying import TyingPlan
from bench.tying.methods import blocks_of
from bench.tying.similarity import aligned_cosine, cosine, distance, representations

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


Forwards = Callable[[nn.Module], None]
"""Runs a model over a sample of data."""

BATCHES = 8
"""Of the validation split."""


def before_tying(
    model: nn.Module, plan: TyingPlan, config: Mapping[str, Any], data: L.LightningDataModule
) -> dict[str, Any] | None:
    """Means over all pairs of blocks that the plan's hard ties join; None where it joins none.

    cosine and distance of the raw weights, aligned: the cosine once hidden units are matched, cka of the outputs, and
    influence: the mean of both blocks' (`bench.tying.similarity`); one that applies to none of the pairs is None.
    blocks: the pairs, counted from 0 at the input.
    """
    pairs = joined(plan)
    if not pairs:
        return None
    stack, forwards = blocks_of(model), sample(config, data)
    pairs = [(one % len(stack), other % len(stack)) for one, other in pairs]
    seen = representations(model, stack, lambda: forwards(model))
    cosines, distances, moved = cosine(model), distance(model), seen.influence
    found = {
        "cosine": [cosines[a][b] for a, b in pairs],
        "distance": [distances[a][b] for a, b in pairs],
        "aligned": [aligned_cosine(model, stack[a], stack[b]) for a, b in pairs],
        "cka": [seen.cka[a][b] for a, b in pairs],
        "influence": [None if None in (moved[a], moved[b]) else (moved[a] + moved[b]) / 2 for a, b in pairs],
    }
    return {
        "blocks": [list(pair) for pair in pairs],
        **{name: _mean(values) for name, values in found.items()},
    }


def joined(plan: TyingPlan) -> list[tuple[int, int]]:
    """The pairs of blocks of which a hard tie makes a tensor one, as a tie counts blocks, each pair once."""
    found = set()
    for tie in plan.ties:
        blocks = sorted({block for block in tie.blocks if block is not None}) if tie.is_hard else []
        found |= {(one, other) for at, one in enumerate(blocks) for other in blocks[at + 1 :]}
    return sorted(found)


def sample(config: Mapping[str, Any], data: L.LightningDataModule) -> Forwards:
    """The first BATCHES of the validation split, read as training reads it, but for padding, which is cut off."""

    def forwards(model: nn.Module) -> None:
        task = build.training(config, model, TyingPlan(), data.meta)
        for batch in islice(data.val_dataloader(), BATCHES):
            for part in _unpadded(data, batch):
                task.tally(part)

    return forwards


def _unpadded(data: L.LightningDataModule, batch: Any) -> Iterator[Any]:
    """Of sentences, the rows of one length together: a padded position is no position."""
    if not isinstance(data, SentenceData):
        yield batch
        return
    tokens, *others = batch
    lengths = (tokens != PAD_ID).sum(1)
    for length in lengths[lengths > 0].unique().tolist():
        rows = lengths == length
        yield tokens[rows, :length], *(other[rows] for other in others)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
