"""`python -m bench.audit.survey`: how alike are the neighbouring blocks of trained networks that people use?

Audits the networks of packages (`make zoo`) and writes results/zoo/: a row for each block and the next.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.audit.audit import Audit, TiedAlready, audit
from bench.audit.load import subject
from bench.data.zoo import PREFIX, ZOO
from bench.report.markup import Column, csv_text, markdown, tabulate
from bench.report.numbers import NOTHING, fixed
from bench.runs.command_line import add_places, framed, parser
from bench.runs.store import write_bytes_atomic
from bench.tying.similarity import Aligned

QUESTION = "Are neighbouring blocks of trained networks alike?"
FOLDER, THRESHOLD = "zoo", 0.8
"""Where the tables go, and the cosine from which on an advice calls neighbours candidates (claim C13)."""
FIGURES = ("cosine", "cosine_at_random", "highest", "aligned", "aligned_at_random")
HEADINGS = ("cosine", "at random", "highest of a kind", "feed-forward aligned", "at random")
HOW = (
    "Cosine: over all weights of a block and the next that have one shape. Highest of a kind: of one kind of weight, "
    "such as the queries. Aligned: feed-forward weights once hidden units stand in the best order. At random: the same "
    "network before training."
)


@framed
def main(arguments: Sequence[str] | None = None) -> None:
    """Audit every network of a package and write the tables. BadInput, with the command, where one is missing."""
    options = parser("bench.audit.survey", __doc__)
    add_places(options, results="to write to")
    folder = Path(options.parse_args(arguments).results) / FOLDER
    rows, notes = [], [HOW]
    for name in ZOO:
        try:
            audited = audit(subject(f"{PREFIX}{name}"), THRESHOLD)
        except TiedAlready as reason:
            notes.append(f"{reason}.")
            continue
        rows += list(_rows(name, audited))
        notes.append(
            f"{PREFIX}{name}: {len(audited.candidates)} groups of namesakes of a cosine above {THRESHOLD:g}."
        )
    text = page(rows, notes)
    write_bytes_atomic(folder / "neighbours.md", text.encode())
    write_bytes_atomic(folder / "neighbours.csv", csv_text(rows).encode())
    print(text)


def page(rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> str:
    """Return neighbours.md: its question and answer, a row for each two neighbours, and the notes."""
    spans = {}
    for key in FIGURES:
        values = [row[key] for row in rows if row[key] is not None]
        spans[key] = f"{fixed(min(values), 3)} to {fixed(max(values), 3)}" if values else NOTHING
    answer = (
        f"The cosine of two neighbours is {spans['cosine']}, and before training {spans['cosine_at_random']}; of "
        f"feed-forward weights, once aligned, {spans['aligned']} against {spans['aligned_at_random']}."
    )
    lines = "\n".join(f"- {note}" for note in notes)
    made_by = "<!-- made by `python -m bench.audit.survey`; do not edit -->"
    return f"{made_by}\n# {QUESTION}\n\n- {answer}\n\n{markdown(_table(rows))}\n{lines}\n"


def _rows(name: str, audited: Audit) -> Iterator[dict[str, Any]]:
    trained, random = audited.alike.trained, audited.alike.random
    for i, cosine in enumerate(trained.cosine):
        kinds = [
            kind.cosine(*pair)
            for kind in audited.kinds
            for pair in kind.pairs()
            if (kind.blocks[pair[0]], kind.blocks[pair[1]]) == (i, i + 1)
        ]
        values = (cosine, random.cosine[i], max(kinds), trained.aligned[i], random.aligned[i])
        figures = (value.cosine if isinstance(value, Aligned) else value for value in values)
        rounded = (None if isinstance(value, str) else round(value, 6) for value in figures)
        yield {"network": name, "block": i + 1, "next": i + 2, **dict(zip(FIGURES, rounded, strict=True))}


def _table(rows: Sequence[dict[str, Any]]) -> Any:
    columns = [
        Column(heading, lambda row, key=key: fixed(row[key], 3))
        for heading, key in zip(HEADINGS, FIGURES, strict=True)
    ]
    labels = [[row["network"], f"{row['block']} and {row['next']}"] for row in rows]
    return tabulate(["network", "blocks"], labels, columns, rows)


if __name__ == "__main__":
    sys.exit(main())
