"""Read a column of labels as classes: whole numbers, text, or true and false."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset

MOST = 100
"""More classes than this need two examples each on average, or they are taken for no classes at all."""

_SHOWN = 5


@dataclass(frozen=True)
class Classes:
    """Labels int64 [N] of each split, 0 to count - 1. `names`: what stands for them in the data; None: the numbers."""

    labels: dict[str, np.ndarray]
    count: int
    names: tuple[str, ...] | None = None

    @property
    def notes(self) -> list[str]:
        """What the user has to know of the numbering."""
        if self.names is None:
            return []
        more = ", ..." if self.count > _SHOWN else ""
        return [
            f"labels are not 0, 1, 2, ...: {self.count} classes stand for {', '.join(self.names[:_SHOWN])}{more}"
        ]


def classes_of(splits: Mapping[str, "Dataset"]) -> Classes:
    """Read the column `label` of each split.

    A `ClassLabel` keeps its numbers and its number of classes. Of all else the distinct values of all splits are the
    classes, in ascending order.

    Raises:
        BadInput: a label that is absent, negative, a fraction, a list or of several types, one label alone, or so many
            different ones that they are no classes.
    """
    from datasets import ClassLabel

    values = {split: list(rows["label"]) for split, rows in splits.items()}
    everything = [value for column in values.values() for value in column]
    for value in everything:
        if reason := _refusal(value):
            raise BadInput(
                f"the column 'label' holds {str(value)[:50]}, {reason}: set data.source.columns, or remove the row"
            )
    declared = splits["train"].features["label"]
    if isinstance(declared, ClassLabel):
        return Classes(
            {split: np.array(column, np.int64) for split, column in values.items()}, declared.num_classes
        )
    kinds = {
        str if isinstance(value, str) else bool if isinstance(value, bool) else float for value in everything
    }
    if len(kinds) > 1:
        raise BadInput(
            "the column 'label' holds both text and numbers: give one kind, or set data.source.columns"
        )
    distinct = sorted(set(everything))
    if len(distinct) > max(MOST, len(everything) // 2):
        raise BadInput(
            f"the column 'label' holds {len(distinct)} different values in {len(everything)} examples, which are no "
            "classes: set data.source.columns"
        )
    if len(distinct) == 1:
        raise BadInput(
            f"the column 'label' holds {str(distinct[0])[:50]} alone, and one class leaves nothing to learn: set "
            "data.source.columns"
        )
    number = {value: index for index, value in enumerate(distinct)}
    labels = {
        split: np.array([number[value] for value in column], np.int64) for split, column in values.items()
    }
    are_numbers = bool not in kinds and distinct == list(range(len(distinct)))
    return Classes(labels, len(distinct), None if are_numbers else tuple(map(str, distinct)))


def _refusal(value: Any) -> str | None:
    """Return why this is no label; None where it is one."""
    if value is None:
        return "which is none"
    if isinstance(value, str | bool):
        return None
    if not isinstance(value, int | float):
        return "where one number or text is needed"
    if value != value or value % 1:
        return "which is no whole number"
    return "which is negative and stands for none" if value < 0 else None
