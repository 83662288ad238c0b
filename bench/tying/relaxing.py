"""Relaxed ties of a model: checked, counted, and applied."""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bench.errors import BadInput
from bench.tying import low_rank, sharing
from bench.tying.tie import Tie

Merge = Literal["first", "mean", "least_squares"]


def check(ties: Iterable[Tie], model: nn.Module, parameters: Mapping[str, Parameter]) -> None:
    """BadInput where a tie's difference cannot be put beside a weight: it has one already that is not this tie's, or
    the weight is also read under a name, or by a module, that is to have none or another."""
    for tie in ties:
        if not tie.is_hard:
            continue
        owners: dict[tuple[int, str], str] = {}
        for name in tie.names:
            module, leaf = sharing.place(model, name)
            found = low_rank.of(module, leaf) if tie.rank or sharing.is_relaxed(name, parameters) else None
            if found is not None and found.rank != tie.rank:
                raise BadInput(
                    f"{name} has a difference of rank {found.rank} already; the plan gives it {tie.rank}"
                )
            other = owners.setdefault((id(module), leaf), name)
            if tie.rank and other != name:
                raise BadInput(f"{other} and {name} are one module's; relax modules that are apart")
        if tie.rank:
            _refuse_others(tie, parameters)
            low_rank.size(parameters[tie.names[0]].shape, tie.rank)


def _refuse_others(tie: Tie, parameters: Mapping[str, Parameter]) -> None:
    inside = {id(parameters[name]): name for name in tie.names}
    for name, parameter in parameters.items():
        if id(parameter) in inside and name not in tie.names:
            raise BadInput(
                f"the plan relaxes {inside[id(parameter)]}, which the model also reads as {name}: relax both or neither"
            )


def factors(ties: Iterable[Tie], parameters: Mapping[str, Parameter]) -> dict[str, tuple[int, int]]:
    """Names and shapes of the factors that these ties would add."""
    found = {}
    for tie in ties:
        for name, _ in sharing.added([tie], parameters):
            out, *rest = parameters[name].shape
            found[sharing.factor(name, "left")] = (out, tie.rank)
            found[sharing.factor(name, "right")] = (tie.rank, torch.Size(rest).numel())
    return found


@torch.no_grad()
def relax(tie: Tie, model: nn.Module, parameters: dict[str, Parameter], merge: Merge) -> None:
    """Share the tie's tensor and put each name's difference beside it; what is relaxed already stays as it is."""
    new = [name for name in tie.names if not sharing.is_relaxed(name, parameters)]
    own = {name: sharing.weight(model, name).detach().clone() for name in new}
    if len(new) == len(tie.names):
        parameters[tie.names[0]].copy_(_merged(tie, list(own.values()), merge))
    sharing.share(tie, model, parameters)
    shared = parameters[tie.names[0]]
    for name in new if shared.ndim > 1 else ():
        module, leaf = sharing.place(model, name)
        low_rank.register(module, leaf, low_rank.nearest(own[name] - shared, tie.rank))
        made = low_rank.of(module, leaf)
        parameters |= {sharing.factor(name, which): getattr(made, which) for which in sharing.FACTORS}


def _merged(tie: Tie, own: list[Tensor], merge: Merge) -> Tensor:
    if merge == "first":
        return own[0]
    turns = tie.rank if merge == "least_squares" and own[0].ndim > 1 else 0
    return low_rank.least_squares(own, turns)
