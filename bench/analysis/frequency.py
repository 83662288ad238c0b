"""Tell in which part of the vocabulary a tie acts: its change of nll on test by how often a token is in training."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median

from bench.analysis.groups import grouped
from bench.analysis.measurements import Couple, couples
from bench.analysis.runs import RunRecord
from bench.analysis.statistics import Interval

BINS = 5
"""Bins of training counts in the record of a language model, of like shares of the test split."""


@dataclass(frozen=True)
class ByFrequency:
    """What a tie changed at one place: in each bin nll on test, tied - untied, a mean over points and seeds.

    changes: the most frequent tokens first.
    """

    network: str
    method: str
    changes: tuple[float, ...]

    @property
    def lean(self) -> float:
        """How much worse the tie is for the rarest tokens than for the most frequent ones."""
        return self.changes[-1] - self.changes[0]


def by_frequency(runs: Iterable[RunRecord]) -> list[ByFrequency]:
    """Compare tied with untied runs bin by bin at each place, where the records of both have a number in every bin.

    Points that differ in regularisation, or in how many blocks are left, alone are one place.
    """

    def place_of(item: tuple[tuple, Sequence[Couple]]) -> tuple:
        (point, method, _, _), _ = item
        return point.network, method, point.group

    rows = []
    for (network, method, _), items in grouped(list(couples(runs).items()), place_of).items():
        pairs = [pair for _, of_point in items for couple in of_point if (pair := _changes(couple))]
        if pairs:
            rows.append(ByFrequency(network, method, tuple(map(fmean, zip(*pairs, strict=True)))))
    return rows


def _changes(couple: Couple) -> list[float] | None:
    untied, tied = ([bin_["nll"] for bin_ in run.record.get("test_by_frequency") or ()] for run in couple)
    if len(untied) != BINS or len(tied) != BINS or None in (*untied, *tied):
        return None
    return [after - before for before, after in zip(untied, tied, strict=True)]


def middle(values: Sequence[float]) -> Interval:
    """Return the median with its 95 % interval, by the order of the values; no bounds where these are too few."""
    from scipy.stats import quantile_test

    bounds = quantile_test(values, p=0.5).confidence_interval(0.95)
    low, high = (float(bound) if isfinite(bound) else None for bound in bounds)
    return Interval(median(values), low, high, len(values))
