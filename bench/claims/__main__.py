"""`python -m bench.claims`: the claims of conf/claims against the records there are, to results/claims.md."""

import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.analysis.published import read
from bench.claims import claim
from bench.claims.evaluate import Row, row
from bench.claims.records import Evidence
from bench.claims.report import pages, part_text, provenance, summary, tally
from bench.report.markup import WIDTH, plain
from bench.runs.command_line import add_places, framed, parser, refuse
from bench.runs.store import write_bytes_atomic
from bench.tying.errors import BadInput, offer

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

    What is wrong with one claim is in its row. BadInput for an unknown id, no files, and a folder that cannot be
    written.

    Args:
        only: ids of those to evaluate; nothing is written then.
    """
    ids = {path: claim.id_of(path) for path in claim.files(folder)}
    wanted = {name.upper() for name in only or ids.values()}
    if unknown := sorted(wanted - set(ids.values())):
        raise BadInput(f"no claim {unknown[0]}: {offer(unknown[0], ids.values(), 'there is')}")
    published = {row.id: row for row in read()}
    evidence, rows = Evidence(runs, results), []
    for path, name in ids.items():
        if name in wanted:
            began = time.perf_counter()
            rows.append(row(path, evidence))
            out(_text(rows[-1], time.perf_counter() - began))
    out("\n".join(["", plain(summary(rows, WIDTH)), *tally(rows)]))
    if not only:
        for file, text in pages(rows, provenance(evidence.frames), published).items():
            write_bytes_atomic(results / file, text.encode())
        out(str(results / "claims.md"))
    return rows


def _text(row: Row, seconds: float) -> str:
    """Return the row as lines of text: verdict, what is said, what was measured."""
    lines = [row.claim.statement] if row.claim else []
    lines += [f"- {part_text(part)}{f': {verdict}' if verdict else ''}" for part, verdict in row.judged]
    lines += [row.why] if row.why else []
    indented = [textwrap.fill(t, WIDTH, initial_indent=" " * 5, subsequent_indent=" " * 7) for t in lines]
    return "\n".join([f"{row.id:<4} {row.verdict}  ({seconds:.1f} s)", *indented])


@framed
def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate the claims that the command line asks for. Returns 2 where one cannot be evaluated."""
    command = parser(
        "bench.claims",
        "Put the claims of conf/claims to the test: the exact ones now, the others on recorded sweeps.",
        EXAMPLES,
    )
    add_places(command, runs="of the records", results="to write to")
    command.add_argument("--claims", default=str(claim.FOLDER), help="folder of the claim files")
    command.add_argument(
        "--only", action="extend", nargs="+", metavar="ID", help="these claims; writes nothing"
    )
    options = command.parse_args(arguments)
    # Before torch is imported: the networks are small, and the same sums come out everywhere.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = build(
        Path(options.runs),
        Path(options.results),
        Path(options.claims),
        options.only,
        partial(print, flush=True),
    )
    return max((refuse(evaluated.why) for evaluated in rows if evaluated.is_bad), default=0)


if __name__ == "__main__":
    sys.exit(main())
