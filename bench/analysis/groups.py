"""Group the runs of a sweep into sections and cells of like runs, in the order of tables."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from statistics import fmean
from typing import Any, TypeVar

from bench.analysis.power import margin_on_scale, scale_of
from bench.analysis.runs import WORST, CostRecord, Metric, RunRecord, is_finite
from bench.analysis.statistics import (
    LEAST_RESAMPLED,
    Interval,
    Paired,
    bootstrap_of_groups,
    interval,
    paired,
)
from bench.meters.metrics import Estimate, mean_sd
from bench.runs.store import Status, leaves
from bench.runs.tying_spec import TyingSpec, recorded_spec

Item = TypeVar("Item")
NUMBER = r"\d+(?:\.\d+)?(?:e[+-]\d+)?"


def place(spec: TyingSpec, more: str = "") -> tuple:
    """Return a sort key: the untied network, then one method after the other, other names, compositions last.

    The controls of a tying come right after it. more: what a row says after the label of the spec.
    """
    return spec.rank, natural(spec.without_control.label + more), spec.label + more


def natural(text: str) -> tuple:
    """Return a sort key in which k=2 comes before k=10 and strength=1e-05 before strength=0.001."""
    return tuple(
        (1, float(piece), "") if re.fullmatch(NUMBER, piece) else (0, 0.0, piece)
        for piece in re.split(f"({NUMBER})", text)
        if piece
    )


CLOSE = 0.05
"""The share by which a control may miss the parameters it is to have before its row says so."""


def control_note(record: Mapping[str, Any]) -> str:
    """Return `width 52, feed-forward 230: 1.003x the parameters of cross_layer`; empty for what is no control.

    record: of a run or a cost, from which it takes its spec and `control`.
    """
    control = record.get("control")
    if not control:
        return ""
    inner = f", feed-forward {control['feed_forward']}" if control["feed_forward"] else ""
    spec = recorded_spec(record) or TyingSpec.unknown(record["tying"])
    of = "none" if control["kind"] == "respend" else spec.without_control.called
    if control["kind"] == "delete":
        return f"depth {control['depth']}: {control['ratio']:.3f}x the parameters of {of}"
    far = ", the nearest there is" if abs(control["ratio"] - 1) > CLOSE else ""
    return f"width {control['width']}{inner}: {control['ratio']:.3f}x the parameters of {of}{far}"


SAID = {
    Status.FAILED: "failed",
    Status.DIVERGED: "diverged",
    Status.NOT_APPLICABLE: "n/a",
    Status.NOT_FINITE: "not a number",
    Status.NOT_RUN: "not run yet",
}


def by_status(runs: Iterable[RunRecord]) -> str:
    """Return `56 done, 4 n/a`."""
    counts = Counter(SAID.get(run.status, run.status) for run in runs)
    return ", ".join(f"{counts[status]} {status}" for status in sorted(counts))


TRAINED_OUT = 0.005
"""A row whose validation loss fell by less than this share in the last quarter of its budget is trained out."""


class Gaps(IntEnum):
    """What a cell lacks. One that lacks more is never preferred to one that lacks less."""

    NONE = 0
    NOT_RUN = 1
    LOST = 2


@dataclass(frozen=True, eq=False)
class SeedGroup:
    """One configuration at every seed it was asked for. Equal to itself alone, so that it can be a key.

    more: ` [k=2]`, what the label of the spec does not say of its tying; empty where that says it all.
    """

    spec: TyingSpec
    more: str
    dropout: float
    weight_decay: float
    runs: tuple[RunRecord, ...]

    @cached_property
    def tying(self) -> str:
        """What its row is called: its spec without a start, and what else its tying differs in."""
        return self.spec.called + self.more

    @property
    def place(self) -> tuple:
        """Sort key of its row."""
        return place(self.spec, self.more)

    @property
    def is_untied(self) -> bool:
        return not self.spec.parts

    @cached_property
    def done(self) -> list[RunRecord]:
        return [run for run in self.runs if run.is_done]

    @property
    def is_not_applicable(self) -> bool:
        return all(run.status == Status.NOT_APPLICABLE for run in self.runs)

    def values(self, *keys: str) -> dict[int, float]:
        """Seed -> the number under a path of record keys, of the finished runs that have it."""
        if keys not in self._values:
            by_seed = {run.seed: run.number(*keys) for run in self.done}
            self._values[keys] = {seed: value for seed, value in by_seed.items() if is_finite(value)}
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

    @property
    def compared(self) -> dict[int, float]:
        """Seed -> what seeds are compared by: the test metric, or of a perplexity its logarithm, the loss in nats."""
        metric, values = self.runs[0].metric, self.metric()
        if scale_of(metric) == metric.name:
            return values
        # The recorded loss has digits that a perplexity near overflow has lost.
        logarithms = {seed: math.log(value) for seed, value in values.items() if value > 0}
        return logarithms | self.values("test", scale_of(metric))

    def metric_over_seeds(self, split: str = "test") -> Estimate | None:
        return self.over_seeds(split, self.runs[0].metric.name)

    def interval(self) -> Interval | None:
        """The test metric over finished seeds with its 95 % t interval."""
        values = self.metric()
        return interval(values[seed] for seed in sorted(values))

    @cached_property
    def by_group(self) -> Interval | None:
        """Accuracy with an interval from drawing the groups of the test split anew, the same groups at all seeds.

        None where a finished run has no groups, and for fewer than a bootstrap needs. A record of an older form has no
        groups any more, but the interval that was drawn from them.
        """
        drawn = (run.number("test_groups", "drawn") for run in self.done)
        if interval_of_groups := next(filter(None, drawn), None):
            return Interval(**interval_of_groups)
        correct, count = self._per_group("correct"), self._per_group("count")
        if len(correct) != len(count) or len(count) < LEAST_RESAMPLED or not all(count):
            return None
        return bootstrap_of_groups(correct, count, resamples=2_000)

    def _per_group(self, key: str) -> list[int]:
        """The sum over finished seeds for each group; empty where seeds have unlike groups or none."""
        seeds = [run.number("test_groups", key) or () for run in self.done]
        return [sum(group) for group in zip(*seeds, strict=True)] if len(set(map(len, seeds))) == 1 else []

    def count(self, key: str) -> int | None:
        """A parameter count: the same for every seed."""
        return next((run.number(key) for run in self.done if is_finite(run.number(key))), None)

    @property
    def cost(self) -> CostRecord:
        """The cost of its tying, the same for every seed."""
        return self.runs[0].cost

    @property
    def control_note(self) -> str:
        """How large a control came out, against what it is a control of; empty for other cells."""
        return next((control_note(run.record) for run in self.done), "")

    @property
    def missing(self) -> dict[str, int]:
        """How many seeds have no number, by what happened to them."""
        return Counter(SAID.get(run.status, run.status) for run in self.runs if not run.is_done)

    @property
    def lost(self) -> dict[str, int]:
        """How many seeds count as worse than any number, by what happened to them."""
        return Counter(SAID[run.status] for run in self.runs if run.status in WORST)

    @cached_property
    def gaps(self) -> Gaps:
        if self.lost:
            return Gaps.LOST
        return Gaps.NOT_RUN if any(run.status == Status.NOT_RUN for run in self.runs) else Gaps.NONE

    @property
    def is_seed_ignored(self) -> bool:
        """Whether several seeds gave the very same test metric, and the same loss where it is recorded.

        A network that loses nothing, as one that is to stay what it is, has nothing that a seed could change.
        """
        values, losses = self.metric().values(), {*self.values("test", "nll").values()}
        return len(values) > 1 and len(set(values)) == 1 and len(losses) < 2 and losses != {0.0}

    @cached_property
    def late_gain(self) -> float | None:
        """By what share the validation loss fell in the last quarter of the budget, a mean over seeds."""
        gains = [run.late_gain for run in self.done if run.late_gain is not None]
        return fmean(gains) if gains else None

    @property
    def is_improving(self) -> bool:
        """Whether it is known not to be trained out."""
        return self.late_gain is not None and self.late_gain >= TRAINED_OUT

    @property
    def reason(self) -> str:
        """Why seeds have no number, and how many of how many; empty where all have one."""
        reasons, total = Counter(_why(run) for run in self.runs if not run.is_done), len(self.runs)
        return "; ".join(f"{why} ({n} of {total} seeds)" if n < total else why for why, n in reasons.items())


def _why(run: RunRecord) -> str:
    if run.reason and run.reason.startswith("record is damaged"):
        return run.reason
    status = SAID.get(run.status, run.status)
    return f"{status}: {run.reason}" if run.reason else status


def in_order(cells: Iterable[SeedGroup]) -> dict[str, TyingSpec]:
    """Return the labels of the cells in the order of a table, each once, with their specs."""
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
    cells: tuple[SeedGroup, ...]
    among_several: bool = False

    @property
    def metric(self) -> Metric:
        return self.cells[0].runs[0].metric

    @property
    def runs(self) -> list[RunRecord]:
        return [run for cell in self.cells for run in cell.runs]

    @property
    def without_controls(self) -> list[SeedGroup]:
        return [cell for cell in self.cells if cell.spec.control is None]

    @property
    def about(self) -> dict[str, str | None]:
        """The columns that name the section of a row."""
        return {key: getattr(self, key) for key in ("task", "data", "fingerprint", "variant")}

    @property
    def title(self) -> str:
        """`image_cnn on digits, model.depth=6`: what stands above its tables."""
        return f"{self.task} on {self.where}"

    @property
    def where(self) -> str:
        """The data and the variant; the fingerprint too where the sweep has several of them."""
        mark = (self.fingerprint or "fingerprint not known yet") if self.among_several else ""
        return ", ".join(part for part in (self.data, self.variant, mark) if part)

    @cached_property
    def tyings(self) -> dict[str, list[SeedGroup]]:
        """Label of a tying -> its cells, one for each dropout and weight decay, in table order."""
        return grouped(self.cells, lambda cell: cell.tying)

    @property
    def costs(self) -> list[tuple[str, CostRecord]]:
        """Each tying with its cost record: a cost knows no dropout and weight decay.

        Where there is no record: one with the reason alone if the sweep asked for none, else an empty one.
        """
        return [
            (tying, first.cost if first.cost.fields else _unasked(first.runs[0]))
            for tying, (first, *_) in self.tyings.items()
        ]

    @cached_property
    def rates(self) -> set[float]:
        """The learning rates of its finished runs."""
        return {rate for cell in self.cells for rate in cell.values("config", *RATE.split(".")).values()}

    @cached_property
    def given_rate(self) -> float | None:
        """The learning rate of all its tyings, where neither a search chose it nor the sweep has others; else None."""
        was_searched = any((run.record or {}).get("lr_search") for run in self.runs)
        if len(self.rates) != 1 or was_searched or f"{RATE}=" in self.variant or len(self.tyings) < 2:
            return None
        return next(iter(self.rates))

    def untied(self, cell: SeedGroup) -> SeedGroup | None:
        """The `none` cell at the same dropout and weight decay; None where there is not exactly one."""
        setting = (cell.dropout, cell.weight_decay)
        untied = [c for c in self.tyings.get("none", []) if (c.dropout, c.weight_decay) == setting]
        return untied[0] if len(untied) == 1 else None

    def control(self, cell: SeedGroup) -> SeedGroup | None:
        """The control with as many parameters as a tied cell, at its dropout and weight decay; None without one."""
        if cell.is_untied or cell.spec.control is not None:
            return None
        key = (cell.spec, cell.more, cell.dropout, cell.weight_decay)
        same_size = (other for other in self.cells if other.spec.control == "params")
        return next(
            (c for c in same_size if (c.spec.without_control, c.more, c.dropout, c.weight_decay) == key), None
        )

    def difference(self, cell: SeedGroup, reference: SeedGroup | None) -> Paired | None:
        """`compared` minus that of `reference`, paired by seed; None for `none` itself and without a pair."""
        if reference is None or cell.is_untied:
            return None
        return paired(cell.compared, reference.compared)

    def margin(self, reference: SeedGroup) -> float | None:
        """The difference from it within which a cell is equivalent, as `difference` has it; None without a number."""
        values = reference.compared
        if not values:
            return None
        mean = mean_sd(values[seed] for seed in sorted(values)).mean
        return margin_on_scale(self.metric, None, mean)

    @cached_property
    def best_cells(self) -> list[SeedGroup]:
        """The cells that may be called best: of those with numbers that lost no run, the ones that lack the least."""
        numbered = [cell for cell in self.cells if cell.done and cell.gaps < Gaps.LOST]
        least = min((cell.gaps for cell in numbered), default=Gaps.NONE)
        return [cell for cell in numbered if cell.gaps == least]

    @cached_property
    def floors(self) -> dict[str, float]:
        """What trivial predictions score, by name, as the records say: `trigram_perplexity`."""
        recorded: dict[str, float] = {}
        for run in self.runs:
            recorded |= run.number("data_meta", "floors") or {}
        names = sorted((name for name in recorded if name.endswith(self.metric.name)), reverse=True)
        return {name: recorded[name] for name in names if is_finite(recorded[name]) and recorded[name]}

    def floor_above(self, cell: SeedGroup) -> str | None:
        """The name of the worst trivial prediction that still scores better than a cell; None where none does."""
        estimate, sign = cell.metric_over_seeds(), 1 if self.metric.higher_is_better else -1
        if estimate is None:
            return None
        better = {
            name: sign * value for name, value in self.floors.items() if sign * (value - estimate.mean) > 0
        }
        return min(better, key=better.get).removesuffix(self.metric.name).strip("_") if better else None

    def n_searched(self, tying: str) -> int:
        """How many cells of a tying have a number: those that validation chose from."""
        return sum(bool(cell.done) for cell in self.tyings[tying])

    def chosen(self, tying: str) -> SeedGroup | None:
        """The cell of a tying that lacks the least and of these has the best validation metric, the first of equals."""
        numbered = [cell for cell in self.tyings.get(tying, []) if cell.done]
        sign = -1 if self.metric.higher_is_better else 1
        return min(
            numbered, key=lambda cell: (cell.gaps, sign * cell.metric_over_seeds("val").mean), default=None
        )

    def n_as_good(self, tying: str) -> int | None:
        """How many cells of a tying, the chosen one too, are within its standard error of it on validation.

        None where there is one cell, or one seed and so no standard error.
        """
        chosen = self.chosen(tying)
        best = chosen and chosen.metric_over_seeds("val")
        numbered = [cell for cell in self.tyings[tying] if cell.done]
        if best is None or best.sd is None or len(numbered) < 2:
            return None
        reach = best.sd / math.sqrt(best.n)
        return sum(abs(cell.metric_over_seeds("val").mean - best.mean) <= reach for cell in numbered)


def _unasked(run: RunRecord) -> CostRecord:
    is_unasked = run.number("config", "measure", "max_seconds") == 0
    return CostRecord({"reason": "measure.max_seconds=0 asks for none"} if is_unasked else {})


OUTSIDE = ("data.root", "data.source", "data.module", "data.folder", "data.meta", "measure")
OUTSIDE += tuple(f"trainer.{key}" for key in ("accelerator", "threads", "strategy", "checkpoint_every_s"))
"""Config keys of where files are, what they hold and how a run is executed: no part of what was asked for."""

REGULARISERS = ("dropout", "weight_decay")
AXES = (*REGULARISERS, "seed")
"""Config keys that the table has rows for."""
RATE, SHARED_RATE = "optimizer.lr", "optimizer.shared_lr"


def sections(runs: Iterable[RunRecord]) -> list[Section]:
    """Group the runs of a sweep into sections, sorted. No section has two data fingerprints."""
    cells: dict[tuple, list[SeedGroup]] = {}
    for (task, data), same_data in grouped(runs, lambda run: (run.task, run.data)).items():
        fingerprint = _fingerprints(same_data)
        for mark, alike in grouped(same_data, lambda run, known=fingerprint: known[run.id]).items():
            varied = _varied(alike)
            of_tying = [key for key in varied if key.startswith("tying.")]
            outside = [key for key in varied if key not in of_tying]
            variants = {run.id: _variant(run, outside, alike) for run in alike}
            of_variant = grouped(alike, lambda run, known=variants: known[run.id])
            for variant, members in of_variant.items():
                # A network that shares no tensor has no such rate: it is the untied network at every one.
                at_one_rate = _variant(members[0], outside, alike, {SHARED_RATE: None})
                others = of_variant.get(at_one_rate, []) if at_one_rate != variant else []
                untied = [run for run in others if run.tying == "none"]
                cells[task, data, mark, variant] = _cells([*members, *untied], of_tying)
    order = sorted(cells, key=lambda key: (key[0], key[1], key[2] or "", natural(key[3])))
    several = Counter(key[:2] for key in {key[:3] for key in order})
    return [Section(*key, tuple(cells[key]), several[key[:2]] > 1) for key in order]


def grouped(items: Iterable[Item], key: Callable[[Item], Hashable]) -> dict[Any, list[Item]]:
    """Return the items by their key, keys and items in the order in which they come."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _fingerprints(runs: list[RunRecord]) -> dict[str, str | None]:
    """Return run id -> data fingerprint: its own, else its cell's, else the only one there is, else None."""
    of_cell = {run.cell: run.fingerprint for run in runs if run.fingerprint}
    known = set(of_cell.values())
    only = known.pop() if len(known) == 1 else None
    return {run.id: run.fingerprint or of_cell.get(run.cell, only) for run in runs}


def _varied(runs: list[RunRecord]) -> list[str]:
    """Return the config keys, but for the axes of the table, that differ between cells of one tying.

    A learning rate that follows from the tying, the regularisation and the other keys does not count: it is part of
    the row.
    """
    of_tying: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        if run.record.get("config"):
            of_tying[run.tying].append(flat(run.record["config"]))
    keys = {
        key
        for configs in of_tying.values()
        for key in {key for config in configs for key in config}.difference(AXES)
        if len({repr(config.get(key)) for config in configs}) > 1
    }
    others = sorted(keys - {RATE})
    rates: dict[str, set[float]] = defaultdict(set)
    for tying, configs in of_tying.items():
        for config in configs:
            rates[repr([tying, *map(config.get, (*REGULARISERS, *others))])].add(config.get(RATE))
    return sorted(keys) if any(len(of_cell) > 1 for of_cell in rates.values()) else others


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a config by their dotted keys, without those that name a machine and not a result."""
    values = leaves(config)
    return {key: values[key] for key in sorted(values) if not _is_outside(key, values[key])}


def _is_outside(key: str, value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return (
        value == {}
        or f"{key}.".startswith(tuple(f"{outside}." for outside in OUTSIDE))
        or any(str(item).startswith("/") for item in items)
    )


def _variant(
    run: RunRecord, keys: list[str], alike: list[RunRecord], changes: Mapping[str, Any] | None = None
) -> str:
    """Return what sets a section apart. A start does: a run after it is compared with `none` after the same start.

    changes: values of config keys that replace the run's own.
    """
    start = "" if run.spec.start is None else f"start={run.spec.begins}"
    return ", ".join(filter(None, (start, _label(run, keys, alike, changes or {}))))


def _label(run: RunRecord, keys: list[str], alike: list[RunRecord], changes: Mapping[str, Any]) -> str:
    if not keys:
        return ""
    config = next((r.record["config"] for r in alike if r.cell == run.cell and r.record.get("config")), None)
    if config is None:
        return "variant not known yet"
    values = {**flat(config), **changes}
    return ", ".join(f"{key}={as_given(values.get(key))}" for key in keys)


def as_given(value: Any) -> str:
    """Return the value of a key as the command line takes it."""
    return "null" if value is None else str(value)


def _cells(runs: list[RunRecord], tying_keys: list[str]) -> list[SeedGroup]:
    cells = []
    for same in grouped(runs, lambda run: run.cell).values():
        first = same[0]
        members = tuple(sorted(same, key=lambda run: (run.seed, run.id)))
        spec = first.spec.without_start
        more = _label(first, tying_keys, runs, {}) if spec.parts or spec.control else ""
        more = f" [{more.replace('tying.', '')}]" if more else ""
        cells.append(SeedGroup(spec, more, first.dropout, first.weight_decay, members))
    return sorted(cells, key=lambda c: (c.place, c.dropout, c.weight_decay, c.runs[0].cell))
