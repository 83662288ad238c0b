"""Effects and interactions in words: do two treatments add up, replace or reinforce each other?"""

from collections.abc import Sequence
from typing import NamedTuple

from bench.report.numbers import bounded, places

ADDS_UP = "adds up, as far as is shown"
REPLACES = "they replace each other"
REINFORCES = "they reinforce each other"
BETTER, WORSE = "together better than their sum", "together worse than their sum"


class Effect(NamedTuple):
    """An estimate with its 95 % interval and p-value; `parts` are what interacts, a tying, if there is one, first."""

    parts: tuple[str, ...]
    estimate: float
    low: float
    high: float
    p: float
    reading: str
    tying: str | None = None

    @property
    def term(self) -> str:
        return " x ".join(self.parts)

    @property
    def is_shown(self) -> bool:
        """The interval leaves out 0."""
        return self.low > 0 or self.high < 0


def one_way(effect: Effect, parts: Sequence[Effect], sign: int) -> str:
    """`sign` is 1 where a higher response is better, -1 where a lower one is; a main effect has no `parts`."""
    if not effect.is_shown:
        return "no difference shown"
    return "better" if sign * effect.estimate > 0 else "worse"


def two_way(effect: Effect, parts: Sequence[Effect], sign: int) -> str:
    """`parts` are the two main effects: what the interaction adds to, or takes from, their sum.

    Only a gain can be replaced or reinforced: where neither of the two is shown to gain, their sum is all there
    is to compare with.
    """
    if not effect.is_shown:
        return ADDS_UP
    gains = any(part.is_shown and sign * part.estimate > 0 for part in parts)
    if sign * effect.estimate > 0:
        return REINFORCES if gains else BETTER
    return REPLACES if gains else WORSE


def three_way(effect: Effect, parts: Sequence[Effect], sign: int) -> str:
    if not effect.is_shown:
        return "no change of the interaction shown"
    return "the interaction changes for the " + ("better" if sign * effect.estimate > 0 else "worse")


def answer(what: str, tying: str, alone: list[Effect], within: list[Effect], both: list[Effect]) -> str:
    """One line: what each regulariser does to `what` under `none` and under the tying, and how far these differ.

    `alone` are the main effects of the regularisers, `within` their effects under the tying, `both` the
    interactions with it, in one order.
    """
    decimals = max(2, places([size for effect in (*alone, *within, *both) for size in effect[2:4]], 3))
    said = [
        f"{first.term}: {other.reading}; it moves {what} by {interval(first, decimals)} under none and by "
        f"{interval(second, decimals)} under {tying}, a difference of {interval(other, decimals)}"
        for first, second, other in zip(alone, within, both, strict=True)
    ]
    whom = list(dict.fromkeys(first.term.rpartition(" ")[0] for first in alone))
    them = "it" if len(whom) == 1 else "them"
    return f"Does {tying} replace {' and '.join(whom)}, or add to {them}? {'. '.join(said)}."


def interval(effect: Effect, decimals: int) -> str:
    """`+1.20 [+0.80, +1.60]`"""
    return bounded(effect.estimate, effect.low, effect.high, decimals, sign=True)
