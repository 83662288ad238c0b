"""The headline of a sweep in sentences. Their judgement is the verdict's own words; none is made up here."""

from collections import Counter

from bench.report.against import Against, against_chosen
from bench.report.cells import SAID, Cell, Section
from bench.report.comparison import mean, places_of, share_of_untied, shown
from bench.report.numbers import axis, fixed, p_text
from bench.report.rows import Run

CONTROL = "control="
GOOD = ("better", "equivalent")
ONE_SEED = "One seed: a hint, not a result."


def counted(runs: list[Run]) -> str:
    """`60 runs: 56 done, 4 n/a`."""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {_by_status(runs) or 'none'}"


def _by_status(runs: list[Run]) -> str:
    counts = Counter(SAID.get(run.status, run.status) for run in runs)
    return ", ".join(f"{counts[what]} {what}" for what in sorted(counts))


def sentences(section: Section) -> list[str]:
    """What a reader who reads nothing else should know of one section; names stand in backticks.

    A tying, and `none`, stand at the dropout and weight decay that validation prefers, and so is the tying
    chosen that is spoken of: the test figures choose nothing.
    """
    standing = against_chosen(section)
    tied = {name: a for name, a in standing.items() if name != "none" and CONTROL not in name}
    if not tied:
        untied = [
            f"`none` reaches {_reached(section, a.cell)}."
            for a in standing.values()
            if a.cell.tying == "none"
        ]
        return ["No tying has a number here.", *untied, *_missing(section)]
    best = section.metric.best([_on_validation(a.cell) for a in tied.values()])
    against = next(a for a in tied.values() if _on_validation(a.cell) == best)
    said = [_preferred(section, against.cell, len(tied)), *_compared(section, against)]
    return [*said, *_smallest(list(tied.values()), against), *_missing(section)]


def _on_validation(cell: Cell) -> float:
    estimate = cell.metric_over_seeds("val")
    assert estimate is not None, "a chosen cell has been validated"
    return estimate.mean


def _preferred(section: Section, cell: Cell, among: int) -> str:
    searched = sum(bool(other.done) for other in section.tyings[cell.tying])
    which = f"Of {among} tyings validation prefers" if among > 1 else "The one tying with numbers is"
    share = share_of_untied(cell)
    size = "" if share is None else f", with {100 * share:.0f} % of the untied parameters"
    of = f" (best of {searched} settings)" if searched > 1 else ""
    return f"{which} `{cell.tying}`{size}, at {_setting(cell)}{of}."


def _setting(cell: Cell) -> str:
    return f"dropout {axis(cell.dropout)} and weight decay {axis(cell.weight_decay)}"


def _reached(section: Section, cell: Cell) -> str:
    name, unit = section.metric.name.replace("_", " "), " %" * section.metric.is_share
    better = " (lower is better)" if section.metric.mode == "min" else ""
    return f"a test {name}{better} of {fixed(mean(shown(cell)), places_of(section))}{unit}"


def _compared(section: Section, against: Against) -> list[str]:
    reached, difference = f"It reaches {_reached(section, against.cell)}", against.difference
    if difference is None or against.untied is None:
        return [f"{reached}; there is no `none` to compare it with."]
    scale, unit = (100, " points") if section.metric.is_share else (1, "")

    def text(value: float) -> str:
        return fixed(scale * value, places_of(section), sign=True)

    first = f"{reached}, {text(difference.mean)}{unit} against `none` at {_setting(against.untied)}"
    if difference.n == 1:
        return [f"{first} (n = 1).", ONE_SEED]
    if difference.low is None or difference.high is None:
        return [f"{first} (n = {difference.n}).", _verdict(against, scale, unit)]
    inside = f"95 % interval {text(difference.low)} to {text(difference.high)}, n = {difference.n} seeds"
    p = "" if against.p_holm is None else f", p (Holm) {p_text(against.p_holm)}"
    return [f"{first} ({inside}{p}).", _verdict(against, scale, unit)]


def _verdict(against: Against, scale: float, unit: str) -> str:
    within = "equivalent" in against.verdict and against.margin is not None
    margin = f", within ± {fixed(scale * against.margin, 2)}{unit}" if within else ""
    return f"Verdict: {against.verdict}{margin}."


def _smallest(tied: list[Against], spoken_of: Against) -> list[str]:
    """The fewest parameters, below the untied, among those found no worse; unless it was spoken of already."""
    good = [a for a in tied if a.verdict in GOOD and (share_of_untied(a.cell) or 1.0) < 1.0]
    least = min(good, key=lambda a: share_of_untied(a.cell) or 1.0, default=None)
    if least is None or least.cell is spoken_of.cell:
        return []
    return [
        f"The smallest network with the verdict better or equivalent is `{least.cell.tying}`: "
        f"{100 * (share_of_untied(least.cell) or 1.0):.0f} % of the untied parameters ({least.verdict})."
    ]


def _missing(section: Section) -> list[str]:
    left = [run for run in section.runs if not run.is_done]
    return [f"No number from {_by_status(left)} of {len(section.runs)} runs."] if left else []
