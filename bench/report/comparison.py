"""One section as the comparison table: tying x dropout x weight decay against what each buys."""

from collections.abc import Callable
from typing import Any

from bench.metrics import Estimate
from bench.report.against import Against, against_none
from bench.report.cells import Cell, Section
from bench.report.columns import Column, tabulate
from bench.report.cost_columns import cost_columns
from bench.report.effective import effective, effective_text, has_effective
from bench.report.markup import Table
from bench.report.numbers import axis, fixed, interval_text, metric_places, percent
from bench.report.rows import is_finite, look_up
from bench.stats.statistics import Interval, Paired

AGAINST = ("p", "p_holm", "effect", "margin", "verdict", "rank", "rank_change")


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
    metric, decimals = section.metric, places_of(section)
    against = {id(each.cell): each for each in against_none(section)}

    def difference(cell: Cell) -> Paired | None:
        return percent(against[id(cell)].difference, metric)

    def difference_text(cell: Cell) -> str:
        text = interval_text(difference(cell), decimals, sign=True)
        return text + _unpaired(against[id(cell)]) if cell.done else ""

    soft = (
        [Column("effective\nparameters", effective_text, effective)] if has_effective(section.cells) else []
    )
    return [
        Column("unique\nparameters", lambda c: _count(c), lambda c: c.count("num_params"), "min"),
        Column("% of\nuntied", lambda c: _share_text(c)),
        *soft,
        Column("GFLOP\na train step", lambda c: _gflop_text(c), optional=True),
        Column(metric.label, lambda c: _metric_text(c, decimals), lambda c: mean(shown(c)), metric.mode),
        Column("by group\n[95 %]", lambda c: _group_text(c, decimals), optional=True),
        Column("difference\nto none", difference_text, lambda c: mean(difference(c)), metric.mode),
        Column("verdict", lambda c: against[id(c)].verdict, align="l", optional=True),
        Column("generalisation\ngap (nats)", *_over_seeds(3, "gap"), "min"),
        Column("spread\nalong depth", *_over_seeds(3, "spread", "depth")),
        Column("n runs", lambda c: n_text(c)),
        Column("note", _note, align="l", optional=True),
    ]


def _note(cell: Cell) -> str:
    """The size of a control, and why seeds have no number."""
    return "; ".join(text for text in (cell.control_note, cell.reason) if text)


def shown(cell: Cell) -> Estimate | None:
    """The test metric over seeds as it is printed: shares in percent."""
    return percent(cell.metric_over_seeds(), cell.runs[0].metric)


def places_of(section: Section) -> int:
    """At how many decimals the section's test metric is printed."""
    means = [value.mean for cell in section.cells if (value := shown(cell))]
    return metric_places(means, section.metric)


def mean(value: Estimate | Interval | Paired | None) -> float | None:
    return None if value is None else value.mean


def _unpaired(against: Against) -> str:
    """Says of how many pairs a difference is, where that is not every run of the row."""
    n = against.difference.n if against.difference else 0
    return f" (n={n})" if 0 < n < len(against.cell.done) else ""


def _metric_text(cell: Cell, decimals: int) -> str:
    if cell.done:
        return interval_text(percent(cell.interval(), cell.runs[0].metric), decimals)
    return "n/a" if cell.is_not_applicable else "hole"


def n_text(cell: Cell) -> str:
    """`2 (1 failed)`: the seeds behind a mean, and those that are missing from it."""
    missing = ", ".join(f"{n} {what}" for what, n in cell.missing.items())
    return f"{len(cell.done)} ({missing})" if missing and cell.done else str(len(cell.done))


def share_of_untied(cell: Cell) -> float | None:
    count, untied = cell.count("num_params"), cell.count("num_params_untied")
    return count / untied if count is not None and untied else None


def _gflop_text(cell: Cell) -> str:
    flop = look_up(cell.cost, "flops", "train_step")
    return fixed(flop / 1e9, 3) if cell.done and is_finite(flop) else ""


def _group_text(cell: Cell, decimals: int) -> str:
    value = percent(cell.by_group, cell.runs[0].metric)
    return "" if value is None else f"[{fixed(value.low, decimals)}, {fixed(value.high, decimals)}]"


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
    means = [e.mean for cell in section.cells if (e := cell.metric_over_seeds())]
    best = section.metric.best(means) if means else None
    costs = {tying: cost_columns(cost) for tying, cost in section.costs}
    return [
        _csv_row(section, each, best) | costs[each.cell.tying] | _of_runs(each.cell)
        for each in against_none(section)
    ]


def _csv_row(section: Section, against: Against, best: float | None) -> dict[str, Any]:
    name, cell = section.metric.name, against.cell
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
        **spell("effective_params", cell.over_seeds("effective_params")),
        **spell(f"test_{name}", test),
        "is_best": int(test is not None and test.mean == best),
        **spell_bounds("test", cell.interval()),
        **spell_bounds("test_by_group", cell.by_group),
        **spell_against(against),
        **spell(f"val_{name}", cell.metric_over_seeds("val")),
        **spell("gap_nats", cell.over_seeds("gap")),
        **spell("spread_depth", cell.over_seeds("spread", "depth")),
        **spell("spread_embedding", cell.over_seeds("spread", "embedding")),
    }


def _of_runs(cell: Cell) -> dict[str, Any]:
    return {"n_done": len(cell.done), "n_asked": len(cell.runs), "reason": cell.reason}


def spell(name: str, value: Estimate | Paired | None) -> dict[str, float | int | None]:
    mean_, sd, n = (value.mean, value.sd, value.n) if value is not None else (None, None, 0)
    return {f"{name}_mean": mean_, f"{name}_sd": sd, f"{name}_n": n}


def spell_against(against: Against | None) -> dict[str, Any]:
    """The comparison with `none`, in the unit of the metric; empty fields for what cannot be said."""
    difference = against and against.difference
    said = {key: getattr(against, key, None) for key in AGAINST}
    return {**spell("difference_to_none", difference), **spell_bounds("difference", difference), **said}


def spell_bounds(name: str, value: Interval | Paired | None) -> dict[str, float | None]:
    return {f"{name}_{end}": getattr(value, end, None) for end in ("low", "high")}
