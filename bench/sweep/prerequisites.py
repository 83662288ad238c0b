"""Run first what a cell waits for: groups that are found, and the learning rate of each task x tying. No torch."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from bench.config.run_config import RunConfig
from bench.runs.store import Status
from bench.runs.tying_spec import GROWL, LEARNED, finder_of

Grouping = list[int]
"""A label for each block, input first, or for each row of a matrix, numbered in the order in which they first appear.

A row of label -1 is zero and in no group.
"""

Similarity = Sequence[Sequence[float | None]]
"""[depth][depth] cosines of blocks; None where two have no tensors of one shape, which can share nothing."""

SOFT = {"_target_": "bench.tying.methods.soft", "_partial_": True}
"""The part of conf/tying/soft.yaml: that the source is the run of `tying=soft` is a test."""

EMPTY: Mapping[str, Mapping[str, Any]] = {}
"""The records before any run."""

NEVER = 1e6
"""Stands for the distance of blocks that can share nothing. Those of others lie in [0, 2]."""


class Unlearned(Exception):
    """No grouping came of it; `status` is how the cell ends that asked for one, the message is why."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def source(cell: RunConfig) -> RunConfig | None:
    """Return the run that the cell's grouping is learned from; None where none is to be learned, or it is already.

    It is the cell with soft ties, or none at strength 0, in the place of those to be learned, unregularised and at
    `lr_search.seed`, which no table reports. Of rows that are to be found it is the cell without their tie, with a
    penalty on them.
    """
    tying = cell.config["tying"]
    finder = finder_of(tying["parts"])
    if finder is None or tying["grouping"] is not None:
        return None
    parts = {name: part for name, part in tying["parts"].items() if name != finder}
    if finder == LEARNED and tying["strength"]:
        parts["soft"] = {**SOFT, "strength": tying["strength"], "scope": tying["scope"]}
    used = {key for part in parts.values() for key in part}
    kept = {key: value if key in used else None for key, value in tying.items()}
    if "strength" in used:
        kept |= {"form": tying["form"] or "penalty", "init": tying["init"] or "own"}
    return cell.altered(
        tying={**kept, "parts": parts},
        control=None,
        start=None,
        trainer={"use_gradients": None},
        optimizer={"group_owl": tying["strength"]} if finder == GROWL else {},
        seed=cell.options["lr_search"]["seed"],
        dropout=0.0,
        weight_decay=0.0,
    )


def resolved(cell: RunConfig, records: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Return the cell with the grouping that its source's record gives; itself where none is to be learned.

    Raises:
        Unlearned: The source has no end that a grouping can be taken from.
    """
    learned_from = source(cell)
    if learned_from is None:
        return cell
    record, tying = records[learned_from.id], cell.config["tying"]
    finder = finder_of(tying["parts"])
    if record["status"] != Status.DONE:
        status = (
            record["status"]
            if record["status"] in (Status.INTERRUPTED, Status.NOT_APPLICABLE)
            else Status.FAILED
        )
        source_run = f"run {learned_from.id} ({learned_from.label}, seed {learned_from.config['seed']})"
        reason = (
            record["reason"] if status == Status.NOT_APPLICABLE else f"{record['status']}: {record['reason']}"
        )
        units = "blocks" if finder == LEARNED else "rows"
        raise Unlearned(status, f"which {units} share was to be learned from {source_run}, which is {reason}")
    if finder == GROWL:
        labels = record["alike_rows"]
    elif record["similarity"] is None:
        raise Unlearned(Status.NOT_APPLICABLE, "the network has no stack of blocks to group")
    else:
        labels = clustered(record["similarity"], tying["groups"])
    if tying["shuffle"] is not None:
        labels = shuffled(labels, tying["shuffle"])
    return with_grouping(replace(cell, options={**cell.options, "learned_from": learned_from.id}), labels)


def with_grouping(cell: RunConfig, labels: Grouping) -> RunConfig:
    """Return the cell as if its grouping had been found to be this one."""
    parts = cell.config["tying"]["parts"]
    finder = finder_of(parts)
    parts = {**parts, finder: {**parts[finder], "grouping": labels}}
    return cell.completed(tying={"grouping": labels, "parts": parts})


def clustered(similarity: Similarity, groups: int) -> Grouping:
    """Return so many groups of blocks, by agglomerative clustering with average linkage on 1 - cosine.

    Raises Unlearned where there are fewer blocks, or where so few groups would join blocks that share nothing.
    """
    # A third of a second and more to import, which only who learns pays.
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform

    cosines = np.array(similarity, dtype=float)
    depth = len(cosines)
    if groups > depth:
        raise Unlearned(
            Status.FAILED,
            f"groups is {groups}; the network has {depth} blocks: groups must be from 1 to {depth}",
        )
    if depth == 1:
        return [0]
    apart = np.where(np.isnan(cosines), NEVER, np.maximum(1 - cosines, 0))
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform((apart + apart.T) / 2, checks=False), method="average")
    least = 1 + int((tree[:, 2] > NEVER / depth**2).sum())
    if groups < least:
        raise Unlearned(
            Status.NOT_APPLICABLE,
            f"blocks of different shapes cannot share: these {depth} fall into {least} groups at least, not {groups}",
        )
    return _renumbered(cut_tree(tree, n_clusters=groups)[:, 0].tolist())


def shuffled(labels: Grouping, number: int) -> Grouping:
    """Return groups of these sizes dealt out at random to what is in a group, never the grouping itself.

    Raises Unlearned where there is no other of these sizes.
    """
    grouped = [place for place, label in enumerate(labels) if label >= 0]
    before = dealt = [labels[place] for place in grouped]
    if len(set(dealt)) in (0, 1, len(dealt)):
        raise Unlearned(
            Status.NOT_APPLICABLE, f"{len(dealt)} in groups of these sizes can be grouped in one way only"
        )
    draw = random.Random(number)
    while _renumbered(dealt) == before:
        dealt = [*dealt]
        draw.shuffle(dealt)
    placed = dict(zip(grouped, _renumbered(dealt), strict=True))
    return [placed.get(place, label) for place, label in enumerate(labels)]


def _renumbered(labels: Sequence[int]) -> Grouping:
    names = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return [names[label] for label in labels]


def candidates(cell: RunConfig, records: Mapping[str, Mapping[str, Any]] = EMPTY) -> list[RunConfig]:
    """Return the runs to choose a learning rate from, the lowest first; none without a search.

    They are the cell at each of `lr_search.factors` and each seed of the search, without regularisation unless
    `lr_search.regularised`. Where `records` have them all and the best is at an end, the next rate beyond that end is
    one more, up to `lr_search.widen` of them.
    """
    return [run for runs in _by_rate(cell, records) for run in runs]


def _by_rate(cell: RunConfig, records: Mapping[str, Mapping[str, Any]]) -> list[list[RunConfig]]:
    """Return `candidates`, those of one rate together."""
    search = cell.options["lr_search"]
    base = cell.config["optimizer"]["lr"]
    factors = sorted(set(search["factors"] or ()))
    rates = [_at_rate(cell, base * factor) for factor in factors]
    for _ in range(search["widen"] if len(factors) > 1 else 0):
        is_known = all(run.id in records for runs in rates for run in runs)
        best = _best(rates, records) if is_known else None
        if best is rates[-1]:
            factors.append(factors[-1] ** 2 / factors[-2])
            rates.append(_at_rate(cell, base * factors[-1]))
        elif best is rates[0]:
            factors.insert(0, factors[0] ** 2 / factors[1])
            rates.insert(0, _at_rate(cell, base * factors[0]))
        else:
            break
    return rates


def _at_rate(cell: RunConfig, lr: float) -> list[RunConfig]:
    """Return the cell at a rate, at each seed of the search."""
    search = cell.options["lr_search"]
    plain = {} if search["regularised"] else {"dropout": 0.0, "weight_decay": 0.0}
    seeds = dict.fromkeys([search["seed"], *search["more_seeds"]])
    return [cell.altered(optimizer={"lr": lr}, seed=seed, **plain) for seed in seeds]


def _best(
    rates: Sequence[Sequence[RunConfig]], records: Mapping[str, Mapping[str, Any]]
) -> Sequence[RunConfig] | None:
    """Return the runs of the rate with the best validation metric, the mean over its seeds.

    Of rates with an equal metric, as accuracies of few examples are, it is the one with the least validation loss.

    Returns:
        None where no rate has finished at every seed.
    """
    sign = 1 if rates[0][0].config["task"]["metric"]["mode"] == "min" else -1

    def key(runs: Sequence[RunConfig]) -> tuple[float, float]:
        losses = [records[run.id]["val"].get("nll", 0.0) for run in runs]
        return sign * _reached(runs, records), fmean(losses)

    finished = [runs for runs in rates if all(records[run.id]["status"] == Status.DONE for run in runs)]
    return min(finished, key=key, default=None)


def _reached(runs: Sequence[RunConfig], records: Mapping[str, Mapping[str, Any]]) -> float | str:
    """Return the mean validation metric of a rate, or the status of the first of its runs that did not finish."""
    name = runs[0].config["task"]["metric"]["name"]
    ended = [records[run.id] for run in runs]
    unfinished = [record["status"] for record in ended if record["status"] != Status.DONE]
    return unfinished[0] if unfinished else fmean(record["val"][name] for record in ended)


def chosen(cell: RunConfig, records: Mapping[str, Mapping[str, Any]]) -> tuple[RunConfig, dict[str, Any]]:
    """Return the cell at its best candidates' learning rate, and what each rate reached on validation.

    Where no rate finished the cell keeps its own, and what they reached says why.
    """
    rates = _by_rate(cell, records)
    reached = {f"{runs[0].config['optimizer']['lr']:g}": _reached(runs, records) for runs in rates}
    best = _best(rates, records)
    return (cell.completed(optimizer={"lr": best[0].config["optimizer"]["lr"]}) if best else cell), reached
