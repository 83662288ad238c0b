"""Compute soft tying: the penalty, its gradient and its proximal step on the members of one tie."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from bench.tying import apply
from bench.tying.classes import soft_classes
from bench.tying.errors import BadInput
from bench.tying.gate import as_real, is_anchored
from bench.tying.tie import Tie, closure

SLICE = 1 << 20
"""Numbers that are looked at together: tensors of any size are compared in a few MiB."""


@torch.no_grad()
def gram(tensors: Sequence[Tensor]) -> Tensor:
    """[n][n] float64 on the CPU: inner products of n tensors of one shape, summed in float64.

    A complex number is the two real ones it is made of.
    That is enough digits for distances down to 1e-7 of the norm, in one pass over the weights.
    """
    rows = [as_real(tensor.detach()).reshape(-1) for tensor in tensors]
    total, width = torch.zeros(len(rows), len(rows), dtype=torch.float64), max(1, SLICE // len(rows))
    for start in range(0, rows[0].numel(), width):
        part = torch.stack([row[start : start + width] for row in rows]).double().cpu()
        total += part @ part.T
    return total


def effective_copies(products: Tensor) -> float:
    """(tr G)^2 / tr(G^2) of a `gram` of n tensors, from 1 to n: n where orthogonal and of one norm, 1 where equal.

    The participation ratio of its eigenvalues (Gao et al. 2017, "A theory of multineuronal dimensionality"): a
    tensor that is a multiple of another adds nothing, whatever its sign. Orthogonal tensors of unlike norms count less
    than n: blocks that nothing ties, too, amount to fewer where some are larger. All zero they are equal: 1.
    """
    trace = products.trace()
    if trace == 0:
        return 1.0
    scaled = products / trace  # its squares neither overflow nor vanish
    return float((1 / scaled.square().sum()).clamp(1, len(products)))


BLOCK = 1 << 16
"""Numbers of each member that are looked at together: 24 such slices are 6 MiB of float32."""


def deviations(members: Sequence[Tensor]) -> list[Tensor]:
    """W_i - mean for each member; differentiable, and exactly zero for equal members.

    The first member is the origin: close floats subtract without rounding, so the mean of the offsets keeps
    all its digits, where the mean of the members does not (a third of a + a + a need not be a).
    """
    offsets, total = _offsets(members)
    mean_offset = total / len(members)
    torch._foreach_sub_(offsets, [mean_offset] * len(offsets))
    return [-mean_offset, *offsets]


def penalty(members: Sequence[Tensor], strength: float) -> Tensor:
    """strength * sum over pairs of ||W_i - W_j||^2: a differentiable scalar."""
    apart = deviations([as_real(member) for member in members])
    squares = torch.stack([deviation.square().sum() for deviation in apart])
    return strength * len(members) * squares.sum()


@torch.no_grad()
def add_gradient(members: Sequence[Tensor], strength: float) -> None:
    """Add the penalty's gradient, 2 n strength (W_i - mean), to each `.grad`, made where it is None.

    Frozen members among others get none.
    With W_i = W_0 + o_i that is 2 strength (n o_i - sum of the offsets o): added in these two terms, it needs no
    tensor for each deviation, which cost a fifth of its time. Large members are taken in slices that stay in the
    cache between the two terms: the same bits in less than half the time (24 matrices of 1024 x 1024).
    """
    has_frozen, gradients = is_anchored(members), []
    for member in members:
        if has_frozen and not member.requires_grad:
            gradients.append(torch.zeros_like(member))  # read by nobody
            continue
        if member.grad is None:
            member.grad = torch.zeros_like(member)
        gradients.append(member.grad)
    reals = [as_real(member) for member in members]
    for part, grads in _slices(reals, [as_real(gradient) for gradient in gradients]):
        offsets, total = _offsets(part)
        torch._foreach_add_(grads[1:], offsets, alpha=2 * len(members) * strength)
        torch._foreach_sub_(grads, [total] * len(grads), alpha=2 * strength)


@torch.no_grad()
def pull(members: Sequence[Tensor], lr: float, strength: float) -> None:
    """W_i <- mean + (W_i - mean) / (1 + 2 n lr strength), in place: one proximal step of the penalty.

    lr: the rate of the optimizer step just taken; at 0 nothing moves.
    strength: at 0 nothing moves; math.inf makes all members one and the same mean, to the bit.
    Frozen members among others stay, and the step is that of the others: of one W and one frozen A it is
    W <- A + (W - A) / (1 + 2 lr strength).
    Raises BadInput where lr is negative or not a number.

    Source: the proximal operator of a quadratic (Parikh & Boyd 2014, section 1.1), applied after the step as
    AdamW applies weight decay (Loshchilov & Hutter 2019, section 2), so that Adam does not rescale it.
    """
    if not lr >= 0:
        raise BadInput(f"lr is {lr!r}; it must be a number from 0")
    if lr == 0 or strength == 0:
        return
    if is_anchored(members):
        _pull_to_frozen(members, 2 * lr * strength)
        return
    shrink = 2 * len(members) * lr * strength
    for (part,) in _slices([as_real(member) for member in members]):
        apart = deviations(part)
        if math.isinf(shrink):
            torch._foreach_copy_(part, [part[0] - apart[0]] * len(part))
        else:
            torch._foreach_sub_(part, apart, alpha=shrink / (1 + shrink))


def _pull_to_frozen(members: Sequence[Tensor], step: float) -> None:
    """V_i = (W_i + step * sum of all V and frozen A) / (1 + n step), which gives the sum of the V in closed form."""
    trained = [as_real(member) for member in members if member.requires_grad]
    frozen = sum(as_real(member) for member in members if not member.requires_grad)
    n, held = len(members), len(members) - len(trained)
    total = (sum(trained) + step * len(trained) * frozen) / (1 + step * held) + frozen
    for weight in trained:
        weight.add_(total, alpha=step).div_(1 + step * n)


@torch.no_grad()
def squares(members: Sequence[Tensor]) -> tuple[float, float]:
    """sum ||W_i - mean||^2 and sum ||W_i||^2, in single precision at least and summed as Python floats."""
    apart = size = 0.0
    for (part,) in _slices([as_real(member) for member in members]):
        if part[0].dtype in (torch.float16, torch.bfloat16):
            part = [member.float() for member in part]
        apart += _sum_of_squares(deviations(part))
        size += _sum_of_squares(part)
    return apart, size


def spread(pieces: Sequence[tuple[float, float]]) -> float:
    """sqrt(sum ||W_i - mean||^2 / sum ||W_i||^2) over the `squares` of each tie; 0 if all are 0."""
    apart, size = (sum(column) for column in zip(*pieces, strict=True))
    return math.sqrt(apart / size) if size else 0.0


def _slices(*rows: Sequence[Tensor]) -> Iterator[tuple[Sequence[Tensor], ...]]:
    """Views of the same part of all of them, part by part, for a CPU's caches.

    All at once where they are small, not in one piece, or on a GPU, to which each part is a launch more.
    """
    size, on_cpu = rows[0][0].numel(), rows[0][0].device.type == "cpu"
    if size <= BLOCK or not on_cpu or not all(tensor.is_contiguous() for row in rows for tensor in row):
        yield rows
        return
    flat = [[tensor.view(-1) for tensor in row] for row in rows]
    for start in range(0, size, BLOCK):
        yield tuple([tensor[start : start + BLOCK] for tensor in row] for row in flat)


def _offsets(members: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """W_i - W_0 for each member but the first, and their sum."""
    first, *others = members
    offsets = torch._foreach_sub(others, [first] * len(others))
    return offsets, functools.reduce(torch.add, offsets)


def _sum_of_squares(tensors: Sequence[Tensor]) -> float:
    return sum(norm**2 for norm in torch.stack(torch._foreach_norm(tensors)).tolist())


def effective_count(hard: Sequence[Tie], soft: Sequence[Tie], parameters: apply.Parameters) -> float:
    """Elements of all distinct parameters when `hard` is shared, soft groups as many copies as they amount to.

    Classes of n entries, where views draw entries together, are n copies.
    """
    whole, classes = soft_classes(soft, parameters)
    groups = list(_groups(whole, apply.when_shared([tie for tie in hard if not tie.views], parameters)))
    groups += [copies for entries, _ in classes for copies in entries.copies()]
    return apply.count_when_shared(hard, parameters) - sum(
        (len(group) - effective_copies(gram(list(group)))) * group[0].numel() for group in groups
    )


def _groups(soft: Iterable[Tie], parameters: Mapping[str, Parameter]) -> Iterator[list[Parameter]]:
    """The distinct tensors of soft ties, in their order in the model; ties that meet in one are one group."""
    by_id = {id(parameter): parameter for parameter in parameters.values()}
    for group in closure([id(parameters[name]) for name in tie.names] for tie in soft):
        yield [parameter for identity, parameter in by_id.items() if identity in group]
