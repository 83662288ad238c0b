"""Check the rule of the learning rate: networks that were trained at its rate, a lower and a higher one."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from bench.analysis.arms import method_of, pair_key
from bench.analysis.runs import RunRecord, is_finite

RATE_SWEEP = "map_rates"
"""The sweep whose runs check the rule, three rates an arm of which the rule's is the middle one."""
HIGHER_RATE_SWEEP = "map_higher"
"""The sweep whose runs have higher rates than the rule's, for the tasks where the check found it too low."""


@dataclass(frozen=True)
class Arm:
    """One network, data set, budget and tying at three rates.

    nll: on validation by rate, infinite for a run that diverged or failed.
    """

    task: str
    method: str
    nll: dict[float, float]

    @property
    def regret(self) -> float:
        """Validation nll at the rule's rate above the least of the three."""
        low, rule, high = (self.nll[rate] for rate in sorted(self.nll))
        return rule - min(low, rule, high)

    @property
    def regret_of_two(self) -> float:
        """Validation nll at the better of the rule's rate and the higher one above the least of the three."""
        _, rule, high = (self.nll[rate] for rate in sorted(self.nll))
        return min(rule, high) - min(self.nll.values())

    @property
    def best(self) -> int:
        """Which of the rates was best: -1 the lower one, 0 the rule's, 1 the higher one."""
        return min(range(3), key=lambda index: self.nll[sorted(self.nll)[index]]) - 1

    @classmethod
    def of(cls, runs: Iterable[RunRecord]) -> list[Self]:
        """Return the arms of which all three rates have ended, by task and method.

        An arm whose rule diverged at its own rate alone has an infinite regret.
        """
        arms: dict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
        for run in runs:
            method, key = method_of(run.spec), pair_key(run.record)
            if method and key and run.record:
                nll = run.number("val", "nll")
                arms[run.task, method, key][run.record["config"]["optimizer"]["lr"]] = (
                    nll if run.is_done and is_finite(nll) else float("inf")
                )
        return [
            cls(task, method, nll)
            for (task, method, _), nll in sorted(arms.items())
            if len(nll) == 3 and min(nll.values()) < float("inf")
        ]
