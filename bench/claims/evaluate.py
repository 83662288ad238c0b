"""From a claim and the records to its row: what was measured in each part, and the verdict by its own rule."""

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.analysis.power import smallest_difference
from bench.analysis.statistics import ENOUGH, Interval, Paired, quantile
from bench.claims.claim import Claim, id_of, read
from bench.claims.records import Evidence, without_number
from bench.claims.rule import Verdict, Word, gate, names_in, over_parts, verdict
from bench.report.numbers import fixed, places
from bench.runs.store import Status
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame

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

    def smallest(self, parts: int = 1) -> str | None:
        """Return the smallest effect that this n and spread would show four times in five, as a text with its unit.

        None where the interval is not over seeds, or has no width.

        Args:
            parts: as `among` has it.
        """
        if self.low is None or self.high is None or (self.n or 0) < 2 or self.high <= self.low:
            return None
        low, high = (math.log(self.low), math.log(self.high)) if self.is_ratio else (self.low, self.high)
        sd = (high - low) / 2 / quantile(self.n - 1, LEVEL) * math.sqrt(self.n)
        size = smallest_difference(sd, self.n, (1 - LEVEL) / max(parts, 1))
        if self.is_ratio:
            return f"a factor {math.exp(size):.3g}"
        return f"{fixed(size, places([size], 2))} {self.unit}".rstrip()

    @property
    def shown(self) -> str:
        """`gain −1.2 [−3.0, 0.6] points of accuracy, n = 5`."""
        if self.value is None:
            return f"{self.name} not known"
        has_width = self.low is not None and self.high is not None and self.low != self.high
        numbers = [self.value, self.low, self.high] if has_width else [self.value]
        decimals = 0 if all(number == round(number) for number in numbers) else places(numbers, 3)
        is_tiny = 0 < abs(self.value) < 1e-4 and not has_width
        text = f"{self.value:.0e}" if is_tiny else fixed(self.value, decimals)
        if has_width:
            text += f" [{fixed(self.low, decimals)}, {fixed(self.high, decimals)}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name.replace('_', ' ')} {text}{unit}" + (f", n = {self.n}" if self.n else "")


@dataclass(frozen=True)
class Part:
    """A claim on one task, data set or network.

    It is not yet run where no measure is known. Where `decides` is False it is shown, and has no say in the verdict.
    lost: which runs have no number; a part with such a run neither supports nor refutes, as the others are not all.
    """

    name: str
    measures: tuple[Measure, ...] = ()
    notes: Sequence[str] = ()
    decides: bool = True
    lost: Sequence[str] = ()

    @property
    def note(self) -> str:
        return "; ".join(note for note in (*self.notes, *self.lost) if note)

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


@dataclass(frozen=True)
class Row:
    """What the ledger says of a claim.

    `judged`: each part with its verdict, None where it decides nothing. `claim`: None where its file was not read.
    `fixed`: whether the rule was fixed before the runs, as their records show; None for a claim that needs none.
    """

    id: str
    claim: Claim | None
    verdict: Verdict
    judged: tuple[tuple[Part, Verdict | None], ...] = ()
    why: str = ""
    fixed: bool | None = None

    @property
    def is_bad(self) -> bool:
        return self.verdict.word == Word.NOT_EVALUATED


def row(path: Path, evidence: Evidence) -> Row:
    """Evaluate a claim file. What is wrong with the file or its records is said in the row."""
    claim = None
    try:
        claim = read(path)
        return _evaluated(claim, evidence)
    except BadInput as error:
        if claim is None:
            return Row(id_of(path), None, Verdict(Word.NOT_EVALUATED), why=str(error))
        return Row(claim.id, claim, Verdict(Word.NOT_EVALUATED), why=f"claim file {path.name}: {error}")


def _evaluated(claim: Claim, evidence: Evidence) -> Row:
    not_run = Verdict(Word.NOT_RUN)
    if claim.test is None:
        return Row(claim.id, claim, Verdict(Word.NOT_TESTABLE, claim.untestable))
    if not claim.sweeps:
        return Row(claim.id, claim, *_judged(claim, _checked(claim)))
    frame = evidence.frame(claim.sweeps, in_each="sweep" in claim.test.get("by", ()))
    if frame is None:
        return Row(claim.id, claim, not_run, why=f"no records of {', '.join(claim.sweeps)}")
    runs = frame.drop_duplicates("id")
    done = int((runs["status"] == Status.DONE).sum())
    others = ", ".join(f"{text} {count}" for text, count in without_number(runs).items())
    absent = [name for name in claim.sweeps if name not in set(frame["sweep"])]
    facts = [f"no records of {', '.join(absent)}"] * bool(absent)
    facts += [f"{done} of {len(runs)} runs done: {others}"] * bool(others)
    why = "; ".join(facts)
    if not done:
        return Row(claim.id, claim, not_run, why=why)
    return Row(claim.id, claim, *_judged(claim, _checked(claim, frame)), why, _is_fixed_before(claim, frame))


def _is_fixed_before(claim: Claim, frame: "DataFrame") -> bool:
    """Tell whether every run that is done holds the hash of the rule as it is now."""
    column = f"rule.{claim.id}"
    done = frame[frame["status"] == Status.DONE]
    return column in frame.columns and bool((done[column] == claim.hash).all())


def _checked(claim: Claim, *frames: "DataFrame") -> list[Part]:
    """Call the check that the claim names. BadInput where there is none, or it takes no such arguments."""
    from hydra.utils import get_method

    arguments = dict(claim.test)
    name = arguments.pop("_target_")
    try:
        check = get_method(name)
    except (ImportError, ValueError) as error:
        raise BadInput(f"no function {name} in the bench") from error
    try:
        inspect.signature(check).bind(*frames, **arguments)
    except TypeError as error:
        raise BadInput(f"{name}: {error}") from error
    return check(*frames, **arguments)


def _judged(claim: Claim, parts: list[Part]) -> tuple[Verdict, tuple[tuple[Part, Verdict | None], ...]]:
    """Return the verdict over all parts, and each part with its own."""
    gates = {
        id(part): gate(claim.rule, part.numbers()) for part in parts if part.decides and part.is_measured
    }
    together = sum(word is None for word in gates.values())
    judged = []
    for part in parts:
        if not part.decides:
            judged.append((part, None))
        elif not part.is_measured:
            judged.append((part, Verdict(Word.NOT_RUN)))
        elif word := gates[id(part)]:
            judged.append((part, Verdict(word)))
        else:
            judged.append((part, _of_part(claim, part, together)))
    conditions = [(part.name, verdict) for part, verdict in judged if verdict]
    seeds = [part.seeds for part, verdict in judged if verdict and verdict.is_judged and part.seeds]
    overall = over_parts(claim.overall, conditions)
    if overall.word == Word.NOT_TESTABLE:
        overall = overall._replace(detail=claim.untestable)
    return overall._replace(is_hint=min(seeds, default=ENOUGH) < ENOUGH and overall.is_judged), tuple(judged)


def _of_part(claim: Claim, part: Part, together: int) -> Verdict:
    word = verdict(claim.rule, part.numbers(together)) or Word.NOT_RUN
    if part.seeds == 1:
        return Verdict(Word.INCONCLUSIVE, "one seed shows no spread", is_hint=True)
    if part.lost and word != Word.NOT_RUN:
        return Verdict(Word.INCONCLUSIVE, "; ".join(part.lost))
    detail = _could_have_shown(claim, part, together) if word == Word.INCONCLUSIVE else ""
    is_hint = word != Word.NOT_RUN and part.seeds is not None and part.seeds < ENOUGH
    return Verdict(word, detail, is_hint)


def _could_have_shown(claim: Claim, part: Part, together: int) -> str:
    """Return `could have shown a gain of 3.1 points of accuracy`: four times in five, at this n and spread."""
    names = names_in(claim.rule)
    texts = []
    for measure in part.measures:
        if {f"{measure.name}_low", f"{measure.name}_high"} & names and (size := measure.smallest(together)):
            texts.append(f"{measure.name.replace('_', ' ')} of {size}")
    return f"could have shown {' and '.join(texts)}" if texts else ""
