"""Write the ledger: claims.md, csv, tex and json, with the provenance of its numbers."""

import json
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bench.analysis.groups import natural
from bench.claims.claim import Claim
from bench.claims.evaluate import Row
from bench.claims.parts import Measure, Part
from bench.report.markup import Table, csv_text, latex, markdown
from bench.runs.store import Status

if TYPE_CHECKING:
    from pandas import DataFrame


PACKAGES = ("torch", "transformers")
"""What the arithmetic and exact claims are computed with."""
COLUMNS = ("results_version", "device", "threads", "python")


def lines(frames: Sequence[tuple[str, "DataFrame"]]) -> list[str]:
    """One line of the computed claims, and one per sweep; a value that not all runs share says how many do."""
    made = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"Arithmetic and exact claims: computed with {made}.",
        *(_provenance_line(*frame) for frame in frames),
    ]


def _provenance_line(name: str, frame: "DataFrame") -> str:
    done = frame[frame.status == Status.DONE]
    data = sorted({f"{d} {f}" for d, f in zip(done["data"], done["fingerprint"], strict=True)})
    said = [f"data {', '.join(data)}"] if data else []
    if "commit" in done.columns:
        dirty = done["dirty"] if "dirty" in done.columns else [False] * len(done)
        pairs = zip(done["commit"].dropna(), dirty, strict=False)
        said.append(
            f"commit {_counted([str(commit)[:10] + ' (dirty)' * (d is True) for commit, d in pairs])}"
        )
    versions = [column for column in done.columns if column.startswith("version_")]
    for column in (*COLUMNS, *sorted(versions)):
        if column in done.columns and done[column].notna().any():
            values = [f"{v:g}" if isinstance(v, float) else str(v) for v in done[column].dropna()]
            said.append(f"{column.removeprefix('version_')} {_counted(values)}")
    return f"{name}: {len(done)} of {len(frame)} runs done; {'; '.join(said)}."


def _counted(values: Sequence[str]) -> str:
    names = sorted(set(values), key=natural)
    if len(names) == 1:
        return names[0]
    return ", ".join(f"{name} ({list(values).count(name)} of {len(values)})" for name in names)


MADE_BY = "made by `make claims`; do not edit"
READING = (
    "Each claim is a file of conf/claims, which holds the test and the rule by which it is judged. Intervals are "
    "95 %: of Student's t over seeds, paired by seed where two things are compared, unless the unit says otherwise. "
    "A gain above 0 is better on test: points of accuracy, or percent of perplexity as 100 ln(theirs / ours). A "
    "claim of several parts is supported where every part supports it, and contradicted where a part contradicts it "
    "and none supports it, unless its file says otherwise; parts in brackets decide nothing. Intervals are shown each "
    "for itself; several parts are judged by wider ones that cover in all of them at once (Bonferroni)."
)
DIGITS = 9
"""Significant digits of numbers in csv and json: what is beyond differs between versions of a library."""


def pages(rows: Sequence[Row], provenance: Sequence[str]) -> dict[str, str]:
    """File name -> content. The same rows give the same bytes."""
    head, lines = ["claim", "said", "measured", "verdict", "reduced"], [_line(row) for row in rows]
    table = Table(head, "lllll", lines)
    narrow = Table(head, "lp{4cm}p{8cm}p{2.2cm}p{4cm}", lines)
    commands = "".join(f"{row.id:<4} {row.claim.command}\n" for row in rows if row.claim)
    below = "".join(f"- {line}\n" for line in [READING, *provenance])
    counts = "".join(f"- {line}\n" for line in tally(rows))
    return {
        "claims.md": f"<!-- {MADE_BY} -->\n# Claims\n\n{counts}\n{markdown(table)}\n{below}\n"
        f"## Commands\n\n```\n{commands}```\n",
        "claims.tex": f"% {MADE_BY}\n{latex(narrow)}{''.join(f'% {line}{chr(10)}' for line in provenance)}",
        "claims.csv": csv_text([found for row in rows for found in _flat(row)]),
        "claims.json": json.dumps([_nested(row) for row in rows], indent=1, ensure_ascii=False) + "\n",
    }


def tally(rows: Sequence[Row]) -> list[str]:
    """`supported: C1, C3` for each verdict there is, without what stands beside it."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.verdict.split(";")[0].split(":")[0].split(" (")[0], []).append(row.id)
    return [f"{verdict}: {', '.join(found[verdict])} ({len(found[verdict])})" for verdict in sorted(found)]


def summary(rows: Sequence[Row], columns: int) -> Table:
    """One line a claim, of at most so many characters with what is said cut to fit."""
    lines = [[row.id, row.claim.kind if row.claim else "—", row.verdict.split(";")[0]] for row in rows]
    head = ["claim", "kind", "verdict"]
    left = columns - sum(2 + max(map(len, column)) for column in zip(head, *lines, strict=True))
    said = [row.claim.statement if row.claim else row.why for row in rows]
    cut = [textwrap.shorten(text, max(left, 20), placeholder=" ...") for text in said]
    return Table([*head, "said"], "llll", [[*line, text] for line, text in zip(lines, cut, strict=True)])


def part_text(part: Part) -> str:
    """`text_gru, pydocs: gain 1.2 [0.3, 2.1] % of perplexity, n = 5 (ours: 1 of 6 diverged)`."""
    said = "; ".join(measure.shown for measure in part.measures) if part.is_measured else "—"
    return f"{part.name}: {said}" + (f" ({part.note})" if part.note else "")


def _line(row: Row) -> list[str]:
    measured = [_judged(part, found) for part, found in row.judged]
    claim = row.claim
    said = f"{claim.statement} ({claim.source}; {claim.kind})" if claim else ""
    reduced = claim.reduced if claim else ""
    return [
        row.id,
        said,
        "\n".join([*measured, row.why] if row.why else measured) or "—",
        row.verdict,
        reduced or "—",
    ]


def _judged(part: Part, found: str | None) -> str:
    return f"[{part_text(part)}]" if found is None else f"{part_text(part)}: {found}"


def _flat(row: Row) -> list[dict[str, Any]]:
    kind, command = (row.claim.kind, row.claim.command) if row.claim else (None, None)
    head = {"claim": row.id, "kind": kind, "verdict": row.verdict, "why": row.why, "command": command}
    if not any(part.is_measured for part, _ in row.judged):
        return [head]
    return [
        {**head, "part": part.name, "part_verdict": found, "note": part.note, **_measure(measure)}
        for part, found in row.judged
        for measure in part.measures
    ]


def _measure(measure: Measure) -> dict[str, Any]:
    found = measure._asdict()
    return {
        "measure": found.pop("name"),
        "unit": found.pop("unit"),
        **{key: _significant(value) for key, value in found.items()},
    }


def _significant(value: float | None) -> float | None:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _nested(row: Row) -> dict[str, Any]:
    parts = [
        {
            "name": part.name,
            "verdict": found,
            "note": part.note,
            "measures": [_measure(measure) for measure in part.measures],
        }
        for part, found in row.judged
    ]
    said = _said(row.claim) if row.claim else {}
    return {"id": row.id, "verdict": row.verdict, "why": row.why, **said, "parts": parts}


def _said(claim: Claim) -> dict[str, Any]:
    return {
        "statement": claim.statement,
        "source": claim.source,
        "kind": claim.kind,
        "sweeps": list(claim.sweeps),
        "rule": dict(claim.rule) if claim.rule else None,
        "overall": dict(claim.overall),
        "reduced": claim.reduced,
        "command": claim.command,
    }
