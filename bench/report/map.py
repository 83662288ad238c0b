"""Write the map, `python -m bench.map`: when does tying pay, from every recorded sweep, to results/map/."""

import os
import sys
from collections.abc import Callable, Container, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from bench.analysis import laws, points, published
from bench.analysis.beside import method_of, place_of
from bench.analysis.frequency import BINS, ByFrequency, by_frequency, middle
from bench.analysis.groups import grouped
from bench.analysis.left_out import LeftOut, left_out
from bench.analysis.measurements import ROLE_SWEEP, measurements, measurements_by_role, read_runs
from bench.analysis.points import ALONE, METHODS, Measurement, as_percent
from bench.analysis.prediction import AVERAGE, MATTERS, MODELS, held_out_errors, law
from bench.analysis.published import Published
from bench.analysis.rate_rule import HIGHER_RATE_SWEEP, RATE_SWEEP, Arm
from bench.analysis.statistics import Interval
from bench.analysis.zero_line import Plane, plane_of
from bench.report.document import html
from bench.report.foretold import predictions_page
from bench.report.markup import Column, Table, markdown, tabulate
from bench.report.numbers import bounded, fixed
from bench.runs.command_line import add_places, framed, parser
from bench.runs.store import write_bytes_atomic

MADE_BY = "<!-- made by `python -m bench.map`; do not edit -->\n"
TITLES = {
    "embedding": "Tying the embedding to the output matrix",
    "cross_layer": "One block of weights for all",
    "top_k": "One block of weights for the last k",
    "cycle": "Blocks of weights in a cycle",
    "sequence": "Neighbours share a block of weights",
}
EXAMPLES = """examples:
  python -m bench.map                      from runs/ and results/ to results/map/
  python -m bench.map --only points        the points alone, which `python -m bench.advise` needs: seconds
"""
JUDGED = {"place": "at new places", "corpus": "on another corpus"}
"""What is new about the points that a model is chosen by -> its heading."""
KINDS = {"language models": True, "classifiers": False}


@dataclass(frozen=True)
class Kind:
    """All that the page says of one method on language models, or on classifiers, whose examples are no tokens.

    errors: what is new -> model -> its error at held-out points, of the method on both.
    """

    method: str
    is_text: bool
    measurements: tuple[Measurement, ...]
    plane: Plane
    errors: Mapping[str, Mapping[str, float]]

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """How many points are better, within 1 %, and worse."""
        better = sum(m.percent < -MATTERS for m in self.measurements)
        worse = sum(m.percent > MATTERS for m in self.measurements)
        return better, len(self.measurements) - better - worse, worse

    @property
    def name(self) -> str:
        return self.method if self.is_text else f"{self.method} of classifiers"

    @property
    def title(self) -> str:
        return TITLES[self.method] if self.is_text else f"{TITLES[self.method]}, classifiers"

    @property
    def places(self) -> int:
        return _places(self.measurements)


@dataclass(frozen=True)
class Map:
    """The map: its points, a kind for each method that has any, and the laws of language models and classifiers.

    rates: Arms at three rates, which tell what the rule of rates costs. raised: Tasks whose arms were run at a higher
    rate too, of which the better one counts. without: Ties beside the network without their copies. by_role: The
    points of the rule's rates, with those that share the weights of one role alone; none without such.
    """

    measurements: tuple[Measurement, ...]
    kinds: tuple[Kind, ...]
    laws: Mapping[str, laws.Law]
    published: tuple[Published, ...]
    skipped: tuple[str, ...]
    rates: tuple[Arm, ...] = ()
    raised: frozenset[str] = frozenset()
    without: tuple[LeftOut, ...] = ()
    by_role: tuple[Measurement, ...] = ()
    by_frequency: tuple[ByFrequency, ...] = ()


def the_map(measured: Sequence[Measurement]) -> Map:
    """Fit what the page shows of measured points."""
    start = law(measured)
    errors = {
        method: {new: held_out_errors(measured, method, start, new) for new in JUDGED} for method in METHODS
    }
    fitted = {
        name: fit
        for name, is_text in KINDS.items()
        if (fit := laws.fit([m for m in measured if m.point.is_text == is_text]))
    }
    rows, skipped = published.complete(published.read())
    kinds = _kinds(measured, errors)
    return Map(tuple(measured), kinds, fitted, tuple(rows), tuple(skipped))


def _kinds(
    measured: Sequence[Measurement], errors: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> tuple[Kind, ...]:
    kinds = []
    for method in METHODS:
        for is_text in KINDS.values():
            alike = [m for m in measured if m.point.is_text == is_text]
            if ours := tuple(m for m in alike if m.method == method):
                kinds.append(Kind(method, is_text, ours, plane_of(alike, method), errors.get(method, {})))
    return tuple(kinds)


def pictures(folder: Path) -> dict[str, bytes]:
    """Draw the pictures of the map out of its points, as a fresh clone has them: file name -> png."""
    measured = points.from_csv(folder / points.FILE)
    shown = Map(tuple(measured), _kinds(measured, {}), {}, tuple(published.complete(published.read())[0]), ())
    return {_file(name): content for name, content in _pictures(shown).items()}


def page(shown: Map, pictures: Mapping[str, str]) -> str:
    """Return map.md: its question and answer, then what they rest on.

    Args:
        pictures: name of a kind -> that of its picture's file.
    """
    lines = [MADE_BY, "# When does tying pay?", "", *answer(shown), *_caution(shown.rates, shown.raised), ""]
    for kind in shown.kinds:
        lines += [f"## {kind.title}", "", _of_kind(kind), ""]
        if kind.name in pictures:
            lines += [f"![{kind.title}]({pictures[kind.name]})", ""]
        if rows := _rows(shown, kind):
            lines += [*(f"- published: {row.shown}" for row in rows), ""]
    if shown.by_frequency:
        lines += [
            "## Does it act on frequent words or on rare ones?",
            "",
            *_by_frequency(shown.by_frequency),
            "",
        ]
    if shown.without:
        lines += ["## What if the copies were left out?", "", *_without(shown.without), ""]
    lines += ["## What a shared tensor is worth", "", *_laws(shown.laws), ""]
    if shown.by_role:
        lines += ["### By role", "", *_roles(shown.by_role), ""]
    lines += ["## What the predictions are made with", "", markdown(_models_table(shown.kinds)), HOW, ""]
    if shown.rates:
        lines += ["## What the rule of learning rates costs", "", *_rates(shown.rates, shown.raised), ""]
    if shown.skipped:
        lines += ["Published rows with a missing number:", "", *(f"- {line}" for line in shown.skipped), ""]
    lines += [
        f"Points: [{points.FILE}]({points.FILE}), a line for each point and method. How predictions fared at places "
        "that they had not seen: [predictions.md](predictions.md). Your own model: `python -m bench.advise MODEL "
        "--tokens N`.",
        "",
    ]
    return "\n".join(lines)


HOW = (
    "Differences are of test nll, tied - untied, paired by seed, and shown as a change of perplexity in percent (of "
    "a classifier, of the exponential of its loss). Points of all sweeps count; those that differ in regularisation "
    "alone are one place. Errors are mean errors of nll at places that a model was not fitted to: 10 sets of places, "
    f"or each corpus, left out in turn. Predictions are the {AVERAGE} of the regression, the Gaussian process, the "
    "trees and the mean of all points, with equal weights, whichever errs least here. The two axes of a picture are "
    "the variables without which the regression errs most there."
)


def answer(shown: Map) -> list[str]:
    """Return a sentence or two for each kind: how often it helped, and where the sign turns."""
    return [f"- **{kind.name}** {_verdict(kind)}" for kind in shown.kinds] or ["Nothing is measured yet."]


def _verdict(kind: Kind) -> str:
    better, within, worse = kind.counts
    middle = median(m.percent for m in kind.measurements)
    text = (
        f"was better by more than {MATTERS:g} % at {better} of {len(kind.measurements)} points ({kind.places} places), "
        f"within {MATTERS:g} % at {within}, worse at {worse}; the middle one is {fixed(middle, 1, True)} %."
    )
    return f"{text} {_turns(kind)}"


def _turns(kind: Kind) -> str:
    """Say along which variable the difference falls or rises, from the halves of the points; or why that is open."""
    if kind.plane.too_few:
        return f"Where its sign turns: {kind.plane.too_few}."
    sentences = []
    for variable in kind.plane.variables:
        cut = median(variable.value(m) for m in kind.measurements)
        low = [m.percent for m in kind.measurements if variable.value(m) <= cut]
        high = [m.percent for m in kind.measurements if variable.value(m) > cut]
        if low and high:
            sentences.append(
                f"{variable.name} up to {variable.text(cut)}: {fixed(median(low), 1, True)} %, above: "
                f"{fixed(median(high), 1, True)} %"
            )
    return f"In the middle, {'; '.join(sentences)}. {_crossing(kind)}"


def _crossing(kind: Kind) -> str:
    """Say where the mean turns along one variable while the other stands in its middle, with its 90 % interval."""
    if not kind.plane.surface.is_crossed:
        return "The mean has one sign over all of the picture."
    for along, other in ((0, 1), (1, 0)):
        variable, other_variable = kind.plane.variables[along], kind.plane.variables[other]
        middle = median(other_variable.value(m) for m in kind.measurements)
        turn = kind.plane.surface.crossing(along, middle)
        if turn is not None:
            crossing, low, high = (None if value is None else variable.text(value) for value in turn)
            between = f" (90 %: {low or 'below the picture'} to {high or 'above the picture'})"
            fallen = "falls" if kind.plane.surface.falls(along, middle) else "rises"
            where = f"At {other_variable.name} {other_variable.text(middle)}"
            return f"{where} it {fallen} through 0 at {variable.name} {crossing}{between}."
    return "The zero line runs through the picture."


def _of_kind(kind: Kind) -> str:
    """Say what the picture is drawn over and why, and how much seeds spread."""
    across, up = (variable.name for variable in kind.plane.variables)
    chosen = "matter most to it" if kind.plane.chosen else "are drawn as points are too few to choose"
    sentences = [f"{across} and {up} {chosen}."]
    if kind.plane.growth:
        grown = ", ".join(f"{name} x{factor:.2f}" for name, factor in kind.plane.growth.items())
        sentences.append(f"held-out error without each: {grown}.")
    if kind.plane.too_few:
        sentences.append(f"{kind.plane.too_few}.")
    noise = [m.sd for m in kind.measurements if m.sd is not None]
    if noise:
        sentences.append(
            f"one pair of seeds spreads by {as_percent(median(noise)):.1f} % (standard deviation)."
        )
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _rows(shown: Map, kind: Kind) -> list[Published]:
    """Return the published results of a kind: all of them are of language models."""
    return [row for row in shown.published if kind.is_text and method_of(row) == kind.method]


def _laws(fitted: Mapping[str, laws.Law]) -> list[str]:
    """Return the tables of phi and of the worth of repetition, each with what it says in words."""
    if not fitted:
        return ["No law is fitted: points are at too few places."]
    lines = [
        "`L = E (V / 4000)^s + A (N_once + r^phi N_shared)^-alpha + B D^-beta`: at phi = 1 a tensor with r uses is "
        "worth r tensors, at phi = 0 one, below 0 less than one (the iso-depth law, arXiv 2604.21106, reports 0.46 for "
        "large transformers). D counts a token that is read again for less: `U + U R (1 - exp(-(passes - 1) / R))` "
        "(Muennighoff et al. 2023). R tied / R untied above 1: repetition keeps its worth longer in the tied network.",
        "",
    ]
    for name, fit in fitted.items():
        too_few = [phi for phi in fit.told_by if not fit.tells(phi)]
        shown = [(parameter, value) for parameter, value in fit.intervals.items() if parameter not in too_few]
        columns = [Column("value [95 %]", lambda item: bounded(item[1].mean, item[1].low, item[1].high, 2))]
        title = f"{name[0].upper()}{name[1:]}: {fit.points} points at {fit.places} places."
        repeats = "" if fit.repeats else " No point reads its data twice, so repetition has no number."
        lines += [
            f"{title}{repeats}",
            "",
            markdown(tabulate(["parameter"], [[w] for w, _ in shown], columns, shown)),
            *(f"No {phi}: it is told by fewer than {laws.LEAST_GROUPS} places.\n" for phi in sorted(too_few)),
        ]
    lines.append(
        "Intervals: bootstrap over places; with few places they are those of the weak beliefs in the code."
    )
    return lines


def _roles(measured: Sequence[Measurement]) -> list[str]:
    """Return phi of each role of weights that is shared alone, and of whole blocks, by one law of all the points."""
    of_text = [m for m in measured if m.point.is_text]
    if (fit := laws.fit(of_text)) is None:
        return ["No law is fitted: points are at too few places."]
    alone_at = {m.point for m in of_text if m.method in ALONE}
    networks = {point.network for point in alone_at}

    def names(m: Measurement) -> tuple[str, str]:
        return m.point.network, laws.role_of(m.method)

    along_depth = [m for m in of_text if m.point.network in networks and m.method != "embedding"]
    groups = grouped(sorted(along_depth, key=names), names)
    rows = [(laws.phi_of(*pair), members) for pair, members in groups.items()]

    def change(members: Sequence[Measurement]) -> str:
        changes = [m.percent for m in members if m.point in alone_at and m.distinct == 1]
        return fixed(median(changes) if changes else None, 1, True)

    columns = [
        Column("points", lambda row: str(len(row[1]))),
        Column("places", lambda row: str(fit.told_by[row[0]])),
        Column("tied to untied, %", lambda row: change(row[1])),
        Column("phi [95 %]", lambda row: bounded(*fit.intervals[row[0]][:3], 2)),
        Column("a shared tensor is worth", lambda row: _worth(fit, row[0]), align="l"),
    ]
    labels = [[network, "whole blocks" if role == "depth" else role] for network, role in groups]
    return [
        "All blocks share the weights of one role, and each keeps its own of the others: N_shared is that role alone. "
        "One law of language models at the rates of the rule, those of one role at that of `cross_layer`; an untied "
        "transformer has the better of its own and that rate where it ran at both, and above all arms have the better "
        "of several. Changes of test perplexity are the middle of the points where roles were shared alone, with one "
        "set of weights for all blocks. A shared tensor has r uses.",
        "",
        markdown(tabulate(["network", "role"], labels, columns, rows)),
        *(
            f"- {name}: {bounded(value.mean, value.low, value.high, 2, True)}. {_which(fit, name)}"
            for name, value in fit.intervals.items()
            if " - " in name
        ),
    ]


def _places(measured: Sequence[Measurement]) -> int:
    return len({m.point.group for m in measured})


def _worth(fit: laws.Law, name: str) -> str:
    """Say what the interval of a phi allows for the worth of a tensor with r uses, or that it does not tell."""
    phi = fit.intervals[name]
    if not fit.tells(name) or (phi.low <= 0 and phi.high >= 1):
        return "not enough to tell"
    least = "more than r" if phi.low > 1 else "more than one" if phi.low > 0 else ""
    most = "less than one" if phi.high < 0 else "less than r" if phi.high < 1 else ""
    return ", ".join(filter(None, (least, most)))


def _which(fit: laws.Law, name: str) -> str:
    """Say which of two roles of a network, `phi NETWORK, ONE - phi NETWORK, OTHER`, keeps more of its worth."""
    difference = fit.intervals[name]
    if not all(map(fit.tells, name.split(" - "))) or difference.low <= 0 <= difference.high:
        return "Which of the two keeps more of its worth is not told."
    one, other = (phi.rpartition(", ")[2] for phi in name.split(" - "))
    better, worse = (one, other) if difference.low > 0 else (other, one)
    return f"Shared {better} weights keep more of their worth than shared {worse} weights."


def _by_frequency(ties: Sequence[ByFrequency]) -> list[str]:
    """Return what ties change for tokens of each bin of training counts, and for which they change more."""

    def change(value: Callable[[ByFrequency], float]) -> Callable[[list[ByFrequency]], str]:
        return lambda group: bounded(*_percents(middle([value(tie) for tie in group])), 1, True)

    def names(tie: ByFrequency) -> tuple[str, str]:
        return tie.network, tie.method

    heads = ["most frequent", *map(str, range(2, BINS)), "rarest"]
    columns = [Column("places", lambda group: str(len(group)))]
    columns += [
        Column(head, change(lambda tie, number=number: tie.changes[number]))
        for number, head in enumerate(heads)
    ]
    columns.append(Column("rarest to most frequent", change(lambda tie: tie.lean)))
    return [
        "Tokens of the test split in five parts of like size by how often they stand in the training data. Change of "
        "perplexity on the tokens of each part, tied to untied, in percent: the middle of all places [95 %].",
        "",
        markdown(_by_method("network", ties, names, columns)),
        *(f"- {', '.join(key)}: {_leaning(group)}" for key, group in grouped(ties, names).items()),
    ]


def _percents(found: Interval) -> list[float | None]:
    return [None if value is None else as_percent(value) for value in found[:3]]


def _leaning(ties: Sequence[ByFrequency]) -> str:
    """Say for which tokens a tie is worse."""
    lean = middle([tie.lean for tie in ties])
    if lean.low is None or lean.low <= 0 <= lean.high:
        return "for which tokens it is worse is not told."
    worse, better = ("rare", "frequent") if lean.low > 0 else ("frequent", "rare")
    return f"it is worse for {worse} tokens than for {better} ones."


def _without(ties: Sequence[LeftOut]) -> list[str]:
    """Return how ties along depth compare with the network that lacks the blocks they make copies of others."""

    def middle(value: Callable[[LeftOut], float]) -> Callable[[list[LeftOut]], str]:
        return lambda group: fixed(as_percent(median(map(value, group))), 1, True)

    columns = [
        Column("places", lambda group: str(len(group))),
        Column("tied better at", lambda group: str(sum(tie.tied < tie.without for tie in group))),
        Column("tied to untied, %", middle(lambda tie: tie.tied)),
        Column("left out to untied, %", middle(lambda tie: tie.without)),
        Column("tied to left out, %", middle(lambda tie: tie.tied - tie.without)),
    ]
    table = _by_method("network", ties, lambda tie: (tie.network, tie.method), columns)
    return [
        "A shared block that is used again costs its time again. Beside the tie: the untied network without the blocks "
        "that the tie makes copies of others, which has as many parameters and takes less time. Changes of test "
        "perplexity, the middle of all places.",
        "",
        markdown(table),
    ]


def _rates(arms: Sequence[Arm], raised: Container[str]) -> list[str]:
    """Return how much is lost at the rate of the rule, by network and method, against the best of three rates."""
    columns = [
        Column("arms", lambda group: str(len(group))),
        Column("lost in the middle, %", lambda group: _percent(median(arm.regret for arm in group))),
        Column("lost at most, %", lambda group: _percent(max(arm.regret for arm in group))),
        Column("lower rate best", lambda group: str(sum(arm.best < 0 for arm in group))),
        Column("the rule's best", lambda group: str(sum(arm.best == 0 for arm in group))),
        Column("higher rate best", lambda group: str(sum(arm.best > 0 for arm in group))),
        Column("lost at the map's rate, %", lambda group: _lost(group, raised)),
    ]
    table = _by_method("task", arms, lambda arm: (arm.task, arm.method), columns)
    return [
        "Each arm of some of the points at 0.4, 1 and 2.5 times the rate of `conf/rates.yaml`, one seed: by how "
        "much the perplexity of validation at the rule's rate is above the least of the three. The map's rate is "
        "the rule's, or where a task was run at higher rates too, the better one on validation.",
        "",
        markdown(table),
    ]


def _by_method(
    head: str, items: Sequence[Any], key: Callable[[Any], tuple[str, str]], columns: Sequence[Column]
) -> Table:
    """Return a row for each network or task and method, whose columns are of the items that have it."""
    groups = grouped(items, key)
    return tabulate([head, "tying"], [list(names) for names in groups], columns, list(groups.values()))


def _lost(arms: Sequence[Arm], raised: Container[str]) -> str:
    """Return what the map's rate loses in the middle: that of the rule, or the better of it and a higher one."""
    return _percent(median(arm.regret_of_two if arm.task in raised else arm.regret for arm in arms))


def _caution(arms: Sequence[Arm], raised: Set[str]) -> list[str]:
    """Return how far the points are from the best rate; nothing where that is not checked."""
    if not arms:
        return []
    others = sum(arm.best != 0 for arm in arms)
    losses = ", ".join(
        f"{task} {_lost([arm for arm in arms if arm.task == task], raised)}"
        for task in sorted({arm.task for arm in arms})
    )
    again = (
        f" Arms of {' and '.join(sorted(raised))} have the better of it and higher ones." if raised else ""
    )
    return [
        f"- **Read differences with care**: learning rates are those of a rule, and at {others} of {len(arms)} checked "
        f"arms another one was better.{again} What the rate of an arm still loses, in percent of "
        f"perplexity, in the middle of the checked ones: {losses}."
    ]


def _percent(nll: float) -> str:
    return "diverged" if nll == float("inf") else fixed(as_percent(nll), 1)


def _models_table(kinds: Sequence[Kind]) -> Table:
    by_method: dict[str, Kind] = {}
    for kind in kinds:
        before = by_method.get(kind.method)
        alike = (before.measurements if before else ()) + kind.measurements
        by_method[kind.method] = replace(kind, measurements=alike)
    rows = [(kind, new) for kind in by_method.values() for new in JUDGED if kind.errors[new]]
    columns = [
        Column("points", lambda row: str(len(row[0].measurements))),
        Column("places", lambda row: str(row[0].places)),
    ]
    columns += [
        Column(model, lambda row, model=model: fixed(row[0].errors[row[1]].get(model), 4)) for model in MODELS
    ]
    columns.append(Column("least", lambda row: min((e := row[0].errors[row[1]]), key=e.get), align="l"))
    return tabulate(["tying", "error"], [[kind.method, JUDGED[new]] for kind, new in rows], columns, rows)


def build(runs: Path, results: Path, only_points: bool = False, out: Callable[[str], object] = print) -> Path:
    """Write results/map/ from all recorded sweeps, and say the answer through `out`. BadInput where there is none."""
    folder, recorded = results / points.FOLDER, read_runs(runs, results)
    of_map = [(sweep, run) for sweep, run in recorded if sweep != ROLE_SWEEP]
    measured = measurements(of_map)
    write_bytes_atomic(folder / points.FILE, points.as_csv(measured).encode())
    out(f"{len(measured)} measurements at {_places(measured)} places: {folder / points.FILE}")
    if only_points:
        return folder
    # The numbers of the file, whose readers have no more digits.
    shown = replace(
        the_map(points.from_csv(folder / points.FILE)),
        rates=tuple(Arm.of(run for sweep, run in recorded if sweep == RATE_SWEEP)),
        raised=frozenset(run.task for sweep, run in recorded if sweep == HIGHER_RATE_SWEEP and run.is_done),
        without=tuple(left_out(run for _, run in of_map)),
        by_role=tuple(measurements_by_role(recorded)),
        by_frequency=tuple(by_frequency(run for _, run in of_map)),
    )
    pictures = _pictures(shown)
    text = page(shown, {name: _file(name) for name in pictures})
    foretold = predictions_page(shown.measurements, folder)
    files: dict[str, bytes] = {_file(name): content for name, content in pictures.items()}
    files |= {"map.md": text.encode(), "predictions.md": (MADE_BY + foretold).encode()}
    files["map.html"] = html(
        "When does tying pay?", text, {name: data for name, data in files.items() if "png" in name}
    ).encode()
    for name, content in files.items():
        write_bytes_atomic(folder / name, content)
    out("\n".join([*answer(shown), str(folder / "map.md")]))
    return folder


def _file(name: str) -> str:
    return f"{name.replace(' ', '_')}.png"


def _pictures(shown: Map) -> dict[str, bytes]:
    """Return name of a kind -> its picture as a png."""
    os.environ["MPLBACKEND"] = "agg"
    from bench.report.plots.map import picture
    from bench.report.plots.style import draw

    drawn = {}
    for kind in shown.kinds:
        (better, _, worse), middle = kind.counts, fixed(median(m.percent for m in kind.measurements), 1, True)
        counts = f"better at {better} of {len(kind.measurements)} points, worse at {worse}; median {middle} %"
        arguments = (f"{kind.name}: {counts}", kind.measurements, kind.plane, _placed(shown, kind))
        drawn[kind.name] = draw(picture, *arguments)[".png"]
    return drawn


def _placed(shown: Map, kind: Kind) -> list[tuple[Published, float | None, float | None]]:
    rows = _rows(shown, kind)
    return [(row, *(place_of(row, variable) for variable in kind.plane.variables)) for row in rows]


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the map of all recorded sweeps."""
    options = parser(
        "bench.map",
        "When does tying pay: the map of all recorded sweeps, its laws and its judgement.",
        EXAMPLES,
    )
    add_places(options, runs="of the records", results="to read and to write to")
    options.add_argument("--only", choices=["points"], help="write the points alone")
    chosen = options.parse_args(arguments)
    # Before numpy is imported: matrices are small, and threads that wait for a busy core cost more than the sums.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    build(Path(chosen.runs), Path(chosen.results), chosen.only == "points")


if __name__ == "__main__":
    sys.exit(main())
