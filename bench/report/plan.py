"""Say how many seeds a margin takes, from the spread of a pilot: `python -m bench.plan`. No torch."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from bench.analysis import archive
from bench.analysis.groups import Section, SeedGroup, sections
from bench.analysis.power import margin_on_scale, scale_of, seeds_needed, smallest_difference
from bench.analysis.runs import WORST, read_sweep
from bench.analysis.statistics import SIGNIFICANCE, paired
from bench.report.markup import WIDTH, Column, Table, plain, tabulate
from bench.report.numbers import fixed, places
from bench.runs.command_line import add_places, framed, parser
from bench.tying.errors import BadInput

POWER = 0.8
CAUTION = 0.8
"""The cautious number of seeds takes a spread that is not below the true one with this probability."""

NOTES = (
    "Smallest now: the difference that the pilot's seeds show with that power. Seeds: for a difference of the margin, "
    "at the pilot's spread. Cautious: the same at a spread that the true one exceeds in one of five pilots like this. "
    "Each comparison is tested by itself unless --comparisons says of how many Holm's correction is made. To show that "
    "there is no difference as large as the margin takes about a tenth more seeds.",
    "More core-minutes: for the seeds that are missing to `seeds`, at all settings of the tying, by the mean time of "
    "its finished runs. The row of none has those of the tying that takes the most.",
)
EXAMPLES = """examples:
  python -m bench.plan --sweep quick                      seeds for half a point of accuracy, 1 % of anything else
  python -m bench.plan --sweep quick --margin 0.02        for 2 points of accuracy, 2 % of anything else
  python -m bench.plan --sweep quick --comparisons 12 --json
"""


@dataclass(frozen=True)
class Need:
    """What one tying of a section needs to be compared with `none`; differences are on the scale `unit`.

    settings: dropouts x weight decays. seeds_now: the fewest pairs at a setting. sd: of paired differences at one
    setting, pooled over the settings; None where none has two pairs. lost: runs that diverged, failed or gave no
    number.
    """

    task: str
    data: str
    variant: str
    tying: str
    unit: str
    settings: int
    seeds_now: int
    sd: float | None
    margin: float | None
    smallest_now: float | None
    seeds: int | None
    seeds_cautious: int | None
    core_minutes_per_run: float | None
    more_core_minutes: float | None
    lost: int


def plan(section: Section, margin: float | None, alpha: float, power: float) -> list[Need]:
    """Return what each tying of a section needs, `none` first: the seeds of the one that needs the most."""
    needs = [
        _need(section, tying, cells, margin, alpha, power)
        for tying, cells in section.tyings.items()
        if not cells[0].is_untied and not all(cell.is_not_applicable for cell in cells)
    ]
    untied = section.tyings.get("none", [])
    if not needs or not untied:
        return []
    lost, per_run = _lost(untied), _core_minutes(untied)
    most = [
        max((need[key] for need in map(asdict, needs) if need[key] is not None), default=None)
        for key in ("seeds", "seeds_cautious")
    ]
    now = min(len(cell.done) for cell in untied)
    more_minutes = _more_minutes(per_run, most[0], now, len(untied))
    about = (section.task, section.data, section.variant, "none", needs[0].unit, len(untied), now)
    return [Need(*about, None, needs[0].margin, None, *most, per_run, more_minutes, lost), *needs]


def _need(
    section: Section, tying: str, cells: Sequence[SeedGroup], margin: float | None, alpha: float, power: float
) -> Need:
    scale = scale_of(section.metric)
    pairs = [(cell, untied) for cell in cells if (untied := section.untied(cell))]
    differences = [paired(cell.values("test", scale), untied.values("test", scale)) for cell, untied in pairs]
    spreads = [(d.sd, d.n - 1) for d in differences if d is not None and d.sd is not None]
    df = sum(weight for _, weight in spreads)
    sd = math.sqrt(sum(weight * sd**2 for sd, weight in spreads) / df) if df else None
    now = min((d.n if d else 0 for d in differences), default=0)
    reference = [value for _, untied in pairs for value in untied.values("test", scale).values()]
    within = (
        margin_on_scale(section.metric, margin, math.fsum(reference) / len(reference)) if reference else None
    )
    seeds = cautious = smallest = None
    if sd is not None and within:
        seeds = seeds_needed(sd, within, alpha, power)
        cautious = seeds_needed(_cautious(sd, df), within, alpha, power)
        smallest = smallest_difference(sd, now, alpha, power) if now > 1 else None
    per_run = _core_minutes(cells)
    more_minutes = _more_minutes(per_run, seeds, now, len(cells))
    about = (section.task, section.data, section.variant, tying, scale, len(cells), now)
    return Need(*about, sd, within, smallest, seeds, cautious, per_run, more_minutes, _lost(cells))


def _cautious(sd: float, df: int) -> float:
    """Bound a standard deviation from above, one-sided (Browne 1995, On the use of a pilot sample for sample size)."""
    from scipy.special import chdtri

    return sd * math.sqrt(df / float(chdtri(df, CAUTION)))


def _lost(cells: Sequence[SeedGroup]) -> int:
    return sum(run.status in WORST for cell in cells for run in cell.runs)


def _core_minutes(cells: Sequence[SeedGroup]) -> float | None:
    """Return the mean of the finished runs: seconds x threads x devices."""
    minutes = []
    for run in (run for cell in cells for run in cell.done):
        seconds = run.number("seconds", "total")
        if seconds is not None:
            threads = run.number("provenance", "threads") or 1
            minutes.append(seconds * threads * (run.number("config", "trainer", "devices") or 1) / 60)
    return math.fsum(minutes) / len(minutes) if minutes else None


def _more_minutes(per_run: float | None, seeds: int | None, now: int, settings: int) -> float | None:
    return None if per_run is None or seeds is None else per_run * max(0, seeds - now) * settings


def _table(needs: Sequence[Need]) -> Table:
    share = needs[0].unit.endswith("accuracy")
    scale = 100 if share else 1
    sizes = [scale * size for n in needs for size in (n.sd, n.margin) if size]
    decimals = max(2, places(sizes, 3))

    def size(value: float | None) -> str:
        return fixed(None if value is None else scale * value, decimals)

    unit = "points" if share else "nats" if needs[0].unit == "nll" else needs[0].unit
    columns = [
        Column[Need]("settings", lambda n: str(n.settings)),
        Column[Need]("seeds\nnow", lambda n: str(n.seeds_now)),
        Column[Need](f"sd of difference\n({unit})", lambda n: size(n.sd)),
        Column[Need](f"margin\n({unit})", lambda n: size(n.margin)),
        Column[Need](f"smallest now\n({unit})", lambda n: size(n.smallest_now)),
        Column[Need]("seeds", lambda n: fixed(n.seeds, 0)),
        Column[Need]("cautious", lambda n: fixed(n.seeds_cautious, 0)),
        Column[Need]("core-minutes\na run", lambda n: fixed(n.core_minutes_per_run, 2)),
        Column[Need]("more\ncore-minutes", lambda n: fixed(n.more_core_minutes, 1)),
        Column[Need]("note", _note, align="l", optional=True),
    ]
    return tabulate(["tying"], [[need.tying] for need in needs], columns, needs)


def _note(need: Need) -> str:
    parts = [f"runs without a number: {need.lost}, which more seeds do not mend"] if need.lost else []
    if need.tying != "none" and need.sd is None:
        parts.append("no spread: it takes 2 seeds with none")
    elif need.sd == 0:
        parts.append("the same difference at all seeds: is the seed ignored?")
    elif need.tying != "none" and need.seeds is None:
        parts.append("out of reach")
    return "; ".join(parts)


def text(planned: Sequence[tuple[Section, list[Need]]], alpha: float, power: float) -> str:
    """Write a table per section, and what its columns are."""
    parts = [f"{section.title}\n{plain(_table(needs))}" for section, needs in planned]
    total = math.fsum(need.more_core_minutes or 0 for _, needs in planned for need in needs)
    unknown = sum(need.more_core_minutes is None for _, needs in planned for need in needs)
    doubt = f"; not known of {unknown} rows" if unknown else ""
    lines = [
        f"Power {power:g} at level {alpha:g}, two-sided, paired by seed. In all {total:,.1f} more core-minutes{doubt}.",
        *NOTES,
    ]
    return "\n".join([*parts, *(fill(line, WIDTH) for line in lines)])


def _as_json(planned: Sequence[tuple[Section, list[Need]]], alpha: float, power: float) -> str:
    rows: list[dict[str, Any]] = [asdict(need) for _, needs in planned for need in needs]
    return json.dumps({"alpha": alpha, "power": power, "rows": rows}, indent=2)


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Print how many seeds each tying of a recorded sweep needs."""
    options = parser(
        "bench.plan",
        "Print the seeds that a margin takes, per task and tying, from the spread of a recorded sweep: a pilot.",
        EXAMPLES,
    )
    options.add_argument(
        "--sweep", metavar="NAME", required=True, help="the pilot: a sweep in runs/ or results/"
    )
    options.add_argument(
        "--margin",
        type=float,
        help="what is to be shown: 0.01 is 1 point of an accuracy, 1 %% of anything else (default: as the verdicts)",
    )
    options.add_argument(
        "--power", type=float, default=POWER, help="probability to show it (default: %(default)s)"
    )
    options.add_argument(
        "--comparisons",
        type=int,
        default=1,
        metavar="N",
        help="of so many comparisons Holm's correction is made (default: %(default)s)",
    )
    options.add_argument("--json", action="store_true", help="print json")
    add_places(options, runs="of the records", results="of the archived records")
    chosen = options.parse_args(arguments)
    _check(chosen)
    alpha = SIGNIFICANCE / chosen.comparisons
    planned = _planned(Path(chosen.runs), Path(chosen.results), chosen, alpha)
    write = _as_json if chosen.json else text
    print(write(planned, alpha, chosen.power))


def _check(chosen: Any) -> None:
    if chosen.margin is not None and not 0 < chosen.margin < 1:
        raise BadInput(f"--margin {chosen.margin:g} is not allowed: give a number in (0, 1), such as 0.01")
    if not SIGNIFICANCE < chosen.power < 1:
        raise BadInput(
            f"--power {chosen.power:g} is not allowed: give a number in ({SIGNIFICANCE:g}, 1), such as 0.8"
        )
    if chosen.comparisons < 1:
        raise BadInput(f"--comparisons {chosen.comparisons} is not allowed: give a whole number >= 1")


def _planned(runs: Path, results: Path, chosen: Any, alpha: float) -> list[tuple[Section, list[Need]]]:
    (name,) = archive.chosen_names([chosen.sweep], runs, results)
    records, _ = read_sweep(runs, name, results)
    planned = [(section, plan(section, chosen.margin, alpha, chosen.power)) for section in sections(records)]
    planned = [(section, needs) for section, needs in planned if needs]
    if not planned:
        raise BadInput(f"sweep {chosen.sweep} has no tying with `none` beside it: run a pilot with both")
    return planned


if __name__ == "__main__":
    sys.exit(main())
