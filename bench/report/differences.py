"""Each tying against `none` as a table: how sure the difference is, how large next to the seeds, and what rank."""

from bench.report.against import Against, against_none
from bench.report.cells import Section
from bench.report.columns import Column, tabulate
from bench.report.comparison import mean, places_of
from bench.report.markup import Table
from bench.report.numbers import NOTHING, axis, fixed, interval_text, p_text, percent

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
