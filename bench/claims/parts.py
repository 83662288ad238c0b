"""What the test of a claim hands back: parts, each with named measures that a rule reads and a page shows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bench.analysis.statistics import quantile
from bench.report.numbers import fixed, places

LEVEL = 0.95


class Measure(NamedTuple):
    """A number with its unit; interval and n (seeds) where it has them. A rule knows it by `name`.

    A test hands back each measure that it has a name for, None where the records do not give it: a rule may hang
    on it all the same.

    is_ratio: the interval is that of its logarithm.
    """

    name: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    is_ratio: bool = False

    def among(self, parts: int) -> "Measure":
        """The same with the interval that covers in so many parts at once at 95 % (Bonferroni).

        An interval that is not over seeds stays as it is.
        """
        if parts < 2 or self.value is None or self.low is None or self.high is None or (self.n or 0) < 2:
            return self
        wider = quantile(self.n - 1, 1 - (1 - LEVEL) / parts) / quantile(self.n - 1, LEVEL)
        into, back = (math.log, math.exp) if self.is_ratio else (float, float)
        middle = into(self.value)
        low, high = (back(middle + wider * (into(end) - middle)) for end in (self.low, self.high))
        return self._replace(low=low, high=high)

    @property
    def shown(self) -> str:
        """`gain −1.2 [−3.0, 0.6] points of accuracy, n = 5`."""
        if self.value is None:
            return f"{self.name} not known"
        given = [self.value] if self.low is None else [self.value, self.low, self.high]
        decimals = 0 if all(value == round(value) for value in given) else places(given, 3)
        text = _tiny(self.value) or fixed(self.value, decimals)
        if self.low is not None and self.high is not None:
            text += f" [{fixed(self.low, decimals)}, {fixed(self.high, decimals)}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name.replace('_', ' ')} {text}{unit}" + (f", n = {self.n}" if self.n else "")


def _tiny(value: float) -> str:
    return f"{value:.0e}" if 0 < abs(value) < 1e-4 else ""


@dataclass(frozen=True)
class Part:
    """A claim on one task, data set or network. Not yet run where no measure is known; `decides` False: context."""

    name: str
    measures: tuple[Measure, ...] = ()
    note: str = ""
    decides: bool = True

    @property
    def is_measured(self) -> bool:
        return any(measure.value is not None for measure in self.measures)

    def numbers(self, parts: int = 1) -> Mapping[str, float | None]:
        """What a rule may name: each measure, and its `_low`, `_high` and `_n`. Not finite counts as not known.

        parts: how many the claim has that are judged; bounds are those that cover in all of them at once.
        """
        found: dict[str, float | None] = {}
        for measure in self.measures:
            name, value, _, low, high, n, _ = measure.among(parts)
            found |= {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
        return {name: _finite(value) for name, value in found.items()}

    @property
    def seeds(self) -> int | None:
        """The fewest seeds that a measure is made of; None where none is."""
        return min((measure.n for measure in self.measures if measure.n is not None), default=None)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
