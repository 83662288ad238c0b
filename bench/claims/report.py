"""Write the ledger: claims.md, csv, tex and json, with the provenance of its numbers."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bench.analysis.published import Published
from bench.claims.evaluate import Measure, Part, Row
from bench.claims.rule import Word
from bench.report.markup import Table, csv_text, latex, markdown
from bench.report.numbers import shares
from bench.runs.store import Status

if TYPE_CHECKING:
    from pandas import DataFrame


PACKAGES = ("torch", "transformers")
"""What the arithmetic and exact claims are computed with."""
COLUMNS = ("results_version", "device", "threads", "python")


def provenance(frames: Mapping[str, "DataFrame | None"]) -> list[str]:
    """Return a line of the computed claims and one per sweep. A value that not all runs share says how many do."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    recorded = [(name, frames[name]) for name in sorted(frames) if frames[name] is not None]
    return [
        f"Arithmetic and exact claims: computed with {packages}.",
        *(_provenance_of(name, frame) for name, frame in recorded),
    ]


def _provenance_of(name: str, frame: "DataFrame") -> str:
    done = frame[frame.status == Status.DONE]
    facts = []
    if data := sorted({f"{d} {f}" for d, f in zip(done["data"], done["fingerprint"], strict=True)}):
        facts.append(f"data {', '.join(data)}")
    if "commit" in done.columns:
        dirty = done["dirty"] if "dirty" in done.columns else [False] * len(done)
        commits = zip(done["commit"].dropna(), dirty, strict=False)
        facts.append(f"commit {shares(str(c)[:10] + ' (dirty)' * (d is True) for c, d in commits)}")
    for column in (*COLUMNS, *sorted(column for column in done.columns if column.startswith("version_"))):
        if column in done.columns and done[column].notna().any():
            values = shares(f"{v:g}" if isinstance(v, float) else str(v) for v in done[column].dropna())
            facts.append(f"{column.removeprefix('version_')} {values}")
    return f"{name}: {len(done)} of {len(frame)} runs done; {'; '.join(facts)}."


MADE_BY = "made by `make claims`; do not edit"
READING = (
    "Each claim is a file of conf/claims, which holds the test and the rule by which it is judged. Intervals are "
    "95 %: of Student's t over seeds, paired by seed where two things are compared, unless the unit says otherwise. "
    "A gain above 0 is better on test: points of accuracy, or percent of perplexity as 100 ln(theirs / ours). Parts in "
    "brackets decide nothing. Intervals are shown each for itself; the parts that are judged are judged by wider ones "
    "that cover in all of them at once (Bonferroni).",
    "A claim is *supported* where every part supports it, *refuted* where a part refutes it and none supports it, "
    "and *mixed by condition* where some parts support it and others do not: they are listed; a file may count "
    "otherwise. *Inconclusive*: neither is shown, and beside it stands the smallest effect that this n and spread "
    "would have shown four times in five; or a run diverged or failed, and those that are left are not all. *Not "
    "testable here* says what is missing. *Vacuous*: the case that the "
    "claim speaks of never arose.",
    "A rule was fixed before the runs where every run's record holds the hash of the rule as it is now; where that is "
    "not shown, the runs are older than such hashes, or the rule was changed since.",
)
QUESTION = "What is said about tying, and does it hold?"
DIGITS = 9
"""Significant digits of numbers in csv and json: what is beyond differs between versions of a library."""


def pages(
    rows: Sequence[Row], provenance: Sequence[str], published: Mapping[str, Published]
) -> dict[str, str]:
    """Return file name -> content. The same rows give the same bytes."""
    head = ["claim", "said", "measured", "verdict", "reduced"]
    narrow = latex(Table(head, "lp{4cm}p{8cm}p{3.2cm}p{4cm}", [_line(row) for row in rows]))
    overview = Table(["claim", "said", "verdict"], "lll", [_short_line(row) for row in rows])
    below = "".join(f"- {line}\n" for line in [*READING, *provenance])
    counts = "".join(f"- {line}\n" for line in tally(rows))
    sections = "\n".join(_section(row, published) for row in rows)
    return {
        "claims.md": f"<!-- {MADE_BY} -->\n# {QUESTION}\n\n{counts}\n{markdown(overview)}\n{sections}\n"
        f"## How to read this, and what it is made of\n\n{below}",
        "claims.tex": "".join([f"% {MADE_BY}\n", narrow, *(f"% {line}\n" for line in provenance)]),
        "claims.csv": csv_text([line for row in rows for line in _flat(row)]),
        "claims.json": "[\n"
        + ",\n".join(json.dumps(_nested(row), ensure_ascii=False) for row in rows)
        + "\n]\n",
    }


def _short_line(row: Row) -> list[str]:
    return [
        f"[{row.id}](#{row.id.lower()})",
        row.claim.statement if row.claim else row.why,
        row.verdict.short,
    ]


def _section(row: Row, published: Mapping[str, Published]) -> str:
    """Return what a page says of one claim, under a heading that is its id."""
    lines = [f"## {row.id}", ""]
    claim = row.claim
    if claim:
        lines += [f"*{claim.statement}*", "", f"Source: {claim.source}. Kind: {claim.kind}.", ""]
    lines += [f"**{row.verdict.short}**{f': {row.verdict.detail}' if row.verdict.detail else ''}", ""]
    lines += [f"- {text}" for text in _measured(row)]
    if claim:
        facts = {
            "Reduced": claim.reduced,
            "What would decide it": claim.decided_by,
            "Rule": FIXED[row.fixed] if row.fixed is not None else "",
        }
        lines += [f"- {name}: {text}" for name, text in facts.items() if text]
        if claim.published:
            lines += [f"- Published: {published[name].shown}." for name in claim.published["rows"]]
            lines += [f"- Published against measured: {' '.join(claim.published['reading'].split())}"]
        lines += [f"- Again: `{claim.command}`"]
    return "\n".join(lines) + "\n"


FIXED = {True: "fixed before the runs, as their records show", False: "not shown to be fixed before the runs"}


def tally(rows: Sequence[Row]) -> list[str]:
    """Return `supported: C1, C3 (2)` for each verdict there is, without what stands beside it."""
    ids: dict[str, list[str]] = {}
    for row in rows:
        ids.setdefault(str(row.verdict.word), []).append(row.id)
    return [f"{word}: {', '.join(ids[word])} ({len(ids[word])})" for word in Word if word in ids]


def summary(rows: Sequence[Row], columns: int) -> Table:
    """Return a table of one line a claim, of at most so many characters with the statement cut to fit."""
    head = ["claim", "kind", "verdict"]
    lines = [[row.id, row.claim.kind if row.claim else "—", row.verdict.short] for row in rows]
    left = columns - sum(2 + max(map(len, column)) for column in zip(head, *lines, strict=True))
    for line, row in zip(lines, rows, strict=True):
        statement = row.claim.statement if row.claim else row.why
        line.append(textwrap.shorten(statement, max(left, 20), placeholder=" ..."))
    return Table([*head, "said"], "llll", lines)


def part_text(part: Part) -> str:
    """Return `text_gru, pydocs: gain 1.2 [0.3, 2.1] % of perplexity, n = 5 (ours: 1 of 6 diverged)`."""
    numbers = "; ".join(measure.shown for measure in part.measures) if part.is_measured else "—"
    return f"{part.name}: {numbers}" + (f" ({part.note})" if part.note else "")


def _measured(row: Row) -> list[str]:
    measured = [
        f"[{part_text(part)}]" if verdict is None else f"{part_text(part)}: {verdict}"
        for part, verdict in row.judged
    ]
    return [*measured, row.why] if row.why else measured


def _line(row: Row) -> list[str]:
    claim = row.claim
    statement = f"{claim.statement} ({claim.source}; {claim.kind})" if claim else ""
    measured = "\n".join(_measured(row)) or "—"
    return [row.id, statement, measured, str(row.verdict), (claim and claim.reduced) or "—"]


def _flat(row: Row) -> list[dict[str, Any]]:
    kind, command = (row.claim.kind, row.claim.command) if row.claim else (None, None)
    head = {"claim": row.id, "kind": kind, "verdict": str(row.verdict.word), "detail": row.verdict.detail}
    head |= {"why": row.why, "command": command}
    if not any(part.is_measured for part, _ in row.judged):
        return [head]
    return [
        {
            **head,
            "part": part.name,
            "part_verdict": verdict and str(verdict),
            "note": part.note,
            **_measure(measure),
        }
        for part, verdict in row.judged
        for measure in part.measures
    ]


def _measure(measure: Measure) -> dict[str, Any]:
    keys = {"measure": measure.name, "unit": measure.unit}
    return keys | {
        key: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for key, value in measure._asdict().items()
        if key not in ("name", "unit")
    }


def _nested(row: Row) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": row.id,
        "verdict": str(row.verdict.word),
        "detail": row.verdict.detail,
        "too_few_seeds": row.verdict.is_hint,
        "why": row.why,
        "fixed_before_the_runs": row.fixed,
    }
    if claim := row.claim:
        content |= {
            "statement": claim.statement,
            "source": claim.source,
            "kind": claim.kind,
            "sweeps": list(claim.sweeps),
            "rule": dict(claim.rule) if claim.rule else None,
            "overall": dict(claim.overall),
            "rule_hash": claim.hash,
            "reduced": claim.reduced,
            "decided_by": claim.decided_by,
            "published": dict(claim.published) if claim.published else None,
            "command": claim.command,
        }
    content["parts"] = [
        {
            "name": part.name,
            "verdict": verdict and str(verdict),
            "note": part.note,
            "measures": list(map(_measure, part.measures)),
        }
        for part, verdict in row.judged
    ]
    return content
