"""Find and show curves of the metric over whatever a sweep varies: k, groups, strength, budget, data, size."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from bench.analysis.groups import Section, SeedGroup, natural, place
from bench.analysis.runs import Metric, is_finite, look_up
from bench.analysis.statistics import Interval, Paired, interval, paired
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, axis, interval_text, metric_places, percent
from bench.runs.tying_spec import Part, TyingSpec

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


def uncontrolled(section: Section) -> list[SeedGroup]:
    return [cell for cell in section.cells if cell.spec.control is None]


def line_label(tying: str, dropout: float | None) -> str:
    return tying if dropout is None else f"{tying}, dropout {axis(dropout)}"


def point(cell: SeedGroup | None) -> Interval | None:
    """The test metric over seeds, a share in percent; None without a number."""
    found = interval(cell.metric().values()) if cell else None
    return percent(found, cell.runs[0].metric) if cell else None


def difference(cell: SeedGroup, baseline: SeedGroup | None) -> Paired | None:
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


AXIS = {"k": "blocks that share, k", "groups": "groups of blocks", "strength": "strength"}
Line = dict[float, SeedGroup]


def inside(section: Section, name: str) -> list[Dose]:
    """The curves over `name` (k, groups or strength), one for each pair of ends that tyings have in common.

    At the least dropout and weight decay of the section.
    """
    cells = _least(section)
    families: dict[tuple[str, str], dict[str, Line]] = {}
    specs: dict[str, TyingSpec] = {}
    for cell in cells.values():
        if (found := split(cell.spec, name)) and cell.metric():
            line, value = found
            label = line.label + cell.more
            specs[label] = line
            families.setdefault(_ends(line), {}).setdefault(label, {})[value] = cell
    return [
        _dose(section, name, ends, lines, cells, specs)
        for ends, lines in families.items()
        if any(len(line) > 1 for line in lines.values())
    ]


def _least(section: Section) -> dict[str, SeedGroup]:
    cells = uncontrolled(section)
    at = (min((c.dropout for c in cells), default=0), min((c.weight_decay for c in cells), default=0))
    return {cell.tying: cell for cell in cells if (cell.dropout, cell.weight_decay) == at}


def split(tying: TyingSpec, name: str) -> tuple[TyingSpec, float] | None:
    """The tying without its dose, and the dose; None where it is nowhere on the axis.

    A decoupled soft tie at 0.01 is `soft_decoupled` at 0.01: the line has a name of its own.
    """
    for at, part in enumerate(tying.parts):
        value = part.shown.get(name)
        # Strength 0 is `none` and infinity the limit: a log axis has neither.
        if value is None or name == "strength" and not 0 < value < math.inf:
            continue
        line = Part(part.family, part.without(name).keys)
        line = line.without("form") if line.method != part.method else line
        parts = (*tying.parts[:at], line, *tying.parts[at + 1 :])
        return replace(tying, parts=parts), float(value)
    return None


def _ends(line: TyingSpec) -> tuple[str, str]:
    """What `embedding+top_k` is at k = 1 and at k = depth: `embedding`, `embedding+cross_layer`."""
    start = tuple(part for part in line.parts if part.full is None)
    return TyingSpec(start).label, TyingSpec(tuple(map(_limit, line.parts))).label


def _limit(part: Part) -> Part:
    if part.full is None:
        return part
    return Part(part.full, tuple(item for item in part.keys if item[0] == "scope"))


def _dose(
    section: Section,
    name: str,
    ends: tuple[str, str],
    lines: dict[str, Line],
    cells: dict[str, SeedGroup],
    specs: dict[str, TyingSpec],
) -> Dose:
    start, limit = ends
    if name in ("k", "groups"):
        one, all_blocks = (start, limit) if name == "k" else (limit, start)
        known = {1: cells.get(one), _depth(cells.get(all_blocks)): cells.get(all_blocks)}
        whole = {at: cell for at, cell in known.items() if at is not None and cell and cell.metric()}
        lines = {label: whole | line for label, line in lines.items()}
    untied = cells.get("none")
    differences = {
        label: along((x, difference(cell, untied)) for x, cell in line.items())
        for label, line in lines.items()
    }
    return Dose(
        name=name,
        axis=AXIS[name],
        log=name == "strength",
        title=section.title + (f", between {start} and {limit}" if ends != ("none", "cross_layer") else ""),
        lines={label: along((x, point(cell)) for x, cell in line.items()) for label, line in lines.items()},
        spread=_spread(lines, "embedding" if limit == "embedding" else "depth") if name == "strength" else {},
        marks={end: value for end in ends if (value := point(cells.get(end)))},
        metric=section.metric,
        baseline="none",
        differences={label: values for label, values in differences.items() if values},
        specs={label: cell.spec for label, cell in cells.items()} | specs,
    )


def _spread(lines: dict[str, Line], where: str) -> dict:
    found = {
        label: along((x, interval(cell.values("spread", where).values())) for x, cell in line.items())
        for label, line in lines.items()
    }
    return {label: values for label, values in found.items() if values}


def _depth(cell: SeedGroup | None) -> int | None:
    return next(iter(cell.values("config", "model", "depth").values()), None) if cell else None


BUDGET = ("trainer.max_epochs", "trainer.limit_train_batches")
CHECKS = ("trainer.val_check_interval",)
WIDE = 8
"""An axis that spans so many times its least value is logarithmic."""


@dataclass(frozen=True)
class Axis:
    """What sections vary in: config `keys`, and `riders` that a preset may move along with them."""

    name: str
    keys: tuple[str, ...]
    riders: tuple[str, ...] = ()


AXES = (
    Axis("data", ("data.train_limit",), (*BUDGET, *CHECKS)),
    Axis("budget", BUDGET, CHECKS),
    Axis("width", ("model.width",)),
    Axis("depth", ("model.depth",)),
)


def across(sections: list[Section], axis: Axis) -> list[Dose]:
    """The curves over the axis, one for each setting of everything else that sections differ in.

    A rider that moves along with the axis is part of it; one that is crossed with it parts the curves.
    """
    found = []
    known = [section for section in sections if _dose_of_sections(section, axis) is not None]
    for alike in _grouped(known, axis.keys + axis.riders):
        values = [_dose_of_sections(section, axis) for section in alike]
        crossed = len(set(values)) < len(values)
        for same in _grouped(alike, axis.keys) if crossed else [alike]:
            found.append(_curve(same, axis, axis.keys + (() if crossed else axis.riders)))
    return [dose for dose in found if dose]


def _grouped(sections: list[Section], keys: tuple[str, ...]) -> Iterable[list[Section]]:
    groups: dict[tuple, list[Section]] = {}
    for section in sections:
        key = (section.task, section.data, section.fingerprint, _rest(section, keys))
        groups.setdefault(key, []).append(section)
    return groups.values()


def _rest(section: Section, keys: tuple[str, ...]) -> str:
    """What else the section's variant says."""
    text = section.variant
    for key in keys:
        text = re.sub(rf"(^|, ){re.escape(key)}=[^,]*", "", text)
    return text.removeprefix(", ")


def _dose_of_sections(section: Section, axis: Axis) -> tuple | None:
    """The settings of the axis's keys; None where the section does not vary in them or has no finished run."""
    if not any(f"{key}=" in section.variant for key in axis.keys):
        return None
    run = next((run for run in section.runs if run.is_done and run.record.get("config")), None)
    return run and tuple(str(look_up(run.record["config"], *key.split("."))) for key in axis.keys)


def _curve(sections: list[Section], axis: Axis, keys: tuple[str, ...]) -> Dose | None:
    named, place = _places(sections, axis)
    at = {x: uncontrolled(section) for x, section in zip(place, sections, strict=True)}
    cells = {x: at[x] for x in sorted(at)}
    finished = [cell for here in cells.values() for cell in here if cell.metric()]
    if len(cells) < 2 or not finished:
        return None
    dropouts = sorted({cell.dropout for cell in finished})
    specs = {
        line_label(cell.tying, dropout): cell.spec
        for here in cells.values()
        for cell in here
        for dropout in (None, cell.dropout)
    }
    baseline, at_dropout = "none at the same dropout" if len(dropouts) > 1 else "none", None
    if all(cell.is_untied for cell in finished):
        baseline, at_dropout = line_label("none", dropouts[0]), dropouts[0]
    lines, differences = _lines(cells, dropouts, at_dropout, specs)
    first = sections[0]
    where = ", ".join(part for part in (first.data, _rest(first, keys)) if part)
    if first.among_several:
        where += f", {first.fingerprint or 'fingerprint not known yet'}"
    return Dose(
        name=axis.name,
        axis=named,
        log=axis.name == "data" or max(cells) >= WIDE * min(cells),
        title=f"{first.task} on {where}",
        lines=lines,
        spread={},
        marks={},
        metric=first.metric,
        baseline=baseline,
        differences=differences,
        specs=specs,
    )


def _lines(
    cells: dict[float, list[SeedGroup]],
    dropouts: list[float],
    at_dropout: float | None,
    specs: dict[str, TyingSpec],
) -> tuple[Points, Differences]:
    """Points and differences at the least weight decay of each section, in table order of the lines.

    at_dropout: that of the baseline of all lines; None where each has `none` at its own.
    """
    lines: Points = {}
    differences: Differences = {}
    for x, here in cells.items():
        decay = min((cell.weight_decay for cell in here), default=0)
        at = {(cell.tying, cell.dropout): cell for cell in here if cell.weight_decay == decay}
        for (tying, dropout), cell in at.items():
            label = line_label(tying, dropout if len(dropouts) > 1 else None)
            base = at.get(("none", dropout if at_dropout is None else at_dropout))
            if value := point(cell):
                lines.setdefault(label, []).append((x, value))
            if gap := difference(cell, base):
                differences.setdefault(label, []).append((x, gap))
    return in_order(lines, specs), in_order(differences, specs)


def _places(sections: list[Section], axis: Axis) -> tuple[str, list[float]]:
    """What the axis is called, and where on it each section stands."""
    if axis.name == "data":
        return _data(sections)
    if axis.name == "budget":
        steps = [_number(section, "steps") for section in sections]
        if all(step is not None for step in steps) and len(set(steps)) == len(steps):
            return "training steps", steps
        return "training epochs", [
            _number(section, "config", *BUDGET[0].split(".")) or 0 for section in sections
        ]
    return f"model {axis.name}", [_number(section, "config", "model", axis.name) for section in sections]


def _data(sections: list[Section]) -> tuple[str, list[float]]:
    """A limit of None is all of the training split."""
    limits = [
        _number(section, "config", "data", "train_limit") or _number(section, "data_meta", "sizes", "train")
        for section in sections
    ]
    unit = "tokens" if sections[0].metric.name == "perplexity" else "examples"
    return f"training {unit}", limits


def _number(section: Section, *keys: str) -> float | None:
    """The first finite number that a finished run has under a path of record keys."""
    found = (run.number(*keys) for run in section.runs if run.is_done)
    return next((value for value in found if is_finite(value)), None)


def doses(sections: list[Section]) -> list[Dose]:
    """The curves that the records have two points for, [] where there are none; holes are left out of their lines.

    All at the least weight decay; those over k, groups and strength at the least dropout too, the others with a line
    for each dropout. Controls are on no curve. A difference is paired by seed.
    """
    found = [dose for section in sections for name in AXIS for dose in inside(section, name)]
    return found + [dose for axis in AXES for dose in across(sections, axis)]


FLIPS, ONE_SIGN = "the sign changes", "one sign"
MAYBE = "the means change sign, not shown"


class Row(NamedTuple):
    """A point of a line."""

    line: str
    at: float
    value: Interval
    gap: Paired | None
    spread: Interval | None


def dose_tables(doses: list[Dose]) -> dict[str, Table]:
    """Title -> a row per line and dose: metric, difference to the baseline, and what its sign does along the axis."""
    return {f"{dose.title}: {_metric(dose)} against {dose.axis}": _table(dose) for dose in doses}


def dose_lines(dose: Dose) -> list[str]:
    """Below the table: for each line what the sign of its difference does along the axis, and how to read that."""
    found = [f"{line} against {dose.baseline}: {_sign(dose, line)[1]}." for line in dose.differences]
    return [*found, READING] if found else []


READING = (
    "How to read the curves: mean and 95 % Student t interval over seeds, the difference paired by seed. The sign is "
    "said to change where it is shown at one dose and the opposite is shown at another: both intervals leave out 0."
)


def csv_rows(doses: list[Dose]) -> list[dict[str, Any]]:
    """A row per point, shares in percent, numbers unrounded."""
    return [_csv_row(dose, row) for dose in doses for row in _rows(dose)]


def _csv_row(dose: Dose, row: Row) -> dict[str, Any]:
    found = {"curve": dose.title, "axis": dose.axis, "tying": row.line, "dose": row.at}
    found |= {"metric": dose.metric.name, "baseline": dose.baseline}
    found |= dict(zip(("test_mean", "test_low", "test_high", "n"), row.value, strict=True))
    return found | {
        "difference": row.gap and row.gap.mean,
        "difference_low": row.gap and row.gap.low,
        "difference_high": row.gap and row.gap.high,
        "spread": row.spread and row.spread.mean,
    }


def _rows(dose: Dose) -> list[Row]:
    gaps = {line: dict(points) for line, points in dose.differences.items()}
    spread = {line: dict(points) for line, points in dose.spread.items()}
    return [
        Row(line, x, value, gaps.get(line, {}).get(x), spread.get(line, {}).get(x))
        for line, points in dose.lines.items()
        for x, value in points
    ]


def _metric(dose: Dose) -> str:
    return f"test {dose.metric.name.replace('_', ' ')}" + (" %" if dose.metric.is_share else "")


def _table(dose: Dose) -> Table:
    rows = _rows(dose)
    decimals = metric_places([row.value.mean for row in rows], dose.metric)
    columns = [
        Column[Row](
            f"test\n{dose.metric.label.removeprefix('test ')}", lambda row: interval_text(row.value, decimals)
        ),
        Column[Row](
            f"difference to\n{dose.baseline}", lambda row: interval_text(row.gap, decimals, sign=True)
        ),
        Column[Row]("spread", lambda row: interval_text(row.spread, 3), optional=True),
        Column[Row]("n runs", lambda row: str(row.value.n)),
        Column[Row](
            "sign along\nthe axis",
            lambda row: _sign(dose, row.line)[0] if row.line in dose.differences else NOTHING,
            align="l",
        ),
    ]
    return tabulate(["tying", dose.axis], [[row.line, amount(row.at)] for row in rows], columns, rows)


def amount(dose: float) -> str:
    return f"{dose:,.15g}"


def _sign(dose: Dose, line: str) -> tuple[str, str]:
    """In a few words and in a sentence."""
    better = 1 if dose.metric.mode == "max" else -1
    points = [(x, better * gap.mean, _is_shown(gap)) for x, gap in dose.differences[line]]
    good, bad = ([x for x, gap, _ in points if side * gap > 0] for side in (1, -1))
    shown = [x for x, _, is_shown in points if is_shown]
    if not good or not bad:
        side = "better" if good else "worse" if bad else "equal"
        where = f"{side} at {_amounts([x for x, *_ in points])}, {_shown(shown, points)}"
        return ONE_SIGN, f"no change of sign along {dose.axis}: {where}"
    said = f"better at {_amounts(good)}, worse at {_amounts(bad)}"
    if set(good) & set(shown) and set(bad) & set(shown):
        return FLIPS, f"the sign changes along {dose.axis}: {said}; shown at {_amounts(shown)}"
    return (
        MAYBE,
        f"the means change sign along {dose.axis}, which may be chance: {said}; {_shown(shown, points)}",
    )


def _is_shown(gap: Paired) -> bool:
    return gap.low is not None and (gap.low > 0 or gap.high < 0)


def _shown(shown: list[float], points: list[tuple]) -> str:
    """Where an interval leaves out 0."""
    if not shown:
        return "shown at none"
    return "shown at each" if len(shown) == len(points) else f"shown at {_amounts(shown)}"


def _amounts(doses: list[float]) -> str:
    *before, last = [amount(dose) for dose in doses]
    return f"{', '.join(before)} and {last}" if before else last
