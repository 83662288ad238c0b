"""Tests on what a tied network costs against its untied twin, from the cost columns of the records."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.ledger.parts import Measure, Part
from bench.ledger.select import chosen, grouped, named
from bench.records import Status
from bench.report.rows import is_finite

if TYPE_CHECKING:
    from pandas import DataFrame


def costs(
    frame: "DataFrame",
    *,
    ours: str,
    theirs: str,
    by: Sequence[str],
    over: Sequence[str],
    cuts: Mapping[str, str],
    batches: Mapping[str, str],
) -> list[Part]:
    """Percent of time that tying cuts, and how many times the largest batch it allows.

    cuts: measure -> a column `X_ratio`, tied by untied in turns in one process; its interval (`X_ratio_low`,
    `_high`) is over turns and not over seeds. batches: measure -> column of the largest batch in a fixed memory.
    """
    untied = grouped(chosen(frame, theirs), by)
    parts = []
    for values, rows in grouped(chosen(frame, ours), [*by, *over]).items():
        if set(rows["status"]) == {Status.NOT_APPLICABLE}:
            continue
        name, other = named([*by, *over], values), untied.get(values[: len(by)])
        measures = [_cut(short, rows, column) for short, column in cuts.items()]
        for short, column in batches.items():
            held, before = cost_of(rows, column), None if other is None else cost_of(other, column)
            measures.append(Measure(short, held / before if held and before else None, "x the untied"))
        parts.append(Part(name, tuple(measures), disturbed(rows)))
    return parts


def _cut(name: str, rows: "DataFrame", column: str) -> Measure:
    ratio, low, high = (cost_of(rows, f"{column}{end}") for end in ("", "_low", "_high"))
    ends = [None if end is None else 100 * (1 - end) for end in (high, low)]
    return Measure(name, None if ratio is None else 100 * (1 - ratio), "% less time", *ends)


def cost_of(rows: "DataFrame", column: str) -> float | None:
    """The number of a cost, which is the same for every run of a tying; none of a time that was disturbed."""
    if column not in rows.columns:
        raise BadInput(f"no column {column!r} in the records")
    if "_ratio" in column and disturbed(rows):
        return None
    found = [float(value) for value in rows[column] if is_finite(value)]
    if len(set(found)) > 1:
        raise BadInput(f"{column} has {len(set(found))} values in one part: cut it further")
    return found[0] if found else None


def disturbed(rows: "DataFrame") -> str:
    """Says that something else used the processor while their cost was measured; empty where nothing did."""
    found = rows["suspect"].dropna() if "suspect" in rows.columns else ()
    return "measured on a busy machine: no times" if any(str(text).strip() for text in found) else ""
