"""One row per run that a sweep asked for: what it asked, and its record where there is one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.records import DONE, FAILED, cost_folder, manifest_path, read_json, read_records, recorded
from bench.tying_spec import TyingSpec, recorded_spec

NOT_RUN = "not_run"
NOT_FINITE = "not_finite"
"""Statuses that only a table gives: no record yet; a record whose metric is no finite number."""


@dataclass(frozen=True)
class Metric:
    """What a task is judged by; `mode` is min or max."""

    name: str
    mode: str

    @classmethod
    def named(cls, name: str) -> "Metric":
        """The metric of that name in a records.csv, which has no mode: an accuracy is best high, any other low."""
        return cls(name, "max" if name.endswith("accuracy") else "min")

    @property
    def is_share(self) -> bool:
        return self.name.endswith("accuracy")

    @property
    def arrow(self) -> str:
        return "↓" if self.mode == "min" else "↑"

    @property
    def label(self) -> str:
        return f"test {self.name.replace('_', ' ')} {self.arrow}" + (" %" if self.is_share else "")

    def best(self, values: list[float]) -> float:
        return min(values) if self.mode == "min" else max(values)


@dataclass(frozen=True)
class Run:
    """A cell of the grid at one seed. `record` and `cost` are {} where there is none."""

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
    status: str
    reason: str | None
    record: Mapping[str, Any] = field(repr=False, default_factory=dict)
    cost: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def tying(self) -> str:
        return self.spec.label

    @property
    def is_done(self) -> bool:
        return self.status == DONE

    @property
    def fingerprint(self) -> str | None:
        return self.number("data_meta", "fingerprint")

    def number(self, *keys: str) -> Any:
        """The value of the record under a path of keys, None where any of them is absent."""
        return look_up(self.record, *keys)


def look_up(tree: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def device(record: Mapping[str, Any]) -> str | None:
    """What a record was made on: it knows better than the request it starts with."""
    return record.get("device") or look_up(record, "provenance", "device")


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def sweep_names(runs: Path) -> list[str]:
    """The sweeps that have a manifest, sorted."""
    return sorted(path.stem for path in manifest_path(runs, "any").parent.glob("*.json"))


def read_sweep(runs: Path, name: str) -> tuple[list[Run], str | None]:
    """Every run the sweep asked for, once, and the note of its manifest. BadInput for a torn manifest."""
    path = manifest_path(runs, name)
    manifest = read_json(path)
    asked = manifest.get("runs")
    if not isinstance(asked, list):
        raise BadInput(f"{path} has no list `runs`; delete it and run the sweep again")
    try:
        unique = {str(entry["id"]): entry for entry in asked}
        records = read_records(runs, unique)
        costs = {
            cost: _cost(runs, cost) for cost in sorted({str(e.get("cost") or "") for e in unique.values()})
        }
        specs = _specs(unique, records)
        found = [
            _run(runs, entry, specs[run_id], records.get(run_id), costs) for run_id, entry in unique.items()
        ]
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path}: a run lacks or has an odd {error}; delete it and run the sweep again"
        ) from error
    return found, manifest.get("note")


def _specs(
    asked: Mapping[str, Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]
) -> dict[str, TyingSpec]:
    """Run id -> its spec: its own, else that of a run of the same label, else one that knows the label alone."""
    known = {key: recorded_spec(entry) or recorded_spec(records.get(key, {})) for key, entry in asked.items()}
    of_label = {asked[key]["tying"]: spec for key, spec in known.items() if spec is not None}
    return {
        key: spec or of_label.get(asked[key]["tying"]) or TyingSpec.unknown(asked[key]["tying"])
        for key, spec in known.items()
    }


def _cost(runs: Path, cost_id: str) -> dict[str, Any]:
    path = cost_folder(runs, cost_id) / "cost.json"
    if not cost_id or not path.exists():
        return {}
    found = recorded(path) or {"status": FAILED, "reason": "its record is damaged"}
    if found["status"] == DONE and "memory" not in found:
        return {"status": FAILED, "reason": "its record is of an older version"}
    return {**found, "reason": _portable(runs, found.get("reason"))}


def _portable(runs: Path, reason: str | None) -> str | None:
    """The same records in another folder must give the same bytes."""
    return " ".join(str(reason).replace(f"{runs}/", "").split()) if reason else None


def _run(
    runs: Path,
    entry: Mapping[str, Any],
    spec: TyingSpec,
    record: dict | None,
    costs: Mapping[str, dict],
) -> Run:
    metric = Metric(entry["metric"]["name"], entry["metric"]["mode"])
    status, reason = _status(record, metric)
    cost_id = str(entry.get("cost") or "")
    return Run(
        id=str(entry["id"]),
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
        reason=_portable(runs, reason),
        record=record or {},
        cost=costs[cost_id],
    )


def _status(record: Mapping[str, Any] | None, metric: Metric) -> tuple[str, str | None]:
    if record is None:
        return NOT_RUN, None
    status = str(record.get("status"))
    if status != DONE:
        return status, record.get("reason")
    for split in ("test", "val"):
        value = look_up(record, split, metric.name)
        if not is_finite(value):
            return NOT_FINITE, f"{split} {metric.name} is {value}"
    return DONE, None
