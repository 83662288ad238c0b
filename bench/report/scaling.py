"""Show curves as tables: the metric along the axis, and whether its difference to the baseline changes sign."""

from typing import Any, NamedTuple

from bench.analysis.power import scale_of
from bench.analysis.scaling import Curve
from bench.analysis.statistics import Interval, Paired
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, change_places, change_unit, interval_text, listed, metric_places

FLIPS, ONE_SIGN = "the sign changes", "one sign"
MAYBE = "the means change sign, not shown"
READING = (
    "How to read the curves: mean and 95 % Student t interval over seeds, the difference paired by seed. The sign is "
    "said to change where it is shown at one dose and the opposite is shown at another: both intervals leave out 0."
)


class Point(NamedTuple):
    """A point of a line."""

    line: str
    x: float
    value: Interval
    difference: Paired | None
    spread: Interval | None


def points_of(curve: Curve) -> list[Point]:
    differences = {line: dict(points) for line, points in curve.differences.items()}
    spread = {line: dict(points) for line, points in curve.spread.items()}
    return [
        Point(line, x, value, differences.get(line, {}).get(x), spread.get(line, {}).get(x))
        for line, points in curve.lines.items()
        for x, value in points
    ]


def curve_title(curve: Curve) -> str:
    unit = " %" if curve.metric.is_share else ""
    return f"{curve.title}: test {curve.metric.name.replace('_', ' ')}{unit} against {curve.axis}"


def curve_table(curve: Curve) -> Table:
    """Make a row per point: metric, difference to the baseline, and what its sign does along the axis."""
    points = points_of(curve)
    decimals = metric_places([point.value.mean for point in points], curve.metric)
    of_change, unit = difference_places(curve), change_unit(curve.metric).strip()
    signs = {line: _sign(curve, line)[0] for line in curve.differences}
    columns = [
        Column[Point](
            f"test\n{curve.metric.label.removeprefix('test ')}", lambda p: interval_text(p.value, decimals)
        ),
        Column[Point](
            f"difference to\n{curve.baseline}{unit and f' ({unit})'}",
            lambda p: interval_text(p.difference, of_change, sign=True),
        ),
        Column[Point]("spread", lambda p: interval_text(p.spread, 3), optional=True),
        Column[Point]("n runs", lambda p: str(p.value.n)),
        Column[Point]("sign along\nthe axis", lambda p: signs.get(p.line, NOTHING), align="l"),
    ]
    return tabulate(["tying", curve.axis], [[p.line, amount(p.x)] for p in points], columns, points)


def difference_places(curve: Curve) -> int:
    """Return the decimals of its differences: those of the metric, or of a change in percent."""
    if scale_of(curve.metric) == curve.metric.name:
        return metric_places([point.value.mean for point in points_of(curve)], curve.metric)
    return change_places(change for points in curve.differences.values() for _, change in points)


def curve_lines(curve: Curve) -> list[str]:
    """Say for each line what the sign of its difference does along the axis, and how to read that."""
    lines = [f"{line} against {curve.baseline}: {_sign(curve, line)[1]}." for line in curve.differences]
    return [*lines, READING] if lines else []


def csv_rows(curves: list[Curve]) -> list[dict[str, Any]]:
    """Return a row per point, shares in percent, numbers unrounded."""
    return [_csv_row(curve, point) for curve in curves for point in points_of(curve)]


def _csv_row(curve: Curve, point: Point) -> dict[str, Any]:
    return {
        "curve": curve.title,
        "axis": curve.axis,
        "tying": point.line,
        "dose": point.x,
        "metric": curve.metric.name,
        "baseline": curve.baseline,
        **dict(zip(("test_mean", "test_low", "test_high", "n"), point.value, strict=True)),
        "difference": point.difference and point.difference.mean,
        "difference_low": point.difference and point.difference.low,
        "difference_high": point.difference and point.difference.high,
        "spread": point.spread and point.spread.mean,
    }


def amount(x: float) -> str:
    return f"{x:,.15g}"


def _sign(curve: Curve, line: str) -> tuple[str, str]:
    """Say what the sign of a difference does, in a few words and in a sentence."""
    sign, points = 1 if curve.metric.higher_is_better else -1, curve.differences[line]
    places = [x for x, _ in points]
    good, bad = ([x for x, difference in points if side * difference.mean > 0] for side in (sign, -sign))
    shown = [x for x, d in points if d.low is not None and (d.low > 0 or d.high < 0)]
    where_shown = f"shown at {listed(map(amount, shown))}" if shown else "shown at none"
    where_shown = "shown at each" if shown == places else where_shown
    if not good or not bad:
        side = "better" if good else "worse" if bad else "equal"
        along = f"{side} at {listed(map(amount, places))}, {where_shown}"
        return ONE_SIGN, f"no change of sign along {curve.axis}: {along}"
    sides = f"better at {listed(map(amount, good))}, worse at {listed(map(amount, bad))}"
    if set(good) & set(shown) and set(bad) & set(shown):
        return FLIPS, f"the sign changes along {curve.axis}: {sides}; shown at {listed(map(amount, shown))}"
    return MAYBE, f"the means change sign along {curve.axis}, which may be chance: {sides}; {where_shown}"
