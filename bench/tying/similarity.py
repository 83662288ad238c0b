"""How alike the blocks of a stack are, from their weights alone."""

import torch
from torch import nn

from bench.tying.strategies import blocks_of, cross_layer


@torch.no_grad()
def cosine(model: nn.Module) -> list[list[float | None]]:
    """[depth][depth]: the cosine between two blocks' weights, over all that namesakes of one shape hold.

    1.0 where a pair shares its tensors, None where it has no namesakes of one shape. Weights are raw: units
    that another initialisation would have put in another order are not aligned. Raises NotApplicable as
    `cross_layer` does.
    """
    depth = len(blocks_of(model))
    products = torch.zeros(depth, depth, dtype=torch.float64)
    sizes = torch.zeros(depth, depth, dtype=torch.float64)
    for tie in cross_layer(model).ties:
        at = torch.tensor([block % depth for block in tie.blocks])
        rows = torch.stack([model.get_parameter(name).flatten() for name in tie.names]).double().cpu()
        gram = rows @ rows.T
        places = torch.meshgrid(at, at, indexing="ij")
        products[places] += gram
        sizes[places] += gram.diagonal()[:, None].expand_as(gram)
    found = products / (sizes * sizes.T).sqrt()
    return [[value if value == value else None for value in row] for row in found.tolist()]
