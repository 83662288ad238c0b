"""Draw the similarity of two blocks against what tying them cost, a panel per measure."""

from matplotlib.figure import Figure

from bench.analysis.block_pairs import MEASURES, predictions, tied_pairs
from bench.analysis.groups import Section
from bench.analysis.statistics import Interval
from bench.report.numbers import fixed, interval_text
from bench.report.plots.style import MARKERS, metric_name, panels, shown_sections, ticks, tips
from bench.runs.tying_spec import COMPOSITION, METHODS, OTHER

NOTE = (
    "A point is a pair of blocks of a trained network, tied alone, and trained on; above the line tying was worse than "
    "none. In brackets the rank correlation of being alike with costing little, its mean over seeds and 95 % interval."
)
COLOURS = tuple(
    method.colour
    for method in (*METHODS.values(), COMPOSITION)
    if method.name != "none" and method.colour != OTHER
)


def pairs(sections: list[Section]) -> Figure | None:
    """Draw a panel per section and measure, a point per pair of blocks and seed. None where no run tied pairs."""
    sections, omitted = shown_sections(sections)
    shown = []
    for section in sections:
        if seeds := tied_pairs(section):
            ranks = {prediction.label: prediction.rank for prediction in predictions(seeds)}
            shown += [
                (section, seeds, measure, ranks[measure.label])
                for measure in MEASURES
                if measure.label in ranks
            ]
    if not shown:
        return None
    numbers = sorted({seed for _, seeds, _, _ in shown for seed in seeds})
    looks = {
        f"seed {seed}": (COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], "none")
        for index, seed in enumerate(numbers)
    }
    titles = [
        f"{measure.label} {_says(rank)}: {interval_text(rank, 2, sign=True)}" for _, _, measure, rank in shown
    ]
    figure, all_axes = panels(titles, looks, (NOTE, omitted))
    for (section, seeds, measure, _), axes in zip(shown, all_axes, strict=True):
        axes.axhline(0, color="#BBBBBB", linewidth=1, zorder=0)
        scale = 100 if section.metric.is_share else 1
        for seed, tied in seeds.items():
            colour, marker, _ = looks[f"seed {seed}"]
            x = [pair.likeness[measure.name] for pair in tied]
            y = [scale * pair.cost for pair in tied]
            (points,) = axes.plot(x, y, marker, color=colour, markersize=6, alpha=0.75)
            texts = []
            for pair, likeness, cost in zip(tied, x, y, strict=True):
                one, other = (block + 1 for block in pair.blocks)
                numbers_text = f"{measure.label} {fixed(likeness, 3)}, cost {fixed(cost, 3, sign=True)}"
                texts.append(f"blocks {one} and {other}, seed {seed}\n{numbers_text}")
            tips(points, texts)
        axes.xaxis.set_major_locator(ticks(5))
        axes.set(xlabel=measure.label, ylabel=f"cost in {metric_name(section)}")
    return figure


def _says(rank: Interval) -> str:
    """Say whether the interval of a rank correlation leaves out 0, or that there is none."""
    if rank.low is None or rank.high is None:
        return "has no interval"
    if rank.low <= 0 <= rank.high:
        return "is not shown to tell the cost"
    return "tells what is cheap" if rank.low > 0 else "tells the opposite"
