"""The curves of a sweep as tables, and in words: does the sign of the difference change along the axis?"""

from typing import Any, NamedTuple

from bench.report.columns import Column, tabulate
from bench.report.dose import Dose
from bench.report.markup import Table
from bench.report.numbers import NOTHING, interval_text, metric_places
from bench.stats.statistics import Interval, Paired

FLIPS, ONE_SIGN = "the sign changes", "one sign"
MAYBE = "the means change sign, not shown"


class Row(NamedTuple):
    """A point of a line."""

    line: str
    at: float
    value: Interval
    gap: Paired | None
    spread: Interval | None


def dose_tables(doses: list[Dose]) -> dict[str, Table]:
    """Title -> a row per line and dose: metric, difference to the baseline, and what its sign does along the axis."""
    return {f"{dose.title}: {_metric(dose)} against {dose.axis}": _table(dose) for dose in doses}


def dose_lines(dose: Dose) -> list[str]:
    """Below the table: for each line what the sign of its difference does along the axis, and how to read that."""
    found = [f"{line} against {dose.baseline}: {_sign(dose, line)[1]}." for line in dose.differences]
    return [*found, READING] if found else []


READING = (
    "How to read the curves: mean and 95 % Student t interval over seeds, the difference paired by seed. The sign is "
    "said to change where it is shown at one dose and the opposite is shown at another: both intervals leave out 0."
)


def csv_rows(doses: list[Dose]) -> list[dict[str, Any]]:
    """A row per point, shares in percent, numbers unrounded."""
    return [_csv_row(dose, row) for dose in doses for row in _rows(dose)]


def _csv_row(dose: Dose, row: Row) -> dict[str, Any]:
    found = {"curve": dose.title, "axis": dose.axis, "tying": row.line, "dose": row.at}
    found |= {"metric": dose.metric.name, "baseline": dose.baseline}
    found |= dict(zip(("test_mean", "test_low", "test_high", "n"), row.value, strict=True))
    return found | {
        "difference": row.gap and row.gap.mean,
        "difference_low": row.gap and row.gap.low,
        "difference_high": row.gap and row.gap.high,
        "spread": row.spread and row.spread.mean,
    }


def _rows(dose: Dose) -> list[Row]:
    gaps = {line: dict(points) for line, points in dose.differences.items()}
    spread = {line: dict(points) for line, points in dose.spread.items()}
    return [
        Row(line, x, value, gaps.get(line, {}).get(x), spread.get(line, {}).get(x))
        for line, points in dose.lines.items()
        for x, value in points
    ]


def _metric(dose: Dose) -> str:
    return f"test {dose.metric.name.replace('_', ' ')}" + (" %" if dose.metric.is_share else "")


def _table(dose: Dose) -> Table:
    rows = _rows(dose)
    decimals = metric_places([row.value.mean for row in rows], dose.metric)
    columns = [
        Column[Row](
            f"test\n{dose.metric.label.removeprefix('test ')}", lambda row: interval_text(row.value, decimals)
        ),
        Column[Row](
            f"difference to\n{dose.baseline}", lambda row: interval_text(row.gap, decimals, sign=True)
        ),
        Column[Row]("spread", lambda row: interval_text(row.spread, 3), optional=True),
        Column[Row]("n runs", lambda row: str(row.value.n)),
        Column[Row](
            "sign along\nthe axis",
            lambda row: _sign(dose, row.line)[0] if row.line in dose.differences else NOTHING,
            align="l",
        ),
    ]
    return tabulate(["tying", dose.axis], [[row.line, amount(row.at)] for row in rows], columns, rows)


def amount(dose: float) -> str:
    return f"{dose:,.15g}"


def _sign(dose: Dose, line: str) -> tuple[str, str]:
    """In a few words and in a sentence."""
    better = 1 if dose.metric.mode == "max" else -1
    points = [(x, better * gap.mean, _is_shown(gap)) for x, gap in dose.differences[line]]
    good, bad = ([x for x, gap, _ in points if side * gap > 0] for side in (1, -1))
    shown = [x for x, _, is_shown in points if is_shown]
    if not good or not bad:
        side = "better" if good else "worse" if bad else "equal"
        where = f"{side} at {_amounts([x for x, *_ in points])}, {_shown(shown, points)}"
        return ONE_SIGN, f"no change of sign along {dose.axis}: {where}"
    said = f"better at {_amounts(good)}, worse at {_amounts(bad)}"
    if set(good) & set(shown) and set(bad) & set(shown):
        return FLIPS, f"the sign changes along {dose.axis}: {said}; shown at {_amounts(shown)}"
    return (
        MAYBE,
        f"the means change sign along {dose.axis}, which may be chance: {said}; {_shown(shown, points)}",
    )


def _is_shown(gap: Paired) -> bool:
    return gap.low is not None and (gap.low > 0 or gap.high < 0)


def _shown(shown: list[float], points: list[tuple]) -> str:
    """Where an interval leaves out 0."""
    if not shown:
        return "shown at none"
    return "shown at each" if len(shown) == len(points) else f"shown at {_amounts(shown)}"


def _amounts(doses: list[float]) -> str:
    *before, last = [amount(dose) for dose in doses]
    return f"{', '.join(before)} and {last}" if before else last
