"""Measure what cells cost without training: `python -m bench.measure`. No torch."""

import sys
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from bench.analysis.groups import grouped
from bench.analysis.runs import CostRecord
from bench.config.run_config import RunConfig
from bench.report.costs import cost_notes, cost_tables
from bench.report.markup import WIDTH, folded, plain
from bench.runs.command_line import framed
from bench.runs.store import leaves
from bench.sweep.run_or_load import ensure_cost
from bench.tying.errors import BadInput

AGAIN = "note: timings with ? are suspect: where nothing else runs, the same command with --again measures them anew"

Measured = tuple[RunConfig, Mapping[str, Any]]
"""A cell of a cost, and the cost's record."""

DESCRIBED = ("task", "data", "model", "trainer", "measure")
"""Of a cell's config, what tells two costs apart whose tying has the same label."""


def report(measured: Sequence[Measured]) -> str:
    """Return the tables of each task, how they were measured, what is missing and why, and the records' paths."""
    groups = grouped(measured, lambda pair: (pair[1]["task"], pair[1]["data"]))
    parts = [_section(*key, members) for key, members in groups.items()]
    notes = [f"note: {key} is not used by tying={cell.label}" for cell, _ in measured for key in cell.unused]
    if any(record.get("suspect") for _, record in measured):
        notes.append(AGAIN)
    return "\n\n".join(parts + ["\n".join(dict.fromkeys(notes))]).rstrip()


def _section(task: str, data: str, members: Sequence[Measured]) -> str:
    labels = _labels([cell for cell, _ in members])
    rows = [(label, CostRecord(record)) for label, (_, record) in zip(labels, members, strict=True)]
    tables = [
        f"{title}: {task} on {data}\n\n" + "\n".join(map(plain, folded(table, WIDTH)))
        for title, table in cost_tables(rows).items()
    ]
    notes = [fill(note, WIDTH, subsequent_indent="  ", break_long_words=False) for note in cost_notes(rows)]
    width = max(map(len, labels))
    paths = [
        f"{label:{width}}  {ensure_cost.path(cell)}" for label, (cell, _) in zip(labels, members, strict=True)
    ]
    return "\n".join([*tables, *notes, "", *paths])


def _labels(cells: Sequence[RunConfig]) -> list[str]:
    """Return the label of each cell's tying, with the keys in which the cells differ besides."""
    configs = [leaves({key: cell.config[key] for key in DESCRIBED}) for cell in cells]
    keys = sorted({key for config in configs for key in config})
    differ = [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]
    return [
        " ".join([cell.label, *(f"{key}={config[key]}" for key in differ if key in config)])
        for cell, config in zip(cells, configs, strict=True)
    ]


AGAIN_FLAG = "--again"
OVERRIDES = ("hydra/help=measure", "hydra/launcher=measure", "hydra.mode=MULTIRUN")


@framed
def main() -> int:
    """Run a sweep's command line under the launcher that measures, with its exit codes and its one line on stderr."""
    words = [word for word in sys.argv[1:] if word != AGAIN_FLAG]
    if elsewhere := [word for word in words if word.startswith("hydra/launcher")]:
        raise BadInput(f"{elsewhere[0]} is not allowed: costs are measured on this machine alone")
    from bench.__main__ import main as bench  # it imports the sweep, and so this module

    sys.argv[1:] = _with_ours(words, again=AGAIN_FLAG in sys.argv)
    return bench()


def _with_ours(words: Sequence[str], again: bool) -> list[str]:
    """Return the words with our overrides after theirs, so that ours hold: Hydra takes them in one piece."""
    ends = [index + 1 for index, word in enumerate(words) if "=" in word and not word.startswith("-")]
    end = ends[-1] if ends else len(words)
    return [*words[:end], *OVERRIDES, f"hydra.launcher.again={str(again).lower()}", *words[end:]]


if __name__ == "__main__":
    sys.exit(main())
