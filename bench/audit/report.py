"""Show an audit: tables for the terminal and markdown, the same figures as JSON, heat maps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bench.audit.audit import Audit, Blocks, Candidate, Kind, Neighbours
from bench.report.markup import Column, Table, tabulate
from bench.report.numbers import NOTHING, fixed, short_count
from bench.report.plots.similarity import Map, map_sheet
from bench.report.plots.style import draw
from bench.tying.checkpoint import as_data
from bench.tying.similarity import Aligned

LISTED, MAPS = 30, 11
"""Candidates that a table lists, and kinds of weight that have a map of their own."""
HOW = (
    "Cosines are of raw weights: units that another initialisation would have put in another order are not aligned. "
    "At random: the mean and the highest cosine of the pairs of this kind in the same network before training. "
    "A candidate is a group of which every two tensors reach the threshold and exceed the highest at random; blocks "
    "count from 1 at the input. What tying costs is not known from this: tie, train on, and measure."
)

HOW_OF_BLOCKS = (
    "A block and the next, in brackets at random. Aligned: the feed-forward weights (or those of two convolutions) "
    "once the hidden units of one block stand in the best order for the other, which finds agreement by chance: "
    "compare it with that at random. CKA: of the blocks' outputs on the sample, 1 where one is the other turned and "
    "scaled; with many features on few positions it is high by chance too. Influence: 1 - the mean cosine of a "
    "block's input and output, 0 where it passes on what it reads."
)
UNREAD, NOT_HERE = "n/a (no --sample)", "n/a"


def sections(found: Audit) -> list[tuple[str, str | Table]]:
    """(heading, table or sentence), in order."""
    told: list[tuple[str, str | Table]] = [("", _headline(found)), ("How alike", kinds_table(found))]
    if found.no_floor:
        told.append(("", f"At random: n/a, {found.no_floor}."))
    told.append(("Blocks", blocks_table(found)))
    told += [("", reason) for reason in reasons(found)]
    if found.candidates:
        told.append(("Candidates", candidates_table(found)))
        if (left := len(found.candidates) - LISTED) > 0:
            told.append(("", f"And {left} more, which are in the JSON."))
    return told


def written(found: Audit, spelled: Callable[[Table], str], mark: str) -> str:
    """The page, its tables as `spelled` writes them, its headings after `mark`."""
    lines = [f"{mark}{mark and ' '}Audit of {found.name}", ""]
    for heading, content in sections(found):
        lines += [f"{mark}{mark} {heading}".strip(), ""] if heading and mark else []
        lines += [content if isinstance(content, str) else spelled(content).rstrip(), ""]
    return "\n".join([*lines, HOW, "", HOW_OF_BLOCKS, ""])


def _headline(found: Audit) -> str:
    whole = f"{short_count(found.num_params)} parameters, {found.depth} blocks"
    if not found.candidates:
        best = max(
            ((kind.cosine(*pair), kind, pair) for kind in found.kinds for pair in kind.pairs()),
            key=lambda one: one[0],
            default=None,
        )
        if best is None:
            return f"{whole}: all namesakes are one tensor already."
        cosine, kind, (one, other) = best
        return (
            f"{whole}: no two namesakes are alike enough to be one (cosine {found.threshold:g}); the nearest, "
            f"{fixed(cosine, 3)}, are {kind.pattern} of blocks {kind.blocks[one] + 1} and {kind.blocks[other] + 1}."
        )
    return (
        f"{whole}: {len(found.candidates)} groups of namesakes are alike (cosine {found.threshold:g} and above "
        f"chance); as one tensor each they would save {100 * found.savings:.1f} % of the parameters."
    )


def kinds_table(found: Audit) -> Table:
    columns = [
        Column("shape", lambda kind: " x ".join(map(str, kind.shape))),
        Column("tensors", lambda kind: str(len(set(kind.shared)))),
        Column("cosine,\nneighbours", lambda kind: _number(_mean(_neighbours(kind)))),
        Column("cosine,\nall pairs", lambda kind: _number(_mean([kind.cosine(*p) for p in kind.pairs()]))),
        Column("highest", lambda kind: _number(max((kind.cosine(*p) for p in kind.pairs()), default=None))),
        Column("at random\n(highest)", lambda kind: _floor(found, kind)),
        Column("same tensor,\nother model", lambda kind: _number(found.seeds.get(kind.names)), optional=True),
        Column("distance,\nneighbours", lambda kind: _number(_mean(_neighbours(kind, distance=True)))),
    ]
    return tabulate(["weight"], [[kind.pattern] for kind in found.kinds], columns, found.kinds)


def candidates_table(found: Audit) -> Table:
    listed = found.candidates[:LISTED]
    columns = [
        Column("blocks", lambda each: ", ".join(str(block + 1) for block in each.blocks)),
        Column("lowest cosine", lambda each: fixed(each.cosine, 3)),
        Column("distance", lambda each: fixed(each.distance, 3)),
        Column("at random (highest)", lambda each: _floor(found, each.kind)),
        Column("saves", lambda each: short_count(each.saved)),
        Column("% of the model", lambda each: f"{100 * each.saved / found.num_params:.2f}"),
    ]
    return tabulate(["weight"], [[each.kind.pattern] for each in listed], columns, listed)


def _neighbours(kind: Kind, distance: bool = False) -> list[float]:
    measure = kind.distance if distance else kind.cosine
    return [measure(one, other) for one, other in kind.pairs() if other == one + 1]


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None, hole: str = NOTHING) -> str:
    return hole if value is None or math.isnan(value) else fixed(value, 3)


def _floor(found: Audit, kind: Kind) -> str:
    if kind.names not in found.floors:
        return NOTHING
    mean, highest = found.floors[kind.names]
    return f"{fixed(mean, 3)} ({fixed(highest, 3)})"


def blocks_table(found: Audit) -> Table:
    rows = range(found.depth)
    of, twins = found.alike, found.alike.twins
    columns = [
        Column("cosine,\nnext block", lambda at: _beside(of, lambda side: side.cosine, at)),
        Column("feed-forward\nas stored", lambda at: _aligned(of, at, lambda each: each.raw)),
        Column("feed-forward\naligned", lambda at: _aligned(of, at, lambda each: each.cosine)),
        Column("CKA,\nnext block", lambda at: _read(of, lambda side: side.cka, at, found.depth - 1)),
        Column("influence", lambda at: _read(of, lambda side: side.influence, at, found.depth)),
    ]
    if twins is not None:
        columns += [
            Column("as stored,\nother model", lambda at: _of(twins.aligned[at], lambda each: each.raw)),
            Column("aligned,\nother model", lambda at: _of(twins.aligned[at], lambda each: each.cosine)),
            Column("CKA,\nother model", lambda at: _number(twins.cka[at], NOT_HERE) if twins.cka else UNREAD),
        ]
    return tabulate(["block"], [[str(at + 1)] for at in rows], columns, rows)


def reasons(found: Audit) -> list[str]:
    """A sentence for each reason why blocks have no aligned cosine."""
    told: dict[str, list[str]] = {}
    for at, each in enumerate(found.alike.trained.aligned):
        if isinstance(each, str):
            told.setdefault(each, []).append(f"{at + 1}-{at + 2}")
    return [f"Aligned: n/a for blocks {', '.join(pairs)}: {reason}." for reason, pairs in told.items()]


def _beside(of: Blocks, figures: Callable[[Neighbours], Sequence[float | None]], at: int) -> str:
    """A figure of the trained network, and in brackets that at random; a dash behind the last of them."""
    values = figures(of.trained)
    if at >= len(values):
        return NOTHING
    return _with_chance(
        _number(values[at], NOT_HERE),
        None if of.random is None else _number(figures(of.random)[at], NOT_HERE),
    )


def _aligned(of: Blocks, at: int, figure: Callable[[Aligned], float]) -> str:
    if at >= len(of.trained.aligned):
        return NOTHING
    chance = None if of.random is None else _of(of.random.aligned[at], figure)
    return _with_chance(_of(of.trained.aligned[at], figure), chance)


def _read(of: Blocks, figures: Callable[[Neighbours], Sequence[float | None]], at: int, last: int) -> str:
    if at < last and not of.trained.influence:
        return UNREAD
    return _beside(of, figures, at)


def _of(each: Aligned | str, figure: Callable[[Aligned], float]) -> str:
    return NOT_HERE if isinstance(each, str) else fixed(figure(each), 3)


def _with_chance(text: str, chance: str | None) -> str:
    return text if chance is None or text == NOT_HERE else f"{text} ({chance})"


def as_json(found: Audit) -> dict[str, Any]:
    return {
        "model": found.name,
        "num_params": found.num_params,
        "num_params_tied": found.num_params_tied,
        "savings": found.savings,
        "threshold": found.threshold,
        "depth": found.depth,
        "blocks": found.blocks,
        **blocks_json(found),
        "no_floor": found.no_floor or None,
        "kinds": [_kind_as_json(found, kind) for kind in found.kinds],
        "candidates": [_candidate_as_json(each) for each in found.candidates],
        "plan": [as_data(tie) for tie in found.plan.ties],
    }


def _kind_as_json(found: Audit, kind: Kind) -> dict[str, Any]:
    mean, highest = found.floors.get(kind.names, (None, None))
    pairs = [
        {
            "tensors": [kind.names[at] for at in pair],
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
        "other_model": _plain(found.seeds.get(kind.names)),
    }


def _candidate_as_json(each: Candidate) -> dict[str, Any]:
    return {
        "weight": each.kind.pattern,
        "names": each.tie.names,
        "lowest_cosine": each.cosine,
        "largest_distance": each.distance,
        "saved": each.saved,
    }


def blocks_json(found: Audit) -> dict[str, Any]:
    """`neighbours`: a block and the next; `blocks`: by themselves and against the other model; `cka`: all pairs."""
    of, twins = found.alike, found.alike.twins
    neighbours, blocks = [], []
    for at in range(found.depth):
        blocks.append({"block": at + 1})
        blocks[-1] |= _both(of, lambda side, at=at: {"influence": _at(side.influence, at)})
        if twins is not None:
            blocks[-1] |= _labelled(
                "other_model", _alignment(twins.aligned[at]) | {"cka": _at(twins.cka, at)}
            )
        if at < found.depth - 1:
            neighbours.append(
                {"blocks": [at + 1, at + 2]} | _both(of, lambda side, at=at: _neighbours_as_json(side, at))
            )
    return {"neighbours": neighbours, "by_block": blocks, "cka": of.cka}


def _both(of: Blocks, figures: Callable[[Neighbours], dict[str, Any]]) -> dict[str, Any]:
    random = {} if of.random is None else _labelled("random", figures(of.random))
    return figures(of.trained) | random


def _labelled(where: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {f"{where}_{name}": value for name, value in figures.items()}


def _neighbours_as_json(side: Neighbours, at: int) -> dict[str, Any]:
    return {"cosine": side.cosine[at], **_alignment(side.aligned[at]), "cka": _at(side.cka, at)}


def _alignment(each: Aligned | str) -> dict[str, Any]:
    if isinstance(each, str):
        return {"feed_forward": None, "aligned": None, "not_aligned": each}
    return {"feed_forward": each.raw, "aligned": each.cosine, "not_aligned": None}


def _at(values: Sequence[float | None], at: int) -> float | None:
    return values[at] if values else None


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def pictures(found: Audit) -> dict[str, bytes]:
    """{".png", ".svg"}: blocks against blocks, over all kinds and for each of the first."""
    return draw(_maps, found)


def _maps(found: Audit) -> Figure:
    maps = [Map("all weights", "all weights", np.array(found.blocks, dtype=float), 1)]
    if found.alike.cka is not None:
        cka = np.array(found.alike.cka, dtype=float)
        maps.append(Map("outputs (CKA)", "outputs on the sample", cka, 1, "CKA"))
    maps += [Map(_broken(kind.pattern), kind.pattern, _square(kind), 1) for kind in found.kinds[:MAPS]]
    note = "Cosine of the raw weights of two blocks."
    if found.alike.cka is not None:
        note += " CKA: of their outputs on the sample, where these have the same positions."
    return map_sheet(f"Audit of {found.name}", maps, note)


def _square(kind: Kind) -> np.ndarray:
    square = np.full((kind.depth, kind.depth), np.nan)
    for one, at in enumerate(kind.blocks):
        for other, where in enumerate(kind.blocks):
            square[at, where] = 1.0 if kind.shared[one] == kind.shared[other] else kind.cosine(one, other)
    return square


def _broken(pattern: str) -> str:
    """The part of a name inside its block, on lines that fit above a map."""
    inside = pattern.rpartition("*.")[2]
    parts, lines = inside.split("."), [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > 24:
            lines.append("")
        lines[-1] += ("." if lines[-1] or len(lines) > 1 else "") + part
    return "\n".join(lines)
