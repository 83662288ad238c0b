"""`python -m bench.compare A B`: the cells of two sets of results side by side. No torch."""

import sys
from collections.abc import Sequence

from bench.command import add_places, framed, parser
from bench.compare.changes import Change, changes, made_with
from bench.compare.sides import Side, read, side
from bench.errors import BadInput
from bench.report.columns import Column, tabulate
from bench.report.markup import Table, plain
from bench.report.numbers import NOTHING, axis, fixed, metric_places
from bench.stats.statistics import Paired, interval, margin_of, verdict

EXAMPLES = """examples:
  python -m bench.compare HEAD~1 results                  the last commit's tables against what is there now
  python -m bench.compare results/quick /tmp/other/quick  one sweep of two folders, whatever they are called
  python -m bench.compare v1 v2 --sweep quick --fail-if-worse
"""


def compare(before: Side, after: Side, sweep: str | None) -> tuple[list[str], list[Change]]:
    """Sections of text, and all changes behind them. BadInput where the two have no sweep in common."""
    pairs = _sweeps(before, after, sweep)
    text, found = [], []
    for ours, theirs in pairs:
        frames = read(before, ours), read(after, theirs)
        cells = changes(*frames)
        found += cells
        text += [f"# {theirs if ours == theirs else f'{ours} -> {theirs}'}", *_tables(cells)]
        made = made_with(*frames)
        text.append("Made with:\n" + "".join(f"- {line}\n" for line in made) if made else "Made alike.\n")
    return text, found


def _sweeps(before: Side, after: Side, sweep: str | None) -> list[tuple[str, str]]:
    if sweep is None and len(before.records) == len(after.records) == 1:
        return [(next(iter(before.records)), next(iter(after.records)))]
    shared = sorted(before.records.keys() & after.records.keys())
    wanted = [name for name in shared if sweep in (None, name)]
    if not wanted:
        have = "; ".join(f"{s.name} has {', '.join(sorted(s.records))}" for s in (before, after))
        raise BadInput(f"no sweep {sweep or 'is'} in both: {have}")
    return [(name, name) for name in wanted]


def _tables(cells: list[Change]) -> list[str]:
    groups: dict[tuple, list[Change]] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.data, cell.variant), []).append(cell)
    said = []
    for (task, data, variant), members in groups.items():
        title = ", ".join(part for part in (f"{task} on {data}", variant) if part)
        apart = "" if members[0].same_data else "\nThe data are not the same: nothing is compared.\n"
        said.append(f"{title} (test {members[0].metric.name}){apart}\n{plain(_table(members))}")
    return said


def _table(cells: list[Change]) -> Table:
    means = [i.mean for cell in cells for i in (_interval(cell.before), _interval(cell.after)) if i]
    metric = cells[0].metric
    scale = 100 if metric.is_share else 1
    decimals = metric_places([scale * mean for mean in means], metric)

    def reached(values: dict[int, float] | None) -> str:
        found = _interval(values)
        return NOTHING if found is None else f"{fixed(scale * found.mean, decimals)} (n={found.n})"

    def changed(cell: Change) -> str:
        return _spoken(cell.difference, scale, decimals)

    columns = [
        Column("before", lambda cell: reached(cell.before)),
        Column("after", lambda cell: reached(cell.after)),
        Column("change [95 %]", changed),
        Column("verdict", judged, align="l"),
        Column("without a number", lambda cell: cell.missing, align="l", optional=True),
    ]
    labels = [[cell.tying, axis(cell.dropout), axis(cell.weight_decay)] for cell in cells]
    return tabulate(["tying", "dropout", "weight decay"], labels, columns, cells)


def _interval(values: dict[int, float] | None):
    return interval(values[seed] for seed in sorted(values)) if values else None


def _spoken(difference: Paired | None, scale: float, decimals: int) -> str:
    if difference is None:
        return NOTHING
    mean = fixed(scale * difference.mean, decimals, sign=True)
    if difference.low is None or difference.high is None:
        return f"{mean} (n=1)"
    ends = (fixed(scale * end, decimals, sign=True) for end in (difference.low, difference.high))
    return f"{mean} [{', '.join(ends)}]"


def judged(cell: Change) -> str:
    """The verdict on a cell, each by itself: a change of code is one question, not a family of them."""
    if cell.before is None or cell.after is None:
        return "only after" if cell.before is None else "only before"
    if cell.before == cell.after and cell.before:
        return "the same"
    difference, old = cell.difference, _interval(cell.before)
    if difference is None or old is None:
        return ""
    return verdict(difference, difference.p, margin_of(cell.metric.is_share, old.mean), cell.metric.mode)


@framed
def main(arguments: Sequence[str] | None = None) -> int:
    """Print what changed. Returns 1 where a cell became worse and the command line asks about that."""
    options = parser(
        "bench.compare",
        "What changed between two sets of results: folders of tables, or commits that hold them.",
        EXAMPLES,
    )
    options.add_argument("before", metavar="A", help="a folder of results, one sweep's folder, or a commit")
    options.add_argument("after", metavar="B", help="the same, of what came after")
    options.add_argument("--sweep", metavar="NAME", help="only this sweep")
    add_places(options, results="of the tables in a commit")
    options.add_argument("--fail-if-worse", action="store_true", help="exit with 1 where a cell became worse")
    chosen = options.parse_args(arguments)
    sides = side(chosen.before, chosen.results), side(chosen.after, chosen.results)
    text, cells = compare(*sides, chosen.sweep)
    print("\n".join(text))
    worse = [cell for cell in cells if judged(cell).startswith("worse")]
    return 1 if chosen.fail_if_worse and worse else 0


if __name__ == "__main__":
    sys.exit(main())
