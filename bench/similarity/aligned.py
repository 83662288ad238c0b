"""The cosine of two blocks' weights once the hidden units of one stand in the order of the other's."""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bench.similarity.hidden import Hidden, hidden_of
from bench.tying import NotApplicable

MOST = 4096
"""Hidden units that are matched: that many take 1.5 to 3 s a pair of blocks on one core, and 0.2 GiB; half, a fifth."""
SLICE = 256
"""Units whose products are made together."""


@dataclass(frozen=True)
class Aligned:
    """Cosines over all weights that have an axis of hidden units: as stored (`raw`), and after matching."""

    raw: float
    cosine: float


def aligned_cosine(model: nn.Module, one: str, other: str) -> float | None:
    """`align(model, one, other).cosine`; None where that does not apply."""
    try:
        return align(model, one, other).cosine
    except NotApplicable:
        return None


@torch.no_grad()
def align(model: nn.Module, one: str, other: str, elsewhere: nn.Module | None = None) -> Aligned:
    """Match the hidden units of two blocks, `other` in the model `elsewhere` if that is given, and compare.

    The permutation is the one that makes the inner product of all weights with an axis of hidden units largest
    (a linear assignment), so the aligned cosine is never below the raw one, and above 0 by chance: compare it
    with that of a network at random initialisation. Hidden units are those of `hidden_of`; the residual stream,
    attention heads and what has no such axis (the bias behind the units) stay out.
    Raises NotApplicable, with the reason, where `hidden_of` does, where the blocks differ in shape, above MOST
    units, and where all weights of a block are 0.

    Source: Ainsworth, Hayase & Srinivasa 2023 (Git Re-Basin), section 3.2, for one axis, where it needs one pass.
    """
    ours, theirs = hidden_of(model, one), hidden_of(elsewhere or model, other)
    pairs = list(zip(_rows(model, one, ours), _rows(elsewhere or model, other, theirs), strict=False))
    if ours != theirs or any(a.shape != b.shape for a, b in pairs):
        raise NotApplicable(
            f"the two blocks have {ours.units} and {theirs.units} hidden units, or weights of other shapes"
        )
    if ours.units > MOST:
        raise NotApplicable(f"{ours.units} hidden units are too many to match: at most {MOST} are")
    sizes = [sum(float(_norm(side)) ** 2 for side in sides) for sides in zip(*pairs, strict=True)]
    if not all(sizes):
        raise NotApplicable("all weights of the hidden units are 0")
    costs, whole = _costs(pairs), (sizes[0] * sizes[1]) ** 0.5
    raw = -float(costs.trace())
    best = -float(costs[linear_sum_assignment(costs.numpy())].sum())
    # Of several best permutations the stored order may be one, and its sum differ in the last digit.
    return Aligned(raw / whole, max(raw, best) / whole)


def _costs(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[units][units] float64: minus the inner products, which the assignment reads as they are, without a copy."""
    units = len(pairs[0][0])
    costs = torch.zeros(units, units, dtype=torch.float64)
    for a, b in pairs:
        right = b.to("cpu", _precise(b.dtype)).T
        for at in range(0, units, SLICE):
            costs[at : at + SLICE] -= a[at : at + SLICE].to("cpu", _precise(a.dtype)) @ right
    return costs


def _rows(model: nn.Module, block: str, hidden: Hidden) -> list[Tensor]:
    return list(hidden.rows(model.get_submodule(block)))


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor, dtype=_precise(tensor.dtype))


def _precise(dtype: torch.dtype) -> torch.dtype:
    """What products are summed in: float32, or float64 for weights of that."""
    return torch.promote_types(dtype, torch.float32)
