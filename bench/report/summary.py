"""Tyings next to each other over all tasks, each at the dropout and weight decay that validation chose."""

from typing import Any

from bench.metrics import Estimate
from bench.report.cells import Cell, Section
from bench.report.comparison import mean, n_text, share_of_untied, shown, spell
from bench.report.markup import Table, best_of, width
from bench.report.numbers import NOTHING, axis, estimate, metric_places, percent, short_count
from bench.report.order import tying_key


def tyings(sections: list[Section]) -> list[str]:
    return sorted({tying for section in sections for tying in section.tyings}, key=tying_key)


def headline(sections: list[Section], *, with_chosen: bool = False) -> Table:
    """A row per tying; per section the test metric (versus none), the parameters and, if asked, the choice.

    The cell of a tying is the one with the best validation metric; its *test* metric is shown.
    """
    rows: list[list[str]] = [[tying] for tying in tyings(sections)]
    values: list[list[float | None]] = [[None] for _ in rows]
    header, modes = ["tying"], [None]
    for section in sections:
        decimals = _decimals(section)
        columns = [
            "\n".join([section.task, f"on {section.where}", section.metric.label, "(vs none)"]),
            "\n\nparams\n% untied",
        ]
        columns += ["\n\ndropout /\nweight decay", "\n\nof cells\n(n runs)"] if with_chosen else []
        header += columns
        modes += [section.metric.mode, "min"] + [None] * (len(columns) - 2)
        for row, value in zip(rows, values, strict=True):
            cell = section.chosen(row[0])
            row += _texts(section, row[0], cell, decimals)[: len(columns)]
            value += [mean(shown(cell)) if cell else None, cell.count("num_params") if cell else None]
            value += [None] * (len(columns) - 2)
    return Table(header, "l" + "r" * (len(header) - 1), rows, best_of(values, modes))


def _decimals(section: Section) -> int:
    chosen = [cell for tying in section.tyings if (cell := section.chosen(tying))]
    return metric_places([e.mean for cell in chosen if (e := shown(cell))], section.metric)


def _texts(section: Section, tying: str, cell: Cell | None, decimals: int) -> list[str]:
    if cell is None:
        return [_hole(section, tying), "", "", ""]
    text = estimate(shown(cell), decimals)
    if tying != "none":
        text += f" ({estimate(_difference(section, cell), decimals, sign=True)})"
    share = share_of_untied(cell)
    count = short_count(cell.count("num_params") or 0) + ("" if share is None else f" {100 * share:.0f}%")
    searched = sum(bool(other.done) for other in section.tyings[tying])
    return [text, count, f"{axis(cell.dropout)} / {axis(cell.weight_decay)}", f"{searched} ({n_text(cell)})"]


def _hole(section: Section, tying: str) -> str:
    cells = section.tyings.get(tying)
    if not cells:
        return NOTHING
    return "n/a" if all(cell.is_not_applicable for cell in cells) else "hole"


def _difference(section: Section, cell: Cell) -> Estimate | None:
    return percent(section.difference(cell, section.chosen("none")), section.metric)


def in_blocks(sections: list[Section], columns: int) -> list[Table]:
    """The headline cut into tables of at most that many characters a line, at least one section each."""
    blocks: list[list[Section]] = []
    for section in sections:
        if blocks and width(headline([*blocks[-1], section])) <= columns:
            blocks[-1].append(section)
        else:
            blocks.append([section])
    return [headline(block) for block in blocks]


def csv_rows(sections: list[Section]) -> list[dict[str, Any]]:
    return [
        _csv_row(section, tying)
        for tying in tyings(sections)
        for section in sections
        if tying in section.tyings
    ]


def _csv_row(section: Section, tying: str) -> dict[str, Any]:
    cell, name = section.chosen(tying), section.metric.name
    cells = section.tyings[tying]
    return {
        "tying": tying,
        "task": section.task,
        "data": section.data,
        "fingerprint": section.fingerprint,
        "variant": section.variant,
        "metric": name,
        "dropout": cell and cell.dropout,
        "weight_decay": cell and cell.weight_decay,
        "cells_searched": sum(bool(other.done) for other in cells),
        "cells_asked": len(cells),
        "num_params": cell and cell.count("num_params"),
        "num_params_untied": cell and cell.count("num_params_untied"),
        **spell("val", cell and cell.metric_over_seeds("val")),
        **spell("test", cell and cell.metric_over_seeds()),
        **spell("difference_to_none", cell and section.difference(cell, section.chosen("none"))),
        "reason": "" if cell else "; ".join(dict.fromkeys(other.reason for other in cells)),
    }
