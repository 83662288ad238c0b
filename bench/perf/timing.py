"""How `make perf` times: the limits of a figure, pairs of calls in turns, and more than two side by side."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.meters.timing import Pair, suspicion

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pace:
    """Limits of a figure.

    Attributes:
        steps: of a trainer in a turn, at most; fewer where they take longer than turn_s.
        turns, least_s, most_s: of a pair; it ends with so many turns and seconds, or at the latest with most_s.
        quality_steps: steps after which losses are compared.
        rounds: of calls that are timed side by side.
        tiny: use networks of a test's size.
    """

    steps: int
    turn_s: float
    turns: int
    least_s: float
    most_s: float
    quality_steps: int
    rounds: int
    tiny: bool = False

    def limits(self, share: float = 1.0, warmup: int = 1, device: torch.device = CPU) -> dict[str, Any]:
        """Return the limits of a pair that takes this share of the seconds, as `bench.meters.timing` names them."""
        return {
            "warmup": warmup,
            "min_turns": self.turns,
            "min_seconds": self.least_s * share,
            "max_seconds": self.most_s,
            "device": device,
        }


FULL = Pace(steps=20, turn_s=0.5, turns=8, least_s=8.0, most_s=20.0, quality_steps=100, rounds=20)
QUICK = Pace(steps=4, turn_s=0.0, turns=1, least_s=0.0, most_s=0.0, quality_steps=4, rounds=2, tiny=True)
"""Every part runs, and no figure means anything."""


def in_record(pair: Pair) -> dict[str, Any]:
    """Return a pair as it stands in the figures, with the reason where it is suspect."""
    return {"pair": pair.as_record(), "suspect": suspicion(pair.on_cpu, torch.get_num_threads())}


def medians(calls: Mapping[float, Callable[[], object]], rounds: int) -> dict[float, float]:
    """Return the median seconds of each call over that many rounds, every other one backwards: drift cancels.

    Each call is made twice before it counts.
    """
    for call in calls.values():
        call()
        call()
    seconds: dict[float, list[float]] = {name: [] for name in calls}
    for index in range(rounds):
        order = list(calls.items())
        for name, call in order if index % 2 == 0 else reversed(order):
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(took) for name, took in seconds.items()}
