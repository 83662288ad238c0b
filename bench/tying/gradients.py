"""What each use of a shared tensor asks of it: its part of the gradient, which the tensor receives summed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bench.tying import low_rank
from bench.tying.apply import parameters_by_name, put
from bench.tying.plan import TyingPlan
from bench.tying.structure import copied


@dataclass(frozen=True)
class UseGradients:
    """Of one hard tie, in the order of its names.

    norms: of each use's gradient. cosines: of each with the sum, None where either is zero. total: norm of the sum.
    """

    names: tuple[str, ...]
    norms: tuple[float, ...]
    cosines: tuple[float | None, ...]
    total: float

    @property
    def agreement(self) -> float | None:
        """||sum|| / sum of norms: 1 where all uses ask for the same, 1 / sqrt(n) where n equal ones are orthogonal,
        0 where they cancel; None where all are zero."""
        return self.total / sum(self.norms) if sum(self.norms) else None


def untied(model: nn.Module, plan: TyingPlan | None = None) -> nn.Module:
    """A copy in which each name has a Parameter of its own, of equal values. `model` stays as it is.

    plan: only the names of its hard ties; differences of low rank stay. Without one, all names that share a tensor, and
    differences are folded into the weights: a plain network for tools that know no ties, which answers as `model` does.
    """
    twin = copied(model)
    for module in list(twin.modules()) if plan is None else ():
        low_rank.fold(module)
    parameters = parameters_by_name(twin)
    names = (
        parameters if plan is None else [name for tie in plan.ties if tie.is_hard for name in tie.names[1:]]
    )
    seen: set[int] = set()
    for name in names:
        parameter = parameters[name]
        if plan is not None or id(parameter) in seen:
            put(twin, name, Parameter(parameter.detach().clone(), parameter.requires_grad))
        seen.add(id(parameter))
    return twin


def of_uses(
    plan: TyingPlan, model: nn.Module, loss: Callable[[nn.Module], Tensor]
) -> tuple[UseGradients, ...]:
    """The gradients of `loss` by use, for every hard tie of the plan, which was applied to `model`.

    loss: a scalar of a model, called once with an untied copy. Nothing of `model` changes, gradients included.
    """
    twin = untied(model, plan)
    twin.zero_grad()
    loss(twin).backward()
    parameters = parameters_by_name(twin)
    hard = [tie.names for tie in plan.ties if tie.is_hard]
    return tuple(_of_tie(names, [parameters[name] for name in names]) for names in hard)


@torch.no_grad()
def _of_tie(names: tuple[str, ...], uses: list[Parameter]) -> UseGradients:
    gradients = [torch.zeros_like(use) if use.grad is None else use.grad for use in uses]
    total = torch.stack(gradients).sum(0)
    size, norms = float(total.norm()), [float(gradient.norm()) for gradient in gradients]
    inner = [float((gradient * total).sum()) for gradient in gradients]
    cosines = (i / (n * size) if n and size else None for i, n in zip(inner, norms, strict=True))
    return UseGradients(names, tuple(norms), tuple(cosines), size)
