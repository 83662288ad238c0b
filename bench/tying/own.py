"""Count and name what the uses of a shared tensor have of their own: differences of low rank, learned maps."""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bench.tying.low_rank import FACTORS, factor, factor_shapes
from bench.tying.tie import Tie
from bench.tying.view import MAP

if TYPE_CHECKING:
    from bench.tying.apply import Parameters


def added(ties: Iterable[Tie], parameters: "Parameters") -> Iterator[tuple[str, int]]:
    """Names to which these ties would give a difference, or a learned map, that they have not yet, and its elements."""
    for tie in ties:
        for name, shapes in _own_shapes(tie, parameters):
            if not shapes.keys() <= parameters.keys():
                yield name, sum(map(math.prod, shapes.values()))


def _own_shapes(tie: Tie, parameters: "Parameters") -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """Each use that has two parameters of its own beside what it shares, and their names and shapes."""
    for name in tie.names if tie.rank else ():
        shapes = factor_shapes(parameters[name].shape, tie.rank, name in parameters.stacks)
        if shapes:
            yield name, dict(zip((factor(name, which) for which in FACTORS), shapes, strict=True))
    for name, view in tie.uses() if tie.views else ():
        if view.mapped:
            width = view.result[-1]
            yield (
                name,
                dict(zip((factor(name, which) for which in MAP), ((width, width), (width,)), strict=True)),
            )


def factors(ties: Iterable[Tie], parameters: "Parameters") -> dict[str, tuple[int, ...]]:
    """Names and shapes of the factors, and of the parts of learned maps, that these ties would add."""
    parts = (shapes for tie in ties for _, shapes in _own_shapes(tie, parameters))
    return {name: shape for shapes in parts for name, shape in shapes.items() if name not in parameters}
