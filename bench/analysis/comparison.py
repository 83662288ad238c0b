"""Every cell of a section against `none`: difference, corrected p, effect, verdict and rank."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from bench.analysis.groups import Section, SeedGroup
from bench.analysis.runs import Metric
from bench.analysis.statistics import Paired, holm, margin_of, verdict
from bench.meters.metrics import mean_sd


@dataclass(frozen=True)
class Against:
    """A cell and the `none` it is compared with; None and "" for what cannot be said.

    `difference` and `margin` are in the unit of the metric (shares as 0 to 1), `effect` is the difference in
    standard deviations over seeds, pooled over both cells. `rank` is 1 for the best test metric among the
    tyings with a number here, equal ones share it; `rank_change` is how many places better (more than 0) or
    worse than at the section's least dropout and weight decay, None there.
    """

    cell: SeedGroup
    untied: SeedGroup | None
    difference: Paired | None
    p_holm: float | None
    margin: float | None
    effect: float | None
    verdict: str
    rank: int | None
    rank_change: int | None

    @property
    def p(self) -> float | None:
        return self.difference and self.difference.p


def against_none(section: Section) -> list[Against]:
    """One per cell of `section.cells`, in that order.

    The family of Holm's correction are the tyings that could be tested at one dropout and weight decay.
    """
    return list(_against_none(section))


@lru_cache(maxsize=256)
def _against_none(section: Section) -> tuple[Against, ...]:
    families: dict[tuple[float, float], list[SeedGroup]] = defaultdict(list)
    for cell in section.cells:
        families[_setting(cell)].append(cell)
    found = {}
    for cells in families.values():
        found |= {id(a.cell): a for a in family(section, [(cell, section.untied(cell)) for cell in cells])}
    least = min(cell.dropout for cell in section.cells), min(cell.weight_decay for cell in section.cells)
    first = {cell.tying: found[id(cell)].rank for cell in families[least]}
    return tuple(_moved(found[id(cell)], first, _setting(cell) == least) for cell in section.cells)


@lru_cache(maxsize=256)
def against_chosen(section: Section) -> dict[str, Against]:
    """Tying -> its cell that validation chose against that of `none`: one family, ranks among these cells."""
    chosen = [cell for tying in section.tyings if (cell := section.chosen(tying))]
    untied = section.chosen("none")
    return {a.cell.tying: a for a in family(section, [(cell, untied) for cell in chosen])}


def family(section: Section, pairs: Sequence[tuple[SeedGroup, SeedGroup | None]]) -> list[Against]:
    """Cells that are looked at together, each against its `none`."""
    differences = [section.difference(*pair) for pair in pairs]
    tested = [at for at, each in enumerate(differences) if each and each.p is not None]
    corrected = dict(zip(tested, holm([differences[at].p for at in tested]), strict=True))
    ranks = _ranks([cell for cell, _ in pairs], section.metric)
    found = []
    for at, ((cell, untied), difference) in enumerate(zip(pairs, differences, strict=True)):
        margin = _margin(untied, section.metric)
        said = verdict(difference, corrected.get(at), margin or 0.0, section.metric.mode)
        effect = _effect(cell, untied, difference)
        found.append(
            Against(cell, untied, difference, corrected.get(at), margin, effect, said, ranks[at], None)
        )
    return found


def _setting(cell: SeedGroup) -> tuple[float, float]:
    return cell.dropout, cell.weight_decay


def _moved(against: Against, first: dict[str, int | None], is_first: bool) -> Against:
    before = first.get(against.cell.tying)
    if is_first or before is None or against.rank is None:
        return against
    return replace(against, rank_change=before - against.rank)


def _margin(untied: SeedGroup | None, metric: Metric) -> float | None:
    estimate = untied and untied.metric_over_seeds()
    return margin_of(metric.is_share, estimate.mean) if estimate else None


def _effect(cell: SeedGroup, untied: SeedGroup | None, difference: Paired | None) -> float | None:
    if difference is None or difference.n < 2:
        return None
    ours, theirs = cell.metric(), untied.metric()
    both = sorted(ours.keys() & theirs.keys())
    spread = math.hypot(*(mean_sd(side[seed] for seed in both).sd for side in (ours, theirs)))
    return difference.mean / (spread / math.sqrt(2)) if spread else None


def _ranks(cells: Sequence[SeedGroup], metric: Metric) -> list[int | None]:
    sign = 1 if metric.mode == "min" else -1
    means = [value and sign * value.mean for value in (cell.metric_over_seeds() for cell in cells)]
    numbers = [mean for mean in means if mean is not None]
    return [None if mean is None else 1 + sum(other < mean for other in numbers) for mean in means]
