"""Compare tyings in tables: a section, differences to `none`, and the summary over tasks."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.analysis.comparison import Compared, chosen_vs_untied, vs_controls, vs_untied
from bench.analysis.frame import cost_columns
from bench.analysis.groups import Section, SeedGroup, in_order
from bench.analysis.power import change, change_of, scale_of
from bench.analysis.runs import percent
from bench.analysis.statistics import Interval, Paired
from bench.meters.metrics import Estimate
from bench.report.markup import WIDTH, Column, Table, tabulate, width
from bench.report.numbers import (
    NOTHING,
    axis,
    change_places,
    change_text,
    change_unit,
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
TITLE = "Differences to none"
NOTES = (
    "Difference (of a perplexity the change in percent, computed on its logarithm) with its 95 % t interval and p of "
    "the paired t test, each for itself; p (Holm) and the verdict are "
    "corrected over all comparisons of the section, so that an interval may leave out 0 where nothing is shown. "
    "Effect: the difference in standard deviations over seeds, pooled over both cells.",
    "Could show: the smallest true difference that so many pairs of this spread show 4 times in 5, at the corrected "
    "level. Seeds for the margin: how many pairs would show a difference as large as the margin.",
    "Rank by the mean test metric at this dropout and weight decay, `none` included, 1 is best; a row with a run that "
    "diverged or failed is ranked as the worst. In brackets how many places that is better (+) or worse (−) than at "
    "the least dropout and weight decay.",
)
CONTROLS_TITLE = "Ties against their controls"
CONTROLS_NOTES = (
    "The tied network minus an untied one with as many parameters (control=params), paired by seed. Worse: the "
    "parameters were better spent on a smaller network without ties.",
    "A control has other widths, so the two share the order of the data and not the initial weights: pairing takes out "
    "less of the spread than in the differences to `none`.",
)
AXES = ["tying", "dropout", "weight decay"]


def mean(value: Estimate | Interval | Paired | None) -> float | None:
    return None if value is None else value.mean


def shown(cell: SeedGroup) -> Estimate | None:
    """Return the test metric over seeds as it is printed: shares in percent."""
    return percent(cell.metric_over_seeds(), cell.runs[0].metric)


def places_of(section: Section) -> int:
    """Return the decimals at which the section's test metric is printed."""
    return metric_places([value.mean for cell in section.cells if (value := shown(cell))], section.metric)


def difference_places(section: Section) -> int:
    """Return the decimals at which a difference is printed: those of the metric, or of a change in percent."""
    if scale_of(section.metric) == section.metric.name:
        return places_of(section)
    changes = (change(row.difference, section.metric) for row in vs_untied(section))
    return change_places(filter(None, changes))


def setting(cell: SeedGroup) -> str:
    """Return where on the grid a cell stands."""
    return f"dropout {axis(cell.dropout)}, weight decay {axis(cell.weight_decay)}"


def has_effective(cells: Iterable[SeedGroup]) -> bool:
    """Tell whether a cell is recorded as of fewer than its unique parameters, as soft tying alone is."""
    return any(
        (count := effective_params(cell)) is not None and count < cell.count("num_params") for cell in cells
    )


def effective_params(cell: SeedGroup) -> float | None:
    """Return the mean over seeds; None where no run recorded one."""
    return mean(cell.over_seeds("effective_params"))


def share_of_untied(cell: SeedGroup) -> float | None:
    count, untied = cell.count("num_params"), cell.count("num_params_untied")
    return count / untied if count is not None and untied else None


def comparison(section: Section) -> Table:
    """Make a row per cell in table order; a tying that applies nowhere is one row, other holes have one each."""
    lines = [(cell, axis(cell.dropout), axis(cell.weight_decay)) for cell in section.cells]
    for tying, cells in section.tyings.items():
        if len(cells) > 1 and all(c.is_not_applicable and c.reason == cells[0].reason for c in cells):
            index = next(i for i, line in enumerate(lines) if line[0] is cells[0])
            lines = [line for line in lines if line[0].tying != tying]
            lines.insert(index, (cells[0], "all", "all"))
    labels = [[cell.tying, *axes] for cell, *axes in lines]
    return tabulate(AXES, labels, _columns(section), [cell for cell, *_ in lines])


def _columns(section: Section) -> list[Column[SeedGroup]]:
    metric, decimals = section.metric, places_of(section)
    compared = {row.cell: row for row in vs_untied(section)}
    decimals_of_change = difference_places(section)

    def marked(value: Callable[[SeedGroup], float | None]) -> Callable[[SeedGroup], float | None]:
        """A row that lacks a seed is never the best of a column."""
        return lambda cell: value(cell) if cell in section.best_cells else None

    def difference(cell: SeedGroup) -> Paired | None:
        return change(compared[cell].difference, metric)

    def difference_text(cell: SeedGroup) -> str:
        text = change_text(compared[cell].difference, metric, decimals_of_change)
        n = compared[cell].n_pairs
        # Of how many pairs it is, where that is not every run of the row.
        pairs = f" (n={n})" if 0 < n < len(cell.done) else ""
        return text + pairs if cell.done else ""

    def metric_text(cell: SeedGroup) -> str:
        if cell.done:
            return interval_text(percent(cell.interval(), metric), decimals)
        return "n/a" if cell.is_not_applicable else "hole"

    def group_text(cell: SeedGroup) -> str:
        value = percent(cell.by_group, metric)
        return "" if value is None else f"[{fixed(value.low, decimals)}, {fixed(value.high, decimals)}]"

    gap_text, gap = _over_seeds("gap")
    soft = [
        Column(
            "effective\nparameters",
            lambda c: fixed(effective_params(c), 0) if c.done else "",
            effective_params,
        )
    ]
    return [
        Column(
            "unique\nparameters",
            lambda c: "" if (count := c.count("num_params")) is None else f"{count:,}",
            lambda c: c.count("num_params"),
            "min",
        ),
        Column("% of\nuntied", lambda c: "" if (s := share_of_untied(c)) is None else f"{100 * s:.1f}"),
        *(soft if has_effective(section.cells) else []),
        Column("GFLOP\na train step", _gflop_text, optional=True),
        Column(metric.label, metric_text, marked(lambda c: mean(shown(c))), metric.mode),
        Column("by group\n[95 %]", group_text, optional=True),
        Column("difference\nto none", difference_text, marked(lambda c: mean(difference(c))), metric.mode),
        Column("verdict", lambda c: str(compared[c].verdict), align="l", optional=True),
        Column(  # by how much the validation loss fell in the last quarter
            "still improving\n% a quarter",
            lambda c: f"{100 * c.late_gain:.1f}" if c.is_improving else "",
            optional=True,
        ),
        Column("generalisation\ngap (nats)", gap_text, marked(gap), "min"),
        Column("spread\nalong depth", *_over_seeds("spread", "depth")),
        Column("n runs", _n_text),
        Column(
            "note", lambda c: "; ".join(filter(None, (c.control_note, c.reason))), align="l", optional=True
        ),
    ]


def _n_text(cell: SeedGroup) -> str:
    """`2 (1 failed)`: the seeds behind a mean, and those that are missing from it."""
    missing = ", ".join(f"{n} {outcome}" for outcome, n in cell.missing.items())
    return f"{len(cell.done)} ({missing})" if missing and cell.done else str(len(cell.done))


def _gflop_text(cell: SeedGroup) -> str:
    flop = cell.cost.number("flops", "train_step")
    return fixed(flop / 1e9, 3) if cell.done and flop is not None else ""


def _over_seeds(*keys: str) -> tuple[Callable, Callable]:
    def text(cell: SeedGroup) -> str:
        return fixed(mean(cell.over_seeds(*keys)), 3) if cell.done else ""

    return text, lambda cell: mean(cell.over_seeds(*keys))


def differences(section: Section) -> Table | None:
    """Make a row per cell that could be compared, holes included; None where no cell has two pairs."""
    rows = [row for row in vs_untied(section) if not (row.cell.is_untied or row.cell.is_not_applicable)]
    effect = Column("effect in\nseed sds", lambda row: fixed(row.effect, 2, sign=True))
    return _tested(section, rows, [effect], [Column("rank\n(change)", _rank_text)])


def controls(section: Section) -> Table | None:
    """Make a row per tied cell that has a control of its size; None where no such pair has two seeds."""
    return _tested(section, vs_controls(section))


def _tested(
    section: Section,
    rows: Sequence[Compared],
    effect: Sequence[Column[Compared]] = (),
    rank: Sequence[Column[Compared]] = (),
) -> Table | None:
    if not any(row.n_pairs > 1 for row in rows):
        return None
    first, *others = _tested_columns(section)
    pairs = Column("n pairs", lambda row: str(row.n_pairs))
    labels = [[row.cell.tying, axis(row.cell.dropout), axis(row.cell.weight_decay)] for row in rows]
    return tabulate(AXES, labels, [pairs, first, *effect, *others, *rank], rows)


def _tested_columns(section: Section) -> list[Column[Compared]]:
    """Return the difference first, then what a test says of it."""
    metric, decimals = section.metric, difference_places(section)

    def text(row: Compared) -> str:
        if not row.cell.done:
            return "hole"
        return change_text(row.difference, metric, decimals)

    def could_show(row: Compared) -> str:
        if row.smallest is None:
            return NOTHING
        return fixed(change_of(row.smallest, metric), decimals) + change_unit(metric)

    def marked(row: Compared) -> float | None:
        return mean(row.difference) if row.cell in section.best_cells else None

    return [
        Column("difference\n[95 %]", text, marked, metric.mode),
        Column("p", lambda row: p_text(row.p)),
        Column("p (Holm)", lambda row: p_text(row.p_holm)),
        Column("verdict", lambda row: str(row.verdict), align="l"),
        Column("could\nshow", could_show),
        Column("seeds for\nthe margin", lambda row: f"{row.seeds:,}" if row.seeds else NOTHING),
    ]


def _rank_text(row: Compared) -> str:
    """`2 (+1)`: the second, one place better than without regularisation; `2 (=)` for the same place."""
    if row.rank is None:
        return NOTHING
    if row.rank_change is None:
        return str(row.rank)
    return f"{row.rank} ({fixed(row.rank_change, 0, sign=True) if row.rank_change else '='})"


def headline(sections: list[Section]) -> Table:
    """Make a row per tying; per section the test metric (versus none), parameters and verdict.

    The cell of a tying is the one with the best validation metric; its *test* metric is shown. A section has a
    verdict where a tying has two pairs.
    """
    tyings = _tyings(sections)
    columns = [column for section in sections for column in _headline_columns(section)]
    return tabulate(["tying"], [[tying] for tying in tyings], columns, tyings)


def _tyings(sections: list[Section]) -> list[str]:
    return list(in_order(cell for section in sections for cell in section.cells))


def _headline_columns(section: Section) -> list[Column[str]]:
    """Return the columns of a section, whose rows are the labels of tyings."""
    metric, chosen = section.metric, chosen_vs_untied(section)
    decimals = metric_places([e.mean for row in chosen.values() if (e := shown(row.cell))], metric)

    def of_chosen(value: Callable[[Compared], Any], hole: Any = "") -> Callable[[str], Any]:
        return lambda tying: value(chosen[tying]) if tying in chosen else hole

    def metric_text(tying: str) -> str:
        if tying not in chosen:
            cells = section.tyings.get(tying, [])
            return NOTHING if not cells else "n/a" if all(c.is_not_applicable for c in cells) else "hole"
        row = chosen[tying]
        text = interval_text(percent(row.cell.interval(), metric), decimals)
        difference = change_text(row.difference, metric, difference_places(section))
        return text if row.cell.is_untied else f"{text} ({difference})"

    def metric_value(row: Compared) -> float | None:
        return mean(shown(row.cell)) if row.cell in section.best_cells else None

    def params_text(row: Compared) -> str:
        return _of_untied(row.cell, row.cell.count("num_params") or 0)

    def effective_text(row: Compared) -> str:
        count = effective_params(row.cell)
        return NOTHING if count is None or share_of_untied(row.cell) is None else _of_untied(row.cell, count)

    head = "\n".join([section.task, f"on {section.where}", metric.label, "(vs none)"])
    params = of_chosen(lambda row: row.cell.count("num_params"), None)
    columns = [
        Column(head, metric_text, of_chosen(metric_value, None), metric.mode),
        Column("\n\nparams\n% untied", of_chosen(params_text), params, "min"),
    ]
    if has_effective(row.cell for row in chosen.values()):
        columns.append(Column("\n\neffective\n% untied", of_chosen(effective_text)))
    if any(row.n_pairs > 1 for row in chosen.values()):
        columns.append(Column("\n\n\nverdict", of_chosen(lambda row: str(row.verdict)), align="l"))
    return columns


def _of_untied(cell: SeedGroup, count: float) -> str:
    """Return a count at three digits, and in percent of the untied parameters."""
    untied = cell.count("num_params_untied")
    return f"{short_count(count)} {100 * count / untied:.0f}%" if untied else short_count(count)


def in_blocks(sections: list[Section]) -> list[Table]:
    """Cut the headline into tables that fit a terminal, at least one section each."""
    blocks: list[list[Section]] = []
    for section in sections:
        if blocks and width(headline([*blocks[-1], section])) <= WIDTH:
            blocks[-1].append(section)
        else:
            blocks.append([section])
    return [headline(block) for block in blocks]


def csv_rows(section: Section) -> list[dict[str, Any]]:
    """Return a row per cell, numbers unrounded, the unit in the name of each column; holes included."""
    means = [cell.metric_over_seeds().mean for cell in section.best_cells]
    best = section.metric.best(means) if means else None
    costs = {tying: cost_columns(cost) for tying, cost in section.costs}
    return [
        _csv_row(section, row, best) | costs[row.cell.tying] | _ends(row.cell) for row in vs_untied(section)
    ]


def _csv_row(section: Section, row: Compared, best: float | None) -> dict[str, Any]:
    name, cell = section.metric.name, row.cell
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
        **_estimate("effective_params", cell.over_seeds("effective_params")),
        **_estimate(f"test_{name}", test),
        "is_best": int(cell in section.best_cells and test.mean == best),
        **_bounds("test", cell.interval()),
        **_bounds("test_by_group", cell.by_group),
        **_compared(section, row),
        **_estimate(f"val_{name}", cell.metric_over_seeds("val")),
        "late_gain": cell.late_gain,
        **_estimate("gap_nats", cell.over_seeds("gap")),
        **_estimate("spread_depth", cell.over_seeds("spread", "depth")),
        **_estimate("spread_embedding", cell.over_seeds("spread", "embedding")),
    }


def _ends(cell: SeedGroup) -> dict[str, Any]:
    return {"n_done": len(cell.done), "n_asked": len(cell.runs), "reason": cell.reason}


def summary_csv_rows(sections: list[Section]) -> list[dict[str, Any]]:
    return [
        _summary_csv_row(section, tying)
        for tying in _tyings(sections)
        for section in sections
        if tying in section.tyings
    ]


def _summary_csv_row(section: Section, tying: str) -> dict[str, Any]:
    row, cells = chosen_vs_untied(section).get(tying), section.tyings[tying]
    cell: SeedGroup | None = row and row.cell
    return {
        "tying": tying,
        **section.about,
        "metric": section.metric.name,
        "dropout": cell and cell.dropout,
        "weight_decay": cell and cell.weight_decay,
        "cells_searched": section.n_searched(tying),
        "cells_asked": len(cells),
        "num_params": cell and cell.count("num_params"),
        "num_params_untied": cell and cell.count("num_params_untied"),
        **_estimate("effective_params", cell and cell.over_seeds("effective_params")),
        **_estimate("val", cell and cell.metric_over_seeds("val")),
        **_estimate("test", cell and cell.metric_over_seeds()),
        **_bounds("test", cell and cell.interval()),
        **_compared(section, row),
        "reason": "" if cell else "; ".join(dict.fromkeys(other.reason for other in cells)),
    }


def _compared(section: Section, row: Compared | None) -> dict[str, Any]:
    """Return the comparison with `none` in the unit of the metric, of a perplexity in nats; empty where unknown."""
    difference = row and row.difference
    keys = ("p", "p_holm", "effect", "margin", "smallest", "seeds")
    names = ("p", "p_holm", "effect", "margin", "could_show", "seeds_for_margin")
    return {
        **_estimate("difference_to_none", difference),
        **_bounds("difference", difference),
        "difference_unit": scale_of(section.metric).replace("nll", "nats"),
        **{name: getattr(row, key, None) for name, key in zip(names, keys, strict=True)},
        "verdict_kind": row and row.verdict.kind.value,
        "verdict": "" if row is None else str(row.verdict),
        "rank": row and row.rank,
        "rank_change": row and row.rank_change,
    }


def _estimate(name: str, value: Estimate | Paired | None) -> dict[str, float | int | None]:
    parts = (value.mean, value.sd, value.n) if value is not None else (None, None, 0)
    return {f"{name}_{key}": part for key, part in zip(("mean", "sd", "n"), parts, strict=True)}


def _bounds(name: str, value: Interval | Paired | None) -> dict[str, float | None]:
    return {f"{name}_{end}": getattr(value, end, None) for end in ("low", "high")}
