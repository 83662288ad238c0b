"""What stands below a table: floors, data, provenance, how to read it. No time of day, so same bytes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bench.analysis.groups import Section, natural
from bench.analysis.runs import device, is_finite, look_up
from bench.analysis.statistics import ENOUGH, OTHER_MARGIN, SHARE_MARGIN
from bench.report.comparison import EFFECTIVE, has_effective, mean
from bench.report.numbers import fixed, places

READING = (
    "Mean [95 % Student-t interval] over seeds; one seed has no interval. The difference to none is at the same "
    "dropout and weight decay, paired by seed. The gap is validation minus training loss, both in eval mode, the "
    "latter on a fixed part of the training split: how hard that part is shifts every row alike, so compare rows, "
    "not signs. The best of a column is marked."
)
VERDICT = (
    "Verdict: equivalent where the 90 % interval of the difference lies within ±{} (two one-sided tests at 5 %, "
    "Schuirmann 1987); else better or worse where p < 0.05 after Holm's correction over {}; else no difference "
    "shown, which does not say that there is none. Below {} seeds none of it is more than a hint."
)
BY_GROUP = (
    "By group: the 95 % interval of the same mean where the {} groups of the test split are drawn anew, the same ones "
    "at all seeds: what another draw of groups would change, and not what other seeds would."
)


def floors(section: Section) -> str:
    """Say the task's trivial scores and what share of each the best row reaches; empty where none is recorded."""
    recorded: dict[str, float] = {}
    for run in section.runs:
        recorded |= {k: v for k, v in (run.number("data_meta", "floors") or {}).items() if is_finite(v) and v}
    metric = section.metric
    means = [value for cell in section.cells if (value := mean(cell.metric_over_seeds())) is not None]
    best = metric.best(means) if means else None
    parts = []
    for name, value in sorted(recorded.items(), reverse=True):
        if name.endswith(metric.name):
            text = f"{name.replace('_', ' ')} {_value(value, name)}"
            parts.append(text if best is None else f"{best / value:.2f}x {text}")
    best_row = f"best row {_value(best, metric.name)} is " if parts and best is not None else ""
    return best_row + ", ".join(parts)


def _value(value: float, name: str) -> str:
    return f"{100 * value:.1f} %" if name.endswith("accuracy") else fixed(value, places([value]))


def footer(section: Section, note: str | None) -> list[str]:
    """Lines, each a statement of its own."""
    records = [run.record for run in section.runs if run.is_done]
    seeds = sorted({run.seed for run in section.runs})
    lines = [f"Floors: {text}." if (text := floors(section)) else "Floors: none recorded."]
    lines += [_data(section), f"Seeds: {', '.join(map(str, seeds))}.", *_rates(section)]
    lines += provenance("Runs", records) if records else []
    lines += [note_line(note)] if note else []
    lines += [EFFECTIVE] if has_effective(section.cells) else []
    sizes = sorted({cell.by_group.n for cell in section.cells if cell.by_group})
    by_group = [BY_GROUP.format(" or ".join(map(str, sizes)))] if sizes else []
    return [*lines, READING, *by_group, verdict_rule(section)]


def note_line(note: str) -> str:
    return f"Note: {' '.join(note.split())}"


def verdict_rule(section: Section, family: str = "the tyings at one dropout and weight decay") -> str:
    """How the words of the verdicts came about, with the margin of the section's metric and what was corrected over."""
    share = f"{100 * SHARE_MARGIN:g} percentage points"
    other = f"{100 * OTHER_MARGIN:g} % of the mean of `none`"
    return VERDICT.format(share if section.metric.is_share else other, family, ENOUGH)


def _data(section: Section) -> str:
    sizes = next((s for run in section.runs if (s := run.number("data_meta", "sizes"))), {})
    known = [split for split in ("train", "val", "test") if is_finite(sizes.get(split))]
    counts = ", ".join(f"{split} {sizes[split]:,}" for split in known)
    mark = section.fingerprint or "not known yet"
    return f"Data: {section.data}, fingerprint {mark}{f' ({counts})' if counts else ''}."


def _rates(section: Section) -> list[str]:
    """The learning rate, or that of each tying where they differ: it may have been chosen per tying."""
    texts = {}
    for tying, cells in section.tyings.items():
        rates = {rate for cell in cells for rate in cell.values("config", "optimizer", "lr").values()}
        if rates:
            texts[tying] = " and ".join(f"{rate:g}" for rate in sorted(rates))
    if len(set(texts.values())) > 1:
        return [f"Learning rates: {', '.join(f'{tying} {text}' for tying, text in texts.items())}."]
    return [f"Learning rate: {text}." for text in set(texts.values())]


def provenance(what: str, records: list[Mapping[str, Any]]) -> list[str]:
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
    parts = [f"{name} {_shares(values)}" for name, values in sources.items() if values]
    line = f"{what}: {len(records)}, on {len(hosts)} host{'s' * (len(hosts) != 1)}; {'; '.join(parts)}."
    mixed = [name for name, values in sources.items() if len(values) > 1]
    more = [f"{what} come from more than one {', '.join(mixed)}."] if mixed else []
    return [line, *more, *code_notes(what, records)]


def code_notes(what: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
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
            mixed.append(f"{module} ({' and '.join(map(str, counts))} {what.lower()})")
    of_all = f"of {len(records)} {what.lower()}"
    lines = [f"{what} were made with more than one code of {', '.join(mixed)}."] if mixed else []
    if missing := sum(not record.get("code") for record in records):
        lines.append(f"Code not recorded for {missing} {of_all}.")
    return lines + [f"Code not known for {n} {of_all}, {reason}." for reason, n in sorted(unknown.items())]


def _commit(record: Mapping[str, Any]) -> str | None:
    commit = look_up(record, "provenance", "commit")
    dirty = look_up(record, "provenance", "dirty")
    return f"{str(commit)[:10]}{' (dirty)' if dirty else ''}" if commit else None


def _shares(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({counts[name]} of {counts.total()})" for name in sorted(counts, key=natural))
