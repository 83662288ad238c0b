"""Write sharing.md: what is shared over what, over all sweeps that ask it, beside untied networks of two sizes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.analysis import archive
from bench.analysis.comparison import Compared, chosen_vs_untied, vs_controls
from bench.analysis.groups import Section, sections
from bench.analysis.power import change
from bench.analysis.runs import rows
from bench.analysis.verdict import Kind
from bench.report.comparison import share_of_untied
from bench.report.index import shipped
from bench.report.markup import MADE_BY, Column, markdown, tabulate
from bench.report.numbers import NOTHING, change_places, change_text, percent_text
from bench.runs.tying_spec import GROWL

SWEEPS = "shared_over"
"""What the names of the sweeps begin with."""
PAGE = "sharing.md"
TITLE = "What should be shared over what?"

OVER = {
    "embedding": "input and output words",
    "joint_embedding": "input and output words, through a learned map",
    "cross_layer": "depth",
    "mqa": "all heads of keys and values",
    "gqa": "heads of keys and values, in groups",
    "k_equals_v": "keys and values",
    "kv_across_layers": "keys and values of layers in a row",
    "experts": "experts of layers in a row",
    "gates": "input weights of gates",
    "hashed": "entries, by a hash",
    "over_positions": "positions",
    "rotations": "rotations",
    "transpose": "a matrix and its transpose",
    GROWL: "rows of a matrix that a penalty drew together",
}
"""What a method shares over."""
STACKS = {
    "image_pairs": "two branches",
    "image_slots": "slots",
    "two_tasks": "networks of two tasks",
    "two_tasks_alike": "networks of two tasks",
    "image_teacher": "a student and its frozen teacher",
    "image_teacher_turned": "a student and a frozen teacher of another task",
    "text_unrolled": "time",
    "text_trellis": "depth and time",
    "image_implicit": "depth, on the way to a fixed point",
}
"""What `cross_layer` and `soft` share over, of the tasks whose stack is no depth."""
SHARERS = ("cross_layer", "soft", "soft_decoupled")


class Row(NamedTuple):
    """A tie of a sweep's section beside `none`, and beside its control of the same size where there is one."""

    sweep: str
    section: Section
    tie: Compared
    sized: Compared | None

    @property
    def over(self) -> str:
        family = self.tie.cell.spec.family
        if family in SHARERS:
            softly = " (softly)" * (family != "cross_layer")
            return STACKS.get(self.section.task, OVER["cross_layer"]) + softly
        return OVER.get(family, family)


def asks(sweep: str) -> bool:
    """Tell whether a sweep of this name asks what should be shared over what."""
    return sweep.startswith(SWEEPS)


def ties_of(results: Path) -> list[Row]:
    """Return the ties of all these sweeps in `results` that git holds, in the order of the table."""
    order = {Kind.BETTER: 0, Kind.EQUIVALENT: 1, Kind.SMALLER: 1, Kind.UNDECIDED: 2}
    names, among = archive.archived_names(results), shipped(results)
    ties = [
        row for name in names if asks(name) and (among is None or name in among) for row in _of(results, name)
    ]
    return sorted(
        ties,
        key=lambda row: (order.get(row.tie.verdict.kind, 3), row.tie.cell.spec.rank, row.section.task),
    )


def _of(results: Path, name: str) -> Iterable[Row]:
    for section in sections(rows(archive.read(archive.path_of(results, name)))):
        sized = {row.cell: row for row in vs_controls(section)}
        for tie in chosen_vs_untied(section).values():
            spec = tie.cell.spec
            is_random = any(part.get("shuffle") for part in spec.parts)  # a control
            if tie.difference is not None and spec.parts and spec.control is None and not is_random:
                yield Row(name, section, tie, sized.get(tie.cell))


def page(ties: Sequence[Row]) -> str:
    """Return the page of these ties."""
    columns = [
        Column("method", lambda row: row.tie.cell.tying, align="l"),
        Column("task and data", lambda row: f"[{row.section.title}]({row.sweep}/summary.md)", align="l"),
        Column("parameters\n% of untied", lambda row: percent_text(share_of_untied(row.tie.cell))),
        Column("tied − untied\n[95 %]", lambda row: _change(row, row.tie)),
        Column("verdict", lambda row: _verdict(row.tie), align="l"),
        Column("tied − untied of its size\n[95 %]", lambda row: _change(row, row.sized)),
        Column("verdict", lambda row: _verdict(row.sized), align="l"),
    ]
    table = markdown(tabulate(["shared over"], [[row.over] for row in ties], columns, ties))
    lines = [
        f"<!-- {MADE_BY} -->",
        f"# {TITLE}",
        "",
        *_answer(ties),
        "",
        table,
        *(f"- {note}" for note in NOTES),
    ]
    return "\n".join([*lines, ""])


NOTES = (
    "Each row is a small network of the tie's own kind on a small task, and says nothing of others. Of accuracies the "
    "difference is in points, where more is better; of perplexities in percent and of other losses in their unit, "
    "where less is better.",
    "Untied: the same network with weights of its own at each use. Of its size: an untied network, made narrower until "
    "it has as many parameters. Both are paired by seed and tested as on the page of their sweep, which has n, "
    "budgets and data.",
    "At this budget: the row, or what it is compared with, was still improving. Trained longer a verdict may turn, as "
    "that of the input and output words does: see [the map](map/map.md).",
    "A hint: both have one learning rate that was given, so it is no verdict. At a rate chosen for each it may be "
    "another.",
    "Layers that use the same keys and values, and not the same weights for them, are another network: see "
    "[kv_activations](kv_activations/summary.md).",
    "A frozen teacher learned from twelve times as many examples as its student: its rows say what is carried over, "
    "and nothing is saved.",
    "Rows that a penalty drew together (GrOWL) are found in a run of their own. The same groups dealt out to rows at "
    "random are no row here: see [shared_over_growl](shared_over_growl/summary.md).",
    "Sources name more that is no row: gaps of a pair HMM ([C24](claims.md#c24) tests the likelihood ratio); "
    "convolutional deep exponential families, whose bound on the likelihood is no metric that others share; MAVNet, "
    "whose papers describe a small network and no tie.",
)


def _answer(ties: Sequence[Row]) -> list[str]:
    """Say how many ties win and lose over the untied network, and over one of their size."""
    sized = [row for row in ties if row.sized is not None]
    return [
        f"- Of {len(ties)} ties {_won([(row, row.tie) for row in ties])} the untied network.",
        f"- Of {len(sized)} beside an untied network of their size {_won([(row, row.sized) for row in sized])} it.",
    ]


def _won(compared: Sequence[tuple[Row, Compared]]) -> str:
    """`3 are better (positions of dna), 1 is worse (...), and 9 are not told from`."""
    judged = [(row, it.verdict.kind) for row, it in compared if not it.verdict.is_rate_given]
    better, worse = ([row for row, kind in judged if kind == sought] for sought in (Kind.BETTER, Kind.WORSE))
    rest = len(compared) - len(better) - len(worse)
    return (
        f"{len(better)} are better{_named(better)}, {len(worse)} worse{_named(worse)}, {rest} not told from"
    )


def _named(ties: Sequence[Row]) -> str:
    names = dict.fromkeys(f"{row.over} in {row.section.task}" for row in ties)
    return f" ({'; '.join(names)})" if names else ""


def _change(row: Row, compared: Compared | None) -> str:
    if compared is None or compared.difference is None:
        return NOTHING
    metric = row.section.metric
    decimals = 2 if metric.is_share else change_places([change(compared.difference, metric)])
    return change_text(compared.difference, metric, decimals)


def _verdict(compared: Compared | None) -> str:
    return NOTHING if compared is None else compared.verdict.word or NOTHING
