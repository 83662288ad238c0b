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
    """The task's trivial scores and what share of each the best row reaches; empty where none is recorded."""
    recorded: dict[str, float] = {}
    for run in section.runs:
        recorded |= {k: v for k, v in (run.number("data_meta", "floors") or {}).items() if is_finite(v) and v}
    metric = section.metric
    recorded = {name: value for name, value in recorded.items() if name.endswith(metric.name)}
    means = [value for cell in section.cells if (value := mean(cell.metric_over_seeds())) is not None]
    best = metric.best(means) if means else None
    said = [_floor(name, recorded[name], best) for name in sorted(recorded, reverse=True)]
    if not said:
        return ""
    return ", ".join(said) if best is None else f"best row {_value(best, metric.name)} is {', '.join(said)}"


def _floor(name: str, value: float, best: float | None) -> str:
    text = f"{name.replace('_', ' ')} {_value(value, name)}"
    return text if best is None else f"{best / value:.2f}x {text}"


def _value(value: float, name: str) -> str:
    return f"{100 * value:.1f} %" if name.endswith("accuracy") else fixed(value, places([value]))


def footer(section: Section, note: str | None) -> list[str]:
    """Lines, each a statement of its own."""
    lines = [f"Floors: {text}." if (text := floors(section)) else "Floors: none recorded."]
    lines.append(_data(section))
    lines.append(
        "Seeds: " + ", ".join(str(seed) for seed in sorted({run.seed for run in section.runs})) + "."
    )
    lines += _rates(section)
    records = [run.record for run in section.runs if run.is_done]
    lines += provenance("Runs", records) if records else []
    lines += [note_line(note)] if note else []
    lines += [EFFECTIVE] if has_effective(section.cells) else []
    return [*lines, READING, *_by_group(section), verdict_rule(section)]


def note_line(note: str) -> str:
    return f"Note: {' '.join(note.split())}"


def verdict_rule(section: Section, family: str = "the tyings at one dropout and weight decay") -> str:
    """How the words of the verdicts came about, with the margin of the section's metric and what was corrected over."""
    share = f"{100 * SHARE_MARGIN:g} percentage points"
    other = f"{100 * OTHER_MARGIN:g} % of the mean of `none`"
    return VERDICT.format(share if section.metric.is_share else other, family, ENOUGH)


def _by_group(section: Section) -> list[str]:
    sizes = sorted({cell.by_group.n for cell in section.cells if cell.by_group})
    return [BY_GROUP.format(" or ".join(map(str, sizes)))] if sizes else []


def _data(section: Section) -> str:
    sizes = next((s for run in section.runs if (s := run.number("data_meta", "sizes"))), {})
    said = ", ".join(
        f"{split} {sizes[split]:,}" for split in ("train", "val", "test") if is_finite(sizes.get(split))
    )
    return f"Data: {section.data}, fingerprint {section.fingerprint or 'not known yet'}" + (
        f" ({said})." if said else "."
    )


def _rates(section: Section) -> list[str]:
    """The learning rate, or that of each tying where they differ: it may have been chosen per tying."""
    rates = {
        tying: sorted({rate for cell in cells for rate in cell.values("config", "optimizer", "lr").values()})
        for tying, cells in section.tyings.items()
    }
    said = {tying: " and ".join(f"{rate:g}" for rate in found) for tying, found in rates.items() if found}
    if len(set(said.values())) > 1:
        return [f"Learning rates: {', '.join(f'{tying} {rate}' for tying, rate in said.items())}."]
    return [f"Learning rate: {rate}." for rate in set(said.values())]


def provenance(what: str, records: list[Mapping[str, Any]]) -> list[str]:
    """One line of where the records come from; a second one where they disagree on what may move a number."""
    said = {
        "commit": _counted(_commit(record) for record in records),
        "results_version": _counted(record.get("results_version") for record in records),
        "device": _counted(device(record) for record in records),
        "threads": _counted(look_up(record, "provenance", "threads") for record in records),
        "python": _counted(look_up(record, "provenance", "python") for record in records),
    }
    packages = sorted(
        {name for record in records for name in look_up(record, "provenance", "versions") or {}}
    )
    for name in packages:
        said[name] = _counted(look_up(record, "provenance", "versions", name) for record in records)
    hosts = {host for record in records if (host := look_up(record, "provenance", "host"))}
    parts = [f"{name} {_spoken(found)}" for name, found in said.items() if found]
    codes = code_notes(what, records)
    line = f"{what}: {len(records)}, on {len(hosts)} host{'s' * (len(hosts) != 1)}; {'; '.join(parts)}."
    mixed = [name for name, found in said.items() if len(found) > 1]
    more = [f"{what} come from more than one {', '.join(mixed)}."] if mixed else []
    return [line, *more, *codes]


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
    counts = {
        module: sorted(Counter(made.values()).values(), reverse=True) for module, made in hashes.items()
    }
    mixed = [
        f"{module} ({' and '.join(map(str, found))} {what.lower()})"
        for module, found in sorted(counts.items())
        if len(found) > 1
    ]
    of_all = f"of {len(records)} {what.lower()}"
    lines = [f"{what} were made with more than one code of {', '.join(mixed)}."] if mixed else []
    if missing := sum(not record.get("code") for record in records):
        lines.append(f"Code not recorded for {missing} {of_all}.")
    return lines + [f"Code not known for {n} {of_all}, {reason}." for reason, n in sorted(unknown.items())]


def _commit(record: Mapping[str, Any]) -> str | None:
    commit = look_up(record, "provenance", "commit")
    dirty = look_up(record, "provenance", "dirty")
    return f"{str(commit)[:10]}{' (dirty)' if dirty else ''}" if commit else None


def _counted(values: Any) -> Counter:
    return Counter(str(value) for value in values if value is not None)


def _spoken(found: Counter) -> str:
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{name} ({found[name]} of {found.total()})" for name in sorted(found, key=natural))
