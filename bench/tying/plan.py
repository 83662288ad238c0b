"""Define plans: sets of ties in normal form, added, cut, softened, summarised and applied to a model."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bench.tying import apply, gate, penalty, proof
from bench.tying.apply import (
    Init,
    Merge,
    Parameters,
    changes_of,
    count_when_shared,
    members,
    tensors_when_shared,
)
from bench.tying.classes import EntryClasses, partition, soft_classes
from bench.tying.errors import BadInput
from bench.tying.own import added, factors
from bench.tying.penalty import effective_copies, effective_count, gram
from bench.tying.proof import Example
from bench.tying.tie import HARD, Tie, checked_rank, checked_strength, is_integer, normal_form

_HEADS = ("weights", "groups", "shape", "uses", "tensors", "parameters", "saved")


@dataclass(frozen=True)
class Row:
    """The ties of one kind of weight: namesakes along a stack, or other names of one tensor.

    weights: their name, `*` where it differs. groups: what stands there, a bracket for each tie, or the strength
    where it is soft, the rank where it is relaxed, the steps of views. uses: how many names are tied, of how many that
    the model has of this kind.
    tensors, num_params: (before, after). bytes_saved: of the parameters alone; gradients and optimizer come on top.
    """

    weights: str
    groups: str
    shape: tuple[int, ...]
    uses: tuple[int, int]
    tensors: tuple[int, int]
    num_params: tuple[int, int]
    bytes_saved: int


@dataclass(frozen=True)
class Summary:
    """The rows of a plan, and the whole model's (before, after). `str()` is a plain table.

    shared_before: names that are one tensor already, and that the plan does not tie anyway.
    """

    rows: tuple[Row, ...]
    tensors: tuple[int, int]
    num_params: tuple[int, int]
    bytes_saved: int
    shared_before: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        lines = [_HEADS, *(_cells(row) for row in self.rows), self._total()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, tuple("-" * width for width in widths))
        table = ["  ".join(_justified(line, widths)).rstrip() for line in lines]
        own = [f"the model shares by itself: {' = '.join(names)}" for names in self.shared_before]
        return "\n".join([*table, *own])

    def _total(self) -> tuple[str, ...]:
        counts = (_change(*self.tensors), _change(*self.num_params), _bytes(self.bytes_saved))
        return ("the whole model", "", "", "", *counts)


def summarised(ties: Sequence[Tie], parameters: Parameters) -> Summary:
    """The table of these ties; `parameters` has every name of every parameter of the model."""
    kinds: dict[tuple, list[Tie]] = {}
    for tie in ties:
        shape = parameters.shape(tie.names[0])
        views = tuple(view.spelled for view in tie.views)
        kinds.setdefault((pattern_of(tie.names), shape, tie.strength, tie.rank, views), []).append(tie)
    hard = [tie for tie in ties if tie.is_hard]
    distinct = {id(p): p for p in parameters.values()}.values()
    names: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        names.setdefault(id(parameter), []).append(name)
    return Summary(
        rows=tuple(_row(pattern, shape, of, parameters) for (pattern, shape, *_), of in kinds.items()),
        tensors=(len(distinct), tensors_when_shared(hard, parameters)),
        num_params=(sum(p.numel() for p in distinct), count_when_shared(hard, parameters)),
        bytes_saved=sum(_saved(tie, parameters) for tie in hard),
        shared_before=tuple(
            tuple(known)
            for known in names.values()
            if len(known) > 1 and not any(set(known) <= set(tie.names) for tie in hard)
        ),
    )


def _row(
    pattern: str, shape: tuple[int, ...], ties: Sequence[Tie], parameters: Mapping[str, Parameter]
) -> Row:
    distinct = [len(members(tie, parameters)) for tie in ties]
    after = [1 if tie.is_hard else before for tie, before in zip(ties, distinct, strict=True)]
    differences = [numel for _, numel in added(ties, parameters)]
    sizes = [_before_and_after(tie, parameters) for tie in ties]
    matching = re.compile("[^.]+".join(map(re.escape, pattern.split("*")))) if "*" in pattern else None
    used = sum(len(tie.names) for tie in ties)
    return Row(
        weights=pattern,
        groups=" ".join(_group(tie, pattern) for tie in ties),
        shape=shape,
        uses=(used, sum(bool(matching.fullmatch(name)) for name in parameters) if matching else used),
        tensors=(sum(distinct), sum(after) + 2 * len(differences)),
        num_params=(sum(size for size, _ in sizes), sum(size for _, size in sizes) + sum(differences)),
        bytes_saved=sum(_saved(tie, parameters) for tie in ties),
    )


def _before_and_after(tie: Tie, parameters: Mapping[str, Parameter]) -> tuple[int, int]:
    """Elements of the tie's distinct tensors, and of what is left of them without differences."""
    sizes = [member.numel() for member in members(tie, parameters)]
    if not tie.is_hard:
        return sum(sizes), sum(sizes)
    return sum(sizes), math.prod(tie.views[0].shape) if tie.views else sizes[0]


def _saved(tie: Tie, parameters: Mapping[str, Parameter]) -> int:
    before, after = _before_and_after(tie, parameters)
    differences = sum(numel for _, numel in added([tie], parameters))
    return (before - after - differences) * parameters[tie.names[0]].element_size() if tie.is_hard else 0


def pattern_of(names: Sequence[str]) -> str:
    """`blocks.*.up.weight` for names that differ in numbers alone; else all of them."""
    parts = [name.split(".") for name in names]
    if len({len(split) for split in parts}) > 1:
        return " = ".join(names)
    columns = [set(column) for column in zip(*parts, strict=True)]
    if any(len(column) > 1 and not all(part.isdecimal() for part in column) for column in columns):
        return " = ".join(names)
    return ".".join("*" if len(column) > 1 else next(iter(column)) for column in columns)


def _group(tie: Tie, pattern: str) -> str:
    """`{0-3}`, `{0,2}`, or `{0.0,0.1,1.0}` where a name differs in two places; after the strength of a soft tie, the
    rank of a relaxed one, the steps of views."""
    if "*" not in pattern:
        inside = ""
    else:
        at = [i for i, part in enumerate(pattern.split(".")) if part == "*"]
        places = [tuple(int(name.split(".")[i]) for i in at) for name in tie.names]
        inside = ",".join(
            _ranges(sorted(p[0] for p in places)) if len(at) == 1 else map(_dotted, sorted(places))
        )
    kind = f"rank {tie.rank} " if tie.rank else "" if tie.is_hard else f"soft {tie.strength:g} "
    kind += "".join(f"{spelled} " for spelled in dict.fromkeys(view.spelled for view in tie.views))
    return (
        (kind + (f"{{{inside}}}" if inside else "")).rstrip()
        if tie.views
        else kind + (f"{{{inside}}}" if inside else "")
    )


def _dotted(place: Iterable[int]) -> str:
    return ".".join(map(str, place))


def _ranges(numbers: Sequence[int]) -> list[str]:
    """[0, 1, 2, 5] -> ["0-2", "5"]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]


def _cells(row: Row) -> tuple[str, ...]:
    shape, uses = " x ".join(map(str, row.shape)), "{} of {}".format(*row.uses)
    counts = (_change(*row.tensors), _change(*row.num_params), _bytes(row.bytes_saved))
    return (row.weights, row.groups, shape, uses, *counts)


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} GiB"


def _change(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{before:,} -> {after:,}"


def _justified(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Words to the left, numbers to the right."""
    return [
        cell.ljust(width) if at < 2 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


__all__ = ["HARD", "BoundPlan", "NotApplicable", "Tie", "TyingPlan"]


class NotApplicable(Exception):
    """This way of tying cannot be applied to this model; the message is the reason, shown in a table row."""


@dataclass(frozen=True)
class TyingPlan:
    """A set of ties, always in normal form (`bench.tying.tie.normal_form`): equal plans compare equal.

    `TyingPlan()` ties nothing. Raises BadInput where soft ties of two finite strengths, or hard ones of two ranks,
    overlap.
    """

    ties: tuple[Tie, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ties", normal_form(self.ties))

    def __add__(self, other: "TyingPlan") -> "TyingPlan":
        """What either ties. Commutative, associative, idempotent; `TyingPlan()` is its identity."""
        return TyingPlan(self.ties + other.ties) if isinstance(other, TyingPlan) else NotImplemented

    def last(self, k: int) -> "TyingPlan":
        """Keep the names that sit in the k blocks nearest the output, and those that sit off the stack."""
        if not is_integer(k) or k < 1:
            raise BadInput(f"k is {k!r}; it counts blocks from the output end and must be an integer from 1")
        return TyingPlan(tuple(tie.where(lambda block: block is None or block >= -k) for tie in self.ties))

    def within(self, grouping: Sequence[int]) -> "TyingPlan":
        """Cut each tie at the borders of groups of blocks: `grouping` has one label per block, input first.

        Names off the stack stay together. BadInput where a block of a tie lies beyond the grouping.
        """
        return TyingPlan(tuple(part for tie in self.ties for part in _within(tie, grouping)))

    def soften(self, strength: float) -> "TyingPlan":
        """The same ties, each with this strength and no rank. 0 unties everything, math.inf makes every tie hard.

        Of whole tensors some may be frozen, as a teacher's: they stay, and the others are drawn to them.
        Raises BadInput for a strength between them and a tie with a learned map.
        """
        strength = checked_strength(strength)
        return TyingPlan(tuple(replace(tie, strength=strength, rank=0) for tie in self.ties))

    def relax(self, rank: int) -> "TyingPlan":
        """The same ties, each name of a hard one with a difference of this rank of its own. 0 takes them away.

        Raises BadInput for a tie with views.
        """
        rank = checked_rank(rank)
        return TyingPlan(tuple(replace(tie, rank=rank) if tie.is_hard else tie for tie in self.ties))

    def apply(
        self,
        model: nn.Module,
        init: Init = "own",
        merge: Merge = "first",
        example: Example | None = None,
    ) -> nn.Module:
        """Tie the model in place, all of the plan or nothing, and return it. Build first, apply next, optimizer last.

        A hard tie becomes one Parameter. No random number is drawn, ties that the model came with are kept, and buffers
        are never tied.

        Args:
            init: of a soft tie; "shared" gives all members the value that a hard tie would have, "own" leaves them.
            merge: the value of a hard tie: that of its first name (the one nearest the input), or, for layers that were
                trained apart, the mean of its distinct tensors. Of a relaxed tie each name keeps of its own weight what
                a difference of that rank can; below two dimensions, and where a matrix has no such rank, nothing.
                "least_squares" looks for the shared value from which all names together stay nearest, which without
                ranks is the mean.
            example: what the model reads. With it the ties are proven (`prove`), but for weights that the example does
                not reach. Without it nothing is proven: a module that keeps a weight, or a view of it, in another
                place is found by its attributes, and one that keeps a copy is not.

        Raises BadInput, and the model is as it was, where a name is missing or a buffer's, a parameter is quantised,
        frozen while others of its tie are not, or, to be relaxed, parametrised, a tie holds two shapes, dtypes or
        devices, values do not allow the arithmetic, an optimizer or DDP was made of what would be replaced, or a module
        goes on with a weight of its own.
        """
        if init not in get_args(Init):
            raise BadInput(f"init is {init!r}; allowed are {' and '.join(map(repr, get_args(Init)))}")
        if merge not in get_args(Merge):
            raise BadInput(f"merge is {merge!r}; allowed are {', '.join(map(repr, get_args(Merge)))}")
        parameters = self._applicable(model)
        changes = changes_of(self.ties, model, parameters, init, merge)
        if example is None:
            proof.check_kept(self.ties, changes, model, parameters)
        elif any(tie.is_hard for tie in self.ties):
            proof.check(changes, self.ties, model, example)
        changes.make(model)
        return model

    def check(self, model: nn.Module) -> None:
        """Raise BadInput where `apply` would, whatever values the parameters have; the model stays as it is.

        It takes a network on the meta device, which `apply` does not where it has to calculate.
        """
        self._applicable(model)

    def prove(self, model: nn.Module, example: Example) -> None:
        """Prove on data that each hard tie, which was applied, is one tensor for the network and not by name alone.

        The shared tensor is changed for one name after the other, and the model must answer the example otherwise. Its
        mode, its values and the caller's random numbers stay as they are. It takes a forward pass for each name.
        Raises RuntimeError with the names at which nothing changes: the module keeps its weight elsewhere, in a list, a
        closure or a copy, or the example does not reach it. Raises BadInput where the model cannot read the example.
        """
        self.verify(model)
        if silent := proof.silent_uses(self.ties, model, example):
            raise RuntimeError(
                f"the tie is not proven: what the model answers does not depend on {', '.join(silent[:3])}"
                f"{', ...' if len(silent) > 3 else ''}: the example does not reach it, or its module keeps the weight "
                "elsewhere"
            )

    def bind(self, model: nn.Module) -> "BoundPlan":
        """Look the names up once, for a loop that asks at every step. See `BoundPlan`."""
        ties, parameters = self._checked(model)
        soft = [tie for tie in ties if not tie.is_hard]
        gate.check_values({name: parameters[name] for tie in soft for name in tie.names}, "for a soft tie")
        whole, classes = soft_classes(soft, parameters)
        groups = [(apply.members(tie, parameters), tie.strength) for tie in whole]
        return BoundPlan(
            soft=tuple((members, strength) for members, strength in groups if len(members) > 1),
            classes=tuple(classes),
            uses=tuple(
                [apply.place(model, name) for name in tie.names] for tie in self.ties if not tie.views
            ),
            made=tuple(_entries_of(tie, model, parameters) for tie in self.ties if tie.views),
        )

    def penalty(self, model: nn.Module) -> Tensor:
        """Sum over soft ties of strength * sum over pairs of ||W_i - W_j||^2: a differentiable scalar."""
        return self.bind(model).penalty()

    def add_penalty_gradient(self, model: nn.Module) -> None:
        """Add the gradient of `penalty` to `.grad` in closed form, without autograd."""
        self.bind(model).add_gradient()

    def pull(self, model: nn.Module, lr: float) -> None:
        """Draw soft ties together in place, after an optimizer step of rate lr (`bench.tying.penalty.pull`)."""
        self.bind(model).pull(lr)

    def spread(self, model: nn.Module) -> float | None:
        """How far apart tied tensors are, relative to their norm: 0.0 if shared, None for an empty plan."""
        bound = self.bind(model)
        weights = {name: apply.weight(model, name) for tie in self.ties for name in tie.names}
        gate.check_values(weights, "to say how far copies are apart")
        return bound.spread()

    def num_params(self, model: nn.Module) -> int:
        """Elements of the distinct parameters, frozen ones included, that the model has once this is applied.

        The answer is the same before and after `apply`. Raises BadInput as `apply` does for names and shapes.
        """
        ties, parameters = self._checked(model)
        return apply.count_when_shared(_hard(ties), parameters)

    def effective_params(self, model: nn.Module) -> float:
        """`num_params`, with a soft group counted as numel x (tr G)^2 / tr(G^2), G the inner products of its n tensors.

        n orthogonal ones of one norm count n, equal ones, and all-zero ones, 1 (`bench.tying.penalty`). It is of the
        weights as they are; a hard class that is not applied yet has that of its first name. Refuses as `num_params`.
        """
        ties, parameters = self._checked(model)
        soft = [tie for tie in ties if not tie.is_hard]
        named = {name: parameters[name] for tie in soft for name in tie.names}
        gate.check_values(named, "to count how far copies are apart")
        return float(effective_count(_hard(ties), soft, parameters))

    def effective_params_by_use(self, model: nn.Module) -> float | None:
        """`effective_params` with hard ties counted as soft ones are: by the inner products of all uses of a tie.

        One count so holds for networks that share tensors and for networks that do not, as they are now. Of n
        orthogonal weights of one norm, two that are one tensor leave n^2 / (n + 2), where their tensors are n - 1.
        None where a use is no parameter of the model, as under relaxed ties.
        """
        uses = [[getattr(*use) for use in uses] for uses in self.bind(model).uses]
        if not all(isinstance(weight, nn.Parameter) for group in uses for weight in group):
            return None
        counted = {id(weight) for group in uses for weight in group}
        others = sum(p.numel() for p in model.parameters() if id(p) not in counted)
        return others + sum(effective_copies(gram(group)) * group[0].numel() for group in uses)

    def num_tensors(self, model: nn.Module) -> int:
        """How many distinct parameters those elements are in; counted, and refused, as `num_params` does."""
        ties, parameters = self._checked(model)
        return apply.tensors_when_shared(_hard(ties), parameters)

    def differences(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the factors and maps that `apply` would put beside weights; refuses as `num_params`."""
        return factors(*self._checked(model))

    def summary(self, model: nn.Module) -> Summary:
        """What `apply` would tie and save, as a table: `print(plan.summary(model))`. Refuses as `num_params` does."""
        return summarised(*self._checked(model))

    def verify(self, model: nn.Module) -> None:
        """RuntimeError, naming what, where a hard tie is no longer one tensor or a name lacks its difference.

        BadInput where an adapter (LoRA) is merged into what is tied.
        """
        ties, parameters = self._checked(model)
        apply.check_shared(_hard(ties), parameters)
        apply.check_unmerged(ties, model)

    def _hard(self) -> list[Tie]:
        return _hard(self.ties)

    def _applicable(self, model: nn.Module) -> Parameters:
        """Return the model's parameters; BadInput where these ties cannot be applied to them."""
        parameters = apply.parameters_by_name(model)
        apply.check_named(self.ties, model, parameters)
        apply.check(self.ties, parameters)
        apply.check_shareable(self.ties, parameters)
        apply.check_relaxed(self.ties, model, parameters)
        apply.check_unmerged(self.ties, model)
        apply.check_none(self._hard(), model, parameters)
        return parameters

    def _checked(self, model: nn.Module) -> tuple[list[Tie], Parameters]:
        """The ties as the model stores them, and its parameters; BadInput where they do not fit."""
        parameters = apply.parameters_by_name(model)
        ties = apply.as_stored(self.ties, parameters)
        apply.check(ties, parameters)
        return ties, parameters


@dataclass(frozen=True, eq=False)
class BoundPlan:
    """A plan with its names looked up in one model: what a training loop calls at every step.

    Make it after `apply` and before training. It holds the Parameters themselves: it follows the optimizer,
    `load_state_dict` and `.to()`, and must be made again after deepcopy and `load_state_dict(assign=True)`.

    soft: for each soft tie its distinct tensors (a hard class is one of them) and its strength.
    classes: for the soft ties that views have a part in, what entries are drawn together, and the strength.
    uses: for each tie the module and the attribute where each name is read.
    made: the same for each tie with views, with the signed class of every entry.
    """

    soft: tuple[tuple[list[Parameter], float], ...]
    classes: tuple[tuple[EntryClasses, float], ...]
    uses: tuple[list[tuple[nn.Module, str]], ...]
    made: tuple[tuple[list[tuple[nn.Module, str]], list[tuple[Tensor, Tensor]]], ...]

    def penalty(self) -> Tensor:
        """The penalty of all soft ties: a differentiable scalar, zero without any."""
        pieces = [penalty.penalty(members, strength) for members, strength in self.soft]
        pieces += [entries.penalty(strength) for entries, strength in self.classes]
        return sum(pieces, torch.zeros(()))

    def add_gradient(self) -> None:
        """Add the penalty's gradient to `.grad`. Call it after clipping, or it is clipped away.

        BadInput, before anything is added, where a gradient is sparse.
        """
        drawn = [tensors for tensors, _ in self.soft] + [entries.tensors for entries, _ in self.classes]
        if any(m.grad is not None and m.grad.layout != torch.strided for members in drawn for m in members):
            raise BadInput(
                "the gradient of a softly tied weight is sparse, which a penalty cannot be added to: make the "
                "embedding with sparse=False"
            )
        for tensors, strength in self.soft:
            penalty.add_gradient(tensors, strength)
        for entries, strength in self.classes:
            entries.add_gradient(strength)

    def pull(self, lr: float) -> None:
        """Draw the members of each soft tie together, after an optimizer step of rate lr."""
        for tensors, strength in self.soft:
            penalty.pull(tensors, lr, strength)
        for entries, strength in self.classes:
            entries.pull(lr, strength)

    def spread(self) -> float | None:
        """sqrt(sum ||W_i - mean||^2 / sum ||W_i||^2) over the names of all ties; None without ties."""
        if not self.uses and not self.made:
            return None
        pieces = [penalty.squares([getattr(*use) for use in uses]) for uses in self.uses]
        for uses, entries in self.made:
            pieces.append(EntryClasses.of([getattr(*use).detach() for use in uses], entries).squares())
        return penalty.spread(pieces)


def _within(tie: Tie, grouping: Sequence[int]) -> Iterable[Tie]:
    for name, block in tie.placed():
        if block is not None and block < -len(grouping):
            raise BadInput(
                f"{name} sits in block {block}; the grouping has labels for {len(grouping)} blocks"
            )
    groups = {None if block is None else grouping[block] for _, block in tie.placed()}
    for group in groups:
        yield tie.where(lambda block, group=group: (None if block is None else grouping[block]) == group)


def _entries_of(
    tie: Tie, model: nn.Module, parameters: Parameters
) -> tuple[list[tuple[nn.Module, str]], list[tuple[Tensor, Tensor]]]:
    """Where the weights of a tie with views are read, and the signed classes of their entries."""
    classes = partition([tie], {name: parameters.shape(name) for name in tie.names})
    return [apply.place(model, name) for name in classes], list(classes.values())


def _hard(ties: Iterable[Tie]) -> list[Tie]:
    return [tie for tie in ties if tie.is_hard]
