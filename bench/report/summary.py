"""Tyings next to each other over all tasks, each at the dropout and weight decay that validation chose."""

from collections.abc import Callable
from typing import Any

from bench.report.against import Against, against_chosen
from bench.report.cells import Cell, Section, in_order
from bench.report.columns import Column, tabulate
from bench.report.comparison import mean, n_text, share_of_untied, shown, spell, spell_against, spell_bounds
from bench.report.effective import effective_short, has_effective
from bench.report.markup import Table, width
from bench.report.numbers import NOTHING, axis, interval_text, metric_places, percent, short_count


def tyings(sections: list[Section]) -> list[str]:
    return list(in_order(cell for section in sections for cell in section.cells))


def headline(sections: list[Section], *, with_chosen: bool = False) -> Table:
    """A row per tying; per section the test metric (versus none), the parameters, the verdict and the choice if asked.

    The cell of a tying is the one with the best validation metric; its *test* metric is shown. A section has a
    verdict where a tying has two pairs.
    """
    rows = tyings(sections)
    columns = [column for section in sections for column in _columns(section, with_chosen)]
    return tabulate(["tying"], [[tying] for tying in rows], columns, rows)


def _columns(section: Section, with_chosen: bool) -> list[Column[str]]:
    """Of the label of a tying."""
    metric, against = section.metric, against_chosen(section)
    decimals = metric_places([e.mean for each in against.values() if (e := shown(each.cell))], metric)

    def said(text: Callable[[Against], Any]) -> Callable[[str], Any]:
        return lambda tying: text(against[tying]) if tying in against else ""

    def reached(tying: str) -> str:
        return _metric_text(against[tying], decimals) if tying in against else _hole(section, tying)

    def number(value: Callable[[Against], float | None]) -> Callable[[str], float | None]:
        return lambda tying: value(against[tying]) if tying in against else None

    head = "\n".join([section.task, f"on {section.where}", metric.label, "(vs none)"])
    columns = [
        Column(head, reached, number(lambda a: mean(shown(a.cell))), metric.mode),
        Column(
            "\n\nparams\n% untied", said(_params_text), number(lambda a: a.cell.count("num_params")), "min"
        ),
    ]
    if has_effective(each.cell for each in against.values()):
        columns.append(Column("\n\neffective\n% untied", said(lambda a: effective_short(a.cell))))
    if any(each.difference and each.difference.n > 1 for each in against.values()):
        columns.append(Column("\n\n\nverdict", said(lambda a: a.verdict), align="l"))
    if with_chosen:
        columns.append(Column("\n\ndropout /\nweight decay", said(_axes_text)))
        columns.append(Column("\n\nof cells\n(n runs)", said(lambda a: _cells_text(section, a.cell))))
    return columns


def _metric_text(against: Against, decimals: int) -> str:
    metric = against.cell.runs[0].metric
    text = interval_text(percent(against.cell.interval(), metric), decimals)
    if against.cell.is_untied:
        return text
    return f"{text} ({interval_text(percent(against.difference, metric), decimals, sign=True)})"


def _params_text(against: Against) -> str:
    share = share_of_untied(against.cell)
    count = short_count(against.cell.count("num_params") or 0)
    return count if share is None else f"{count} {100 * share:.0f}%"


def _axes_text(against: Against) -> str:
    return f"{axis(against.cell.dropout)} / {axis(against.cell.weight_decay)}"


def _cells_text(section: Section, cell: Cell) -> str:
    searched = sum(bool(other.done) for other in section.tyings[cell.tying])
    return f"{searched} ({n_text(cell)})"


def _hole(section: Section, tying: str) -> str:
    cells = section.tyings.get(tying)
    if not cells:
        return NOTHING
    return "n/a" if all(cell.is_not_applicable for cell in cells) else "hole"


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
    against, name, cells = against_chosen(section).get(tying), section.metric.name, section.tyings[tying]
    cell: Cell | None = against and against.cell
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
        **spell("effective_params", cell and cell.over_seeds("effective_params")),
        **spell("val", cell and cell.metric_over_seeds("val")),
        **spell("test", cell and cell.metric_over_seeds()),
        **spell_bounds("test", cell and cell.interval()),
        **spell_against(against),
        "reason": "" if cell else "; ".join(dict.fromkeys(other.reason for other in cells)),
    }
