"""What the check of a claim returns: parts, each with named measures that a rule reads and a page shows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.analysis.statistics import Interval, Paired, quantile
from bench.report.numbers import fixed, places

LEVEL = 0.95


class Measure(NamedTuple):
    """A number with its unit, and its interval and n (seeds) where it has them. A rule knows it by `name`.

    A check returns each measure that it has a name for, with the value None where the records do not give it:
    a rule may name it all the same. is_ratio: the interval is that of the logarithm.
    """

    name: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    is_ratio: bool = False

    @classmethod
    def of(cls, name: str, mean: Interval | Paired | None, unit: str) -> "Measure":
        """Return a mean over seeds as a measure, with the value None where there is no mean."""
        return (
            cls(name, None, unit) if mean is None else cls(name, mean.mean, unit, mean.low, mean.high, mean.n)
        )

    @classmethod
    def ratio(cls, name: str, logs: Interval | None, factor: float | None = 1.0) -> "Measure":
        """Return `factor` times the geometric mean of tied / untied, of which `logs` is the mean logarithm."""
        if logs is None or factor is None:
            return cls(name, None)
        ends = [None if end is None else factor * math.exp(end) for end in (logs.low, logs.high)]
        return cls(name, factor * math.exp(logs.mean), "x the untied", *ends, logs.n, is_ratio=True)

    def among(self, parts: int) -> "Measure":
        """Return the measure with the interval that covers in so many parts at once at 95 % (Bonferroni).

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
        numbers = [self.value] if self.low is None else [self.value, self.low, self.high]
        decimals = 0 if all(number == round(number) for number in numbers) else places(numbers, 3)
        text = f"{self.value:.0e}" if 0 < abs(self.value) < 1e-4 else fixed(self.value, decimals)
        if self.low is not None and self.high is not None:
            text += f" [{fixed(self.low, decimals)}, {fixed(self.high, decimals)}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name.replace('_', ' ')} {text}{unit}" + (f", n = {self.n}" if self.n else "")


@dataclass(frozen=True)
class Part:
    """A claim on one task, data set or network.

    It is not yet run where no measure is known. Where `decides` is False it is shown, and has no say in the verdict.
    """

    name: str
    measures: tuple[Measure, ...] = ()
    notes: Sequence[str] = ()
    decides: bool = True

    @property
    def note(self) -> str:
        return "; ".join(note for note in self.notes if note)

    @property
    def is_measured(self) -> bool:
        return any(measure.value is not None for measure in self.measures)

    def numbers(self, parts: int = 1) -> Mapping[str, float | None]:
        """Return what a rule may name: each measure, and its `_low`, `_high` and `_n`.

        A number that is not finite is None, as one that is not known.

        Args:
            parts: how many parts of the claim are judged; bounds are those that cover in all of them at once.
        """
        numbers: dict[str, float | None] = {}
        for measure in self.measures:
            name, value, _, low, high, n, _ = measure.among(parts)
            numbers |= {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
        return {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in numbers.items()
        }

    @property
    def seeds(self) -> int | None:
        """The fewest seeds that a measure is made of, None where none is made of seeds."""
        return min((measure.n for measure in self.measures if measure.n is not None), default=None)
