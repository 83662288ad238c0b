"""How alike weights are, from the weights alone: cosines and distances of namesakes, block by block."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.tying.gram import gram
from bench.tying.sharing import weight
from bench.tying.strategies import blocks_of, cross_layer

Parts = Sequence[tuple[Sequence[int], Tensor]]
"""Of each kind of weight the blocks that have it, and the `gram` of their tensors."""


def cosines(products: Tensor) -> Tensor:
    """[n][n] of a `gram`: NaN where a tensor is zero."""
    sizes = products.diagonal().sqrt()
    return products / (sizes[:, None] * sizes)


def distances(products: Tensor) -> Tensor:
    """[n][n] of a `gram`: ||A - B|| over the root of their mean square norm; sqrt(2) where orthogonal, of one norm."""
    squares = products.diagonal()
    apart = (squares[:, None] + squares - 2 * products).clamp(min=0)
    return (2 * apart / (squares[:, None] + squares)).sqrt()


def cosine(model: nn.Module) -> list[list[float | None]]:
    """[depth][depth]: the cosine between two blocks' weights, over all that namesakes of one shape hold.

    1.0 where a pair shares its tensors, None where it has no namesakes of one shape. Weights are raw: units
    that another initialisation would have put in another order are not aligned. Raises NotApplicable as
    `cross_layer` does.
    """
    return whole(*_parts(model))


def distance(model: nn.Module) -> list[list[float | None]]:
    """[depth][depth]: ||A - B|| of two blocks' weights over the root of their mean square norm, else as `cosine`."""
    products, sizes = _summed(*_parts(model))
    apart = (sizes + sizes.T - 2 * products).clamp(min=0)
    return _listed((2 * apart / (sizes + sizes.T)).sqrt())


def whole(depth: int, parts: Parts) -> list[list[float | None]]:
    """[depth][depth] cosines over all parts."""
    products, sizes = _summed(depth, parts)
    return _listed(products / (sizes * sizes.T).sqrt())


def _parts(model: nn.Module) -> tuple[int, Parts]:
    depth = len(blocks_of(model))
    return depth, [
        ([block % depth for block in tie.blocks], gram([weight(model, name) for name in tie.names]))
        for tie in cross_layer(model).ties
    ]


def _summed(depth: int, parts: Parts) -> Tensor:
    """[2][depth][depth]: inner products of two blocks' tensors, and squares of the first one's that both have."""
    found = torch.zeros(2, depth, depth, dtype=torch.float64)
    for blocks, inner in parts:
        at = torch.tensor(blocks)
        places = torch.meshgrid(at, at, indexing="ij")
        found[0][places] += inner
        found[1][places] += inner.diagonal()[:, None].expand_as(inner)
    return found


def _listed(found: Tensor) -> list[list[float | None]]:
    return [[value if value == value else None for value in row] for row in found.tolist()]
