"""One row per run that a sweep asked for: what it asked, and its record where there is one."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bench.analysis.archive import Recorded, load
from bench.runs.store import Status
from bench.runs.tying_spec import TyingSpec, recorded_spec
from bench.tying.errors import BadInput

WORST = (Status.DIVERGED, Status.FAILED, Status.NOT_FINITE)
"""Statuses of a run that ended without a number; it counts as worse than any number."""

LAST_QUARTER = 0.75
"""The last quarter begins at this share of the budget."""

Figure = TypeVar("Figure", bound=NamedTuple)


@dataclass(frozen=True)
class Metric:
    """What a task is judged by. Raises BadInput for a mode other than min and max."""

    name: str
    mode: str

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise BadInput(f"metric {self.name} has mode {self.mode!r}: it must be min or max")

    @property
    def higher_is_better(self) -> bool:
        return self.mode == "max"

    @property
    def is_share(self) -> bool:
        return self.name.endswith("accuracy")

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def label(self) -> str:
        return f"test {self.name.replace('_', ' ')} {self.arrow}" + (" %" if self.is_share else "")

    def best(self, values: list[float]) -> float:
        return max(values) if self.higher_is_better else min(values)


@dataclass(frozen=True)
class CostRecord:
    """What a tying costs, as it was measured; `fields` is {} where there is no record."""

    fields: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def is_measured(self) -> bool:
        return self.fields.get("status") == Status.DONE

    @property
    def tying(self) -> str:
        return str(self.fields.get("tying"))

    @property
    def suspect(self) -> list[str]:
        """Why its timings cannot be trusted, each in a line; [] where they can."""
        return [" ".join(str(reason).split()) for reason in self.fields.get("suspect") or ()]

    def value(self, *keys: str) -> Any:
        """The value under a path of keys, None where any of them is absent."""
        return look_up(self.fields, *keys)

    def number(self, *keys: str) -> float | None:
        """The value under a path of keys, None where it is no finite number."""
        value = self.value(*keys)
        return value if is_finite(value) else None


@dataclass(frozen=True)
class RunRecord:
    """One run that a sweep asked for. `record` is {} where there is none."""

    id: str
    task: str
    data: str
    spec: TyingSpec
    dropout: float
    weight_decay: float
    seed: int
    cell: str
    cost_id: str
    metric: Metric
    status: Status
    reason: str | None
    record: Mapping[str, Any] = field(repr=False, default_factory=dict)
    cost: CostRecord = field(repr=False, default_factory=CostRecord)

    @property
    def tying(self) -> str:
        return self.spec.label

    @property
    def is_done(self) -> bool:
        return self.status == Status.DONE

    @property
    def fingerprint(self) -> str | None:
        return self.number("data_meta", "fingerprint")

    def number(self, *keys: str) -> Any:
        """The value of the record under a path of keys, None where any of them is absent."""
        return look_up(self.record, *keys)

    @cached_property
    def late_gain(self) -> float | None:
        """By what share the best validation loss so far fell in the last quarter of the budget; 0 where it did not.

        Between two validations the best so far counts as falling evenly. A run that lost its patience has the budget
        that it was given. None without a validation before the last quarter, and where a loss of 0 has no share.
        """
        curves = self.number("curves") or {}
        steps, losses = curves.get("step") or curves.get("epoch") or [], curves.get("val_nll") or []
        points = [pair for pair in zip(steps, losses, strict=False) if all(map(is_finite, pair))]
        if not points:
            return None
        at, losses = zip(*points, strict=True)
        begin = LAST_QUARTER * (self.number("stop", "of") or steps[-1])
        best = list(accumulate(losses, min))
        if at[0] > begin:
            return None
        later = bisect_right(at, begin)
        before = best[later - 1]
        if later < len(at):
            before += (best[later] - before) * (begin - at[later - 1]) / (at[later] - at[later - 1])
        return (before - best[-1]) / abs(before) if before else None


def percent(figure: Figure | None, metric: Metric) -> Figure | None:
    """Scale a share to percent, as it is printed; anything else stays as it is. p and n are no shares."""
    if figure is None or not metric.is_share:
        return figure
    return converted(figure, lambda part: 100 * part, "mean", "sd", "low", "high")


def converted(figure: Figure, convert: Callable[[float], float], *keys: str) -> Figure:
    """Return a named tuple with these of its parts converted, where it has them."""
    parts = {key: getattr(figure, key, None) for key in keys}
    return figure._replace(**{key: convert(part) for key, part in parts.items() if part is not None})


def look_up(tree: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def training_size(record: Mapping[str, Any]) -> int | None:
    """Return how many tokens or examples a run trained on; None where the record does not say."""
    available = look_up(record, "data_meta", "sizes", "train")
    limit = look_up(record, "config", "data", "train_limit")
    return min(available, limit or available) if available else None


def device(record: Mapping[str, Any]) -> str | None:
    """Return the device that a record was made on: its own field, else that of its provenance."""
    return record.get("device") or look_up(record, "provenance", "device")


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_sweep(runs: Path, name: str, results: Path | None = None) -> tuple[list[RunRecord], str | None]:
    """Return every run the sweep asked for, once, and its note. BadInput as `archive.load` raises it."""
    sweep = load(runs, results, name)
    return rows(sweep), sweep.note


def rows(sweep: Recorded) -> list[RunRecord]:
    """Return every run that the sweep asked for, once. BadInput for an entry that lacks something."""
    try:
        specs = _specs(sweep)
        return [_run(sweep, run_id, specs[run_id]) for run_id in sweep.entries]
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"sweep {sweep.name}: a run lacks or has an odd {error}; delete its manifest and run it again"
        ) from error


def _specs(sweep: Recorded) -> dict[str, TyingSpec]:
    """Return run id -> its spec: its own, else that of a run of the same label, else one that knows the label alone."""
    labels = {run_id: entry["tying"] for run_id, entry in sweep.entries.items()}
    known = {
        run_id: recorded_spec(entry) or recorded_spec(sweep.records.get(run_id, {}))
        for run_id, entry in sweep.entries.items()
    }
    of_label = {labels[run_id]: spec for run_id, spec in known.items() if spec is not None}
    return {
        run_id: spec or of_label.get(labels[run_id]) or TyingSpec.unknown(labels[run_id])
        for run_id, spec in known.items()
    }


def _run(sweep: Recorded, run_id: str, spec: TyingSpec) -> RunRecord:
    entry, record = sweep.entries[run_id], sweep.records.get(run_id)
    metric = Metric(entry["metric"]["name"], entry["metric"]["mode"])
    status, reason = _status(record, metric)
    if record and "lr_search" in entry:  # a record that was taken over knows the rates of an earlier search
        record = {**record, "lr_search": entry["lr_search"]}
    cost_id = str(entry.get("cost") or "")
    cost = sweep.costs.get(cost_id, {})
    if cost and recorded_spec(cost) is None:
        cost = {**cost, "spec": spec.as_record()}
    return RunRecord(
        id=run_id,
        task=entry["task"],
        data=entry["data"],
        spec=spec,
        dropout=float(entry["dropout"]),
        weight_decay=float(entry["weight_decay"]),
        seed=int(entry["seed"]),
        cell=str(entry["cell"]),
        cost_id=cost_id,
        metric=metric,
        status=status,
        reason=reason,
        record=record or {},
        cost=CostRecord(cost),
    )


def _status(record: Mapping[str, Any] | None, metric: Metric) -> tuple[Status, str | None]:
    if record is None:
        return Status.NOT_RUN, None
    try:
        status = Status(record.get("status"))
    except ValueError:
        return Status.FAILED, f"its record has the unknown status {record.get('status')}"
    if status != Status.DONE:
        return status, record.get("reason")
    for split in ("test", "val"):
        value = look_up(record, split, metric.name)
        if not is_finite(value):
            return Status.NOT_FINITE, f"{split} {metric.name} is {value}"
    return Status.DONE, None
