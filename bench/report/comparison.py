"""One section as the comparison table: tying x dropout x weight decay against what each buys."""

from collections.abc import Callable
from typing import Any

from bench.metrics import Estimate
from bench.report.cells import Cell, Section
from bench.report.columns import Column, tabulate
from bench.report.cost_columns import cost_columns
from bench.report.markup import Table
from bench.report.numbers import NOTHING, axis, estimate, fixed, metric_places, percent


def comparison(section: Section) -> Table:
    """Rows in table order; a tying that applies nowhere is one row, every other hole a row of its own."""
    lines = [(cell, axis(cell.dropout), axis(cell.weight_decay)) for cell in section.cells]
    for tying, cells in section.tyings.items():
        if len(cells) > 1 and all(c.is_not_applicable and c.reason == cells[0].reason for c in cells):
            at = next(i for i, line in enumerate(lines) if line[0] is cells[0])
            lines = [line for line in lines if line[0].tying != tying]
            lines.insert(at, (cells[0], "all", "all"))
    return tabulate(
        ["tying", "dropout", "weight decay"],
        [[cell.tying, *axes] for cell, *axes in lines],
        _columns(section),
        [cell for cell, *_ in lines],
    )


def _columns(section: Section) -> list[Column[Cell]]:
    metric, cells = section.metric, section.cells
    decimals = metric_places([e.mean for cell in cells if (e := shown(cell))], metric)

    def difference(cell: Cell) -> Estimate | None:
        return percent(section.difference(cell, section.untied(cell)), metric)

    def difference_text(cell: Cell) -> str:
        value = difference(cell)
        return (
            f"{estimate(value, decimals, sign=True)} (n={value.n})" if value else NOTHING if cell.done else ""
        )

    return [
        Column("unique\nparameters", lambda c: _count(c), lambda c: c.count("num_params"), "min"),
        Column("% of\nuntied", lambda c: _share_text(c)),
        Column(metric.label, lambda c: _metric_text(c, decimals), lambda c: mean(shown(c)), metric.mode),
        Column("difference\nto none", difference_text, lambda c: mean(difference(c)), metric.mode),
        Column("generalisation\ngap (nats)", *_over_seeds(3, "gap"), "min"),
        Column("spread\nalong depth", *_over_seeds(3, "spread", "depth")),
        Column("n runs", lambda c: n_text(c)),
        Column("note", lambda c: c.reason, align="l", optional=True),
    ]


def shown(cell: Cell) -> Estimate | None:
    """The test metric over seeds as it is printed: shares in percent."""
    return percent(cell.metric_over_seeds(), cell.runs[0].metric)


def mean(value: Estimate | None) -> float | None:
    return None if value is None else value.mean


def _metric_text(cell: Cell, decimals: int) -> str:
    if cell.done:
        return estimate(shown(cell), decimals)
    return "n/a" if cell.is_not_applicable else "hole"


def n_text(cell: Cell) -> str:
    """`2 (1 failed)`: the seeds behind a mean, and those that are missing from it."""
    missing = ", ".join(f"{n} {what}" for what, n in cell.missing.items())
    return f"{len(cell.done)} ({missing})" if missing and cell.done else str(len(cell.done))


def share_of_untied(cell: Cell) -> float | None:
    count, untied = cell.count("num_params"), cell.count("num_params_untied")
    return count / untied if count is not None and untied else None


def _share_text(cell: Cell) -> str:
    share = share_of_untied(cell)
    return "" if share is None else f"{100 * share:.1f}"


def _count(cell: Cell) -> str:
    count = cell.count("num_params")
    return "" if count is None else f"{count:,}"


def _over_seeds(decimals: int, *keys: str) -> tuple[Callable, Callable]:
    def text(cell: Cell) -> str:
        return fixed(mean(cell.over_seeds(*keys)), decimals) if cell.done else ""

    return text, lambda cell: mean(cell.over_seeds(*keys))


def csv_rows(section: Section) -> list[dict[str, Any]]:
    """One row per cell, numbers unrounded, the unit in the name of each column; holes included."""
    best = section.metric.best
    means = [e.mean for cell in section.cells if (e := cell.metric_over_seeds())]
    return [_csv_row(section, cell, best(means) if means else None) for cell in section.cells]


def _csv_row(section: Section, cell: Cell, best: float | None) -> dict[str, Any]:
    name = section.metric.name
    difference = section.difference(cell, section.untied(cell))
    test = cell.metric_over_seeds()
    return {
        "task": section.task,
        "data": section.data,
        "fingerprint": section.fingerprint,
        "variant": section.variant,
        "tying": cell.tying,
        "dropout": cell.dropout,
        "weight_decay": cell.weight_decay,
        "cell": cell.runs[0].cell,
        "num_params": cell.count("num_params"),
        "num_params_untied": cell.count("num_params_untied"),
        "share_of_untied": share_of_untied(cell),
        **spell(f"test_{name}", test),
        "is_best": int(test is not None and test.mean == best),
        **spell("difference_to_none", difference),
        **spell(f"val_{name}", cell.metric_over_seeds("val")),
        **spell("gap_nats", cell.over_seeds("gap")),
        **spell("spread_depth", cell.over_seeds("spread", "depth")),
        **spell("spread_embedding", cell.over_seeds("spread", "embedding")),
        **cost_columns(cell.cost),
        "n_done": len(cell.done),
        "n_asked": len(cell.runs),
        "reason": cell.reason,
    }


def spell(name: str, value: Estimate | None) -> dict[str, float | int | None]:
    mean_, sd, n = value if value is not None else (None, None, 0)
    return {f"{name}_mean": mean_, f"{name}_sd": sd, f"{name}_n": n}
