"""The largest batch that a given memory holds, from the exact meter and without running out of memory."""

import itertools
from collections.abc import Callable, Sequence

from bench.measure.memory import Moment

DOUBLINGS = 4
"""How often the first batch is doubled, at most, to find batches that the peak grows evenly from."""

Line = tuple[int, int]
"""Bytes after one operation: with no example at all, and by how much they grow with every `examples` more."""


def largest_batch(peak_of: Callable[[int], int], limit_bytes: int) -> int:
    """The largest number of examples whose peak is at most `limit_bytes`; 0 where one is too many.

    peak_of: bytes at the peak with so many examples, growing with them without end (`peak_by_batch`).
    """
    fits, too_many = 0, 1
    while peak_of(too_many) <= limit_bytes:
        fits, too_many = too_many, 2 * too_many
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        fits, too_many = (middle, too_many) if peak_of(middle) <= limit_bytes else (fits, middle)
    return fits


def peak_by_batch(
    timeline_of: Callable[[int], Sequence[Moment]], examples: int = 8, tolerance: float = 0.0
) -> Callable[[int], int]:
    """Bytes at the peak of a step as a function of the number of examples, told from three small batches.

    timeline_of: that step with so many examples, really run (`bench.measure.memory.timeline`).
    examples: in the smallest batch that is run. With fewer, a loop that has less than one block is told too
        large.
    tolerance: share of the peak that its third batch may be off: 0, but for allocators that round sizes up.

    What is held after an operation is a constant and so much an example. The peak is the most of these lines,
    and which of them that is changes with the batch: so all of them are drawn, through n and 2 n examples, and
    the peak of 4 n must lie on them, or n is doubled. Where a place in the step has more operations with more
    examples (a loop over blocks of rows), the most after each operation of one name is such a line.
    Raises ValueError where no n will do.
    """
    small, large, third = (timeline_of(times * examples) for times in (1, 2, 4))
    for _ in range(DOUBLINGS):
        peak_of = _most(_lines(small, large), examples)
        peak = max(moment.held for moment in third)
        if abs(peak_of(4 * examples) - peak) <= tolerance * peak:
            return peak_of
        examples *= 2
        small, large, third = large, third, timeline_of(4 * examples)
    raise ValueError(f"the peak memory of this step does not grow evenly up to {4 * examples} examples")


def _most(lines: set[Line], examples: int) -> Callable[[int], int]:
    return lambda batch: max((constant + batch * growth // examples for constant, growth in lines), default=0)


def _lines(small: Sequence[Moment], large: Sequence[Moment]) -> set[Line]:
    """The lines through a batch and one of twice its size; none where they do not pass the same places."""
    ours, theirs = _by_place(small), _by_place(large)
    if [place for place, _ in ours] != [place for place, _ in theirs]:
        return set()
    pairs: list[tuple[int, int]] = []
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        if len(one) == len(other):
            pairs += [(a.held, b.held) for a, b in zip(one, other, strict=True)]
        else:
            first, second = _by_operation(one), _by_operation(other)
            pairs += [(first.get(operation, held), held) for operation, held in second.items()]
    return {(2 * a - b, b - a) for a, b in pairs}


def _by_place(moments: Sequence[Moment]) -> list[tuple[object, list[Moment]]]:
    groups = itertools.groupby(moments, lambda moment: moment.place)
    return [(place, list(group)) for place, group in groups]


def _by_operation(moments: Sequence[Moment]) -> dict[str, int]:
    """The most that is held after any operation of each name."""
    most: dict[str, int] = {}
    for moment in moments:
        most[moment.operation] = max(moment.held, most.get(moment.operation, 0))
    return most
