"""Compare tyings in tables: a section, differences to `none`, and the summary over tasks."""

from collections.abc import Callable, Iterable
from typing import Any

from bench.analysis.comparison import Against, against_chosen, against_none
from bench.analysis.costs import cost_columns
from bench.analysis.groups import Section, SeedGroup, in_order
from bench.analysis.runs import is_finite, look_up, percent
from bench.analysis.statistics import Interval, Paired
from bench.meters.metrics import Estimate
from bench.report.markup import Column, Table, tabulate, width
from bench.report.numbers import (
    NOTHING,
    axis,
    fixed,
    interval_text,
    metric_places,
    p_text,
    short_count,
)

EFFECTIVE = (
    "Effective parameters: a softly tied group counts as numel x (tr G)^2 / tr(G^2), G the inner products of its n "
    "copies, which is n where they are orthogonal and of one norm and 1 where they are equal. Unlike norms lower it "
    "even without a penalty. Of the weights that validation chose, a mean over seeds."
)


def has_effective(cells: Iterable[SeedGroup]) -> bool:
    """Whether one of them is recorded as of fewer than its unique parameters, as soft tying alone is."""
    return any((count := effective(cell)) is not None and count < cell.count("num_params") for cell in cells)


def effective(cell: SeedGroup) -> float | None:
    """Mean over seeds; None where no run of it recorded one."""
    found = cell.over_seeds("effective_params")
    return None if found is None else found.mean


def effective_text(cell: SeedGroup) -> str:
    """In full; a dash where it was not recorded, nothing for a hole."""
    return fixed(effective(cell), 0) if cell.done else ""


def effective_short(cell: SeedGroup) -> str:
    """At three digits and in percent of the untied parameters."""
    count, untied = effective(cell), cell.count("num_params_untied")
    if count is None or not untied:
        return fixed(None, 0)
    return f"{short_count(count)} {100 * count / untied:.0f}%"


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


def _columns(section: Section) -> list[Column[SeedGroup]]:
    metric, decimals = section.metric, places_of(section)
    against = {id(each.cell): each for each in against_none(section)}

    def difference(cell: SeedGroup) -> Paired | None:
        return percent(against[id(cell)].difference, metric)

    def difference_text(cell: SeedGroup) -> str:
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


def _note(cell: SeedGroup) -> str:
    """The size of a control, and why seeds have no number."""
    return "; ".join(text for text in (cell.control_note, cell.reason) if text)


def shown(cell: SeedGroup) -> Estimate | None:
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


def _metric_text(cell: SeedGroup, decimals: int) -> str:
    if cell.done:
        return interval_text(percent(cell.interval(), cell.runs[0].metric), decimals)
    return "n/a" if cell.is_not_applicable else "hole"


def n_text(cell: SeedGroup) -> str:
    """`2 (1 failed)`: the seeds behind a mean, and those that are missing from it."""
    missing = ", ".join(f"{n} {what}" for what, n in cell.missing.items())
    return f"{len(cell.done)} ({missing})" if missing and cell.done else str(len(cell.done))


def share_of_untied(cell: SeedGroup) -> float | None:
    count, untied = cell.count("num_params"), cell.count("num_params_untied")
    return count / untied if count is not None and untied else None


def _gflop_text(cell: SeedGroup) -> str:
    flop = look_up(cell.cost, "flops", "train_step")
    return fixed(flop / 1e9, 3) if cell.done and is_finite(flop) else ""


def _group_text(cell: SeedGroup, decimals: int) -> str:
    value = percent(cell.by_group, cell.runs[0].metric)
    return "" if value is None else f"[{fixed(value.low, decimals)}, {fixed(value.high, decimals)}]"


def _share_text(cell: SeedGroup) -> str:
    share = share_of_untied(cell)
    return "" if share is None else f"{100 * share:.1f}"


def _count(cell: SeedGroup) -> str:
    count = cell.count("num_params")
    return "" if count is None else f"{count:,}"


def _over_seeds(decimals: int, *keys: str) -> tuple[Callable, Callable]:
    def text(cell: SeedGroup) -> str:
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
        **section.about,
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


def _of_runs(cell: SeedGroup) -> dict[str, Any]:
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


TITLE = "Differences to none"
NOTES = (
    "Difference with its 95 % t interval and p of the paired t test; p (Holm) is corrected over the tyings at one "
    "dropout and weight decay. Effect: the difference in standard deviations over seeds, pooled over both cells.",
    "Rank by the mean test metric among the tyings with a number at this dropout and weight decay, `none` "
    "included, 1 is best; in brackets how many places that is better (+) or worse (−) than at the least dropout and "
    "weight decay.",
)


def differences(section: Section) -> Table | None:
    """A row per cell that could be compared, holes included; None where no cell has two pairs."""
    rows = [each for each in against_none(section) if not _is_out(each)]
    if not any(each.difference and each.difference.n > 1 for each in rows):
        return None
    metric, decimals = section.metric, places_of(section)

    def text(each: Against) -> str:
        if not each.cell.done:
            return "hole"
        return interval_text(percent(each.difference, metric), decimals, sign=True)

    return tabulate(
        ["tying", "dropout", "weight decay"],
        [[e.cell.tying, axis(e.cell.dropout), axis(e.cell.weight_decay)] for e in rows],
        [
            Column("n pairs", lambda e: str(e.difference.n if e.difference else 0)),
            Column("difference\n[95 %]", text, lambda e: mean(percent(e.difference, metric)), metric.mode),
            Column("p", lambda e: p_text(e.p)),
            Column("p (Holm)", lambda e: p_text(e.p_holm)),
            Column("effect in\nseed sds", lambda e: fixed(e.effect, 2, sign=True)),
            Column("verdict", lambda e: e.verdict, align="l"),
            Column("rank\n(change)", rank_text),
        ],
        rows,
    )


def rank_text(against: Against) -> str:
    """`2 (+1)`: the second, one place better than without regularisation; `2 (=)` for the same place."""
    if against.rank is None:
        return NOTHING
    if against.rank_change is None:
        return str(against.rank)
    return f"{against.rank} ({fixed(against.rank_change, 0, sign=True) if against.rank_change else '='})"


def _is_out(against: Against) -> bool:
    return against.cell.is_untied or against.cell.is_not_applicable


def tyings(sections: list[Section]) -> list[str]:
    return list(in_order(cell for section in sections for cell in section.cells))


def headline(sections: list[Section], *, with_chosen: bool = False) -> Table:
    """A row per tying; per section the test metric (versus none), the parameters, the verdict and the choice if asked.

    The cell of a tying is the one with the best validation metric; its *test* metric is shown. A section has a
    verdict where a tying has two pairs.
    """
    rows = tyings(sections)
    columns = [column for section in sections for column in _summary_columns(section, with_chosen)]
    return tabulate(["tying"], [[tying] for tying in rows], columns, rows)


def _summary_columns(section: Section, with_chosen: bool) -> list[Column[str]]:
    """Of the label of a tying."""
    metric, against = section.metric, against_chosen(section)
    decimals = metric_places([e.mean for each in against.values() if (e := shown(each.cell))], metric)

    def said(text: Callable[[Against], Any]) -> Callable[[str], Any]:
        return lambda tying: text(against[tying]) if tying in against else ""

    def reached(tying: str) -> str:
        return _summary_metric_text(against[tying], decimals) if tying in against else _hole(section, tying)

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


def _summary_metric_text(against: Against, decimals: int) -> str:
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


def _cells_text(section: Section, cell: SeedGroup) -> str:
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


def summary_csv_rows(sections: list[Section]) -> list[dict[str, Any]]:
    return [
        _summary_csv_row(section, tying)
        for tying in tyings(sections)
        for section in sections
        if tying in section.tyings
    ]


def _summary_csv_row(section: Section, tying: str) -> dict[str, Any]:
    against, name, cells = against_chosen(section).get(tying), section.metric.name, section.tyings[tying]
    cell: SeedGroup | None = against and against.cell
    return {
        "tying": tying,
        **section.about,
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
