"""Write what stands below a table: floors, data, provenance, how to read it. No time of day, so same bytes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.analysis.comparison import n_compared
from bench.analysis.groups import TRAINED_OUT, Section, SeedGroup
from bench.analysis.runs import RunRecord, device, is_finite, look_up, training_size
from bench.analysis.statistics import ENOUGH, SIGNIFICANCE, margin_text
from bench.analysis.verdict import NEAR, POWER
from bench.report.comparison import EFFECTIVE, has_effective, mean, setting
from bench.report.numbers import fixed, places, shares, span

READING = (
    "Mean [95 % Student-t interval] over seeds; one seed has no interval. The difference to none is at the same "
    "dropout and weight decay, paired by seed. The gap is validation minus training loss, both in eval mode, the "
    "latter on a fixed part of the training split: how hard that part is shifts every row alike, so compare rows, "
    "not signs. The best of a column is marked."
)
VERDICT = (
    "Verdict, the first of these that holds. Equivalent: the difference is shown to lie within the margin, {margin}. "
    "Better, worse: it is shown not to be 0. Smaller than d: it is shown to lie within ±d, which is at most "
    f"{NEAR} margins. Not enough to tell: none of these; in brackets how many seeds would show a difference as large "
    f"as the margin {POWER * 10:.0f} times in 10."
)
FAMILY = (
    "Tested together: {count}{of_each}, so that in at most {level:g} % of such tables any verdict is wrong "
    "(Holm 1979, Shaffer 1986; equivalence by two one-sided tests, Schuirmann 1987). "
    f"Below {ENOUGH} seeds no verdict is more than a hint."
)
UNSEARCHED = "which no search chose"
UNTESTED = "Nothing was tested: it takes two seeds of a tying and of `none`."
ACROSS = (
    "Across sections nothing is corrected: each of the {n} has its own chance of a wrong verdict, so that with no true "
    "difference at all some verdict of this page is wrong in up to {wrong:.0f} % of such pages (independent sections)."
)
AT_THIS_BUDGET = (
    "At this budget: the row, or what it is compared with, was still improving: its best validation loss fell by "
    f"{100 * TRAINED_OUT:g} % or more in the last quarter of training. Trained longer, the verdict may be another."
)
AT_THIS_RATE = (
    "A hint: all rows have one learning rate that was given, so this is no verdict. With a rate for each it may be "
    "another: `lr_search.factors=[0.5,1,2]` chooses them."
)
LOST = (
    "A row with a run that diverged or failed is ranked as the worst, never marked as best, never chosen before a "
    "complete one, and not tested: the seeds that are left are those that went well."
)
BY_GROUP = (
    "By group: the 95 % interval of the same mean where the {} groups of the test split are drawn anew, the same ones "
    "at all seeds: what another draw of groups would change, and not what other seeds would."
)


def floors(section: Section) -> str:
    """Say the task's trivial scores and what share of each the best row reaches; empty where none is recorded."""
    metric = section.metric
    means = [mean(cell.metric_over_seeds()) for cell in section.best_cells]
    best = metric.best(means) if means else None
    parts = []
    for name, value in section.floors.items():
        text = f"{name.replace('_', ' ')} {_value(value, name)}"
        parts.append(text if best is None else f"{best / value:.2f}x {text}")
    best_row = f"best row {_value(best, metric.name)} is " if parts and best is not None else ""
    return best_row + ", ".join(filter(None, [*parts, counted_on(section)]))


def counted_on(section: Section) -> str:
    """Say that words were counted on more text than the rows were trained on; empty where it is the same text."""
    sizes = {training_size(run.record) for run in section.runs if run.is_done}
    size, total = sizes.pop() if len(sizes) == 1 else None, _sizes(section).get("train")
    if section.metric.name != "perplexity" or not section.floors or not size or not total or size >= total:
        return ""
    return f"counted on all {total:,} training tokens, of which the rows read {size:,}"


def _value(value: float, name: str) -> str:
    return f"{100 * value:.1f} %" if name.endswith("accuracy") else fixed(value, places([value]))


def footer(section: Section, note: str | None) -> list[str]:
    """Return lines, each a statement of its own."""
    records = [run.record for run in section.runs if run.is_done]
    seeds = sorted({run.seed for run in section.runs})
    lines = [f"Floors: {text}." if (text := floors(section)) else "Floors: none recorded."]
    lines += [f"Trained out: {text}." for text in [training(section)] if text]
    lines += [_data(section), f"Seeds: {', '.join(map(str, seeds))}.", *_rate(section)]
    lines += provenance("Runs", records) if records else []
    lines += [note_line(note)] if note else []
    lines += [EFFECTIVE] if has_effective(section.cells) else []
    sizes = sorted({cell.by_group.n for cell in section.cells if cell.by_group})
    by_group = [BY_GROUP.format(" or ".join(map(str, sizes)))] if sizes else []
    return [*lines, READING, *by_group, *verdict_rule([section])]


def note_line(note: str) -> str:
    return f"Note: {' '.join(note.split())}"


def verdict_rule(sections: Sequence[Section]) -> list[str]:
    """Say how the verdicts came about: a line for each rule that played a part."""
    counts = [n_compared(section) for section in sections]
    if not any(counts):
        return [UNTESTED]
    count = f"{span(counts)} comparison{'s' * (max(counts) != 1)}"
    of_each = " of each section" if len(sections) > 1 else ""
    tested = sum(count > 0 for count in counts)
    cells = [cell for section in sections for cell in section.cells]
    return [
        VERDICT.format(margin=_margin(sections)),
        FAMILY.format(count=count, of_each=of_each, level=100 * SIGNIFICANCE),
        *([ACROSS.format(n=tested, wrong=100 * (1 - (1 - SIGNIFICANCE) ** tested))] if tested > 1 else []),
        *([AT_THIS_BUDGET] if any(cell.is_improving for cell in cells) else []),
        *([AT_THIS_RATE] if any(section.given_rate is not None for section in sections) else []),
        *([LOST] if any(cell.lost for cell in cells) else []),
    ]


def _margin(sections: Sequence[Section]) -> str:
    shares = sorted({section.metric.is_share for section in sections}, reverse=True)
    texts = [
        f"{margin_text(is_share)} of {'a share' if is_share else 'the mean of `none`'}" for is_share in shares
    ]
    return " or ".join(texts)


def training(section: Section) -> str:
    """Say how many rows were trained out, by the validation losses that the records hold; empty without a number."""
    cells = [cell for cell in section.cells if cell.done]
    gains = [100 * cell.late_gain for cell in cells if cell.is_improving]
    unknown = sum(cell.late_gain is None for cell in cells)
    parts = [f"{len(cells) - len(gains) - unknown} of {len(cells)} rows"] if unknown < len(cells) else []
    parts += [f"{len(gains)} still improving, {span(gains, 1)} % a quarter"] if gains else []
    parts += [f"not known of {unknown} rows, whose validation curve is not recorded"] if unknown else []
    return "; ".join(parts)


BUDGETS = {
    "epochs": ("config", "trainer", "max_epochs"),
    "steps": ("steps",),
    "learning rates": ("config", "optimizer", "lr"),
    "results_version (code that changes numbers)": ("results_version",),
}
"""What a row was given to train with, and where a record has it."""


def budgets(section: Section) -> list[str]:
    """Return a line for each of epochs, steps, learning rates and versions in which the tyings of a section differ.

    Where all have one learning rate that no search chose, a line says so: it may suit one tying better than another.
    """
    lines = []
    for name, keys in BUDGETS.items():
        tyings_with: dict[str, list[str]] = {}
        for tying, cells in section.tyings.items():
            values = sorted({value for cell in cells for value in cell.values(*keys).values()})
            if values:
                tyings_with.setdefault(_listed(values), []).append(tying)
        if len(tyings_with) > 1:
            of_each = "; ".join(f"{values} ({', '.join(tyings)})" for values, tyings in tyings_with.items())
            lines.append(f"The rows differ in {name}: {of_each}.")
    if (rate := section.given_rate) is not None:
        lines.append(
            f"All rows have one learning rate, {rate:g}, {UNSEARCHED}: each tying may do better at its own."
        )
    return lines + _ends(section)


def _ends(section: Section) -> list[str]:
    """Name the rows whose learning rate was chosen at an end of those tried: one beyond it may be better."""
    at_end: dict[str, dict[str, list[SeedGroup]]] = {}
    for cell in section.cells:
        for end in dict.fromkeys(filter(None, map(_end, cell.runs))):
            at_end.setdefault(end, {}).setdefault(cell.tying, []).append(cell)
    rows = {
        end: [_rows_of(section, *of_tying) for of_tying in cells.items()] for end, cells in at_end.items()
    }
    return [f"{', '.join(names)}: at {end}; one beyond it may be better." for end, names in rows.items()]


def _end(run: RunRecord) -> str | None:
    """Say at which end of the rates that were tried a run's own rate is; None where it is at none."""
    tried = [float(rate) for rate in (run.record or {}).get("lr_search") or ()]
    rate = run.number("config", "optimizer", "lr")
    if not tried or rate not in (min(tried), max(tried)):
        return None
    return f"the {'lowest' if rate == min(tried) else 'highest'} learning rate that was tried, {rate:g}"


def _rows_of(section: Section, tying: str, cells: Sequence[SeedGroup]) -> str:
    """Return the name of a tying, or where these are not all of its rows, that of each row."""
    if len(cells) == len(section.tyings[tying]):
        return tying
    return ", ".join(f"{tying} ({setting(cell)})" for cell in cells)


def _listed(values: Sequence[float]) -> str:
    if len(values) > 3:
        return f"{values[0]:g} to {values[-1]:g}"
    return " and ".join(f"{value:g}" for value in values)


def choice(section: Section) -> str:
    """Say how sure the choice among settings is: how many of a tying are within one standard error of the chosen one.

    Empty where there was one setting each, or the chosen ones stand alone.
    """
    searched = [tying for tying in section.tyings if section.n_searched(tying) > 1]
    as_good = {tying: section.n_as_good(tying) for tying in searched}
    if searched and not any(as_good.values()):
        return "from one seed, so that nobody knows how far chance chose"
    parts = [f"{tying} {n} of {section.n_searched(tying)}" for tying, n in as_good.items() if n and n > 1]
    return f"within one standard error of the best are {', '.join(parts)}" if parts else ""


def _sizes(section: Section) -> Mapping[str, Any]:
    return next((sizes for run in section.runs if (sizes := run.number("data_meta", "sizes"))), {})


def _data(section: Section) -> str:
    sizes = _sizes(section)
    splits = [split for split in ("train", "val", "test") if is_finite(sizes.get(split))]
    counts = ", ".join(f"{split} {sizes[split]:,}" for split in splits)
    mark = section.fingerprint or "not known yet"
    return f"Data: {section.data}, fingerprint {mark}{f' ({counts})' if counts else ''}."


def _rate(section: Section) -> list[str]:
    """Return the learning rate of all rows; nothing where they differ, which `budgets` says."""
    return [f"Learning rate: {next(iter(section.rates)):g}."] if len(section.rates) == 1 else []


def provenance(kind: str, records: list[Mapping[str, Any]]) -> list[str]:
    """Say where the records come from; a second line where they disagree on what may move a number."""

    def counts(*keys: str) -> Counter[str]:
        values = (look_up(record, *keys) for record in records)
        return Counter(str(value) for value in values if value is not None)

    sources = {
        "commit": Counter(filter(None, map(_commit, records))),
        "results_version": counts("results_version"),
        "device": Counter(filter(None, map(device, records))),
        "threads": counts("provenance", "threads"),
        "python": counts("provenance", "python"),
    }
    packages = {name for record in records for name in look_up(record, "provenance", "versions") or {}}
    sources |= {name: counts("provenance", "versions", name) for name in sorted(packages)}
    hosts = counts("provenance", "host")
    parts = [f"{name} {shares(values.elements())}" for name, values in sources.items() if values]
    line = f"{kind}: {len(records)}, on {len(hosts)} host{'s' * (len(hosts) != 1)}; {'; '.join(parts)}."
    mixed = [name for name, values in sources.items() if len(values) > 1]
    warning = [f"{kind} come from more than one {', '.join(mixed)}."] if mixed else []
    return [line, *warning, *code_notes(kind, records)]


def code_notes(kind: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line where records were made with different code of one module, and where their code is not known."""
    hashes: dict[str, dict[int, str]] = {}
    unknown: Counter[str] = Counter()
    for number, record in enumerate(records):
        for role, code in (record.get("code") or {}).items():
            for module, digest in code.get("modules", {}).items():
                hashes.setdefault(module, {})[number] = digest
            if "unknown" in code:
                unknown[f"of the {role}: {code['unknown']}"] += 1
    mixed = []
    for module, digests in sorted(hashes.items()):
        counts = sorted(Counter(digests.values()).values(), reverse=True)
        if len(counts) > 1:
            mixed.append(f"{module} ({' and '.join(map(str, counts))} {kind.lower()})")
    of_all = f"of {len(records)} {kind.lower()}"
    lines = [f"{kind} were made with more than one code of {', '.join(mixed)}."] if mixed else []
    if missing := sum(not record.get("code") for record in records):
        lines.append(f"Code not recorded for {missing} {of_all}.")
    return lines + [f"Code not known for {n} {of_all}, {reason}." for reason, n in sorted(unknown.items())]


def _commit(record: Mapping[str, Any]) -> str | None:
    commit = look_up(record, "provenance", "commit")
    dirty = look_up(record, "provenance", "dirty")
    return f"{str(commit)[:10]}{' (dirty)' if dirty else ''}" if commit else None
