"""What int8 saves and loses, tied against untied, on runs with trainer.quantize."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bench.ledger.paired import measured, missing, pairs, said, scores, unit
from bench.ledger.parts import Measure, Part
from bench.ledger.select import by_seed, metric_of
from bench.report.rows import Metric

if TYPE_CHECKING:
    from pandas import DataFrame


def further(
    frame: "DataFrame", *, ours: str, theirs: str, by: Sequence[str], over: Sequence[str]
) -> list[Part]:
    """How far int8 shrinks tied networks (`ours`) and untied (`theirs`), and what it costs them on test.

    `shrink` and `shrink_untied`: percent of a network's own float bytes; `shrink_of_untied`: what the tied one loses
    in percent of the untied one's float bytes. `lost` and `lost_untied`: percent that the nll rises by; `lost_more`
    their difference paired by seed, below 0 where the tied network loses less. `metric_lost_more`: the same of the
    metric, in points of accuracy or percent of perplexity.
    """
    parts = []
    for name, mine, other in pairs(frame, ours, theirs, by, over):
        tied, untied = _lost(mine), _lost(other)
        whole = by_seed(other, "int8_bytes_float")
        measures = (
            _shrink("shrink", mine, by_seed(mine, "int8_bytes_float"), "% of its own bytes"),
            _shrink("shrink_untied", other, whole, "% of its own bytes"),
            _shrink("shrink_of_untied", mine, whole, "% of the untied bytes"),
            _mean("lost", tied),
            _mean("lost_untied", untied),
            measured("lost_more", tied, untied, "% of nll"),
            _metric_lost_more(mine, other, metric_of(mine)),
        )
        parts.append(Part(name, measures, said([missing("tied", mine), missing("untied", other)])))
    return parts


def _shrink(name: str, rows: "DataFrame", whole: Mapping[int, float], unit: str) -> Measure:
    """Float bytes minus int8 bytes, in percent of `whole`. A seed changes none of them."""
    floats, small = by_seed(rows, "int8_bytes_float"), by_seed(rows, "int8_bytes")
    shares = [100 * (floats[seed] - small[seed]) / whole[seed] for seed in small if seed in whole]
    return Measure(name, sum(shares) / len(shares) if shares else None, unit)


def _lost(rows: "DataFrame") -> dict[int, float]:
    """Seed -> percent of its test nll that int8 adds."""
    before, after = by_seed(rows, "test_nll"), by_seed(rows, "int8_test_nll")
    return {seed: 100 * (after[seed] / before[seed] - 1) for seed in before.keys() & after.keys()}


def _mean(name: str, lost: Mapping[int, float]) -> Measure:
    return measured(name, lost, dict.fromkeys(lost, 0.0), "% of nll")


def _metric_lost_more(mine: "DataFrame", other: "DataFrame", metric: Metric) -> Measure:
    tied, untied = (_points_lost(rows, metric) for rows in (mine, other))
    return measured("metric_lost_more", tied, untied, unit(metric))


def _points_lost(rows: "DataFrame", metric: Metric) -> dict[int, float]:
    before, after = scores(rows, metric), scores(rows, metric, "int8_test")
    return {seed: before[seed] - after[seed] for seed in before.keys() & after.keys()}
