"""The runs of a sweep cut into sections and cells, so that only like is compared with like."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from bench.records import leaves
from bench.report.cells import Cell, Section
from bench.report.order import natural
from bench.report.rows import Run

OUTSIDE = ("data.root", "data.source", "data.module", "data.folder", "data.meta", "measure")
OUTSIDE += tuple(f"trainer.{key}" for key in ("accelerator", "threads", "strategy", "checkpoint_every_s"))
"""Config keys that say where files are, what they hold and how it was gone about: no part of what was asked for."""

AXES = ("dropout", "weight_decay", "seed")
"""Config keys that the table has rows for."""


def sections(runs: Iterable[Run]) -> list[Section]:
    """The runs of a sweep as sections, sorted. Never two data fingerprints in one."""
    grouped: dict[tuple, list[Run]] = defaultdict(list)
    for (task, data), same_data in _grouped(runs, lambda run: (run.task, run.data)).items():
        fingerprint = _fingerprints(same_data)
        for mark, alike in _grouped(same_data, lambda run, known=fingerprint: known[run.id]).items():
            varied = _varied(alike)
            outside = [key for key in varied if not key.startswith("tying.")]
            for variant, members in _grouped(
                alike, lambda run, k=outside, a=alike: _variant(run, k, a)
            ).items():
                grouped[task, data, mark, variant] = _cells(members, [k for k in varied if k not in outside])
    order = sorted(grouped, key=lambda key: (key[0], key[1], key[2] or "", natural(key[3])))
    several = Counter(key[:2] for key in {key[:3] for key in order})
    return [Section(*key, tuple(grouped[key]), several[key[:2]] > 1) for key in order]


def _grouped(runs: Iterable[Run], key: Callable[[Run], Hashable]) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _fingerprints(runs: list[Run]) -> dict[str, str | None]:
    """Run id -> data fingerprint: its own, else its cell's, else the only one there is, else None."""
    of_cell = {run.cell: run.fingerprint for run in runs if run.fingerprint}
    known = set(of_cell.values())
    only = known.pop() if len(known) == 1 else None
    return {run.id: run.fingerprint or of_cell.get(run.cell, only) for run in runs}


def _varied(runs: list[Run]) -> list[str]:
    """Config keys that differ between cells which the axes of the table cannot tell apart.

    A learning rate chosen per tying does not count: it is part of what a tying's row is.
    """
    keys: set[str] = set()
    for same in _grouped(runs, lambda run: (run.tying, run.dropout, run.weight_decay, run.seed)).values():
        if len(same) < 2:
            continue
        configs = [flat(run.record.get("config")) for run in same if run.record.get("config")]
        for key in {key for config in configs for key in config}.difference(AXES):
            if len({repr(config.get(key)) for config in configs}) > 1:
                keys.add(key)
    return sorted(keys)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config by their dotted keys, without what names a machine and not a result."""
    values = leaves(config)
    return {key: values[key] for key in sorted(values) if not _is_outside(key, values[key])}


def _is_outside(key: str, value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return (
        value == {}
        or f"{key}.".startswith(tuple(f"{outside}." for outside in OUTSIDE))
        or any(str(item).startswith("/") for item in items)
    )


def _variant(run: Run, keys: list[str], alike: list[Run]) -> str:
    """What a section is apart for. Where training began is: what follows a start is compared with `none` after it."""
    start = "start=untied" if run.spec.start is not None else ""
    return ", ".join(filter(None, (start, _label(run, keys, alike))))


def _label(run: Run, keys: list[str], alike: list[Run]) -> str:
    if not keys:
        return ""
    config = next((r.record["config"] for r in alike if r.cell == run.cell and r.record.get("config")), None)
    if config is None:
        return "variant not known yet"
    values = flat(config)
    return ", ".join(f"{key}={values.get(key)}" for key in keys)


def _cells(runs: list[Run], tying_keys: list[str]) -> list[Cell]:
    cells = []
    for same in _grouped(runs, lambda run: run.cell).values():
        first = same[0]
        members = tuple(sorted(same, key=lambda run: (run.seed, run.id)))
        spec = first.spec.without_start
        more = _label(first, tying_keys, runs) if spec.parts or spec.control else ""
        more = f" [{more.replace('tying.', '')}]" if more else ""
        cells.append(Cell(spec, more, first.dropout, first.weight_decay, members))
    return sorted(cells, key=lambda c: (c.place, c.dropout, c.weight_decay, c.runs[0].cell))
