"""Tell whether records can be traced to code that the history of this project holds."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from bench.analysis.archive import Recorded

UNKNOWN = "not recorded"
_DIRTY = " with edits"


def source_of(record: Mapping[str, Any]) -> str | None:
    """Return what says which code made a record: its two tree hashes, else its commit.

    Returns:
        None of a record that no run made, such as that of a tying which does not apply.
    """
    provenance = record.get("provenance")
    if not provenance:
        return None
    if trees := provenance.get("trees"):
        return f"{trees['bench']} {trees['conf']}"
    return f"{provenance.get('commit') or UNKNOWN}{_DIRTY if provenance.get('dirty') else ''}"


def is_traced(source: str, history: Collection[str]) -> bool:
    """Tell whether the history has a source. A commit of ten digits or more is known by its beginning."""
    return source in history or (
        len(source) >= 10 and " " not in source and any(known.startswith(source) for known in history)
    )


def sources(sweep: Recorded) -> set[str]:
    return set(filter(None, map(source_of, [*sweep.records.values(), *sweep.costs.values()])))


def stated(sweep: Recorded, history: Collection[str]) -> Recorded:
    """Return the sweep with those sources of its records stated that the history does not hold."""
    return replace(sweep, untraced=tuple(sorted(s for s in sources(sweep) if not is_traced(s, history))))


def sentence(sweep: Recorded) -> str | None:
    """Return how many runs and costs are of code that the history no longer holds, as the file states.

    Returns:
        None where there is none.
    """
    kinds = {"runs": sweep.records.values(), "costs": sweep.costs.values()}
    counts = {kind: _count(records, sweep.untraced) for kind, records in kinds.items()}
    texts = [f"{count} of {len(kinds[kind])} {kind}" for kind, count in counts.items() if count]
    if not texts:
        return None
    return (
        f"{' and '.join(texts)} were made at commits that are no longer in the history of this project, "
        f"which was rewritten: the code that made them cannot be looked up{_fingerprints(sweep)}."
    )


def caveats(sweep: Recorded) -> str | None:
    """Return what a page says of the records as a whole: what they lack, and how many are not traced."""
    return " ".join(filter(None, [sweep.lacks, sentence(sweep)])) or None


def _count(records: Iterable[Mapping[str, Any]], untraced: Collection[str]) -> int:
    return sum(source_of(record) in untraced for record in records)


def _fingerprints(sweep: Recorded) -> str:
    records = [r for r in [*sweep.records.values(), *sweep.costs.values()] if source_of(r) in sweep.untraced]
    known = sum(bool(record.get("code")) for record in records)
    if known:
        return f"; {known} of them hold a fingerprint of their code, which `make sweep` compares with today's"
    return ", and no fingerprint of it was recorded"
