"""Partial tying of a stack: what it gains, and what it saves in the layers it ties."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.ledger.paired import gain, pairs
from bench.ledger.parts import Measure, Part

if TYPE_CHECKING:
    from pandas import DataFrame


def partial(
    frame: "DataFrame", *, ours: str, full: str, none: str, by: Sequence[str], k: str, depth: str
) -> list[Part]:
    """`gain` of partial over full tying, and as context over none; `saved`: percent of the weights of its k layers.

    k, depth: columns that hold them. What k tied layers hold is taken from full tying, which saves all but one
    of `depth` equal blocks: exact where the blocks are equal.
    """
    found = []
    for part, (_, rows, whole) in zip(
        gain(frame, ours=ours, theirs=full, by=by, over=[k]), pairs(frame, ours, full, by, [k]), strict=True
    ):
        found.append(replace(part, measures=(*part.measures, _saved(rows, whole, k, depth))))
    for part in gain(frame, ours=ours, theirs=none, by=by, over=[k]):
        found.append(replace(part, name=f"{part.name}, against none", decides=False))
    return found


def _saved(rows: "DataFrame", whole: "DataFrame", k: str, depth: str) -> Measure:
    counted, full = rows.dropna(subset=["num_params"]), whole.dropna(subset=["num_params"])
    unit = "% of the weights of those layers"
    if not len(counted) or not len(full):
        return Measure("saved", None, unit)
    blocks = float(full[depth].iloc[0])
    of_a_block = float((full["num_params_untied"] - full["num_params"]).iloc[0]) / (blocks - 1)
    spared = float((counted["num_params_untied"] - counted["num_params"]).iloc[0])
    share = spared / (float(counted[k].iloc[0]) * of_a_block)
    return Measure("saved", 100 * share, unit)
