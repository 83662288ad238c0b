"""Say whether similarity predicts the cost of tying: a table, lines below it, and rows of csv."""

from statistics import fmean

from bench.analysis.block_pairs import MEASURES, predictions, tied_pairs
from bench.analysis.groups import Section
from bench.analysis.runs import percent
from bench.analysis.statistics import interval
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import fixed, interval_text, metric_places

TITLE = "Does similarity predict the cost of tying"
NOTES = (
    "Each pair of blocks of the network at the end of its untied training was tied, alone, and training went on. Its "
    "cost is the test metric then, against the same training without a tie, paired by seed. Similarities are those "
    "just before tying.",
    "Rank correlation (Spearman) between being alike and costing little, over the pairs of a seed: 1 where a measure "
    "orders all pairs by their cost, 0 where it says nothing. Its mean over seeds with the 95 % t interval.",
    "Alike are: cosines and CKA where they are high, distances and influence where they are low, and blocks that lie "
    "near each other along depth. The last column is the cost of the pair that is most alike, against that of a random "
    "pair (the mean of all), paired by seed.",
)


def pairs_table(section: Section) -> Table | None:
    """A row per measure; None where the section's runs tied no pairs."""
    rows = predictions(tied_pairs(section))
    if not rows:
        return None
    metric = section.metric
    places = metric_places([abs(row.choice.mean) for row in rows], metric)
    return tabulate(
        ["measure"],
        [[row.label] for row in rows],
        [
            Column("pairs", lambda row: str(row.pairs)),
            Column("seeds", lambda row: str(row.rank.n)),
            Column("rank correlation\n[95 %]", lambda row: interval_text(row.rank, 2, sign=True)),
            Column(
                "cost of its choice\nagainst a random pair [95 %]",
                lambda row: interval_text(percent(row.choice, metric), places, sign=True),
            ),
        ],
        rows,
    )


def pairs_lines(section: Section) -> list[str]:
    """What a pair costs at all, and how the table is read."""
    seeds = tied_pairs(section)
    if not seeds:
        return []
    metric = section.metric
    every = percent(interval(fmean(each.cost for each in pairs) for pairs in seeds.values()), metric)
    by_pair: dict[tuple[int, int], list[float]] = {}
    for each in (each for pairs in seeds.values() for each in pairs):
        by_pair.setdefault(each.blocks, []).append(each.cost)
    means = {blocks: fmean(costs) for blocks, costs in by_pair.items()}
    least, most = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    places, scale = metric_places([every.mean], metric), 100 if metric.is_share else 1
    said = (
        f"Tying a pair costs {interval_text(every, places, sign=True)} of {metric.name.replace('_', ' ')} (mean over "
        f"{len(means)} pairs, n = {every.n} seeds): least {fixed(scale * means[least], places, sign=True)} for blocks "
        f"{_named(least)}, most {fixed(scale * means[most], places, sign=True)} for blocks {_named(most)}."
    )
    return [said, *NOTES]


def _named(blocks: tuple[int, int]) -> str:
    return " and ".join(str(block + 1) for block in blocks)


def csv_rows(section: Section) -> list[dict[str, object]]:
    """A row per pair and seed, with what every measure said of it."""
    return [
        {
            "task": section.task,
            "data": section.where,
            "seed": seed,
            "one": each.blocks[0] + 1,
            "other": each.blocks[1] + 1,
            "cost": each.cost,
            **{measure.name: each.likeness.get(measure.name) for measure in MEASURES},
        }
        for seed, pairs in tied_pairs(section).items()
        for each in pairs
    ]
