"""Begin a run from the weights of another one, and measure how alike its blocks are before they are tied."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from bench.data.batches import PAD_ID, SentenceData
from bench.runs.store import BEST, Status, recorded, run_folder
from bench.runs.worker import EarlyExit
from bench.training import build
from bench.tying import TyingPlan
from bench.tying.methods import blocks_of
from bench.tying.similarity import aligned_cosine, cosine, distance, joined_pairs, representations

PREFIX = "model."
"""How the names of the network's own weights begin in a checkpoint of its training module."""

Weights = dict[str, torch.Tensor]

BATCHES = 8
"""How many batches of the validation split similarity is measured on."""


def init_from_run(
    model: nn.Module, runs: Path, run_id: str, rename: Callable[[Weights], Weights] = dict
) -> dict[str, Any]:
    """Load the best weights of a finished run into the plain network, in place.

    Args:
        rename: Gives the weights the names that they have in this network, where it has fewer blocks than the run's.

    Returns:
        {"run": its id, "val", "test": its scores}.

    Raises:
        EarlyExit: The run has not finished, or has no weights any more. It makes a failed row.
    """
    folder = run_folder(runs, run_id)
    record = recorded(folder / "record.json")
    if record is None or record["status"] != Status.DONE:
        state = "has no record" if record is None else f"is {record['status']}: {record['reason']}"
        raise EarlyExit(f"the run to start from, {run_id}, {state}")
    path = folder / BEST
    if not path.is_file():
        raise EarlyExit(f"the run to start from has no {path} any more: delete {folder} and run it again")
    weights = weights_of(path)
    model.to(next(iter(weights.values())).dtype)  # before: loading would round what was trained in float64
    model.load_state_dict(rename(weights))
    return {"run": run_id, "val": record["val"], "test": record["test"]}


def left_in(weights: Weights, whole: Sequence[str], left: Sequence[str], blocks: Sequence[int]) -> Weights:
    """Return a network's weights under the names that they have once only some of its blocks are left.

    Args:
        whole: Names of the network's blocks, input first.
        left: Names of the blocks of the network that has these alone.
        blocks: Which of the network's blocks they are, counted from 0.
    """
    place_of = {whole[number]: place for place, number in zip(left, blocks, strict=True)}
    named = {}
    for name, value in weights.items():
        block = next((block for block in whole if name.startswith(f"{block}.")), None)
        if block is None:
            named[name] = value
        elif block in place_of:
            named[place_of[block] + name.removeprefix(block)] = value
    return named


def weights_of(path: Path) -> Weights:
    """Read the network's own part of a run's best.ckpt, onto the CPU."""
    saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix(PREFIX): value for name, value in saved.items() if name.startswith(PREFIX)}


def pair_similarity(
    model: nn.Module, plan: TyingPlan, config: Mapping[str, Any], data: L.LightningDataModule
) -> dict[str, Any] | None:
    """Measure how alike the blocks are that the plan's hard ties will join. Returns None where it joins none.

    Returns means over all joined pairs, by measure (`bench.tying.similarity`): cosine and distance of the raw
    weights; aligned, the cosine once hidden units are matched; cka of the outputs; influence, the mean of both
    blocks'. A measure that applies to no pair is None. `blocks` has the pairs, counted from 0 at the input.
    """
    pairs = joined_pairs(plan)
    if not pairs:
        return None
    stack, forwards = blocks_of(model), sample(config, data)
    pairs = [(one % len(stack), other % len(stack)) for one, other in pairs]
    by_output = representations(model, stack, lambda: forwards(model))
    cosines, distances, influence = cosine(model), distance(model), by_output.influence
    values_of_pairs = {
        "cosine": [cosines[a][b] for a, b in pairs],
        "distance": [distances[a][b] for a, b in pairs],
        "aligned": [aligned_cosine(model, stack[a], stack[b]) for a, b in pairs],
        "cka": [by_output.cka[a][b] for a, b in pairs],
        "influence": [
            None if None in (influence[a], influence[b]) else (influence[a] + influence[b]) / 2
            for a, b in pairs
        ],
    }
    return {
        "blocks": [list(pair) for pair in pairs],
        **{name: _mean(values) for name, values in values_of_pairs.items()},
    }


def sample(config: Mapping[str, Any], data: L.LightningDataModule) -> Callable[[nn.Module], None]:
    """Return a call that runs a model over the first BATCHES of the validation split.

    The batches are read as training reads them, but for padding, which is cut off.
    """

    def forwards(model: nn.Module) -> None:
        task = build.training(config, model, TyingPlan(), data.meta)
        for batch in islice(data.val_dataloader(), BATCHES):
            for part in _unpadded(data, batch):
                task.tally(part)

    return forwards


def _unpadded(data: L.LightningDataModule, batch: Any) -> Iterator[Any]:
    """Yield the batch; of sentences the rows of each length together, without padding."""
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
