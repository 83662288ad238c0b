"""Share a tensor between uses that each add a difference of low rank."""

from collections.abc import Container, Sequence

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import parametrize

from bench.tying.errors import BadInput
from bench.tying.gate import as_real
from bench.tying.view import Made


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

FACTORS = ("left", "right")
"""Of the difference of a relaxed weight (`bench.tying.low_rank.LowRank`)."""

ROUNDS, SETTLED = 50, 1e-4
"""Of least squares: at most so many, and the share by which a round must still lessen the error."""


class LowRank(nn.Module):
    """shared [out, ...] -> shared + left @ right, with left [out, rank] and right [rank, all else].

    Of a stack of matrices [..., out, in]: left [..., out, rank] and right [..., rank, in].
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.left, self.right = Parameter(left), Parameter(right)

    @property
    def rank(self) -> int:
        return self.left.shape[-1]

    def forward(self, shared: Tensor) -> Tensor:
        if self.left.ndim > 2:
            return shared + self.left @ self.right
        # One call for sum and product; a sum of its own would write the whole tensor once more.
        return torch.addmm(shared.flatten(1), self.left, self.right).view(shared.shape)


def factor_shapes(
    shape: Sequence[int], rank: int, is_stack: bool
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Shapes of left and right for a tensor of this shape; None where it is shared whole.

    That is without a rank, below two dimensions, and for a matrix that has no such rank.
    """
    if rank == 0 or rank > highest_rank(shape, is_stack):
        return None
    *stack, out, rest = _as_matrices(shape, is_stack)
    return (*stack, out, rank), (*stack, rank, rest)


def size(shape: Sequence[int], rank: int, is_stack: bool) -> int:
    """Elements of one difference; 0 where the tensor is shared whole."""
    shapes = factor_shapes(shape, rank, is_stack)
    return 0 if shapes is None else sum(torch.Size(factor_shape).numel() for factor_shape in shapes)


def highest_rank(shape: Sequence[int], is_stack: bool) -> int:
    """That a matrix of this tensor can have; 0 below two dimensions."""
    return min(_as_matrices(shape, is_stack)[-2:]) if len(shape) > 1 else 0


def _as_matrices(shape: Sequence[int], is_stack: bool) -> tuple[int, ...]:
    return tuple(shape) if is_stack else (shape[0], torch.Size(shape[1:]).numel())


@torch.no_grad()
def nearest(apart: Tensor, rank: int, is_stack: bool = False) -> Factors:
    """left and right of the matrix of this rank that is nearest to `apart` (Eckart & Young 1936), in its dtype.

    The rows of right are orthonormal, also where `apart` is zero and left with it: the gradient then reaches left.
    """
    exact = torch.complex64 if apart.is_complex() else torch.float32
    matrices = apart.reshape(_as_matrices(apart.shape, is_stack)).to(exact)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    left, right = u[..., :rank] * s[..., None, :rank], v[..., :rank, :]
    return left.to(apart.dtype).contiguous(), right.to(apart.dtype).contiguous()


@torch.no_grad()
def least_squares(members: Sequence[Tensor], rank: int, is_stack: bool = False) -> Tensor:
    """The shared tensor S of which sum_i ||W_i - S - D_i||^2 is small over all D_i of this rank, in turns with them.

    It begins with the mean and no turn makes the sum larger; where it ends need not be the smallest of all.
    """
    shared, before = sum(members) / len(members), float("inf")
    for _ in range(ROUNDS if rank else 0):
        left_over = [
            member - difference(nearest(member - shared, rank, is_stack), shared) for member in members
        ]
        error = sum(float(as_real(rest - shared).square().sum()) for rest in left_over)
        if not error < before * (1 - SETTLED):
            break
        shared, before = sum(left_over) / len(members), error
    return shared


def difference(factors: Factors, like: Tensor) -> Tensor:
    left, right = factors
    return (left @ right).view(like.shape)


def factor(name: str, which: str) -> str:
    """The name of one factor ("left", "right") of the difference of a relaxed weight, or of a part of a learned map."""
    path, dot, leaf = name.rpartition(".")
    return f"{path}{dot}parametrizations.{leaf}.0.{which}"


def is_relaxed(name: str, parameters: Container[str]) -> bool:
    return factor(name, "left") in parameters


def register(module: nn.Module, leaf: str, difference: LowRank | Made) -> None:
    """From now on `module` reads its parameter `leaf` plus the difference, or what the view makes of it."""
    if isinstance(module, nn.RNNBase) and not isinstance(module, ReadAnew):
        forget(module)
        module.__class__ = type(type(module).__name__, (ReadAnew, type(module)), {})
    parametrize.register_parametrization(module, leaf, difference)
    module.parametrizations.train(module.training)


def of(module: nn.Module, leaf: str) -> LowRank | None:
    """The difference that the module's parameter has; None without. BadInput where it is parametrised otherwise."""
    if not parametrize.is_parametrized(module, leaf):
        return None
    if not is_difference(module, leaf):
        kinds = ", ".join(type(parametrization).__name__ for parametrization in module.parametrizations[leaf])
        raise BadInput(
            f"{leaf} of {type(module).__name__} is parametrised already ({kinds}): relax it before that"
        )
    return module.parametrizations[leaf][0]


def is_difference(module: nn.Module, leaf: str) -> bool:
    """Whether the parametrization of this weight is one difference of low rank, and nothing else."""
    parametrizations = module.parametrizations[leaf]
    return len(parametrizations) == 1 and isinstance(parametrizations[0], LowRank)


def fold(module: nn.Module) -> None:
    """Make each weight that has a difference, or a view, one Parameter, and the module what it was before."""
    if not parametrize.is_parametrized(module):
        return
    kind = type(module)
    leaves = [
        leaf
        for leaf, parametrizations in module.parametrizations.items()
        if len(parametrizations) == 1 and isinstance(parametrizations[0], LowRank | Made)
    ]
    folded = {leaf: getattr(module, leaf).detach().clone() for leaf in leaves}
    trained = {leaf: module.parametrizations[leaf].original.requires_grad for leaf in leaves}
    for leaf in leaves:
        del module.parametrizations[leaf]
    if len(module.parametrizations):
        # Copies of a module have one class, and torch's way to take a parametrization off would change it for them all.
        left = {
            name: value
            for name, value in vars(kind).items()
            if name not in (*leaves, "__dict__", "__weakref__")
        }
        module.__class__ = type(kind.__name__, kind.__bases__, left)
    else:
        del module.parametrizations
        module.__class__ = kind.__bases__[0]
    for leaf, value in folded.items():
        module.register_parameter(leaf, Parameter(value, trained[leaf]))
    if isinstance(module, ReadAnew) and not parametrize.is_parametrized(module):
        module.__class__ = type(module).__bases__[1]
        module._init_flat_weights()
