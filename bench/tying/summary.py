"""What a plan does to one model, as a table to read before it is applied."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch.nn import Parameter

from bench.tying.sharing import added, count_when_shared, members, tensors_when_shared
from bench.tying.tie import Tie

_HEADS = ("weights", "groups", "shape", "uses", "tensors", "parameters", "saved")


@dataclass(frozen=True)
class Row:
    """The ties of one kind of weight: namesakes along a stack, or other names of one tensor.

    weights: their name, `*` where it differs. groups: what stands there, a bracket for each tie, or the strength
    where it is soft, the rank where it is relaxed. uses: how many names are tied, of how many that the model has of
    this kind.
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


def summarised(ties: Sequence[Tie], parameters: Mapping[str, Parameter]) -> Summary:
    """The table of these ties; `parameters` has every name of every parameter of the model."""
    kinds: dict[tuple, list[Tie]] = {}
    for tie in ties:
        shape = tuple(parameters[tie.names[0]].shape)
        kinds.setdefault((pattern_of(tie.names), shape, tie.strength, tie.rank), []).append(tie)
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
    size = parameters[ties[0].names[0]].numel()
    matching = re.compile("[^.]+".join(map(re.escape, pattern.split("*")))) if "*" in pattern else None
    used = sum(len(tie.names) for tie in ties)
    return Row(
        weights=pattern,
        groups=" ".join(_group(tie, pattern) for tie in ties),
        shape=shape,
        uses=(used, sum(bool(matching.fullmatch(name)) for name in parameters) if matching else used),
        tensors=(sum(distinct), sum(after) + 2 * len(differences)),
        num_params=(sum(distinct) * size, sum(after) * size + sum(differences)),
        bytes_saved=sum(_saved(tie, parameters) for tie in ties),
    )


def _saved(tie: Tie, parameters: Mapping[str, Parameter]) -> int:
    found = members(tie, parameters)
    differences = sum(numel for _, numel in added([tie], parameters)) * found[0].element_size()
    return sum(p.numel() * p.element_size() for p in found[1:]) - differences if tie.is_hard else 0


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
    rank of a relaxed one."""
    if "*" not in pattern:
        inside = ""
    else:
        at = [i for i, part in enumerate(pattern.split(".")) if part == "*"]
        places = [tuple(int(name.split(".")[i]) for i in at) for name in tie.names]
        inside = ",".join(
            _ranges(sorted(p[0] for p in places)) if len(at) == 1 else map(_dotted, sorted(places))
        )
    kind = f"rank {tie.rank} " if tie.rank else "" if tie.is_hard else f"soft {tie.strength:g} "
    return kind + (f"{{{inside}}}" if inside else "")


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
