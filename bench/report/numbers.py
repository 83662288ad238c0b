"""Write numbers as text: as many digits as they carry, a real minus sign, a dash for nothing."""

import math
from collections import Counter
from collections.abc import Iterable

from bench.analysis.groups import natural
from bench.analysis.power import change, scale_of
from bench.analysis.runs import Metric
from bench.analysis.statistics import Interval, Paired

NOTHING = "—"
HUGE = 1e12
"""From here on a number is printed with an exponent: a diverged run's perplexity has up to 309 digits."""


def places(values: Iterable[float], significant: int = 4) -> int:
    """Return the decimals at which the middle one of `values` shows that many significant digits; 0 to 6."""
    sizes = sorted(abs(value) for value in values if math.isfinite(value) and value)
    if not sizes:
        return 1
    return min(6, max(0, significant - 1 - math.floor(math.log10(sizes[len(sizes) // 2]))))


def fixed(value: float | None, decimals: int, sign: bool = False) -> str:
    """Write `value` with that many decimals; `sign` shows a plus too."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= HUGE:
        return f"{value:{'+' if sign else ''}.3e}".replace("-", "−")
    text = f"{value:+,.{decimals}f}" if sign else f"{value:,.{decimals}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval_text(value: Interval | Paired | None, decimals: int, sign: bool = False) -> str:
    """`101.2 [99.8, 102.6]`; the mean alone where one value, or equal ones, give no interval."""
    return NOTHING if value is None else bounded(value.mean, value.low, value.high, decimals, sign)


def bounded(
    value: float | None, low: float | None, high: float | None, decimals: int, sign: bool = False
) -> str:
    text = fixed(value, decimals, sign)
    if low is None or high is None or low == high:
        return text
    return f"{text} [{fixed(low, decimals, sign)}, {fixed(high, decimals, sign)}]"


def change_text(difference: Paired | None, metric: Metric, decimals: int) -> str:
    """`+6.2 % [+1.8, +10.8]`: a difference on the scale that seeds are compared by, as people read it."""
    text = interval_text(change(difference, metric), decimals, sign=True)
    number, space, rest = text.partition(" ")
    return f"{number}{'' if difference is None else change_unit(metric)}{space}{rest}"


def change_unit(metric: Metric) -> str:
    """Return what stands after the number: a share is in points, a perplexity in percent of it, others have no unit."""
    if scale_of(metric) != metric.name:
        return " %"
    return " points" if metric.is_share else ""


def change_places(changes: Iterable[Paired]) -> int:
    """Return the decimals of changes in percent: two digits of the middle one of all bounds, at least one decimal."""
    bounds = [end for c in changes for end in (c.mean, c.low, c.high) if end is not None]
    return min(3, max(1, places(bounds, 2)))


def p_text(p: float | None) -> str:
    """Write p at three decimals; what would round to 0 is `< 0.001`."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else fixed(p, 3)


def metric_places(values: Iterable[float], metric: Metric) -> int:
    return 2 if metric.is_share else places(values)


def axis(value: float) -> str:
    """Write a dropout or a weight decay as the shortest text that is the number."""
    return f"{value:.15g}"


def percent_text(share: float | None) -> str:
    """`62`: a share in whole percent."""
    return NOTHING if share is None else fixed(100 * share, 0)


def short_count(count: float) -> str:
    """Write a count of parameters at three digits: 812, 56.3k, 1.24M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,950 would print as 1000k.
        if count >= size * 0.9995:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def span(values: Iterable[float | None], decimals: int = 0) -> str:
    """`62`, or `40 to 62` of several; empty of none."""
    known = [value for value in values if value is not None]
    ends = (min(known), max(known)) if known else ()
    return " to ".join(dict.fromkeys(fixed(end, decimals) for end in ends))


def listed(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def shares(values: Iterable[str]) -> str:
    """Return the one value that all have; else each with how many have it: `a (2 of 3), b (1 of 3)`."""
    counts = Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({counts[name]} of {counts.total()})" for name in sorted(counts, key=natural))
