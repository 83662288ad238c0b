"""Say what a number of seeds can show: the smallest difference, and the seeds that a difference takes."""

import math
from bisect import bisect_left
from functools import lru_cache

from bench.analysis.runs import Metric, converted, percent
from bench.analysis.statistics import OTHER_MARGIN, SHARE_MARGIN, Paired

MOST_SEEDS = 1_000_000
"""Nobody runs more seeds than this; a difference that takes more counts as out of reach."""


def smallest_difference(sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true difference that a two-sided paired t-test of n seeds shows with that power.

    From the noncentral t distribution (Cohen 1988, Statistical Power Analysis, sec. 2.3). A test that comes out on the
    wrong side does not count as showing the difference.

    Args:
        sd: Standard deviation of the paired differences over seeds, in the unit of the metric.
        n: How many pairs.
        alpha: Level of the test, both sides together.
        power: Probability that the test shows the difference where it is there.

    Returns:
        A difference in the unit of sd, 0 or more. Infinite for one pair, as no test can be made.

    Raises:
        ValueError: For an sd below 0 or not finite, for n below 1, and for an alpha or power that is not between 0 and
            1, or a power below alpha.
    """
    _check(sd, alpha, power)
    if n < 1:
        raise ValueError(f"{n} seeds: give at least 1")
    if sd == 0:
        return 0.0
    return math.inf if n == 1 else sd * _standard_difference(n, alpha, power)


def seeds_needed(sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return the fewest seeds at which a two-sided paired t-test shows a true difference with that power.

    Args:
        sd: Standard deviation of the paired differences over seeds, in the unit of the metric.
        difference: What is to be shown, in the same unit; its sign does not matter.
        alpha: Level of the test, both sides together.
        power: Probability that the test shows the difference where it is there.

    Returns:
        At least 2. None where no number of seeds up to MOST_SEEDS is enough, as for a difference of 0.

    Raises:
        ValueError: As `smallest_difference`, and for a difference that is not finite.
    """
    _check(sd, alpha, power)
    if not math.isfinite(difference):
        raise ValueError(f"a difference of {difference}: give a finite number")
    size = abs(difference)
    if size == 0 or smallest_difference(sd, MOST_SEEDS, alpha, power) > size:
        return None
    counts = range(2, MOST_SEEDS + 1)
    return counts[bisect_left(counts, -size, key=lambda n: -smallest_difference(sd, n, alpha, power))]


def scale_of(metric: Metric) -> str:
    """Return which recorded value seeds are compared by: of a perplexity its logarithm, on which factors add."""
    return "nll" if metric.name == "perplexity" else metric.name


def margin_on_scale(metric: Metric, margin: float | None, reference: float) -> float:
    """Return a margin on the scale of `scale_of`: 0.01 is 1 point of a share and 1 % of anything else.

    Args:
        margin: None: that of verdicts, half a point of a share and 1 % of anything else.
        reference: The mean on that scale of what is compared with.
    """
    if margin is None:
        margin = SHARE_MARGIN if metric.is_share else OTHER_MARGIN
    if metric.is_share:
        return margin
    return math.log1p(margin) if metric.name == "perplexity" else margin * abs(reference)


def change(difference: Paired | None, metric: Metric) -> Paired | None:
    """Return a difference on the scale of `scale_of` as people read it.

    A share is in percentage points. Of a perplexity the bounds are the change in percent that the difference of losses
    stands for; its standard deviation stays in nats. Other metrics stay as they are.
    """
    if difference is None or scale_of(metric) == metric.name:
        return percent(difference, metric)
    return converted(difference, lambda end: change_of(end, metric), "mean", "low", "high")


def change_of(value: float, metric: Metric) -> float:
    """Return one number as `change` gives the ends of a difference; infinite beyond the largest number."""
    if scale_of(metric) == metric.name:
        return 100 * value if metric.is_share else value
    try:
        return 100 * math.expm1(value)
    except OverflowError:
        return math.inf


def _check(sd: float, alpha: float, power: float) -> None:
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"a standard deviation of {sd}: give a finite number, 0 or more")
    if not 0 < alpha < power < 1:
        raise ValueError(f"alpha {alpha} and power {power}: give 0 < alpha < power < 1")


@lru_cache(maxsize=1024)
def _standard_difference(n: int, alpha: float, power: float) -> float:
    """The smallest difference in standard deviations of a pair's difference."""
    from scipy.special import nctdtrinc, stdtrit  # a third of a second to import

    df = n - 1
    return float(nctdtrinc(df, 1 - power, stdtrit(df, 1 - alpha / 2))) / math.sqrt(n)
