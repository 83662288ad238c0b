"""Show an audit: tables for the terminal and markdown, the same figures as JSON, heat maps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.audit.audit import Audit, Blocks, Candidate, Kind, Neighbours
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, fixed, short_count
from bench.report.plots.similarity import block_map, block_sheet
from bench.report.plots.style import draw
from bench.tying.checkpoint import as_data
from bench.tying.similarity import Aligned

LISTED, MAPS = 30, 11
"""Candidates that a table lists, and kinds of weight that have a map of their own."""
HOW = (
    "Cosines are of raw weights: units that another initialisation would have put in another order are not aligned. "
    "At random: the mean and the highest cosine of the pairs of this kind in the same network before training. "
    "A candidate is a group of which every two tensors reach the threshold and exceed the highest at random; blocks "
    "count from 1 at the input. What tying costs is not known from this: tie, train on, and measure. "
    "Leaving one block out saves as many parameters, and time too: deleting is the baseline that a tie must beat."
)

HOW_OF_BLOCKS = (
    "A block and the next, in brackets at random. Aligned: the feed-forward weights (or those of two convolutions) "
    "once the hidden units of one block stand in the best order for the other, which finds agreement by chance: "
    "compare it with that at random. CKA: of the blocks' outputs on the sample, 1 where one is the other turned and "
    "scaled; with many features on few positions it is high by chance too. Influence: 1 - the mean cosine of a "
    "block's input and output, 0 where it passes on what it reads."
)
UNREAD, NOT_HERE = "n/a (no --sample)", "n/a"


def sections(audit: Audit) -> list[tuple[str, str | Table]]:
    """Return each heading with its table or sentence, in order."""
    content: list[tuple[str, str | Table]] = [("", _headline(audit)), ("How alike", kinds_table(audit))]
    if audit.no_floor:
        content.append(("", f"At random: n/a, {audit.no_floor}."))
    content.append(("Blocks", blocks_table(audit)))
    content += [("", reason) for reason in reasons(audit)]
    if audit.candidates:
        content.append(("Candidates", candidates_table(audit)))
        if (left := len(audit.candidates) - LISTED) > 0:
            content.append(("", f"And {left} more, which are in the JSON."))
    return content


def page(audit: Audit, table_text: Callable[[Table], str], mark: str) -> str:
    """Return the page, its tables as `table_text` writes them, its headings after `mark`."""
    lines = [f"{mark}{mark and ' '}Audit of {audit.name}", ""]
    for heading, content in sections(audit):
        lines += [f"{mark}{mark} {heading}".strip(), ""] if heading and mark else []
        lines += [content if isinstance(content, str) else table_text(content).rstrip(), ""]
    return "\n".join([*lines, HOW, "", HOW_OF_BLOCKS, ""])


def _headline(audit: Audit) -> str:
    sizes = f"{short_count(audit.num_params)} parameters, {audit.depth} blocks"
    if not audit.candidates:
        best = max(
            ((kind.cosine(*pair), kind, pair) for kind in audit.kinds for pair in kind.pairs()),
            key=lambda triple: triple[0],
            default=None,
        )
        if best is None:
            return f"{sizes}: all namesakes are one tensor already."
        cosine, kind, (one, other) = best
        return (
            f"{sizes}: no two namesakes are alike enough to be one (cosine {audit.threshold:g}); the nearest, "
            f"{fixed(cosine, 3)}, are {kind.pattern} of blocks {kind.blocks[one] + 1} and {kind.blocks[other] + 1}."
        )
    return (
        f"{sizes}: {len(audit.candidates)} groups of namesakes are alike (cosine {audit.threshold:g} and above "
        f"chance); as one tensor each they would save {100 * audit.savings:.1f} % of the parameters."
    )


def kinds_table(audit: Audit) -> Table:
    columns = [
        Column("shape", lambda kind: " x ".join(map(str, kind.shape))),
        Column("tensors", lambda kind: str(len(set(kind.shared)))),
        Column("cosine,\nneighbours", lambda kind: _number(_mean(_neighbours(kind)))),
        Column("cosine,\nall pairs", lambda kind: _number(_mean([kind.cosine(*p) for p in kind.pairs()]))),
        Column("highest", lambda kind: _number(max((kind.cosine(*p) for p in kind.pairs()), default=None))),
        Column("at random\n(highest)", lambda kind: _floor(audit, kind)),
        Column("same tensor,\nother model", lambda kind: _number(audit.seeds.get(kind.names)), optional=True),
        Column("distance,\nneighbours", lambda kind: _number(_mean(_neighbours(kind, distance=True)))),
    ]
    return tabulate(["weight"], [[kind.pattern] for kind in audit.kinds], columns, audit.kinds)


def candidates_table(audit: Audit) -> Table:
    listed = audit.candidates[:LISTED]
    columns = [
        Column("blocks", lambda group: ", ".join(str(block + 1) for block in group.blocks)),
        Column("lowest cosine", lambda group: fixed(group.cosine, 3)),
        Column("distance", lambda group: fixed(group.distance, 3)),
        Column("at random (highest)", lambda group: _floor(audit, group.kind)),
        Column("saves", lambda group: short_count(group.saved)),
        Column("% of the model", lambda group: f"{100 * group.saved / audit.num_params:.2f}"),
    ]
    return tabulate(["weight"], [[group.kind.pattern] for group in listed], columns, listed)


def _neighbours(kind: Kind, distance: bool = False) -> list[float]:
    measure = kind.distance if distance else kind.cosine
    return [measure(one, other) for one, other in kind.pairs() if other == one + 1]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, hole: str = NOTHING) -> str:
    return hole if value is None or math.isnan(value) else fixed(value, 3)


def _floor(audit: Audit, kind: Kind) -> str:
    if kind.names not in audit.floors:
        return NOTHING
    mean, highest = audit.floors[kind.names]
    return f"{fixed(mean, 3)} ({fixed(highest, 3)})"


def blocks_table(audit: Audit) -> Table:
    rows = range(audit.depth)
    alike, twins = audit.alike, audit.alike.twins

    def column(
        head: str, text: Callable[[Neighbours, int], str], last: int = audit.depth - 1, reads: bool = False
    ) -> Column[int]:
        """Make a column of the trained network, with that at random in brackets; a dash from the block `last` on."""

        def cell(i: int) -> str:
            if i >= last or (reads and not alike.trained.influence):
                return NOTHING if i >= last else UNREAD
            trained = text(alike.trained, i)
            has_chance = alike.random is not None and trained != NOT_HERE
            return f"{trained} ({text(alike.random, i)})" if has_chance else trained

        return Column(head, cell)

    columns = [
        column("cosine,\nnext block", lambda side, i: _number(side.cosine[i], NOT_HERE)),
        column("feed-forward\nas stored", lambda side, i: _aligned_text(side.aligned[i], lambda a: a.raw)),
        column("feed-forward\naligned", lambda side, i: _aligned_text(side.aligned[i], lambda a: a.cosine)),
        column("CKA,\nnext block", lambda side, i: _number(side.cka[i], NOT_HERE), reads=True),
        column("influence", lambda side, i: _number(side.influence[i], NOT_HERE), audit.depth, reads=True),
    ]
    if twins is not None:
        columns += [
            Column("as stored,\nother model", lambda i: _aligned_text(twins.aligned[i], lambda a: a.raw)),
            Column("aligned,\nother model", lambda i: _aligned_text(twins.aligned[i], lambda a: a.cosine)),
            Column("CKA,\nother model", lambda i: _number(twins.cka[i], NOT_HERE) if twins.cka else UNREAD),
        ]
    return tabulate(["block"], [[str(i + 1)] for i in rows], columns, rows)


def reasons(audit: Audit) -> list[str]:
    """Return a sentence for each reason why blocks have no aligned cosine."""
    pairs_of: dict[str, list[str]] = {}
    for block, aligned in enumerate(audit.alike.trained.aligned):
        if isinstance(aligned, str):
            pairs_of.setdefault(aligned, []).append(f"{block + 1}-{block + 2}")
    return [f"Aligned: n/a for blocks {', '.join(pairs)}: {reason}." for reason, pairs in pairs_of.items()]


def _aligned_text(aligned: Aligned | str, figure: Callable[[Aligned], float]) -> str:
    return NOT_HERE if isinstance(aligned, str) else fixed(figure(aligned), 3)


def as_json(audit: Audit) -> dict[str, Any]:
    return {
        "model": audit.name,
        "num_params": audit.num_params,
        "num_params_tied": audit.num_params_tied,
        "savings": audit.savings,
        "threshold": audit.threshold,
        "depth": audit.depth,
        "blocks": audit.blocks,
        **blocks_json(audit),
        "no_floor": audit.no_floor or None,
        "kinds": [_kind_as_json(audit, kind) for kind in audit.kinds],
        "candidates": [_candidate_as_json(group) for group in audit.candidates],
        "plan": [as_data(tie) for tie in audit.plan.ties],
    }


def _kind_as_json(audit: Audit, kind: Kind) -> dict[str, Any]:
    mean, highest = audit.floors.get(kind.names, (None, None))
    pairs = [
        {
            "tensors": [kind.names[index] for index in pair],
            "cosine": _plain(kind.cosine(*pair)),
            "distance": _plain(kind.distance(*pair)),
        }
        for pair in kind.pairs()
    ]
    return {
        "weight": kind.pattern,
        "shape": kind.shape,
        "names": kind.names,
        "pairs": pairs,
        "random_mean": _plain(mean),
        "random_highest": _plain(highest),
        "other_model": _plain(audit.seeds.get(kind.names)),
    }


def _candidate_as_json(group: Candidate) -> dict[str, Any]:
    return {
        "weight": group.kind.pattern,
        "names": group.tie.names,
        "lowest_cosine": group.cosine,
        "largest_distance": group.distance,
        "saved": group.saved,
    }


def blocks_json(audit: Audit) -> dict[str, Any]:
    """Return what is known of blocks.

    `neighbours`: a block and the next; `by_block`: by themselves and against the other model; `cka`: all pairs.
    """
    alike, twins = audit.alike, audit.alike.twins
    neighbours, blocks = [], []
    for i in range(audit.depth):
        blocks.append({"block": i + 1})
        blocks[-1] |= _both(alike, lambda side, i=i: {"influence": _at(side.influence, i)})
        if twins is not None:
            blocks[-1] |= _labelled("other_model", _alignment(twins.aligned[i]) | {"cka": _at(twins.cka, i)})
        if i < audit.depth - 1:
            neighbours.append(
                {"blocks": [i + 1, i + 2]} | _both(alike, lambda side, i=i: _neighbours_as_json(side, i))
            )
    return {"neighbours": neighbours, "by_block": blocks, "cka": alike.cka}


def _both(blocks: Blocks, figures: Callable[[Neighbours], dict[str, Any]]) -> dict[str, Any]:
    random = {} if blocks.random is None else _labelled("random", figures(blocks.random))
    return figures(blocks.trained) | random


def _labelled(prefix: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _neighbours_as_json(side: Neighbours, i: int) -> dict[str, Any]:
    return {"cosine": side.cosine[i], **_alignment(side.aligned[i]), "cka": _at(side.cka, i)}


def _alignment(aligned: Aligned | str) -> dict[str, Any]:
    if isinstance(aligned, str):
        return {"feed_forward": None, "aligned": None, "not_aligned": aligned}
    return {"feed_forward": aligned.raw, "aligned": aligned.cosine, "not_aligned": None}


def _at(values: Sequence[float | None], i: int) -> float | None:
    return values[i] if values else None


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def pictures(audit: Audit) -> dict[str, bytes]:
    """Return {".png": bytes, ".svg": bytes}: blocks against blocks, over all kinds and for each of the first."""
    return draw(_maps, audit)


def _maps(audit: Audit) -> Figure:
    maps = [block_map("all weights", "all weights", np.array(audit.blocks, dtype=float), 1)]
    note, measure = "Cosine of the raw weights of two blocks.", "cosine"
    if audit.alike.cka is not None:
        cka = np.array(audit.alike.cka, dtype=float)
        maps.append(block_map("outputs (CKA)", "outputs on the sample", cka, 1, "CKA"))
        note += " CKA: of their outputs on the sample, where these have the same positions."
        measure = "cosine or CKA"
    maps += [block_map(_broken(kind.pattern), kind.pattern, _square(kind), 1) for kind in audit.kinds[:MAPS]]
    return block_sheet(f"Audit of {audit.name}", maps, note, measure=measure)


def _square(kind: Kind) -> np.ndarray:
    square = np.full((kind.depth, kind.depth), np.nan)
    for one, row in enumerate(kind.blocks):
        for other, column in enumerate(kind.blocks):
            square[row, column] = 1.0 if kind.shared[one] == kind.shared[other] else kind.cosine(one, other)
    return square


def _broken(pattern: str) -> str:
    """Return the part of a name inside its block, on lines that fit above a map."""
    inside = pattern.rpartition("*.")[2]
    parts, lines = inside.split("."), [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > 24:
            lines.append("")
        lines[-1] += ("." if lines[-1] or len(lines) > 1 else "") + part
    return "\n".join(lines)
