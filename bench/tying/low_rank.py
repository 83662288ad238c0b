"""Share a tensor between uses that each add a difference of low rank."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize

from bench.tying.errors import BadInput


class ReadAnew:
    """What such a module derives from, before its own class: it looks its weights up whenever it is called.

    nn.RNNBase keeps a second list of them, which would hold what was made at an earlier step, with the graph that made
    it, and could not be copied. There is no copy for cuDNN either.
    """

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Tensor]) -> None:
        """nn.RNNBase sets it whenever the module is moved or copied: there is nothing to keep."""

    def _init_flat_weights(self) -> None: ...

    def _update_flat_weights(self) -> None: ...

    def flatten_parameters(self) -> None: ...


def forget(module: nn.RNNBase) -> None:
    """Drop the module's own list, before it becomes a ReadAnew."""
    del module.__dict__["_flat_weights"]


Factors = tuple[Tensor, Tensor]

ROUNDS, SETTLED = 50, 1e-4
"""Of least squares: at most so many, and the share by which a round must still lessen the error."""


class LowRank(nn.Module):
    """shared [out, ...] -> shared + left @ right, with left [out, rank] and right [rank, all else]."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.left, self.right = Parameter(left), Parameter(right)

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    def forward(self, shared: Tensor) -> Tensor:
        # One call for sum and product; a sum of its own would write the whole tensor once more.
        return torch.addmm(shared.flatten(1), self.left, self.right).view(shared.shape)


def size(shape: Sequence[int], rank: int) -> int:
    """Elements of one difference: none below two dimensions, where a tensor is shared whole.

    BadInput where the matrix has no such rank.
    """
    if rank == 0 or len(shape) < 2:
        return 0
    out, rest = shape[0], torch.Size(shape[1:]).numel()
    if rank > min(out, rest):
        raise BadInput(
            f"rank is {rank}; a weight of {' x '.join(map(str, shape))} has rank {min(out, rest)} at most: give that "
            "or less"
        )
    return rank * (out + rest)


@torch.no_grad()
def nearest(apart: Tensor, rank: int) -> Factors:
    """left and right of the matrix of this rank that is nearest to `apart` (Eckart & Young 1936), in its dtype.

    The rows of right are orthonormal, also where `apart` is zero and left with it: the gradient then reaches left.
    """
    u, s, v = torch.linalg.svd(apart.flatten(1).to(torch.float32), full_matrices=False)
    left, right = u[:, :rank] * s[:rank], v[:rank]
    return left.to(apart.dtype).contiguous(), right.to(apart.dtype).contiguous()


@torch.no_grad()
def least_squares(members: Sequence[Tensor], rank: int) -> Tensor:
    """The shared tensor S of which sum_i ||W_i - S - D_i||^2 is small over all D_i of this rank, in turns with them.

    It begins with the mean and no turn makes the sum larger; where it ends need not be the smallest of all.
    """
    shared, before = sum(members) / len(members), float("inf")
    for _ in range(ROUNDS if rank else 0):
        left_over = [member - difference(nearest(member - shared, rank), shared) for member in members]
        error = sum(float((rest - shared).square().sum()) for rest in left_over)
        if not error < before * (1 - SETTLED):
            break
        shared, before = sum(left_over) / len(members), error
    return shared


def difference(factors: Factors, like: Tensor) -> Tensor:
    left, right = factors
    return (left @ right).view(like.shape)


def register(module: nn.Module, leaf: str, factors: Factors) -> None:
    """From now on `module` reads its parameter `leaf` plus left @ right."""
    if isinstance(module, nn.RNNBase) and not isinstance(module, ReadAnew):
        forget(module)
        module.__class__ = type(type(module).__name__, (ReadAnew, type(module)), {})
    parametrize.register_parametrization(module, leaf, LowRank(*factors))


def of(module: nn.Module, leaf: str) -> LowRank | None:
    """The difference that the module's parameter has; None without. BadInput where it is parametrised otherwise."""
    if not parametrize.is_parametrized(module, leaf):
        return None
    found = module.parametrizations[leaf]
    if len(found) != 1 or not isinstance(found[0], LowRank):
        kinds = ", ".join(type(one).__name__ for one in found)
        raise BadInput(
            f"{leaf} of {type(module).__name__} is parametrised already ({kinds}): relax it before that"
        )
    return found[0]
