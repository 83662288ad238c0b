"""How long `make perf` measures: what a figure of the page is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Limits of a figure.

    steps: of a trainer in a turn, at most; fewer where they take longer than turn_s.
    turns, least_s, most_s: of a pair; it ends with so many turns and so many seconds, or at the latest with most_s.
    quality_steps: steps after which losses are compared. rounds: of calls that are timed side by side.
    tiny: networks of a test's size.
    """

    steps: int
    turn_s: float
    turns: int
    least_s: float
    most_s: float
    quality_steps: int
    rounds: int
    tiny: bool = False


FULL = Pace(steps=20, turn_s=0.5, turns=8, least_s=8.0, most_s=20.0, quality_steps=100, rounds=20)
QUICK = Pace(steps=4, turn_s=0.0, turns=1, least_s=0.0, most_s=0.0, quality_steps=4, rounds=2, tiny=True)
"""Every part runs, and no figure means anything."""
