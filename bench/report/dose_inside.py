"""Doses that a tying's label carries, k, groups and strength: curves inside one section."""

import math
from dataclasses import replace

from bench.report.cells import Cell, Section
from bench.report.dose import Dose, along, difference, point, uncontrolled
from bench.stats.statistics import interval
from bench.tying_spec import Part, TyingSpec

AXIS = {"k": "blocks that share, k", "groups": "groups of blocks", "strength": "strength"}
Line = dict[float, Cell]


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


def _least(section: Section) -> dict[str, Cell]:
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
    cells: dict[str, Cell],
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


def _depth(cell: Cell | None) -> int | None:
    return next(iter(cell.values("config", "model", "depth").values()), None) if cell else None
