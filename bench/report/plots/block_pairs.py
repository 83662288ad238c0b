"""Similarity of two blocks against what tying them cost, a panel per measure."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.block_pairs import MEASURES, Measure, Seeds, Tied, predictions, tied_pairs
from bench.analysis.groups import Section
from bench.analysis.statistics import Interval
from bench.report.numbers import fixed, interval_text
from bench.report.plots.style import MARKERS, Look, drawn, metric_name, panels, tips
from bench.runs.tying_spec import COMPOSITION, METHODS, OTHER

NOTE = (
    "A point is a pair of blocks of a trained network, tied alone, and trained on; above the line tying was worse than "
    "none. In brackets the rank correlation of being alike with costing little, its mean over seeds and 95 % interval."
)
INKS = tuple(
    method.colour
    for method in (*METHODS.values(), COMPOSITION)
    if method.name != "none" and method.colour != OTHER
)


def pairs(sections: list[Section]) -> Figure | None:
    """None where no section's runs tied pairs."""
    sections, more = drawn(sections)
    found = [(section, seeds) for section in sections if (seeds := tied_pairs(section))]
    if not found:
        return None
    shown = [each for section, seeds in found for each in _shown(section, seeds)]
    numbers = sorted({seed for _, seeds in found for seed in seeds})
    looks = {f"seed {seed}": _look(at) for at, seed in enumerate(numbers)}
    made, all_axes = panels([each.title for each in shown], looks, f"{NOTE} {more}")
    for each, axes in zip(shown, all_axes, strict=True):
        axes.axhline(0, color="#BBBBBB", linewidth=1, zorder=0)
        for seed, tied in each.seeds.items():
            _draw(axes, each, seed, tied, looks[f"seed {seed}"])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set(xlabel=each.measure.label, ylabel=f"cost in {metric_name(each.section)}")
    return made


@dataclass(frozen=True)
class Shown:
    """A panel: what one measure says of the pairs of a section."""

    section: Section
    seeds: Seeds
    measure: Measure
    rank: Interval

    @property
    def title(self) -> str:
        return f"{self.section.task}, {self.measure.label}: {interval_text(self.rank, 2, sign=True)}"


def _shown(section: Section, seeds: Seeds) -> list[Shown]:
    said = {each.label: each.rank for each in predictions(seeds)}
    return [Shown(section, seeds, each, said[each.label]) for each in MEASURES if each.label in said]


def _draw(axes: Axes, shown: Shown, seed: int, tied: Sequence[Tied], look: Look) -> None:
    scale = 100 if shown.section.metric.is_share else 1
    at = [(each.likeness[shown.measure.name], scale * each.cost) for each in tied]
    (points,) = axes.plot(*zip(*at, strict=True), look[1], color=look[0], markersize=6, alpha=0.75)
    texts = []
    for each, (x, y) in zip(tied, at, strict=True):
        one, other = (block + 1 for block in each.blocks)
        said = f"{shown.measure.label} {fixed(x, 3)}, cost {fixed(y, 3, sign=True)}"
        texts.append(f"blocks {one} and {other}, seed {seed}\n{said}")
    tips(points, texts)


def _look(at: int) -> Look:
    return INKS[at % len(INKS)], MARKERS[at % len(MARKERS)], "none"
