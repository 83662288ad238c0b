"""Find rows of a matrix that are alike, by a penalty that draws them together, and make a plan of such rows (GrOWL).

A row is what leaves one input unit: a column of `nn.Linear.weight`. Source of all of it: Zhang, Wang, Figueiredo &
Balzano 2018 (Learning to Share: Simultaneous Parameter Tying and Sparsification in Deep Learning).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bench.tying.errors import BadInput
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.structure import class_name, joined, modules_by_name
from bench.tying.tie import Tie, is_integer
from bench.tying.view import View

STEEPNESS = 4.0
"""How much heavier the largest row weighs than the smaller half, less one."""

ALIKE = 0.5
"""Mean cosine above which two groups of rows become one."""

ZERO = -1
"""The label of a row that is zero."""


def first_matrix(model: nn.Module) -> str:
    """Return the name of the weight of the first `nn.Linear`.

    Raises NotApplicable where there is none.
    """
    for path, module in modules_by_name(model).items():
        if isinstance(module, nn.Linear):
            return joined(path, "weight")
    raise NotApplicable("no nn.Linear in this network, whose rows could be alike")


def sorted_weights(count: int, strength: float) -> Tensor:
    """Return the weights of `count` norms, the largest first, [count] float64.

    They fall in a line from STEEPNESS + 1 times `strength` to `strength`, which all of the smaller half have.
    """
    place = torch.arange(count, dtype=torch.float64)
    return strength * (1 + STEEPNESS * (1 - 2 * place / count).clamp(min=0))


@torch.no_grad()
def shrunk(rows: Tensor, weights: Tensor) -> Tensor:
    """Return the rows after the proximal step of sum_i weights_i * (the i-th largest norm of a row): they get shorter.

    The sorted norms less their weights are made non-increasing by pooling neighbours, and cut at 0. Rows that are
    pooled get one norm.

    Args:
        rows: [n, width].
        weights: [n], at least 0 and not increasing, times the step size.
    """
    # Here and not above: half a second to import, which only such a run pays.
    from scipy.optimize import isotonic_regression

    norms = rows.double().norm(dim=1).cpu()
    order = norms.argsort(descending=True, stable=True)
    pooled = isotonic_regression((norms[order] - weights).numpy(), increasing=False).x
    factors = torch.zeros_like(norms)
    factors[order] = torch.from_numpy(np.clip(pooled, 0, None)) / norms[order].clamp(min=1e-300)
    return rows * factors[:, None].to(rows)


def penalise(model: nn.Module, name: str, step: float) -> None:
    """Take the proximal step of the penalty of strength `step` on the rows of the weight of this name, in place."""
    weight = model.get_parameter(name)
    with torch.no_grad():
        weight.copy_(shrunk(weight.T, sorted_weights(weight.shape[1], step)).T)


def alike(rows: Tensor) -> list[int]:
    """Return a label for each row [n, width]: of one direction one label, from 0 as they first appear, ZERO for zeros.

    Groups come of agglomerative clustering with average linkage, until no two have a mean cosine above ALIKE. The
    source clusters by affinity propagation, which has a number to choose too and need not converge.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    rows = rows.detach().double().cpu()
    left = rows.norm(dim=1).nonzero().flatten().tolist()
    groups: Sequence[int] = [0] * len(left)
    if len(left) > 1:
        groups = fcluster(linkage(rows[left].numpy(), "average", metric="cosine"), 1 - ALIKE, "distance")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    labels = dict(zip(left, (numbers[group] for group in groups), strict=True))
    return [labels.get(row, ZERO) for row in range(len(rows))]


def growl(model: nn.Module, *, grouping: Sequence[int]) -> TyingPlan:
    """Make one of the rows of the first matrix that have one label.

    grouping: a label for each input unit, from 0 without a gap; ZERO for a row of zeros. Each row with a label of its
        own ties nothing.
    Raises BadInput for other labels; NotApplicable where no row is left, or the network has no such matrix.
    """
    name = first_matrix(model)
    layer = modules_by_name(model)[name.rpartition(".")[0]]
    labels, inputs, outputs = tuple(grouping or ()), layer.in_features, layer.out_features
    groups = set(labels) - {ZERO}
    if len(labels) != inputs or not all(map(is_integer, labels)) or groups != set(range(len(groups))):
        raise BadInput(
            f"grouping is {grouping!r}; {name} has {inputs} rows ({class_name(layer)}): give a label for each, from 0 "
            "without a gap, and -1 for a row of zeros"
        )
    if not groups:
        raise NotApplicable(f"every row of {name} is zero: lower the strength of the penalty")
    if len(groups) == inputs:
        return TyingPlan()
    view = View((len(groups), outputs), (("rows", *labels), ("permute", 1, 0)))
    return TyingPlan((Tie((name,), views=(view,)),))
