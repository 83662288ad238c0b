"""Give the cells of a sweep their seeds in turns, and none any more once they are decided. Imports no torch."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.analysis.power import margin_on_scale, scale_of
from bench.analysis.runs import Metric, is_finite
from bench.analysis.sequential import Decision, decide
from bench.config.run_config import RunConfig
from bench.runs.store import Status
from bench.sweep.run_or_load import Record

Train = Callable[[Sequence[RunConfig]], dict[str, Record]]
"""Trains cells and returns their records by the identity of the run."""


@dataclass
class Arm:
    """The cells of one configuration by their turns, a seed each; `untied`: its `none`, None where there is none."""

    cells: list[RunConfig]
    untied: "Arm | None" = None
    records: dict[int, Record] = field(default_factory=dict)
    decision: Decision | None = None

    @property
    def is_decided(self) -> bool:
        return self.decision is not None and bool(self.decision.word)

    @property
    def skipped(self) -> list[RunConfig]:
        return [cell for cell in self.cells if cell.config["seed"] not in self.records]


def train(cells: Sequence[RunConfig], train_all: Train) -> tuple[dict[str, Record], dict[str, str]]:
    """Train the cells seed by seed until the difference of each tying to its `none` is decided.

    `none` goes on as long as a tying that is compared with it does, and a configuration without a `none` gets all its
    seeds. One that has a run without a number is never decided: it gets all its seeds too. Seeds before the first look
    are trained together.

    Returns:
        The records by the identity of the run, of a skipped run one that says so; and what was decided early, a
        sentence by the group of the cell.
    """
    stop = cells[0].options["sweep"]["stop"]
    arms, records = _arms(cells), {}
    most = max(len(arm.cells) for arm in arms)
    for turn in (slice(stop["first"]), *(slice(n, n + 1) for n in range(stop["first"], most))):
        due = [cell for arm in arms if _goes_on(arm, arms) for cell in arm.cells[turn]]
        if not due:
            break
        records |= train_all(due)
        for arm in arms:
            arm.records |= {c.config["seed"]: records[c.id] for c in arm.cells if c.id in records}
        for arm in arms:
            if not arm.is_decided:
                arm.decision = _decision(arm, **stop)
    for arm in arms:
        reason = f"sweep.stop: decided after {len(arm.records)} of {len(arm.cells)} seeds"
        for cell in arm.skipped:
            records[cell.id] = {**cell.header(), "status": Status.NOT_RUN, "reason": reason}
    decided = [arm for arm in arms if arm.is_decided and arm.skipped]
    return records, {arm.cells[0].group: _sentence(arm, stop["margin"]) for arm in decided}


def _arms(cells: Sequence[RunConfig]) -> list[Arm]:
    by_group: dict[str, Arm] = {}
    for cell in cells:
        by_group.setdefault(cell.group, Arm([])).cells.append(cell)
    arms = list(by_group.values())
    untied = {_setting(arm.cells[0]): arm for arm in arms if not _is_compared(arm.cells[0])}
    for arm in arms:
        if _is_compared(arm.cells[0]):
            arm.untied = untied.get(_setting(arm.cells[0]))
    return arms


def _is_compared(cell: RunConfig) -> bool:
    return bool(cell.spec.parts or cell.spec.control)


def _setting(cell: RunConfig) -> str:
    """Return what a tying shares with the `none` that it is compared with: all but the tying, its rate and the seed."""
    apart = {"tying", "control", "seed", "optimizer"}
    alike = {key: value for key, value in cell.config.items() if key not in apart}
    rest = {key: value for key, value in cell.config["optimizer"].items() if key != "lr"}
    return json.dumps([alike, rest], sort_keys=True, default=str)


def _goes_on(arm: Arm, arms: Sequence[Arm]) -> bool:
    if arm.untied is not None:
        return not arm.is_decided
    compared = [other for other in arms if other.untied is arm]
    return not compared or not all(other.is_decided for other in compared)


def _decision(arm: Arm, margin: float, first: int) -> Decision | None:
    if arm.untied is None:
        return None
    seeds = [cell.config["seed"] for cell in arm.cells if cell.config["seed"] in arm.records]
    ours, theirs = ([_value(side.records.get(seed)) for seed in seeds] for side in (arm, arm.untied))
    if None in ours or None in theirs:
        return None
    metric = _metric(arm.cells[0])
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    within = margin_on_scale(metric, margin, math.fsum(theirs) / len(theirs))
    return decide(differences, within, len(arm.cells), first)


def _metric(cell: RunConfig) -> Metric:
    return Metric(**cell.config["task"]["metric"])


def _value(record: Mapping[str, Any] | None) -> float | None:
    """Return the test metric on the scale that it is compared on; None where the run has no finite one."""
    if record is None or record["status"] != Status.DONE:
        return None
    value = record["test"][scale_of(Metric(**record["metric"]))]
    return value if is_finite(value) else None


def _sentence(arm: Arm, margin: float) -> str:
    """`text_gru on pydocs, cross_layer, dropout 0, ...: different after 4 of 8 seeds (margin 0.01), nll +0.05 [...]`"""
    cell, (word, n, *numbers) = arm.cells[0], arm.decision
    mean, low, high = (f"{number:+.3g}" for number in numbers)
    config, total = cell.config, len(arm.cells)
    return (
        f"{config['task']['name']} on {config['data']['name']}, {cell.label}, dropout {config['dropout']:g}, weight "
        f"decay {config['weight_decay']:g}: {word} after {n} of {total} seeds (margin {margin:g}), "
        f"{scale_of(_metric(cell))} {mean} [{low}, {high}]"
    )
