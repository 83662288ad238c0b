"""Numbers as text: as many digits as they carry, a real minus sign, a dash for nothing."""

import math
from collections.abc import Iterable

from bench.metrics import Estimate
from bench.report.rows import Metric

NOTHING = "—"


def places(values: Iterable[float], significant: int = 4) -> int:
    """Decimals at which the middle one of `values` shows that many significant digits; 0 to 6."""
    sizes = sorted(abs(value) for value in values if math.isfinite(value) and value)
    if not sizes:
        return 1
    return min(6, max(0, significant - 1 - math.floor(math.log10(sizes[len(sizes) // 2]))))


def fixed(value: float | None, decimals: int, sign: bool = False) -> str:
    """`value` with that many decimals; `sign` shows a plus too."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return str(value)
    text = f"{value:+,.{decimals}f}" if sign else f"{value:,.{decimals}f}"
    if not text.strip("+-0.,"):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def estimate(value: Estimate | None, decimals: int, sign: bool = False) -> str:
    """Mean ± standard deviation; the mean alone where one value gives no spread."""
    if value is None:
        return NOTHING
    text = fixed(value.mean, decimals, sign)
    return text if value.sd is None else f"{text} ± {fixed(value.sd, decimals)}"


def percent(value: Estimate | None, metric: Metric) -> Estimate | None:
    """A share in percent, as it is printed; anything else as it is."""
    if value is None or not metric.is_share:
        return value
    return Estimate(100 * value.mean, None if value.sd is None else 100 * value.sd, value.n)


def metric_places(values: Iterable[float], metric: Metric) -> int:
    return 2 if metric.is_share else places(values)


def axis(value: float) -> str:
    """A dropout, a weight decay: the shortest text that is the number."""
    return f"{value:.15g}"


def short_count(count: float) -> str:
    """Parameters at three digits: 812, 56.3k, 1.24M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 999,950 would print as 1000k.
        if count >= size * 0.9995:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def ratio(value: float | None, low: float | None, high: float | None) -> str:
    """`0.982 [0.975, 0.990]`; the ratio alone where it has no interval."""
    if low is None or high is None:
        return fixed(value, 3)
    return f"{fixed(value, 3)} [{fixed(low, 3)}, {fixed(high, 3)}]"
