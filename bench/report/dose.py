"""A curve of the metric over a dose: its points, and the difference to a baseline at each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bench.report.cells import Cell, Section
from bench.report.numbers import axis, percent
from bench.report.order import natural, place
from bench.report.rows import Metric
from bench.stats.statistics import Interval, Paired, interval, paired
from bench.tying_spec import TyingSpec

Listed = TypeVar("Listed")
Value = TypeVar("Value", Interval, Paired)
Points = dict[str, list[tuple[float, Interval]]]
Differences = dict[str, list[tuple[float, Paired]]]
"""Line -> its points, by the dose."""


@dataclass(frozen=True)
class Dose:
    """Test metric (shares in percent) over one axis: a line per tying, or per tying and dropout.

    name: k, groups, strength, data, budget, width or depth. marks: the ends of the dose, by tying.
    spread: how far the tied copies are apart, where the dose is a strength. differences: to the `baseline` at
    the same dose, paired by seed, of all lines but the baseline's own. specs: of every line and mark.
    """

    name: str
    axis: str
    log: bool
    title: str
    lines: Points
    spread: Points
    marks: dict[str, Interval]
    metric: Metric
    baseline: str
    differences: Differences
    specs: Mapping[str, TyingSpec]


def uncontrolled(section: Section) -> list[Cell]:
    return [cell for cell in section.cells if cell.spec.control is None]


def line_label(tying: str, dropout: float | None) -> str:
    return tying if dropout is None else f"{tying}, dropout {axis(dropout)}"


def point(cell: Cell | None) -> Interval | None:
    """The test metric over seeds, a share in percent; None without a number."""
    found = interval(cell.metric().values()) if cell else None
    return percent(found, cell.runs[0].metric) if cell else None


def difference(cell: Cell, baseline: Cell | None) -> Paired | None:
    """Test metric minus that of `baseline`; None for the baseline itself and without a seed in common."""
    if baseline is None or cell is baseline:
        return None
    found = paired(cell.metric(), baseline.metric())
    return percent(found, cell.runs[0].metric)


def along(values: Iterable[tuple[float, Value | None]]) -> list[tuple[float, Value]]:
    """Those that there are, by the dose."""
    return sorted(((x, value) for x, value in values if value is not None), key=lambda at: at[0])


def in_order(lines: Mapping[str, Listed], specs: Mapping[str, TyingSpec]) -> dict[str, Listed]:
    """Lines as tables have them: by tying, then by dropout."""
    return {line: lines[line] for line in sorted(lines, key=lambda line: (place(specs[line]), natural(line)))}
