"""What a table compares: cells, one configuration over seeds, in sections of one data set."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.metrics import Estimate, mean_sd
from bench.records import Status
from bench.report.control import control_note
from bench.report.order import place
from bench.report.rows import Metric, Run, is_finite, look_up
from bench.stats.statistics import LEAST_RESAMPLED, Interval, Paired, bootstrap_of_groups, interval, paired
from bench.tying_spec import TyingSpec

SAID = {
    Status.FAILED: "failed",
    Status.DIVERGED: "diverged",
    Status.NOT_APPLICABLE: "n/a",
    Status.NOT_FINITE: "not a number",
    Status.NOT_RUN: "not run yet",
}


@dataclass(frozen=True, eq=False)
class Cell:
    """One configuration at every seed it was asked for. Equal to itself alone, so that it can be a key.

    more: ` [k=2]`, what the label of the spec does not say of its tying; empty where that says it all.
    """

    spec: TyingSpec
    more: str
    dropout: float
    weight_decay: float
    runs: tuple[Run, ...]

    @cached_property
    def tying(self) -> str:
        """The label of its row: that of its spec without a start, and what else its tying differs in."""
        return self.spec.label + self.more

    @property
    def place(self) -> tuple:
        """Sort key of its row."""
        return place(self.spec, self.more)

    @property
    def is_untied(self) -> bool:
        return not self.spec.parts

    @cached_property
    def done(self) -> list[Run]:
        return [run for run in self.runs if run.is_done]

    @property
    def is_not_applicable(self) -> bool:
        return all(run.status == Status.NOT_APPLICABLE for run in self.runs)

    def values(self, *keys: str) -> dict[int, float]:
        """Seed -> the number under a path of record keys, of the finished runs that have it."""
        if keys not in self._values:
            found = {run.seed: run.number(*keys) for run in self.done}
            self._values[keys] = {seed: value for seed, value in found.items() if is_finite(value)}
        return dict(self._values[keys])

    @cached_property
    def _values(self) -> dict[tuple[str, ...], dict[int, float]]:
        """What `values` has looked up: a metric is asked for by every table, picture and page."""
        return {}

    def over_seeds(self, *keys: str) -> Estimate | None:
        values = self.values(*keys)
        return mean_sd(values[seed] for seed in sorted(values)) if values else None

    def metric(self, split: str = "test") -> dict[int, float]:
        return self.values(split, self.runs[0].metric.name)

    def metric_over_seeds(self, split: str = "test") -> Estimate | None:
        return self.over_seeds(split, self.runs[0].metric.name)

    def interval(self) -> Interval | None:
        """The test metric over finished seeds with its 95 % t interval."""
        values = self.metric()
        return interval(values[seed] for seed in sorted(values))

    @cached_property
    def by_group(self) -> Interval | None:
        """Accuracy with the interval that draws the groups of the test split anew, the same ones at all seeds.

        None where a finished run has no groups, and for fewer than a bootstrap needs. A record of an older form has no
        groups any more, but the interval that was drawn from them.
        """
        if drawn := next((found for run in self.done if (found := run.number("test_groups", "drawn"))), None):
            return Interval(**drawn)
        correct, count = self._per_group("correct"), self._per_group("count")
        if len(correct) != len(count) or len(count) < LEAST_RESAMPLED or not all(count):
            return None
        return bootstrap_of_groups(correct, count, resamples=2_000)

    def _per_group(self, key: str) -> list[int]:
        """The sum over finished seeds for each group; empty where seeds have unlike groups or none."""
        found = [run.number("test_groups", key) or () for run in self.done]
        return [sum(group) for group in zip(*found, strict=True)] if len(set(map(len, found))) == 1 else []

    def count(self, key: str) -> int | None:
        """A parameter count: the same for every seed."""
        return next((run.number(key) for run in self.done if is_finite(run.number(key))), None)

    @property
    def cost(self) -> Mapping[str, Any]:
        """The cost record of its tying, the same for every seed; {} where there is none."""
        return self.runs[0].cost

    @property
    def control_note(self) -> str:
        """How large a control came out, against what it is a control of; empty for other cells."""
        return next((control_note(run.record) for run in self.done), "")

    @property
    def missing(self) -> dict[str, int]:
        """How many seeds have no number, by what happened to them."""
        counts: dict[str, int] = {}
        for run in self.runs:
            if not run.is_done:
                said = SAID.get(run.status, run.status)
                counts[said] = counts.get(said, 0) + 1
        return counts

    @property
    def reason(self) -> str:
        """Why seeds have no number, and how many of how many; empty where all have one."""
        reasons: dict[str, int] = {}
        for run in self.runs:
            if not run.is_done:
                reasons[_why(run)] = reasons.get(_why(run), 0) + 1
        total = len(self.runs)
        of = {why: f" ({n} of {total} seeds)" if n < total else "" for why, n in reasons.items()}
        return "; ".join(why + of[why] for why in reasons)


def _why(run: Run) -> str:
    if run.reason and run.reason.startswith("record is damaged"):
        return run.reason
    said = SAID.get(run.status, run.status)
    return f"{said}: {run.reason}" if run.reason else said


def in_order(cells: Iterable[Cell]) -> dict[str, TyingSpec]:
    """The labels of the cells in the order of a table, each once, with their specs."""
    return {cell.tying: cell.spec for cell in sorted(cells, key=lambda cell: cell.place)}


@dataclass(frozen=True, eq=False)
class Section:
    """Cells that may be compared: one task on one data fingerprint, alike in all but the axes of the table.

    `variant` names what else the sweep varied (`model.depth=6`), empty where nothing did. `among_several`:
    the sweep has the task on this data with another fingerprint too, and the title says which this is.
    """

    task: str
    data: str
    fingerprint: str | None
    variant: str
    cells: tuple[Cell, ...]
    among_several: bool = False

    @property
    def metric(self) -> Metric:
        return self.cells[0].runs[0].metric

    @property
    def runs(self) -> list[Run]:
        return [run for cell in self.cells for run in cell.runs]

    @property
    def title(self) -> str:
        return f"{self.task} on {self.where}"

    @property
    def where(self) -> str:
        mark = (self.fingerprint or "fingerprint not known yet") if self.among_several else ""
        return ", ".join(part for part in (self.data, self.variant, mark) if part)

    @cached_property
    def tyings(self) -> dict[str, list[Cell]]:
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.tying, []).append(cell)
        return found

    @property
    def costs(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Each tying with its cost record: a cost knows no dropout and weight decay.

        Where there is none: the reason alone if the sweep asked for none, else {}.
        """
        found = {tying: cells[0] for tying, cells in self.tyings.items()}
        return [(tying, cell.cost or _unasked(cell.runs[0])) for tying, cell in found.items()]

    def untied(self, cell: Cell) -> Cell | None:
        """The `none` cell at the same dropout and weight decay; None where there is not exactly one."""
        at = (cell.dropout, cell.weight_decay)
        found = [other for other in self.tyings.get("none", []) if (other.dropout, other.weight_decay) == at]
        return found[0] if len(found) == 1 else None

    def difference(self, cell: Cell, untied: Cell | None) -> Paired | None:
        """Test metric minus that of `untied`, paired by seed; None for `none` itself and without a pair."""
        if untied is None or cell.is_untied:
            return None
        return paired(cell.metric(), untied.metric())

    def chosen(self, tying: str) -> Cell | None:
        """The cell of a tying with the best validation metric, the first in table order among equals."""
        scored = [(cell.metric_over_seeds("val"), cell) for cell in self.tyings.get(tying, [])]
        means = [estimate.mean for estimate, _ in scored if estimate]
        if not means:
            return None
        best = self.metric.best(means)
        return next(cell for estimate, cell in scored if estimate and estimate.mean == best)


def _unasked(run: Run) -> Mapping[str, Any]:
    asked = look_up(run.record, "config", "measure", "max_seconds")
    return {"reason": "measure.max_seconds=0 asks for none"} if asked == 0 else {}
