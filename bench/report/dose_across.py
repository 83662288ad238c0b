"""Doses that sections of a sweep differ in: training budget, data size, model size."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bench.report.cells import Cell, Section
from bench.report.dose import Differences, Dose, Points, difference, in_order, line_label, point, uncontrolled
from bench.report.rows import is_finite, look_up
from bench.tying_spec import TyingSpec

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
    known = [section for section in sections if _dose(section, axis) is not None]
    for alike in _grouped(known, axis.keys + axis.riders):
        values = [_dose(section, axis) for section in alike]
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


def _dose(section: Section, axis: Axis) -> tuple | None:
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
    cells: dict[float, list[Cell]],
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
