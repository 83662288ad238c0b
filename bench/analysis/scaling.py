"""Find curves of the metric over whatever a sweep varies: k, groups, strength, budget, data, size."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from bench.analysis.groups import Section, SeedGroup, grouped, natural, place
from bench.analysis.power import change
from bench.analysis.runs import Metric, is_finite, look_up, percent
from bench.analysis.statistics import Interval, Paired, interval, paired
from bench.runs.tying_spec import Part, TyingSpec

Listed = TypeVar("Listed")
Value = TypeVar("Value", Interval, Paired)
Points = dict[str, list[tuple[float, Value]]]
"""Line -> its points, by their place on the axis."""
Line = dict[float, SeedGroup]
"""Place on the axis -> the cell there."""

WITHIN = {"k": "blocks that share, k", "groups": "groups of blocks", "strength": "strength"}
"""Key of a tying -> the name of its axis, of curves within a section."""
BUDGET = ("trainer.max_epochs", "trainer.limit_train_batches")
CHECKS = ("trainer.val_check_interval",)
WIDE = 8
"""An axis is logarithmic where its largest value is so many times its least."""


@dataclass(frozen=True)
class Axis:
    """An axis that sections vary along: config `keys`, and `riders` that a preset may move along with them."""

    name: str
    keys: tuple[str, ...]
    riders: tuple[str, ...] = ()


ACROSS = (
    Axis("data", ("data.train_limit",), (*BUDGET, *CHECKS)),
    Axis("budget", BUDGET, CHECKS),
    Axis("width", ("model.width",)),
    Axis("depth", ("model.depth",)),
)
"""Curves across sections."""


@dataclass(frozen=True)
class Curve:
    """Test metric (shares in percent) over one axis: a line per tying, or per tying and dropout.

    name: k, groups, strength, data, budget, width or depth. marks: the ends of the axis, by tying.
    spread: how far the tied copies are apart, where the axis is a strength. differences: to the `baseline` at
    the same place, paired by seed, of all lines but the baseline's own. specs: of every line and mark.
    """

    name: str
    axis: str
    log: bool
    title: str
    metric: Metric
    baseline: str
    lines: Points[Interval]
    differences: Points[Paired]
    specs: Mapping[str, TyingSpec]
    spread: Points[Interval]
    marks: dict[str, Interval]


def curves(sections: list[Section]) -> list[Curve]:
    """Return the curves that the records have two points for; holes are left out of their lines.

    All are at the least weight decay. Those over k, groups and strength are at the least dropout too, the others have
    a line for each dropout. Controls are on no curve. A difference is paired by seed.
    """
    within = [curve for section in sections for key in WITHIN for curve in _within_section(section, key)]
    return within + [curve for axis in ACROSS for curve in _across_sections(sections, axis)]


def in_order(lines: Mapping[str, Listed], specs: Mapping[str, TyingSpec]) -> dict[str, Listed]:
    """Sort lines as tables have them: by tying, then by dropout."""
    return {line: lines[line] for line in sorted(lines, key=lambda line: (place(specs[line]), natural(line)))}


def split(tying: TyingSpec, key: str) -> tuple[TyingSpec, float] | None:
    """Return the tying without its `key`, and the key's value; None where it is nowhere on that axis.

    A decoupled soft tie at 0.01 is `soft_decoupled` at 0.01: the line has a name of its own.
    """
    for index, part in enumerate(tying.parts):
        value = part.shown.get(key)
        # Strength 0 is `none` and infinity the limit: a log axis has neither.
        if value is None or key == "strength" and not 0 < value < math.inf:
            continue
        line = Part(part.family, part.without(key).keys)
        line = line.without("form") if line.method != part.method else line
        return replace(tying, parts=(*tying.parts[:index], line, *tying.parts[index + 1 :])), float(value)
    return None


def _within_section(section: Section, key: str) -> list[Curve]:
    """Return the curves over a key of the tyings, one for each pair of ends that tyings have in common.

    At the least dropout and weight decay of the section.
    """
    all_cells = section.without_controls
    dropout = min((cell.dropout for cell in all_cells), default=0)
    decay = min((cell.weight_decay for cell in all_cells), default=0)
    cells = {c.tying: c for c in all_cells if (c.dropout, c.weight_decay) == (dropout, decay)}
    families: dict[tuple[str, str], dict[str, Line]] = {}
    specs = {label: cell.spec for label, cell in cells.items()}
    for cell in cells.values():
        if (parts := split(cell.spec, key)) and cell.metric():
            spec, value = parts
            label = spec.called + cell.more
            specs[label] = spec
            families.setdefault(_ends(spec), {}).setdefault(label, {})[value] = cell
    return [
        _curve_within(section, key, ends, lines, cells, specs)
        for ends, lines in families.items()
        if any(len(line) > 1 for line in lines.values())
    ]


def _ends(line: TyingSpec) -> tuple[str, str]:
    """Return the ends of a line: of `embedding+top_k`, `embedding` at k = 1, `embedding+cross_layer` at k = depth."""
    start = tuple(part for part in line.parts if part.full is None)
    limit = (
        part if part.full is None else Part(part.full, tuple(key for key in part.keys if key[0] == "scope"))
        for part in line.parts
    )
    return TyingSpec(start).label, TyingSpec(tuple(limit)).label


def _curve_within(
    section: Section,
    key: str,
    ends: tuple[str, str],
    lines: dict[str, Line],
    cells: dict[str, SeedGroup],
    specs: dict[str, TyingSpec],
) -> Curve:
    start, limit = ends
    if key in ("k", "groups"):
        one_block, all_blocks = (start, limit) if key == "k" else (limit, start)
        known = {1: cells.get(one_block)}
        if deepest := cells.get(all_blocks):
            known |= dict.fromkeys(deepest.values("config", "model", "depth").values(), deepest)
        whole = {x: cell for x, cell in known.items() if cell and cell.metric()}
        lines = {label: whole | line for label, line in lines.items()}
    untied, part = cells.get("none"), "embedding" if limit == "embedding" else "depth"
    names_ends = ends != ("none", "cross_layer") and cells.keys() >= set(ends)
    return Curve(
        name=key,
        axis=WITHIN[key],
        log=key == "strength",
        title=section.title + f", between {start} and {limit}" * names_ends,
        metric=section.metric,
        baseline="none",
        lines=_points(lines, _value),
        differences=_points(lines, lambda cell: _difference(cell, untied)),
        specs=specs,
        spread=_points(lines, lambda cell: interval(cell.values("spread", part).values()))
        if key == "strength"
        else {},
        marks={end: value for end in ends if end in cells and (value := _value(cells[end]))},
    )


def _points(lines: dict[str, Line], value: Callable[[SeedGroup], Value | None]) -> Points[Value]:
    """Return the values that there are, without lines that have none."""
    points = {
        label: [(x, point) for x in sorted(line) if (point := value(line[x])) is not None]
        for label, line in lines.items()
    }
    return {label: values for label, values in points.items() if values}


def _value(cell: SeedGroup) -> Interval | None:
    """Return the test metric over seeds, a share in percent; None without a number."""
    return percent(interval(cell.metric().values()), cell.runs[0].metric)


def _difference(cell: SeedGroup, baseline: SeedGroup | None) -> Paired | None:
    """Return the change to `baseline` as people read it; None for the baseline itself and without a seed in common."""
    if baseline is None or cell is baseline:
        return None
    return change(paired(cell.compared, baseline.compared), cell.runs[0].metric)


def _across_sections(sections: list[Section], axis: Axis) -> list[Curve]:
    """Return the curves over the axis, one for each setting of everything else that sections differ in.

    A rider that moves along with the axis is part of it; one that is crossed with it parts the curves.
    """
    curves = []
    known = [section for section in sections if _settings(section, axis) is not None]
    for alike in _alike(known, axis.keys + axis.riders):
        settings = [_settings(section, axis) for section in alike]
        is_crossed = len(set(settings)) < len(settings)
        for same in _alike(alike, axis.keys) if is_crossed else [alike]:
            curves.append(_curve_across(same, axis, axis.keys + (() if is_crossed else axis.riders)))
    return [curve for curve in curves if curve]


def _alike(sections: list[Section], keys: tuple[str, ...]) -> Iterable[list[Section]]:
    return grouped(sections, lambda s: (s.task, s.data, s.fingerprint, _rest(s, keys))).values()


def _rest(section: Section, keys: tuple[str, ...]) -> str:
    """Return what the section's variant says beside these keys."""
    text = section.variant
    for key in keys:
        text = re.sub(rf"(^|, ){re.escape(key)}=[^,]*", "", text)
    return text.removeprefix(", ")


def _settings(section: Section, axis: Axis) -> tuple | None:
    """Return the settings of the axis's keys; None where the section does not vary in them or has no finished run."""
    if not any(f"{key}=" in section.variant for key in axis.keys):
        return None
    run = next((run for run in section.runs if run.is_done and run.record.get("config")), None)
    return run and tuple(str(look_up(run.record["config"], *key.split("."))) for key in axis.keys)


def _curve_across(sections: list[Section], axis: Axis, keys: tuple[str, ...]) -> Curve | None:
    axis_name, places = _places(sections, axis)
    on_axis = {x: s.without_controls for x, s in zip(places, sections, strict=True) if x is not None}
    cells = {x: on_axis[x] for x in sorted(on_axis)}
    finished = [cell for here in cells.values() for cell in here if cell.metric()]
    if len(cells) < 2 or not finished:
        return None
    dropouts = sorted({cell.dropout for cell in finished})
    several, first = len(dropouts) > 1, sections[0]
    baseline, base_dropout = "none at the same dropout" if several else "none", None
    if all(cell.is_untied for cell in finished):
        baseline, base_dropout = _line_label("none", dropouts[0]), dropouts[0]
    lines: dict[str, Line] = {}
    specs: dict[str, TyingSpec] = {}
    baselines: dict[SeedGroup, SeedGroup | None] = {}
    for x, here in cells.items():
        decay = min((cell.weight_decay for cell in here), default=0)
        settings = {(cell.tying, cell.dropout): cell for cell in here if cell.weight_decay == decay}
        for (tying, dropout), cell in settings.items():
            label = _line_label(tying, dropout) if several else tying
            lines.setdefault(label, {})[x], specs[label] = cell, cell.spec
            baselines[cell] = settings.get(("none", dropout if base_dropout is None else base_dropout))
    where = ", ".join(part for part in (first.data, _rest(first, keys)) if part)
    if first.among_several:
        where += f", {first.fingerprint or 'fingerprint not known yet'}"
    return Curve(
        name=axis.name,
        axis=axis_name,
        log=axis.name == "data" or max(cells) >= WIDE * min(cells),
        title=f"{first.task} on {where}",
        metric=first.metric,
        baseline=baseline,
        lines=in_order(_points(lines, _value), specs),
        differences=in_order(_points(lines, lambda cell: _difference(cell, baselines[cell])), specs),
        specs=specs,
        spread={},
        marks={},
    )


def _line_label(tying: str, dropout: float) -> str:
    return f"{tying}, dropout {dropout:.15g}"


def _places(sections: list[Section], axis: Axis) -> tuple[str, list[float | None]]:
    """Return the name of the axis, and the place of each section on it."""
    if axis.name == "data":
        # A limit of None is all of the training split.
        limits = [
            _number(section, "config", "data", "train_limit")
            or _number(section, "data_meta", "sizes", "train")
            for section in sections
        ]
        return f"training {'tokens' if sections[0].metric.name == 'perplexity' else 'examples'}", limits
    if axis.name == "budget":
        steps = [_number(section, "steps") for section in sections]
        if None not in steps and len(set(steps)) == len(steps):
            return "training steps", steps
        epochs = [_number(section, "config", *BUDGET[0].split(".")) or 0 for section in sections]
        return "training epochs", epochs
    return f"model {axis.name}", [_number(section, "config", "model", axis.name) for section in sections]


def _number(section: Section, *keys: str) -> float | None:
    """Return the first finite number that a finished run has under a path of record keys."""
    values = (run.number(*keys) for run in section.runs if run.is_done)
    return next((value for value in values if is_finite(value)), None)
