"""Compare every cell of a section with `none`, and ties with controls of their size: difference, verdict, rank."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from bench.analysis.groups import Gaps, Section, SeedGroup
from bench.analysis.runs import Metric
from bench.analysis.statistics import Paired
from bench.analysis.verdict import BUDGET, RATE, Kind, Verdict, judge
from bench.meters.metrics import mean_sd

Pair = tuple[SeedGroup, SeedGroup | None]


@dataclass(frozen=True)
class Compared:
    """A cell and what it is compared with, `none` or a control; None for what cannot be said.

    `difference`, `margin` and `smallest` are in the unit of the metric (shares as 0 to 1), of a perplexity in nats, its
    logarithm. `effect` is the difference in standard deviations over seeds, pooled over both cells. `smallest` is
    the smallest difference that so many pairs of this spread would show four times in five, `seeds` how many pairs
    would show one as large as the margin; both at the corrected level. `rank` is 1 for the best test metric among the
    tyings looked at together, equal ones share it, and the last is that of all that lost a run. `rank_change` is how
    many places better (more than 0) or worse than at the section's least dropout and weight decay, None there.
    """

    cell: SeedGroup
    reference: SeedGroup | None
    difference: Paired | None
    margin: float | None
    effect: float | None
    verdict: Verdict
    p_holm: float | None = None
    smallest: float | None = None
    seeds: int | None = None
    rank: int | None = None
    rank_change: int | None = None

    @property
    def p(self) -> float | None:
        """The p of no difference, before any correction; None where the pairs are not judged."""
        return None if self.p_holm is None else self.difference.p

    @property
    def n_pairs(self) -> int:
        return self.difference.n if self.difference else 0


@lru_cache(maxsize=256)
def vs_untied(section: Section) -> tuple[Compared, ...]:
    """Compare each cell with `none` at its dropout and weight decay, in the order of `section.cells`."""
    settings: dict[tuple[float, float], list[SeedGroup]] = defaultdict(list)
    for cell in section.cells:
        settings[cell.dropout, cell.weight_decay].append(cell)
    ranks: dict[SeedGroup, int] = {}
    for cells in settings.values():
        ranks |= _ranks(cells, section.metric)
    least = min(dropout for dropout, _ in settings), min(decay for _, decay in settings)
    first_ranks = {cell.tying: ranks.get(cell) for cell in settings.get(least, ())}
    rows = []
    for cell in section.cells:
        rank, is_first = ranks.get(cell), (cell.dropout, cell.weight_decay) == least
        first = None if is_first else first_ranks.get(cell.tying)
        change = None if first is None or rank is None else first - rank
        compared = _judged(section)[cell, section.untied(cell)]
        rows.append(replace(compared, rank=rank, rank_change=change))
    return tuple(rows)


@lru_cache(maxsize=256)
def chosen_vs_untied(section: Section) -> dict[str, Compared]:
    """Tying -> its cell that validation chose against that of `none`; ranks are among these cells."""
    pairs = _chosen(section)
    ranks = _ranks([cell for cell, _ in pairs], section.metric)
    return {pair[0].tying: replace(_judged(section)[pair], rank=ranks.get(pair[0])) for pair in pairs}


@lru_cache(maxsize=256)
def vs_controls(section: Section) -> tuple[Compared, ...]:
    """Compare each tied cell with the control of its number of parameters; nothing for those that have none."""
    return tuple(_judged(section)[pair] for pair in _controlled(section))


def n_compared(section: Section) -> int:
    """Return how many differences the section's verdicts are corrected over."""
    return sum(row.p_holm is not None for row in _judged(section).values())


def _chosen(section: Section) -> list[Pair]:
    untied = section.chosen("none")
    return [(cell, untied) for tying in section.tyings if (cell := section.chosen(tying))]


def _controlled(section: Section) -> list[Pair]:
    return [(cell, control) for cell in section.cells if (control := section.control(cell))]


@lru_cache(maxsize=256)
def _judged(section: Section) -> dict[Pair, Compared]:
    """Judge all that any page shows of a section as one family, so that a pair has one verdict wherever it stands."""
    same_setting = [(cell, section.untied(cell)) for cell in section.cells]
    pairs = list(dict.fromkeys([*same_setting, *_chosen(section), *_controlled(section)]))
    differences = [section.difference(*pair) for pair in pairs]
    margins = [section.margin(reference) if reference else None for _, reference in pairs]
    known = [_known_verdict(*pair) for pair in pairs]
    # What is known without a test is no member of the family.
    judged = judge(
        [
            (None if verdict else difference, margin or 0.0)
            for verdict, difference, margin in zip(known, differences, margins, strict=True)
        ],
        section.metric,
    )
    rows = {}
    for pair, difference, margin, verdict, result in zip(
        pairs, differences, margins, known, judged, strict=True
    ):
        whole = _qualified(section, *pair, verdict or result.verdict)
        effect = _effect(*pair, difference)
        numbers = (result.p_holm, result.smallest, result.seeds)
        rows[pair] = Compared(*pair, difference, margin, effect, whole, *numbers)
    return rows


def _known_verdict(cell: SeedGroup, reference: SeedGroup | None) -> Verdict | None:
    """Return the verdict where a test would mislead: where runs are lost, and where seeds have no effect."""
    if reference is None or cell.is_untied:
        return None
    lost = [_lost_text(cell)] if cell.lost else []
    lost += [f"{reference.tying}: {_lost_text(reference)}"] if reference.lost else []
    if lost:
        return Verdict(Kind.LOST, ", ".join(lost))
    if cell.is_seed_ignored or reference.is_seed_ignored:
        whose = "seeds" if cell.is_seed_ignored else f"seeds of {reference.tying}"
        return Verdict(Kind.NO_SPREAD, f"{whose} have no effect", "is the seed ignored?")
    return None


def _lost_text(cell: SeedGroup) -> str:
    """Return `3 of 8 diverged`."""
    return f"{sum(cell.lost.values())} of {len(cell.runs)} {' or '.join(sorted(cell.lost))}"


def below_floor(section: Section, cell: SeedGroup) -> str:
    """Return `worse than the trigram floor`; empty where no trivial prediction scores better."""
    floor = section.floor_above(cell)
    return f"worse than the {floor.replace('_', ' ')} floor" if floor else ""


def _qualified(section: Section, cell: SeedGroup, reference: SeedGroup | None, verdict: Verdict) -> Verdict:
    """Add what else must be known: a budget too small, a rate that was given, a better floor, seeds to come."""
    qualifiers = []
    if below := below_floor(section, cell):
        qualifiers.append(below)
    if reference is not None and not cell.is_untied:
        is_improving = cell.is_improving or reference.is_improving
        limits = {BUDGET: is_improving, RATE: section.given_rate is not None}
        verdict = verdict.only_at(*(name for name, holds in limits.items() if holds))
        sides = ((cell, ""), (reference, f"{reference.tying}: "))
        for side, name in sides:
            if side.gaps == Gaps.NOT_RUN and side.done:
                waiting = len(side.runs) - len(side.done)
                qualifiers.append(f"{name}{waiting} of {len(side.runs)} not run yet")
    return replace(verdict, qualifiers=tuple(qualifiers))


def _effect(cell: SeedGroup, reference: SeedGroup | None, difference: Paired | None) -> float | None:
    if difference is None or difference.n < 2:
        return None
    ours, theirs = cell.compared, reference.compared
    both = sorted(ours.keys() & theirs.keys())
    spread = math.hypot(*(mean_sd(side[seed] for seed in both).sd for side in (ours, theirs)))
    return difference.mean / (spread / math.sqrt(2)) if spread else None


def _ranks(cells: Sequence[SeedGroup], metric: Metric) -> dict[SeedGroup, int]:
    """Rank the cells that have a number or lost a run; those that lost one are all as the worst."""
    sign = -1 if metric.higher_is_better else 1
    means = {
        cell: math.inf if cell.lost else sign * value.mean
        for cell in cells
        if (value := cell.metric_over_seeds()) or cell.lost
    }
    return {cell: 1 + sum(other < mean for other in means.values()) for cell, mean in means.items()}
