"""What an audit says of blocks: a table with a row per block, its figures as JSON, and the map of CKA."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.audit.audit import Audit
from bench.audit.blocks import Blocks, Neighbours
from bench.plots.similarity import Map
from bench.report.columns import Column, tabulate
from bench.report.markup import Table
from bench.report.numbers import NOTHING, fixed
from bench.similarity import Aligned

UNREAD, NOT_HERE = "n/a (no --sample)", "n/a"
HOW = (
    "A block and the next, in brackets at random. Aligned: the feed-forward weights (or those of two convolutions) "
    "once the hidden units of one block stand in the best order for the other, which finds agreement by chance: "
    "compare it with that at random. CKA: of the blocks' outputs on the sample, 1 where one is the other turned and "
    "scaled; with many features on few positions it is high by chance too. Influence: 1 - the mean cosine of a "
    "block's input and output, 0 where it passes on what it reads."
)
Value = float | None


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
            Column("CKA,\nother model", lambda at: _number(twins.cka[at]) if twins.cka else UNREAD),
        ]
    return tabulate(["block"], [[str(at + 1)] for at in rows], columns, rows)


def reasons(found: Audit) -> list[str]:
    """A sentence for each reason why blocks have no aligned cosine."""
    told: dict[str, list[str]] = {}
    for at, each in enumerate(found.alike.trained.aligned):
        if isinstance(each, str):
            told.setdefault(each, []).append(f"{at + 1}-{at + 2}")
    return [f"Aligned: n/a for blocks {', '.join(pairs)}: {reason}." for reason, pairs in told.items()]


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
                {"blocks": [at + 1, at + 2]} | _both(of, lambda side, at=at: _neighbours(side, at))
            )
    return {"neighbours": neighbours, "by_block": blocks, "cka": of.cka}


def cka_maps(found: Audit) -> list[Map]:
    """The map of CKA, where there was a sample."""
    if found.alike.cka is None:
        return []
    return [Map("outputs (CKA)", "outputs on the sample", np.array(found.alike.cka, dtype=float), 1, "CKA")]


def _both(of: Blocks, figures: Callable[[Neighbours], dict[str, Any]]) -> dict[str, Any]:
    random = {} if of.random is None else _labelled("random", figures(of.random))
    return figures(of.trained) | random


def _labelled(where: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {f"{where}_{name}": value for name, value in figures.items()}


def _neighbours(side: Neighbours, at: int) -> dict[str, Any]:
    return {"cosine": side.cosine[at], **_alignment(side.aligned[at]), "cka": _at(side.cka, at)}


def _alignment(each: Aligned | str) -> dict[str, Any]:
    if isinstance(each, str):
        return {"feed_forward": None, "aligned": None, "not_aligned": each}
    return {"feed_forward": each.raw, "aligned": each.cosine, "not_aligned": None}


def _at(values: Sequence[Value], at: int) -> Value:
    return values[at] if values else None


def _beside(of: Blocks, figures: Callable[[Neighbours], Sequence[Value]], at: int) -> str:
    """A figure of the trained network, and in brackets that at random; a dash behind the last of them."""
    values = figures(of.trained)
    if at >= len(values):
        return NOTHING
    return _with_chance(_number(values[at]), None if of.random is None else _number(figures(of.random)[at]))


def _aligned(of: Blocks, at: int, figure: Callable[[Aligned], float]) -> str:
    if at >= len(of.trained.aligned):
        return NOTHING
    chance = None if of.random is None else _of(of.random.aligned[at], figure)
    return _with_chance(_of(of.trained.aligned[at], figure), chance)


def _read(of: Blocks, figures: Callable[[Neighbours], Sequence[Value]], at: int, last: int) -> str:
    if at < last and not of.trained.influence:
        return UNREAD
    return _beside(of, figures, at)


def _of(each: Aligned | str, figure: Callable[[Aligned], float]) -> str:
    return NOT_HERE if isinstance(each, str) else fixed(figure(each), 3)


def _number(value: Value) -> str:
    return NOT_HERE if value is None or math.isnan(value) else fixed(value, 3)


def _with_chance(text: str, chance: str | None) -> str:
    return text if chance is None or text == NOT_HERE else f"{text} ({chance})"
