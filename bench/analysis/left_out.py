"""Compare a tie along depth with leaving its copies out: runs of `control=delete` beside tied and untied ones."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from bench.analysis.points import NETWORKS, at_best_rate, method_of, pair_key
from bench.analysis.runs import RunRecord, is_finite, look_up

CONTROLS = (None, "delete")


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
    """Return what there is of tied, shortened and untied networks, by network and method.

    Each stands at the rate that is best on validation over seeds, of those that it was run at.
    """
    arms: dict[str, dict[tuple, dict[str, RunRecord]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        method = method_of(run.spec)
        is_scored = run.is_done and is_finite(run.number("test", "nll"))
        if is_scored and method and (key := pair_key(run.record, CONTROLS)):
            arms[key][run.spec.control, method, run.spec.parts][run.id] = run
    found = []
    for of_key in arms.values():
        best = {arm: at_best_rate(by_id.values()) for arm, by_id in of_key.items()}
        untied = best.get((None, "none", ()), {})
        for (control, method, parts), without in best.items():
            tied = best.get((None, method, parts), {}) if control else {}
            if seeds := tied.keys() & without.keys() & untied.keys():
                found.append(
                    _compared(method, *([arm[seed] for seed in seeds] for arm in (untied, tied, without)))
                )
    return sorted(found, key=lambda one: (one.network, one.method))


def _compared(
    method: str, untied: list[RunRecord], tied: list[RunRecord], without: list[RunRecord]
) -> LeftOut:
    reference, *others = (
        fmean(run.number("test", "nll") for run in of_arm) for of_arm in (untied, tied, without)
    )
    target = str(look_up(untied[0].record, "config", "model", "_target_")).rpartition(".")[2]
    changes = (nll - reference for nll in others)
    return LeftOut(NETWORKS.get(target, target), method, *changes, n=len(untied))
