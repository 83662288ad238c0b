"""How alike the blocks of a trained network are that a plan is about to tie, by every measure there is."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import lightning as L
from torch import nn

from bench import assembly
from bench.data.sentences import PAD_ID, SentenceData
from bench.similarity import aligned_cosine, representations
from bench.tying import TyingPlan
from bench.tying.similarity import cosine, distance
from bench.tying.strategies import blocks_of

Forwards = Callable[[nn.Module], None]
"""Runs a model over a sample of data."""

BATCHES = 8
"""Of the validation split."""


def before_tying(
    model: nn.Module, plan: TyingPlan, config: Mapping[str, Any], data: L.LightningDataModule
) -> dict[str, Any] | None:
    """Means over all pairs of blocks that the plan's hard ties join; None where it joins none.

    cosine and distance of the raw weights, aligned: the cosine once hidden units are matched, cka of the outputs, and
    influence: the mean of both blocks' (`bench.similarity`); one that applies to none of the pairs is None. blocks: the
    pairs, counted from 0 at the input.
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
        task = assembly.training(config, model, TyingPlan(), data.meta)
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
