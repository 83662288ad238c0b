"""Which entries of a model's weights are one, up to their sign: the normal form of ties with views."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from bench.tying import gate
from bench.tying.errors import BadInput
from bench.tying.low_rank import is_relaxed
from bench.tying.tie import Tie, closure, normal_form, refuse_beside_a_map
from bench.tying.view import View, gather

if TYPE_CHECKING:
    from bench.tying.apply import Parameters

Shapes = Mapping[str, tuple[int, ...]]
Partition = dict[str, tuple[Tensor, Tensor]]
"""Of each name (class, sign) of its entries, int64 of the weight's shape: weight = sign * value of the class."""


def partition(ties: Sequence[Tie], shapes: Shapes) -> Partition:
    """Return the signed classes of the entries of these weights when all of the ties hold, whatever their strength.

    Classes are numbered in the order in which they are met; entries that must be 0 have the sign 0. Each entry of a
    weight that a learned map makes is a class of its own. It takes time and memory for every entry of every weight.

    Args:
        ties: With views or without; names that are not in `shapes` must not be in them.
        shapes: Of the weights, by name.

    Raises:
        BadInput: An entry would have to be its own negative.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    start = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    number = top = sum(sizes.values())
    # Entry k has two nodes, 2k + 1 for itself and 2k + 2 for its negative; node 0 is zero. A tie joins nodes.
    one, other = [np.zeros(0, int)], [np.zeros(0, int)]
    for tie in ties:
        shared = tie.views[0].shape if tie.views else shapes[tie.names[0]]
        for name, view in zip(tie.names, tie.views or (View(shared),) * len(tie.names), strict=True):
            if view.mapped:
                continue
            index, sign = (part.flatten().numpy() for part in view.entries())
            for plus in (1, 2):
                one.append(2 * (start[name] + np.arange(len(index))) + plus)
                signed = 2 * (top + index) + np.where(sign > 0, plus, 3 - plus)
                other.append(np.where(sign == 0, 0, signed))
        top += math.prod(shared)
    joins = np.concatenate(one), np.concatenate(other)
    graph = coo_matrix((np.ones(len(joins[0]), np.int8), joins), shape=(2 * top + 1,) * 2)
    _, component = connected_components(graph, directed=False)
    plus, minus = component[1 : 2 * number : 2], component[2 : 2 * number + 1 : 2]
    zero = plus == component[0]
    if (wrong := np.flatnonzero((plus == minus) & ~zero)).size:
        name = next(name for name, at in reversed(start.items()) if at <= wrong[0])
        at = np.unravel_index(int(wrong[0]) - start[name], shapes[name])
        raise BadInput(
            f"{name} would have to hold its own negative at {[int(i) for i in at]}: its views tie an entry to minus "
            "itself; leave that entry out, or use a view without negate there"
        )
    _, first, label = np.unique(np.minimum(plus, minus), return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(zero[first], number, first)))
    sign = np.where(zero, 0, np.where(plus == plus[first][label], 1, -1))
    label = np.where(zero, 0, order[label])
    return {
        name: tuple(
            torch.from_numpy(part[at : at + sizes[name]].astype(np.int64)).view(shapes[name])
            for part in (label, sign)
        )
        for name, at in start.items()
    }


def size_of(entries: Partition) -> int:
    """Return the number of classes."""
    return 1 + max(
        (int(label[sign != 0].max()) for label, sign in entries.values() if sign.any()), default=-1
    )


def joined(ties: Sequence[Tie], shapes: Shapes) -> list[Tie]:
    """Return ties with views that have no name in common and each name once, which say what these say together.

    A tie that meets no other stays as it is. Others become one: each weight gathers the classes of its entries.

    Raises:
        BadInput: An entry would have to be its own negative, or a learned map reads what other views share too.
    """
    apart = []
    for names in closure(tie.names for tie in ties):
        group = [tie for tie in ties if tie.names[0] in names]
        if len(group) == 1 and len(names) == len(group[0].names):
            apart.append(group[0])
            continue
        if mapped := [name for tie in group for name, view in tie.uses() if view.mapped]:
            raise BadInput(
                f"{mapped[0]} is made by a learned map of a tensor that other views share too; leave one out"
            )
        inside = {name: shapes[name] for name in sorted(names)}
        entries = partition(group, inside)
        # The optimizer decays what has two dimensions: a shared tensor has as many as its weights.
        is_deep = any(len(shape) > 1 for shape in inside.values())
        shape = (1, size_of(entries)) if is_deep else (size_of(entries),)
        views = tuple(View(shape, (gather(*entries[name]),)) for name in inside)
        apart.append(replace(group[0], names=tuple(inside), blocks=(), views=views))
    return apart


@dataclass(frozen=True, eq=False)
class EntryClasses:
    """Some tensors with the signed class of each of their entries: what soft ties with views draw together.

    labels, signs: of the entries of all tensors one after the other, on their device.
    """

    tensors: tuple[Tensor, ...]
    labels: Tensor
    signs: Tensor

    @classmethod
    def of(cls, tensors: Sequence[Tensor], entries: Sequence[tuple[Tensor, Tensor]]) -> "EntryClasses":
        device = tensors[0].device
        labels = torch.cat([label.flatten() for label, _ in entries]).to(device)
        signs = torch.cat([sign.flatten() for _, sign in entries]).to(device)
        return cls(tuple(tensors), labels, signs)

    def _measured(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return, flat, each entry's deviation from its class's mean, the size of its class, and that mean.

        Differentiable, and exactly 0 where the entries of a class are equal: the first of them is the origin. An entry
        that must be 0 deviates by what it is, from a mean of 0.
        """
        values = torch.cat([tensor.flatten() for tensor in self.tensors])
        signed, labels, real = values * self.signs, self.labels, self.signs != 0
        origin = signed[self._first(real)]
        offset = torch.where(real, signed - origin[labels], 0)
        count = torch.bincount(labels[real], minlength=len(origin)).clamp(min=1)
        mean = torch.zeros_like(origin).index_add(0, labels, offset) / count
        deviation = torch.where(real, (offset - mean[labels]) * self.signs, values)
        return deviation, torch.where(real, count[labels], 1), (origin + mean)[labels] * self.signs

    def _first(self, real: Tensor) -> Tensor:
        """Return where each class has its first entry."""
        at = torch.arange(len(self.labels), device=self.labels.device)
        first = at.new_full((int(self.labels.max()) + 1,), len(at) - 1)
        return first.scatter_reduce(0, self.labels[real], at[real], "amin")

    def penalty(self, strength: float) -> Tensor:
        """Return strength * the sum, over pairs of entries of one class, of their squared difference."""
        deviation, count, _ = self._measured()
        return strength * (count * deviation.square()).sum()

    @torch.no_grad()
    def add_gradient(self, strength: float) -> None:
        """Add the penalty's gradient, 2 n strength (w - mean) for an entry of a class of n, to each `.grad`."""
        deviation, count, _ = self._measured()
        for tensor, part in self._cut(2 * strength * (count * deviation)):
            tensor.grad = part.clone() if tensor.grad is None else tensor.grad.add_(part)

    @torch.no_grad()
    def pull(self, lr: float, strength: float) -> None:
        """Take one proximal step of the penalty, in place; strength math.inf makes each class its mean, to the bit."""
        if lr == 0 or strength == 0:
            return
        deviation, count, mean = self._measured()
        shrink = 2 * lr * strength * count.to(deviation.dtype)
        for tensor, part in self._cut(mean if math.isinf(strength) else deviation * (shrink / (1 + shrink))):
            tensor.copy_(part) if math.isinf(strength) else tensor.sub_(part)

    @torch.no_grad()
    def as_one(self, by_mean: bool) -> list[tuple[Tensor, Tensor]]:
        """Return each tensor, and what it holds once every class has its mean, or the value of its first entry."""
        values = torch.cat([tensor.flatten() for tensor in self.tensors]) * self.signs
        first = values[self._first(self.signs != 0)][self.labels] * self.signs
        return list(self._cut(self._measured()[2] if by_mean else first))

    @torch.no_grad()
    def squares(self) -> tuple[float, float]:
        """Return the sum of squared deviations, and of all squares."""
        deviation, _, _ = self._measured()
        size = sum(float(tensor.double().square().sum()) for tensor in self.tensors)
        return float(deviation.double().square().sum()), size

    @torch.no_grad()
    def copies(self) -> Iterator[Tensor]:
        """Yield, for each number n of entries that classes have, their values [n, classes], the sign taken off."""
        real = self.signs != 0
        values = (torch.cat([tensor.flatten() for tensor in self.tensors]) * self.signs)[real]
        order = self.labels[real].argsort(stable=True)
        size = torch.bincount(self.labels[real])[self.labels[real]][order]
        for n in size.unique().tolist():
            yield values[order][size == n].view(-1, n).T

    def _cut(self, flat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        sizes = [tensor.numel() for tensor in self.tensors]
        for tensor, part in zip(self.tensors, flat.split(sizes), strict=True):
            yield tensor, part.view(tensor.shape)


def own_ties(parameters: "Parameters") -> list[Tie]:
    """The ties that the model has: names of one Parameter, with their views. Those that are relaxed stay out."""
    names_of: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        names_of.setdefault(id(parameter), []).append(name)
    ties = []
    for names in names_of.values():
        if any(name in parameters.views for name in names):
            whole = View(tuple(parameters[names[0]].shape))
            ties.append(Tie(tuple(names), views=tuple(parameters.views.get(name, whole) for name in names)))
        elif len(names) > 1 and not any(is_relaxed(name, parameters) for name in names):
            ties.append(Tie(tuple(names)))
    return ties


def resolved(ties: Iterable[Tie], parameters: "Parameters") -> tuple[list[Tie], list[Tie]]:
    """The hard ties of whole tensors, and those with views, the model's own included, each name in one of them."""
    hard = [tie for tie in ties if tie.is_hard]
    if not parameters.views and not any(tie.views for tie in hard):
        return hard, []
    normal = normal_form([*hard, *own_ties(parameters)])
    shapes = {name: parameters.shape(name) for name in parameters}
    with_views = joined([tie for tie in normal if tie.views], shapes)
    names = {name for tie in with_views for name in tie.names}
    return [tie for tie in hard if not tie.views and not names & {*tie.names}], with_views


def is_made(tie: Tie, parameters: "Parameters") -> bool:
    """Whether the model makes each weight of the tie by its view from one Parameter."""
    shared = parameters[tie.names[0]]
    return all(
        parameters[name] is shared and parameters.views.get(name, View(view.shape)) == view
        for name, view in tie.uses()
    )


def kept_whole(tie: Tie, parameters: "Parameters") -> str | None:
    """The first name that goes on with its own Parameter, of which the other weights of the tie are made."""
    uses = (name for name, view in tie.uses() if view.is_whole and name not in parameters.views)
    return next(uses, None)


def soft_classes(
    ties: Iterable[Tie], parameters: "Parameters"
) -> tuple[list[Tie], list[tuple[EntryClasses, float]]]:
    """The soft ties of whole tensors, and the classes, with their strength, of those that a view has a part in.

    Their members are entries of distinct parameters: what a hard view makes many entries of counts once.
    """
    soft = [tie for tie in ties if not tie.is_hard]
    whole: list[Tie] = []
    classes = []
    for strength in dict.fromkeys(tie.strength for tie in soft):
        mine = [tie for tie in soft if tie.strength == strength]
        for ids in closure([id(parameters[name]) for name in tie.names] for tie in mine):
            group = [tie for tie in mine if id(parameters[tie.names[0]]) in ids]
            tied = (name for tie in group for name in tie.names)
            known = (name for name, parameter in parameters.items() if id(parameter) in ids)
            names = list(dict.fromkeys((*tied, *known)))
            if not any(tie.views for tie in group) and not any(name in parameters.views for name in names):
                whole += group
            else:
                classes.append((_classes_of(group, names, parameters), strength))
    return whole, classes


def _classes_of(ties: Sequence[Tie], names: Sequence[str], parameters: "Parameters") -> EntryClasses:
    own = [tie for tie in own_ties(parameters) if tie.names[0] in names]
    refuse_beside_a_map([*ties, *own])
    of_weights = partition([*ties, *own], {name: parameters.shape(name) for name in names})
    tensors = {id(parameters[name]): parameters[name] for name in names}
    if gate.is_anchored(tensors.values()):
        frozen = next(name for name in names if not parameters[name].requires_grad)
        raise BadInput(
            f"the plan draws {frozen}, which is frozen, together with entries that a view makes and that are not: "
            "leave it out of the tie"
        )
    entries = {key: tuple(torch.zeros(2, *tensor.shape, dtype=torch.long)) for key, tensor in tensors.items()}
    for name in names:
        parameter = parameters[name]
        view = parameters.views.get(name, View(tuple(parameter.shape)))
        if view.mapped:
            continue
        index, sign = view.entries()
        read = sign != 0
        label, signs = (part.flatten() for part in entries[id(parameter)])
        label[index[read]] = of_weights[name][0][read]
        signs[index[read]] = (of_weights[name][1] * sign)[read]
    return EntryClasses.of(list(tensors.values()), [entries[key] for key in tensors])
