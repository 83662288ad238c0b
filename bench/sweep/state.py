"""In which state a run is, read from its folder: what is recorded, who is at work, how far it got. Imports no torch."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.analysis.groups import place
from bench.analysis.runs import is_finite, look_up
from bench.config.run_config import RunConfig
from bench.report.markup import Table, plain
from bench.runs import lock
from bench.runs.code import changed_modules, code_of, other_code
from bench.runs.identity import present_names
from bench.runs.store import Status, is_record_of, recorded
from bench.runs.tying_spec import TyingSpec, recorded_spec
from bench.runs.worker import ATTEMPTS, CONFIG, REQUEST, RESUME

RECORD, COST = "record.json", "cost.json"

SHOWN = {
    Status.DONE: "done",
    Status.RUNNING: "running",
    Status.QUEUED: "queued",
    Status.INTERRUPTED: "interrupted",
}
SHOWN |= {Status.FAILED: "failed", Status.DIVERGED: "diverged", Status.NOT_APPLICABLE: "n/a"}
"""Every state under the name that a person reads, in the order of a table's columns."""

PHASES = {
    "sources": "learning which blocks share",
    "starts": "training what others start from",
    "search": "choosing learning rates",
}
"""The runs of a sweep that no table has rows for, by their name in its manifest, in the order of their turns."""

DAMAGED = "its record is damaged: it will be made again"


@dataclass(frozen=True)
class State:
    """`value` is the validation metric: the last one of a run under way, the chosen one of a finished run.

    `step` of an interrupted run is where it goes on, None where it has no checkpoint. `beat_s`: seconds since its
    process last gave a sign of life. `attempts`: how often it was started, as far as its folder tells. `changed`: the
    modules that changed since it was recorded, for which it is to be made again.
    """

    status: Status
    reason: str | None = None
    step: int | None = None
    steps: int | None = None
    metric: str | None = None
    value: float | None = None
    seconds: float | None = None
    beat_s: float | None = None
    host: str | None = None
    attempts: int = 0
    changed: tuple[str, ...] = ()

    @property
    def is_left(self) -> bool:
        """Whether a sweep that is started now has to run it."""
        return self.status in (Status.QUEUED, Status.INTERRUPTED)

    @property
    def is_open(self) -> bool:
        """Whether it has no end yet."""
        return self.is_left or self.status == Status.RUNNING

    @property
    def share_left(self) -> float:
        """The share of its training that is left, in [0, 1]: all of it where its step is not known."""
        return 1 - min(self.step / self.steps, 1) if self.step is not None and self.steps else 1.0


def state_of(
    folder: Path, name: str = RECORD, config: Mapping[str, Any] | None = None, reuse: bool = False
) -> State:
    """Return the state of the run in `folder` (or, with COST, of a measurement). Reads a few small files, keeps none.

    A damaged record counts as missing and `reason` says so, and so does one that was made with other code.

    Args:
        config: Of the run that is asked for, whose code counts; None: the recorded one.
        reuse: Accept what was made with other code.

    Raises:
        BadInput: For a record of a newer schema.
    """
    path = folder / name

    def changed(content: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules that changed since a record or a request was made."""
        if reuse or "code" not in content:
            return ()
        present = present_names(content["config"]) if config is None else config
        return tuple(changed_modules(content["code"], code_of(present, cost=name == COST)))

    if ended := _ended(path, changed):
        return ended
    damaged = DAMAGED if path.exists() else None
    holder = lock.holder(folder)
    if holder is not None and holder.at_work:
        return _under_way(folder, Status.RUNNING, damaged, beat_s=holder.age_s, host=holder.host)
    # A run that ended since we looked has released its claim after it had written its record.
    if ended := _ended(path, changed):
        return ended
    attempts = _attempts(folder)
    if not attempts:
        return State(Status.QUEUED, damaged)
    host = attempts[-1].get("host")
    if not (folder / RESUME).exists():
        reason = "stopped before its first checkpoint"
    elif modules := changed(_request(folder)):
        reason = f"stopped: it begins anew, {other_code(modules)}"
    else:
        reason = damaged or "stopped: it goes on from its last checkpoint"
        return _under_way(folder, Status.INTERRUPTED, reason, host=host)
    return State(Status.INTERRUPTED, damaged or reason, host=host, attempts=len(attempts))


def _request(folder: Path) -> Mapping[str, Any]:
    """Return what the last attempt was asked to do, with its config."""
    request, config = recorded(folder / REQUEST), folder / CONFIG
    if request is None or not config.exists():
        return {}
    return {**request, "config": OmegaConf.to_container(OmegaConf.load(config))}


def _ended(path: Path, changed: Callable[[Mapping[str, Any]], tuple[str, ...]]) -> State | None:
    try:
        record = recorded(path)
    except FileNotFoundError:  # removed, to be made again, while we looked
        return None
    if record is None or not is_record_of(record, path.parent):
        return None
    if modules := changed(record):
        return State(
            Status.QUEUED, other_code(modules), changed=modules, attempts=record.get("attempts") or 1
        )
    metric = look_up(record, "metric", "name")
    seconds, steps = record.get("seconds"), record.get("steps")
    return State(
        Status(record["status"]),
        record.get("reason"),
        step=steps,
        steps=steps,
        metric=metric,
        value=look_up(record, "val", metric),
        seconds=look_up(seconds, "total") if isinstance(seconds, Mapping) else seconds,
        host=look_up(record, "provenance", "host"),
        attempts=record.get("attempts") or 1,
    )


def _under_way(folder: Path, status: Status, reason: str | None, **fields: Any) -> State:
    position = recorded(folder / "status.json") or {}
    figures = {key: position.get(key) for key in ("step", "steps", "metric", "value")}
    return State(status, reason, **figures, **fields, attempts=len(_attempts(folder)))


def _attempts(folder: Path) -> list[Mapping[str, Any]]:
    """Return the starts that the run's processes wrote down."""
    return (recorded(folder / ATTEMPTS) or {}).get("attempts", [])


class Durations:
    """How long runs took, to say how long others will take that share a key with them."""

    def __init__(self) -> None:
        self._sums: dict[Hashable, tuple[float, int]] = defaultdict(lambda: (0.0, 0))

    def add(self, keys: Sequence[Hashable], seconds: float | None) -> None:
        if is_finite(seconds):
            for key in keys:
                total, count = self._sums[key]
                self._sums[key] = total + seconds, count + 1

    def expected(self, keys: Sequence[Hashable]) -> float | None:
        """Return the mean under the first of `keys` that any run has; None where none has."""
        total, runs = next((self._sums[key] for key in keys if key in self._sums), (0.0, 0))
        return total / runs if runs else None

    def span(
        self, left: Iterable[tuple[Sequence[Hashable], float]], workers: int
    ) -> tuple[float | None, int]:
        """Return `makespan` of runs, each by its keys and the share that is left of it."""
        expected = [(self.expected(keys), share) for keys, share in left]
        return makespan([None if s is None else s * share for s, share in expected], workers)


def makespan(expected: Sequence[float | None], workers: int) -> tuple[float | None, int]:
    """Return the seconds until runs of these lengths have ended, `workers` at once, and how many are not known.

    None where not one is known; those that are not count as long as the mean of the others.
    """
    known = [seconds for seconds in expected if seconds is not None]
    if not known:
        return (None if expected else 0.0), len(expected)
    total = sum(known) / len(known) * len(expected)
    return max(total / workers, *known), len(expected) - len(known)


def kinship(cell: RunConfig) -> list[Hashable]:
    """Return keys of runs that take equally long, best first: alike but for what is free of charge; of any tying."""
    config = cell.config
    free = {"dropout": 0, "weight_decay": 0, "start": None, "optimizer": {**config["optimizer"], "lr": 0}}
    alike = replace(cell, config=config | free)
    return [alike.group, replace(alike, config=alike.config | {"tying": {}}).group]


def tally(counted: Iterable[tuple[Mapping[str, Any], Sequence[str]]], columns: Sequence[str]) -> str:
    """Return a table: how many runs each column counts, in a row per task and one per tying of it.

    `counted`: a run's header and the columns in which it counts. A dash is zero.
    """
    tasks: dict[str, dict[str, Counter[str]]] = {}
    places: dict[str, tuple] = {}
    for header, own_columns in counted:
        ties = tasks.setdefault(f"{header['task']} on {header['data']}", {})
        ties.setdefault(header["tying"], Counter()).update(own_columns)
        rank = place(recorded_spec(header) or TyingSpec.unknown(header["tying"]))
        places[header["tying"]] = min(places.get(header["tying"], rank), rank)
    rows, total = [], Counter()
    for task in sorted(tasks):
        of_task = sum(tasks[task].values(), Counter())
        rows.append([task, *_cells(of_task, columns)])
        for tying in sorted(tasks[task], key=lambda tying: places[tying]):
            rows.append([f"  {tying}", *_cells(tasks[task][tying], columns)])
        total += of_task
    if len(tasks) > 1:
        rows.append(["all", *_cells(total, columns)])
    return plain(Table(["", *columns], "l" + "r" * len(columns), rows))


def _cells(counts: Mapping[str, int], columns: Sequence[str]) -> list[str]:
    return [f"{counts[name]:,}" if counts.get(name) else "-" for name in columns]


def run_name(header: Mapping[str, Any]) -> str:
    """Return what people call a run, from the first part of its record or its line in a manifest."""
    return (
        f"{header['task']} {header['tying']} dropout={header['dropout']:g} wd={header['weight_decay']:g} "
        f"seed={header['seed']}"
    )


def count(number: int, word: str) -> str:
    """Return a number with its word: `1 run`, `1,200 runs`."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def in_words(seconds: float) -> str:
    """Return a time in two units at most: `45 s`, `9 min 40 s`, `1 h 20 min`, `3 d 4 h`."""
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    rest = round(seconds)
    if rest >= 3_600:  # of hours no seconds are told, of days no minutes
        rest = round(rest, -1) if rest < 60 else 60 * round(rest / 60)
    parts = []
    for name, size in units:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}")
        if parts and (len(parts) == 2 or not count):
            break
    return " ".join(parts) or "0 s"
