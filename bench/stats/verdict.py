"""A paired difference in words, by a rule that was fixed before there was a difference to look at."""

import math

from bench.stats.student import Paired, around

LEVEL = 0.05
ENOUGH = 5
TOO_FEW = "too few seeds"

SHARE_MARGIN = 0.005
OTHER_MARGIN = 0.01
"""What counts as no difference: half a percentage point of a share; of anything else this part of the mean."""


def margin_of(is_share: bool, mean: float) -> float:
    """Within how much of a reference with that mean another is equivalent to it, in the unit of the metric."""
    return SHARE_MARGIN if is_share else OTHER_MARGIN * abs(mean)


def verdict(difference: Paired | None, p_holm: float | None, margin: float, mode: str) -> str:
    """In that order: `equivalent`, `better` or `worse`, `no difference shown`; empty for no difference.

    Equivalent: the 90 % interval lies within +- margin, which is two one-sided tests at 5 % (Schuirmann 1987,
    A comparison of the two one-sided tests procedure). Better or worse by `mode` (min or max is best): p below
    5 % after Holm's correction. A difference too small to matter is thus equivalent, however sure its sign.
    Below 5 pairs ` (too few seeds)` follows; one pair says `too few seeds` and no more.
    """
    if difference is None:
        return ""
    if difference.n == 1:
        return TOO_FEW
    said = _said(difference, p_holm, margin, mode)
    return said if difference.n >= ENOUGH else f"{said} ({TOO_FEW})"


def _said(difference: Paired, p_holm: float | None, margin: float, mode: str) -> str:
    if not math.isfinite(difference.mean):
        return "not a number"
    low, high = around(difference, 1 - 2 * LEVEL)
    if low >= -margin and high <= margin:
        return "equivalent"
    if p_holm is None or p_holm >= LEVEL:
        return "no difference shown"
    return "better" if (difference.mean > 0) == (mode == "max") else "worse"
