"""`python -m bench.claims`: the claims of conf/claims against the records there are, to results/claims.md."""

import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.claims import claim, report
from bench.claims.evaluate import Row, row
from bench.claims.records import Evidence
from bench.claims.report import pages, part_text, summary, tally
from bench.report.markup import plain
from bench.runs.command_line import add_places, framed, parser, refuse
from bench.runs.store import write_bytes_atomic
from bench.tying.errors import BadInput

COLUMNS = 120
EXAMPLES = """examples:
  python -m bench.claims                          every claim, to results/claims.md
  python -m bench.claims --only C8 --only C16     these, to the terminal alone

Records of a sweep are read from --runs, and what is not there from RESULTS/SWEEP/records.jsonl.gz.
Exit code: 0 done, 2 bad input, such as a claim file with a bad expression.
"""


def build(
    runs: Path,
    results: Path,
    folder: Path = claim.FOLDER,
    only: Sequence[str] | None = None,
    out: Callable[[str], object] = print,
) -> list[Row]:
    """Evaluate the claim files of a folder, say each through `out`, and write results/claims.*.

    `only`: ids of those to evaluate; nothing is written then. BadInput for an unknown id, no files, and a folder
    that cannot be written; what is wrong with one claim is in its row.
    """
    evidence, rows = Evidence(runs, results), []
    for path in _wanted(folder, only):
        began = time.perf_counter()
        rows.append(row(path, evidence))
        out(_told(rows[-1], time.perf_counter() - began))
    out("\n".join(["", plain(summary(rows, COLUMNS)), *tally(rows)]))
    if not only:
        frames = [
            (name, frame) for name in sorted(evidence.frames) if (frame := evidence.frames[name]) is not None
        ]
        for file, text in pages(rows, report.lines(frames)).items():
            write_bytes_atomic(results / file, text.encode())
        out(str(results / "claims.md"))
    return rows


def _wanted(folder: Path, only: Sequence[str] | None) -> list[Path]:
    found = claim.files(folder)
    ids = {path: claim.id_of(path) for path in found}
    asked = {name.upper() for name in only or ids.values()}
    if unknown := sorted(asked - set(ids.values())):
        raise BadInput(f"no claim {', '.join(unknown)}: there is {', '.join(ids.values())}")
    return [path for path in found if ids[path] in asked]


def _told(found: Row, seconds: float) -> str:
    """The row as lines of text: verdict, what is said, what was measured."""
    head = f"{found.id:<4} {found.verdict}  ({seconds:.1f} s)"
    said = [found.claim.statement] if found.claim else []
    measured = [f"- {part_text(part)}{f': {verdict}' if verdict else ''}" for part, verdict in found.judged]
    body = [*said, *measured, *([found.why] if found.why else [])]
    return "\n".join([head, *(_indented(line) for line in body)])


def _indented(text: str) -> str:
    return textwrap.fill(text, COLUMNS, initial_indent=" " * 5, subsequent_indent=" " * 7)


@framed
def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate the claims that the command line asks for. Returns 2 where one cannot be evaluated."""
    options = parser(
        "bench.claims",
        "Put the claims of conf/claims to the test: the exact ones now, the others on recorded sweeps.",
        EXAMPLES,
    )
    add_places(options, runs="of the records", results="to write to")
    options.add_argument("--claims", default=str(claim.FOLDER), help="folder of the claim files")
    options.add_argument(
        "--only", action="extend", nargs="+", metavar="ID", help="these claims; writes nothing"
    )
    chosen = options.parse_args(arguments)
    # Before torch is imported: the networks are small, and the same sums come out everywhere.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = build(Path(chosen.runs), Path(chosen.results), Path(chosen.claims), chosen.only, _say)
    return max((refuse(evaluated.why) for evaluated in rows if evaluated.is_bad), default=0)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
