"""Train, val and test of every data set: the published ones, else held out of train, without leaks."""

from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

TEXT_HOLDOUT = 0.1


def image_splits(data: "DatasetDict", split_seed: int, holdout: float | int) -> dict[str, "Dataset"]:
    """{"train", "val", "test"}; what is not published is drawn from train by seed, whole groups at a time.

    `holdout`: a share of the published train split, or a count of rows; with groups, the first count at or
    above it.
    """
    train, missing = published(data)
    groups = np.asarray(train["group"]) if "group" in train.column_names else np.arange(len(train))
    parts = hold_out(groups, rows(holdout, len(train)), len(missing), split_seed)
    chosen = {split: train.select(part) for split, part in zip(missing, parts[1:], strict=True)}
    kept = parts[0]
    if (
        "group" in train.column_names
    ):  # laid out group by group: the first rows would be no sample of the rest
        kept = np.random.default_rng(split_seed).permutation(kept)
    return named(data) | chosen | {"train": train.select(kept)}


def text_splits(data: "DatasetDict") -> dict[str, "Dataset"]:
    """{"train", "val", "test"}; what is not published is cut off the end of train, 10 % of its lines each."""
    train, missing = published(data)
    count = rows(TEXT_HOLDOUT, len(train))
    rest = len(train) - count * len(missing)
    if rest < 1:
        raise BadInput(f"{len(train)} lines of text are too few for train, val and test: give at least 3")
    starts = {split: rest + i * count for i, split in enumerate(missing)}
    cut = {split: train.select(range(start, start + count)) for split, start in starts.items()}
    return named(data) | cut | {"train": train.select(range(rest))}


def published(data: "DatasetDict") -> tuple["Dataset", list[str]]:
    """The train split, and which of val and test have to come out of it."""
    if "train" not in data:
        raise BadInput(f"the data set has the splits {sorted(data)}: it needs one named 'train'")
    if empty := [split for split, part in data.items() if not len(part)]:
        raise BadInput(f"the data set's splits {empty} are empty: restore its files or give more data")
    return data["train"], [
        ours for ours, theirs in (("val", "validation"), ("test", "test")) if theirs not in data
    ]


def named(data: "DatasetDict") -> dict[str, "Dataset"]:
    return {
        ours: data[theirs] for ours, theirs in (("val", "validation"), ("test", "test")) if theirs in data
    }


def rows(holdout: float | int, total: int) -> int:
    """A share rounded to rows (at least one), or the count itself."""
    return holdout if isinstance(holdout, int) else max(1, round(holdout * total))


def hold_out(groups: np.ndarray, count: int, parts: int, split_seed: int) -> list[np.ndarray]:
    """Row indices [rest, part 1, ..., part n], ascending: whole groups, at least `count` rows a part."""
    names, member = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(split_seed).permutation(len(names))
    cumulative = np.cumsum(np.bincount(member)[order])
    cuts, start = [0], 0
    for _ in range(parts):
        cuts.append(int(np.searchsorted(cumulative, start + count)) + 1)
        start = int(cumulative[min(cuts[-1], len(names)) - 1])
    if cuts[-1] >= len(names) and parts:
        raise BadInput(
            f"cannot hold {parts} x {count} rows out of {len(groups)} in {len(names)} groups: lower "
            "data.holdout"
        )
    part_of_group = np.empty(len(names), dtype=np.int64)
    part_of_group[order] = np.searchsorted(cuts[1:], np.arange(len(names)), side="right")
    part = part_of_group[member]
    # Group rank in the shuffled order -> 0 .. parts - 1 are held out, `parts` is the rest.
    return [np.flatnonzero(part == parts)] + [np.flatnonzero(part == i) for i in range(parts)]
