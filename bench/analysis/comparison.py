"""Compare every cell of a section with `none`: difference, corrected p, effect, verdict and rank."""

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
class VsUntied:
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
    rank_change: int | None = None

    @property
    def p(self) -> float | None:
        return self.difference and self.difference.p

    @property
    def n_pairs(self) -> int:
        return self.difference.n if self.difference else 0


@lru_cache(maxsize=256)
def vs_untied(section: Section) -> tuple[VsUntied, ...]:
    """Compare each cell with `none` at its dropout and weight decay, in the order of `section.cells`.

    The family of Holm's correction are the tyings that could be tested at one dropout and weight decay.
    """
    settings: dict[tuple[float, float], list[SeedGroup]] = defaultdict(list)
    for cell in section.cells:
        settings[cell.dropout, cell.weight_decay].append(cell)
    least = min(dropout for dropout, _ in settings), min(decay for _, decay in settings)
    families = {
        at: _family(section, [(cell, section.untied(cell)) for cell in cells])
        for at, cells in settings.items()
    }
    first_ranks = {row.cell.tying: row.rank for row in families.get(least, ())}
    by_cell: dict[SeedGroup, VsUntied] = {}
    for at, rows in families.items():
        for row in rows:
            first = first_ranks.get(row.cell.tying) if at != least else None
            is_ranked = first is not None and row.rank is not None
            by_cell[row.cell] = replace(row, rank_change=first - row.rank) if is_ranked else row
    return tuple(by_cell[cell] for cell in section.cells)


@lru_cache(maxsize=256)
def chosen_vs_untied(section: Section) -> dict[str, VsUntied]:
    """Tying -> its cell that validation chose against that of `none`: one family, ranks among these cells."""
    chosen = [cell for tying in section.tyings if (cell := section.chosen(tying))]
    untied = section.chosen("none")
    return {row.cell.tying: row for row in _family(section, [(cell, untied) for cell in chosen])}


def _family(section: Section, pairs: Sequence[tuple[SeedGroup, SeedGroup | None]]) -> list[VsUntied]:
    """Compare cells that are looked at together, each with its `none`."""
    metric = section.metric
    differences = [section.difference(*pair) for pair in pairs]
    tested = [at for at, difference in enumerate(differences) if difference and difference.p is not None]
    corrected = dict(zip(tested, holm([differences[at].p for at in tested]), strict=True))
    ranks = _ranks([cell for cell, _ in pairs], metric)
    rows = []
    for at, ((cell, untied), difference) in enumerate(zip(pairs, differences, strict=True)):
        estimate, p = untied and untied.metric_over_seeds(), corrected.get(at)
        margin = margin_of(metric.is_share, estimate.mean) if estimate else None
        word = verdict(difference, p, margin or 0.0, metric.mode)
        effect = _effect(cell, untied, difference)
        rows.append(VsUntied(cell, untied, difference, p, margin, effect, word, ranks[at]))
    return rows


def _effect(cell: SeedGroup, untied: SeedGroup | None, difference: Paired | None) -> float | None:
    if difference is None or difference.n < 2:
        return None
    ours, theirs = cell.metric(), untied.metric()
    both = sorted(ours.keys() & theirs.keys())
    spread = math.hypot(*(mean_sd(side[seed] for seed in both).sd for side in (ours, theirs)))
    return difference.mean / (spread / math.sqrt(2)) if spread else None


def _ranks(cells: Sequence[SeedGroup], metric: Metric) -> list[int | None]:
    sign = -1 if metric.higher_is_better else 1
    means = [value and sign * value.mean for value in (cell.metric_over_seeds() for cell in cells)]
    numbers = [mean for mean in means if mean is not None]
    return [None if mean is None else 1 + sum(other < mean for other in numbers) for mean in means]
