"""Judge a difference: better, worse, equivalent, smaller than a bound, or not enough to tell."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bench.analysis.power import change_of, scale_of, seeds_needed, smallest_difference
from bench.analysis.runs import Metric
from bench.analysis.statistics import (
    ENOUGH,
    SIGNIFICANCE,
    TOO_FEW,
    Paired,
    bound_of,
    holm_of_two,
    margin_text,
    p_beyond,
)

POWER = 0.8
"""The probability with which a difference that is there is to be shown."""
NEAR = 3
"""A bound on a difference is told up to so many margins."""
BOUND = re.compile(r"smaller than [\d.e+-]+( %| points)?")
"""A bound as a verdict says it, with its unit."""
BUDGET, RATE = "budget", "rate"
"""Within what a verdict may hold alone: rows that were still improving, and a learning rate that no search chose."""


class Kind(StrEnum):
    """What a verdict is; `nothing` where there is no difference to judge, or none that is a number."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    SMALLER = "smaller than a bound"
    UNDECIDED = "not enough to tell"
    LOST = "runs lost"
    NO_SPREAD = "no spread"
    TOO_FEW = "too few seeds"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Verdict:
    """What a difference shows, for people: `word (detail)`, then what else must be known of it.

    is_hint: of two to four seeds. is_rate_given: its rows have one learning rate that no search chose, so that the word
    is a hint too.
    """

    kind: Kind
    word: str = ""
    detail: str = ""
    qualifiers: tuple[str, ...] = ()
    is_hint: bool = False
    is_rate_given: bool = False

    def __str__(self) -> str:
        in_brackets = "; ".join(filter(None, (self.detail, TOO_FEW if self.is_hint else "")))
        text = f"{self.word} ({in_brackets})" if in_brackets else self.word
        return "; ".join(filter(None, (text, *self.qualifiers)))

    @property
    def is_good(self) -> bool:
        """Whether it is shown to be no worse, by enough seeds and where each row has a rate of its own."""
        return self.kind in (Kind.BETTER, Kind.EQUIVALENT) and not self.is_hint and not self.is_rate_given

    def only_at(self, *limits: str) -> "Verdict":
        """Return the verdict where it may hold within limits alone: `worse at this budget`.

        At a rate that was given it is a hint and no verdict, a bound as well: `worse at this budget and rate, a hint`.
        """
        is_given = RATE in limits
        is_bound = self.kind == Kind.SMALLER and is_given
        if not limits or not is_bound and self.kind not in (Kind.BETTER, Kind.WORSE, Kind.EQUIVALENT):
            return self
        word = f"{self.word} at this {' and '.join(limits)}{', a hint' * is_given}"
        return replace(self, word=word, is_rate_given=is_given)


@dataclass(frozen=True)
class Judged:
    """A difference with its verdict and what lies behind it.

    p_holm: of no difference, corrected over all that is judged together. smallest: the smallest difference that so many
    pairs of this spread show four times in five, at the corrected level. seeds: how many would show one as large as the
    margin. Both are None where nothing was tested.
    """

    verdict: Verdict
    p_holm: float | None = None
    smallest: float | None = None
    seeds: int | None = None


def judge(differences: Sequence[tuple[Paired | None, float]], metric: Metric) -> list[Judged]:
    """Judge differences that are shown together, each with its margin, in their order.

    Equivalent where a difference is shown to be smaller than its margin. Else better or worse where it is shown not to
    be 0. Some such word on a page is wrong 1 time in 20 at most: `holm_of_two` corrects over all that could be tested.
    Else smaller than d where its size is bounded below a d of up to three margins, at the same level for all
    together. Else not enough to tell. Below 5 pairs all of it is a hint.

    Args:
        differences: (difference, margin), in the same unit, of a perplexity in nats.
        metric: Says which sign is better.
    """
    tested = [i for i, (d, _) in enumerate(differences) if d and d.p is not None and math.isfinite(d.sd)]
    p_values = [(differences[i][0].p, p_beyond(*differences[i])) for i in tested]
    corrected = dict(zip(tested, holm_of_two(p_values), strict=True))
    alpha = SIGNIFICANCE / max(1, len(tested))
    return [
        _tested(*pair, corrected[i], alpha, metric) if i in corrected else Judged(_untested(pair[0]))
        for i, pair in enumerate(differences)
    ]


def _untested(difference: Paired | None) -> Verdict:
    if difference is None:
        return Verdict(Kind.NOTHING)
    if not (math.isfinite(difference.mean) and math.isfinite(difference.sd or 0)):
        return Verdict(Kind.NOTHING, "not a number")
    if difference.n == 1:
        return Verdict(Kind.TOO_FEW, TOO_FEW)
    return Verdict(Kind.NO_SPREAD, "no spread", "the same difference at all seeds")


def _tested(
    difference: Paired, margin: float, corrected: tuple[float, float], alpha: float, metric: Metric
) -> Judged:
    p_holm, p_margin = corrected
    seeds = seeds_needed(difference.sd, margin, alpha, POWER)
    bound, is_hint = bound_of(difference, alpha), difference.n < ENOUGH
    if p_margin < SIGNIFICANCE:
        verdict = Verdict(Kind.EQUIVALENT, "equivalent", is_hint=is_hint)
    elif p_holm < SIGNIFICANCE:
        is_better = (difference.mean > 0) == metric.higher_is_better
        kind = Kind.BETTER if is_better else Kind.WORSE
        verdict = Verdict(kind, kind.value, is_hint=is_hint)
    elif bound <= NEAR * margin:
        unit = " %" if scale_of(metric) != metric.name else " points" if metric.is_share else ""
        text = f"smaller than {_rounded_up(change_of(bound, metric))}{unit}"
        verdict = Verdict(Kind.SMALLER, text, is_hint=is_hint)
    else:
        detail = f"{margin_text(metric.is_share)} needs about {_about(seeds)} seeds" if seeds else ""
        verdict = Verdict(Kind.UNDECIDED, "not enough to tell", detail)
    smallest = smallest_difference(difference.sd, difference.n, alpha, POWER)
    return Judged(verdict, p_holm, smallest, seeds)


def without_bound(text: str) -> str:
    """Return the text of a verdict without its bound, for a count of those that say the same."""
    return BOUND.sub(Kind.SMALLER, text)


def _rounded_up(value: float) -> str:
    """Return two digits, never less than the value."""
    if value == 0:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / unit * (1 - 1e-12)) * unit:.10g}"


def _about(count: int) -> str:
    """Return two digits of a count, the last rounded up."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // unit) * unit:,}"
