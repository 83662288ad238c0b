"""How alike blocks are by what they compute: linear CKA of their outputs, and how far each moves its input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.similarity.outputs import Outputs, outputs


@dataclass(frozen=True)
class Representations:
    """Of the blocks in the order in which they were given.

    cka: [depth][depth], 0 to 1; None where two outputs have not the same positions, or one is constant.
    influence: 0 where a block leaves the direction of its input as it is; None where input and output differ in shape.
    positions: that were compared, of each block. Unrelated outputs of P and Q features have a CKA of about
    sqrt(P Q / ((N + P) (N + Q))) at N positions, not 0.
    """

    cka: list[list[float | None]]
    influence: list[float | None]
    positions: list[int]


def representations(model: nn.Module, blocks: Sequence[str], forwards: Callable[[], None]) -> Representations:
    """What the blocks, by their module names, put out while `forwards()` runs the model.

    The model is in evaluation mode, without gradients, and as it was afterwards. At most `outputs.POSITIONS`
    positions of each block are kept, a uniform sample of all; a position is a token, or a pixel of [B, C, H, W].
    Influence is 1 - the mean cosine of a block's input and output over these positions.
    Blocks whose outputs differ in their number of positions are not compared: nothing is pooled.
    Raises NotApplicable where a block was not reached or puts out no tensor.

    Source: Kornblith et al. 2019, section 3 (linear CKA); Men et al. 2024 (ShortGPT), section 3.1 (block influence).
    """
    found = outputs(model, blocks, forwards)
    return Representations(
        cka_map(found), [each.influence for each in found], [len(each.features) for each in found]
    )


def cka_map(found: Sequence[Outputs]) -> list[list[float | None]]:
    """[depth][depth] of what `outputs` found."""
    own = [_self_similarity(each.features) for each in found]
    cka: list[list[float | None]] = [[None] * len(found) for _ in found]
    for one, ours in enumerate(found):
        for other in range(one + 1):
            cka[one][other] = cka[other][one] = _between(ours, found[other], own[one], own[other])
    return cka


def across(ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> list[float | None]:
    """CKA of each block and the block of its place among others that read the same data."""
    return [
        _between(one, other, _self_similarity(one.features), _self_similarity(other.features))
        for one, other in zip(ours, theirs, strict=True)
    ]


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Of X [N, P] and Y [N, Q], rows that belong together: |Y'X|^2 / (|X'X| |Y'Y|), columns centred; NaN if constant.

    In float64 and in the space of features: P x Q numbers, whatever N.
    """
    return _cka(one, other, _self_similarity(one), _self_similarity(other))


def _between(one: Outputs, other: Outputs, own: float, others: float) -> float | None:
    if one.count != other.count:
        return None
    found = _cka(one.features, other.features, own, others)
    return found if found == found else None


def _cka(one: Tensor, other: Tensor, own: float, others: float) -> float:
    return (
        float((_centred(other).T @ _centred(one)).square().sum()) / (own * others)
        if own * others
        else float("nan")
    )


def _self_similarity(features: Tensor) -> float:
    centred = _centred(features)
    return float(torch.linalg.matrix_norm(centred.T @ centred))


def _centred(features: Tensor) -> Tensor:
    exact = features.double()
    return exact - exact.mean(0)
