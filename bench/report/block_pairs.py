"""Say whether similarity predicts the cost of tying: a table, lines below it, and rows of csv."""

from statistics import fmean

from bench.analysis.block_pairs import AT_ONCE, MEASURES, predictions, tied_pairs
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
    "orders all pairs by their cost, 0 where it says nothing. Its mean over seeds; the 95 % interval is that of "
    "Fisher's z (atanh) turned back, and there is none where some seeds' correlations alone are 1 or -1.",
    "Alike are: cosines and CKA where they are high, distances and influence where they are low, and blocks that lie "
    "near each other along depth. The last column is the cost of the pair that is most alike, against that of a random "
    "pair (the mean of all), paired by seed.",
)


def pairs_table(section: Section) -> Table | None:
    """Make a row per measure; None where the section's runs tied no pairs."""
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
    """Say what a pair costs at all, and how the table is read."""
    seeds, metric = tied_pairs(section), section.metric
    if not seeds:
        return []
    mean = percent(interval(fmean(tied.cost for tied in pairs) for pairs in seeds.values()), metric)
    # Every seed has the same pairs, in one order.
    costs = {
        same_pair[0].blocks: fmean(tied.cost for tied in same_pair)
        for same_pair in zip(*seeds.values(), strict=True)
    }
    places, scale = metric_places([mean.mean], metric), 100 if metric.is_share else 1

    def spoken(blocks: tuple[int, int]) -> str:
        one, other = (block + 1 for block in blocks)
        return f"{fixed(scale * costs[blocks], places, sign=True)} for blocks {one} and {other}"

    cost = (
        f"Tying a pair costs {interval_text(mean, places, sign=True)} of {metric.name.replace('_', ' ')} (mean over "
        f"{len(costs)} pairs, n = {mean.n} seeds): least {spoken(min(costs, key=costs.get))}, most "
        f"{spoken(max(costs, key=costs.get))}."
    )
    return [cost, *NOTES]


def csv_rows(section: Section) -> list[dict[str, object]]:
    """Return a row per pair and seed, with the value of every measure."""
    return [
        {
            "task": section.task,
            "data": section.where,
            "seed": seed,
            "one": tied.blocks[0] + 1,
            "other": tied.blocks[1] + 1,
            "cost": tied.cost,
            **{
                measure.name: tied.likeness.get(measure.name)
                for measure in MEASURES
                if measure.name != AT_ONCE
            },
            **({AT_ONCE: tied.likeness[AT_ONCE]} if tied.likeness.get(AT_ONCE) is not None else {}),
        }
        for seed, pairs in tied_pairs(section).items()
        for tied in pairs
    ]
