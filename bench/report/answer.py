"""Answer a sweep's question: a narrow table for each section, and one line made of the verdicts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from bench.analysis.comparison import Compared, below_floor, chosen_vs_untied, vs_controls
from bench.analysis.factorial import Factorial, factorial
from bench.analysis.groups import SAID, Section, SeedGroup
from bench.analysis.power import change
from bench.analysis.runs import percent
from bench.analysis.statistics import ENOUGH, paired
from bench.analysis.verdict import Kind, without_bound
from bench.report.comparison import effective_params, places_of
from bench.report.markup import Column, Table, tabulate
from bench.report.notes import counted_on
from bench.report.numbers import (
    axis,
    change_places,
    change_text,
    change_unit,
    fixed,
    interval_text,
    listed,
    places,
    short_count,
)
from bench.runs.store import Status

MOST_BY_METHOD = 4
"""With more methods than this the line goes by verdict; of each verdict at most as many methods or places are named."""
NO_PAIR = "no pair with none"


class Answer(NamedTuple):
    """A narrow table with the line above it and the line below it; no table where nothing is tied."""

    title: str
    reference: str
    table: Table | None
    below: str


class Judgement(NamedTuple):
    method: str
    where: str
    verdict: str


def answer(section: Section) -> Answer:
    """Make a row per method: its change to `none`, parameters, verdict; `none` and the settings in the lines around."""
    chosen = chosen_vs_untied(section)
    outside = [tying for tying, cells in section.tyings.items() if all(c.is_not_applicable for c in cells)]
    methods = [tying for tying in section.tyings if tying not in ("none", *outside)]
    table = tabulate(["method"], [[method] for method in methods], _columns(section), methods)
    not_applicable = f"Does not apply here (n/a): {', '.join(outside)}." if outside else ""
    below = " ".join(filter(None, (_settings(chosen), _floors(section), not_applicable)))
    return Answer(section.title, _reference(section), table if methods else None, below)


def over_settings(sections: Sequence[Section]) -> Table:
    """Make a row per method over many sections: in how many it stands, its changes to none, and its verdicts."""
    rows: dict[str, list[Compared]] = {}
    for section in sections:
        for tying, row in chosen_vs_untied(section).items():
            if tying != "none":
                rows.setdefault(tying, []).append(row)
    metric = sections[0].metric

    def changes(tying: str) -> str:
        known = (change(row.difference, metric) for row in rows[tying])
        values = sorted(found.mean for found in known if found is not None)
        if not values:
            return ""
        shown = [fixed(value, 1, sign=True) for value in (median(values), values[0], values[-1])]
        return f"{shown[0]}{change_unit(metric)} ({shown[1]} to {shown[2]})"

    def word(row: Compared) -> str:
        if row.difference is None:
            return NO_PAIR
        return without_bound(row.verdict.word)

    def verdicts(tying: str) -> str:
        counts = Counter(map(word, rows[tying]))
        return ", ".join(f"{count} {said}" for said, count in counts.most_common())

    columns = [
        Column("settings", lambda tying: str(len(rows[tying]))),
        Column("median change to none (least to most)", changes),
        Column("verdicts", verdicts, align="l"),
    ]
    return tabulate(["method"], [[tying] for tying in rows], columns, list(rows))


def _reference(section: Section) -> str:
    """`none: test perplexity 81.8 [80.6, 82.9] (lower is better), n = 5.`"""
    metric, cell = section.metric, section.chosen("none")
    name = f"test {metric.name.replace('_', ' ')}"
    better = f"{'higher' if metric.higher_is_better else 'lower'} is better"
    if "none" not in section.tyings:
        return f"{name[0].upper()}{name[1:]} ({better}). No run of `none` was asked for."
    if cell is None:
        why = f": {text}" if (text := _absent(section).get("none")) else ""
        return f"none: no {name} ({better}){why}, so that nothing can be compared with it."
    value = percent(cell.interval(), metric)
    decimals = places_of(section) if metric.is_share else places([value.mean], 3)
    unit = " %" * metric.is_share
    number, space, bounds = interval_text(value, decimals).partition(" ")
    return f"none: {name} {number}{unit}{space}{bounds} ({better}), n = {value.n}."


def _columns(section: Section) -> list[Column[str]]:
    metric, chosen, absent = section.metric, chosen_vs_untied(section), _absent(section)
    decimals = places_of(section)
    if changes := [c for row in chosen.values() if (c := change(row.difference, metric))]:
        decimals = (
            2 if metric.is_share else change_places(changes) if metric.name == "perplexity" else decimals
        )

    def change_of(method: str) -> str:
        if method in chosen:
            row = chosen[method]
            if row.reference is None:
                return interval_text(percent(row.cell.interval(), metric), places_of(section))
            if row.difference is None:
                return NO_PAIR
            return change_text(row.difference, metric, decimals)
        return ""

    def parameters(method: str) -> str:
        if method not in chosen:
            return ""
        cell = chosen[method].cell
        count, effective = cell.count("num_params"), effective_params(cell)
        if count is None:
            return ""
        text = _of_untied(count, cell)
        is_soft = effective is not None and effective < count
        return f"{text}, effective {_of_untied(effective, cell)}" if is_soft else text

    def verdict(method: str) -> str:
        """Floors stand below the table, once."""
        if method not in chosen:
            return absent.get(method, "")
        judged, floor = chosen[method].verdict, below_floor(section, chosen[method].cell)
        return str(replace(judged, qualifiers=tuple(text for text in judged.qualifiers if text != floor)))

    return [
        Column("change to none [95 %]" if "none" in chosen else f"{metric.label} [95 %]", change_of),
        Column("parameters (% of untied)", parameters),
        Column("verdict", verdict, align="l"),
    ]


def _of_untied(count: float, cell: SeedGroup) -> str:
    """`612k (61 %)`"""
    untied = cell.count("num_params_untied")
    return f"{short_count(count)} ({100 * count / untied:.0f} %)" if untied else short_count(count)


def _settings(chosen: dict[str, Compared]) -> str:
    """Say at which dropout and weight decay each method stands, and of how many runs it is."""
    if not chosen:
        return ""
    tyings_at: dict[str, list[str]] = {}
    for tying, row in chosen.items():
        tyings_at.setdefault(f"{axis(row.cell.dropout)} / {axis(row.cell.weight_decay)}", []).append(tying)
    groups = [f"{', '.join(tyings)} at {setting}" for setting, tyings in tyings_at.items()]
    where = "; ".join(groups) if len(groups) > 1 else f"all at {next(iter(tyings_at))}"
    counts = {len(row.cell.done) for row in chosen.values()}
    fewer = {tying: len(row.cell.done) for tying, row in chosen.items() if len(row.cell.done) < max(counts)}
    lacking = "; ".join(f"{tying} {n}" for tying, n in fewer.items())
    runs = f" Runs of each: {max(counts)}{f', but {lacking}' if lacking else ''}."
    return f"Dropout / weight decay: {where}.{runs}"


def _floors(section: Section) -> str:
    """`Worse than the trigram floor: none, embedding.`; `all` where it is so of all."""
    below: dict[str, list[str]] = {}
    chosen = chosen_vs_untied(section)
    for tying, row in chosen.items():
        if text := below_floor(section, row.cell):
            below.setdefault(text, []).append(tying)
    counted = f" ({text})" if (text := counted_on(section)) else ""
    texts = (
        f"{text}: {'all' if len(tyings) == len(chosen) else ', '.join(tyings)}{counted}"
        for text, tyings in below.items()
    )
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in texts)


def _absent(section: Section) -> dict[str, str]:
    """Return why a tying has no number at all, as `all diverged`, for each that could have had one."""
    chosen, texts = chosen_vs_untied(section), {}
    for tying, cells in section.tyings.items():
        words = {SAID.get(run.status, run.status) for cell in cells for run in cell.runs if not run.is_done}
        if tying not in chosen and not all(cell.is_not_applicable for cell in cells):
            word = " or ".join(sorted(words))
            texts[tying] = word if word == SAID[Status.NOT_RUN] else f"all {word}"
    return texts


def line(sections: list[Section]) -> str:
    """Say in one line what the verdicts are, or that none could be given."""
    where = short_names(sections)
    rows = [(where[s], row) for s in sections for row in chosen_vs_untied(s).values()]
    tied = [(place, row) for place, row in rows if row.cell.spec.control is None and not row.cell.is_untied]
    controlled = [(where[s], row) for s in sections for row in _controlled(s)]
    absent = [
        Judgement(tying, where[s], text)
        for s in sections
        for tying, text in _absent(s).items()
        if tying != "none" and s.tyings[tying][0].spec.control is None
    ]
    parts = [_in_words([*_judgements(tied), *absent])]
    if text := _in_words(_judgements(controlled)):
        parts.append(f"Against an untied network of the same size: {text}")
    if text := _interactions(sections):
        parts.append(text)
    if tied and not any(parts):
        has_reference = any("none" in section.tyings for section in sections)
        parts.append(
            "no verdict: no tying has a number beside one of `none` on the same data"
            if has_reference
            else "no run of `none` was asked for: the rows are compared with each other"
        )
    if sections and not tied and not absent:
        parts.append(f"nothing is tied here{_regularised(sections, where)}")
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


def _regularised(sections: Sequence[Section], where: Mapping[Section, str]) -> str:
    """Say what the setting that validation chose for `none` changes to the least dropout and weight decay."""
    texts = []
    for section in sections:
        chosen, cells = section.chosen("none"), section.tyings.get("none", ())
        if chosen is None or len(cells) == 1:
            continue
        least, metric = min(cells, key=lambda cell: (cell.dropout, cell.weight_decay)), section.metric
        if chosen is least:
            text = "which is the least"
        else:
            difference = paired(chosen.compared, least.compared)
            known = [moved] if (moved := change(difference, metric)) else []
            text = change_text(difference, metric, 2 if metric.is_share else change_places(known))
        setting = f"{axis(chosen.dropout)} / {axis(chosen.weight_decay)}"
        texts.append(f"{setting}, {text}{f', for {where[section]}' if len(sections) > 1 else ''}")
    shown = "; ".join(texts)
    return f"; dropout / weight decay as validation chose it, against the least: {shown}" if texts else ""


def _controlled(section: Section) -> Iterator[Compared]:
    """Return the ties against their controls, at the settings that the summary has."""
    chosen = {row.cell for row in chosen_vs_untied(section).values()}
    return (row for row in vs_controls(section) if row.cell in chosen)


def _interactions(sections: list[Section]) -> str:
    """Say how many of the interactions of a tying with one regulariser have which reading."""
    fits = [fit for section in sections if isinstance(fit := factorial(section), Factorial)]
    readings = Counter(
        effect.reading
        for fit in fits
        for effect in fit.effects
        if effect.tying is not None and len(effect.parts) == 2 and effect.n >= ENOUGH
    )
    if not readings:
        return ""
    counts = "; ".join(
        f"{reading} ({count} of {readings.total()})" for reading, count in readings.most_common()
    )
    return f"interactions of a tying with dropout or weight decay: {counts}"


def short_names(sections: Sequence[Section]) -> dict[Section, str]:
    """Name each section by its task, and by what else tells it from the others of that task."""
    tasks = [section.task for section in sections]
    data = {section: (section.task, section.data) for section in sections}
    names = {}
    for section in sections:
        several = tasks.count(section.task) > 1
        of_data = list(data.values()).count(data[section]) < tasks.count(section.task)
        alike = [other.variant for other in sections if data[other] == data[section]]
        mark = f"data {(section.fingerprint or '')[:6]}" if section.among_several else ""
        distinction = _told_apart(section.variant, alike) if section.variant else mark
        details = [section.data] * (several and of_data) + [distinction] * several
        names[section] = " with ".join(filter(None, (section.task, ", ".join(filter(None, details)))))
    return names


def _told_apart(variant: str, variants: list[str]) -> str:
    """Return the first setting of a variant that none of the others has, by its last name; all of it without one."""
    if len(variants) < 2:
        return ""
    others = [other.split(", ") for other in variants if other != variant]
    own = (part for part in variant.split(", ") if not any(part in other for other in others))
    key, _, value = next(own, variant).partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _judgements(rows: Iterable[tuple[str, Compared]]) -> list[Judgement]:
    return [
        Judgement(row.cell.tying, where, f"{row.verdict.word}{' (few seeds)' * row.verdict.is_hint}")
        for where, row in rows
        if row.verdict.kind != Kind.NOTHING
    ]


def _in_words(judgements: list[Judgement]) -> str:
    methods = list(dict.fromkeys(judgement.method for judgement in judgements))
    if len(methods) > MOST_BY_METHOD:
        return _by_verdict(judgements)
    several = len({judgement.where for judgement in judgements}) > 1
    texts = {method: _of_method([j for j in judgements if j.method == method], several) for method in methods}
    return ". ".join(f"`{method}`: {text}" for method, text in texts.items())


def _of_method(judgements: list[Judgement], several: bool) -> str:
    """`worse for text_gru and text_transformer; not enough to tell for image_cnn`; one place has no name."""
    by_verdict: dict[str, list[str]] = {}
    for judgement in judgements:
        by_verdict.setdefault(judgement.verdict, []).append(judgement.where)
    if len(by_verdict) == 1 and len(judgements) > 2:
        return f"{judgements[0].verdict} in all {len(judgements)} comparisons"
    texts = []
    for verdict, where in by_verdict.items():
        is_long = len(where) > MOST_BY_METHOD
        place = f" in {len(where)} of {len(judgements)}" if is_long else f" for {listed(where)}" * several
        texts.append(f"{verdict}{place}")
    return "; ".join(texts)


def _by_verdict(judgements: list[Judgement]) -> str:
    """`of 14 comparisons with none: 9 worse (...), 5 not enough to tell`; few methods that have it alone are named."""
    methods = Counter(judgement.method for judgement in judgements)
    by_verdict: dict[str, list[str]] = {}
    for judgement in judgements:
        word = without_bound(judgement.verdict)
        by_verdict.setdefault(word, []).append(judgement.method)
    parts = []
    for verdict, judged in sorted(by_verdict.items(), key=lambda item: -len(item[1])):
        names = list(dict.fromkeys(judged))
        # A method with another verdict elsewhere would stand twice.
        names = [name for name in names if judged.count(name) == methods[name]]
        text = f" ({', '.join(f'`{name}`' for name in names)})" if 0 < len(names) <= MOST_BY_METHOD else ""
        parts.append(f"{len(judged)} {verdict}{text}")
    return f"of {len(judgements)} comparisons with `none`: {', '.join(parts)}"
