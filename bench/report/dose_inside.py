"""Doses that a tying's label carries, k, groups and strength: curves inside one section."""

import re

from bench.report.cells import Cell, Section
from bench.report.dose import Dose, along, difference, point, uncontrolled
from bench.report.order import parts
from bench.stats.statistics import interval

LIMITS = {
    "top_k": "cross_layer",
    "bottom_k": "cross_layer",
    "sequence": "cross_layer",
    "cycle": "cross_layer",
    "cycle_rev": "cross_layer",
    "soft": "cross_layer",
    "soft_decoupled": "cross_layer",
    "soft_embedding": "embedding",
}
"""What a strategy is where it shares most."""
AXIS = {"k": "blocks that share, k", "groups": "groups of blocks", "strength": "strength"}
Line = dict[float, Cell]


def inside(section: Section, name: str) -> list[Dose]:
    """The curves over `name` (k, groups or strength), one for each pair of ends that tyings have in common.

    At the least dropout and weight decay of the section.
    """
    cells = _least(section)
    families: dict[tuple[str, str], dict[str, Line]] = {}
    for tying, cell in cells.items():
        if (found := split(tying, name)) and cell.metric():
            line, value = found
            families.setdefault(_ends(line), {}).setdefault(line, {})[value] = cell
    return [
        _dose(section, name, ends, lines, cells)
        for ends, lines in families.items()
        if any(len(line) > 1 for line in lines.values())
    ]


def _least(section: Section) -> dict[str, Cell]:
    cells = uncontrolled(section)
    at = (min((c.dropout for c in cells), default=0), min((c.weight_decay for c in cells), default=0))
    return {cell.tying: cell for cell in cells if (cell.dropout, cell.weight_decay) == at}


def split(tying: str, name: str) -> tuple[str, float] | None:
    """`soft(strength=0.01, decoupled)` is `soft_decoupled` at 0.01; None where it is nowhere on the axis."""
    found = re.search(rf"\b{name}=([^,)]+)(, )?", tying)
    if not found:
        return None
    value = float(found[1])
    # Strength 0 is `none` and infinity the limit: a log axis has neither.
    if name == "strength" and not 0 < value < float("inf"):
        return None
    line = (tying[: found.start()] + tying[found.end() :]).replace("()", "")
    return re.sub(r"\bsoft\(decoupled(, )?", "soft_decoupled(", line).replace("()", ""), value


def _ends(line: str) -> tuple[str, str]:
    """What `embedding+top_k` is at k = 1 and at k = depth: `embedding`, `embedding+cross_layer`."""
    names = [(part, re.split(r"[(\s]", part)[0]) for part in parts(line)]
    start = [part for part, name in names if name not in LIMITS]
    return "+".join(start) or "none", "+".join(_limit(part, name) for part, name in names)


def _limit(part: str, name: str) -> str:
    scope = re.search(r"scope=[^,)]+", part)
    return LIMITS.get(name, part) + (f"({scope[0]})" if name in LIMITS and scope else "")


def _dose(
    section: Section, name: str, ends: tuple[str, str], lines: dict[str, Line], cells: dict[str, Cell]
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
    )


def _spread(lines: dict[str, Line], where: str) -> dict:
    found = {
        label: along((x, interval(cell.values("spread", where).values())) for x, cell in line.items())
        for label, line in lines.items()
    }
    return {label: values for label, values in found.items() if values}


def _depth(cell: Cell | None) -> int | None:
    return next(iter(cell.values("config", "model", "depth").values()), None) if cell else None
