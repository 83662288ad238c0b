"""Compare sharing the blocks of a network with leaving out those that only share."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from bench.analysis.arms import UNTIED, arms_at_best_rate
from bench.analysis.points import network_of
from bench.analysis.runs import RunRecord


@dataclass(frozen=True)
class LeftOut:
    """One tying at one place, as changes of nll on test against the untied network, over seeds that all three have.

    tied: with the tie. without: of the network without the blocks that the tie makes copies of others.
    """

    network: str
    method: str
    tied: float
    without: float
    n: int


def left_out(runs: Iterable[RunRecord]) -> list[LeftOut]:
    """Compare ties along depth with leaving their copies out (`control=delete`), by network and method."""
    rows = []
    for arms in arms_at_best_rate(runs, (None, "delete")):
        untied = arms.get(UNTIED, {})
        for (control, method, parts), without in arms.items():
            tied = arms.get((None, method, parts), {}) if control else {}
            if seeds := tied.keys() & without.keys() & untied.keys():
                means = [
                    fmean(arm[seed].number("test", "nll") for seed in seeds)
                    for arm in (untied, tied, without)
                ]
                network = network_of(untied[min(seeds)].record)
                rows.append(LeftOut(network, method, means[1] - means[0], means[2] - means[0], n=len(seeds)))
    return sorted(rows, key=lambda row: (row.network, row.method))
