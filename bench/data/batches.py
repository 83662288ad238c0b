"""Serve prepared examples as batches: rows with labels, images, sentences; a rank takes its own part."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from bench.data.prepare import load
from bench.tying.errors import BadInput


class Batches:
    """Iterate over `batches(0)` anew each time; `len()` is their number, the same on every rank.

    The state is the position: after `load_state_dict` the next iteration is `batches(position)`, all batches but
    the first `position`, none of which is made.
    """

    def __init__(self, length: int, batches: Callable[[int], Iterator[Any]]) -> None:
        self.length = length
        self.batches = batches
        self._start = self._position = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        # As late as the first batch: a trainer asks for the iterator before it knows where to go on.
        start, self._start = self._start, 0
        for position, batch in enumerate(self.batches(start), start + 1):
            self._position = position
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._start = self._position = state["position"]


class RankedDataModule(lightning.LightningDataModule):
    """A data module that knows seed, epoch and rank; outside a Trainer the epoch is 0 and there is one rank.

    A batch is the whole batch of the optimizer's step: of its rows, a rank owns every world_size-th, so that
    ranks together see what one process sees, and evaluation is neither padded nor repeated.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def generator(self) -> torch.Generator:
        """Return the random numbers of this seed and epoch, apart from every other stream: a run's data order."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        # Seeds differ in the low bits only; manual_seed mixes them well (Mersenne twister initialisation).
        return torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)

    @property
    def rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def share(self, rows: torch.Tensor) -> torch.Tensor:
        """Return this rank's rows."""
        return rows[self.trainer.global_rank :: self.trainer.world_size] if self.trainer else rows

    def check_batch_size(self, batch_size: int) -> None:
        """Raise BadInput unless ranks get equally many rows: they average their gradients with equal weight."""
        ranks = self.trainer.world_size if self.trainer else 1
        if batch_size % ranks:
            raise BadInput(
                f"batch_size={batch_size} cannot be shared by {ranks} ranks: make it a multiple of {ranks}"
            )

    def eval_slices(self, count: int, batch_size: int) -> list[slice]:
        """Return consecutive slices that cover `count` rows; one too small for every rank joins its neighbour."""
        ranks = self.trainer.world_size if self.trainer else 1
        starts = list(range(0, count, max(batch_size, ranks)))
        if len(starts) > 1 and count - starts[-1] < ranks:
            starts.pop()
        return [slice(a, b) for a, b in zip(starts, [*starts[1:], count], strict=True)]


def check_positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise BadInput(f"{name}={value!r} is not allowed: give a whole number from 1")


def check_window(window: Any, least: int) -> None:
    if isinstance(window, bool) or not isinstance(window, int) or window < least:
        raise BadInput(f"task.batches.window={window!r} is not allowed: give a whole number from {least}")


def check_limit(limit: int | None, available: int, unit: str) -> None:
    check_positive(train_limit=limit)
    if limit is not None and limit > available:
        raise BadInput(
            f"data.train_limit={limit}: train has {available} {unit}; give at most that, or null for all"
        )


SUBSET_SEED = 0  # of train_limit: not the run's, so that seeds share one training set


class Examples(RankedDataModule):
    """Batches of a split's rows and their labels, all of them in memory: no workers, no Python code per example.

    Training is shuffled by (seed, epoch) and drops the last partial batch; evaluation yields every example once,
    in order. `train_limit`: that many training examples; a smaller limit's are among a larger one's.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        seed: int,
        train_limit: int | None,
        eval_batch_size: int,
    ) -> None:
        super().__init__(seed)
        self.meta: dict[str, Any] = load(folder).meta
        check_positive(batch_size=batch_size, eval_batch_size=eval_batch_size)
        available = self.meta["sizes"]["train"]
        check_limit(train_limit, available, "examples")
        self.eval_batch_size = eval_batch_size
        self.labels = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_labels.npy")) for s in self.meta["sizes"]
        }
        self.kept = subset(available, train_limit) if train_limit is not None else torch.arange(available)
        self.labels["train"] = self.labels["train"][self.kept]
        # A training set below the batch size is one batch, not none.
        self.batch_size = min(batch_size, len(self.kept))

    @abstractmethod
    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return (inputs, labels, ...) of these rows."""

    def train_dataloader(self) -> Batches:
        self.check_batch_size(self.batch_size)
        return Batches(len(self.labels["train"]) // self.batch_size, self.train_batches)

    def val_dataloader(self) -> Batches:
        return self.in_order("val", torch.arange(len(self.labels["val"])))

    def test_dataloader(self) -> Batches:
        return self.in_order("test", torch.arange(len(self.labels["test"])))

    def train_batches(self, start: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        order = torch.randperm(len(self.labels["train"]), generator=self.generator())
        for rows in order.split(self.batch_size)[start:]:
            if len(rows) == self.batch_size:
                yield self.batch("train", self.share(rows))

    def in_order(self, split: str, rows: torch.Tensor) -> Batches:
        slices = self.eval_slices(len(rows), self.eval_batch_size)
        return Batches(
            len(slices), lambda start: (self.batch(split, self.share(rows[part])) for part in slices[start:])
        )


def subset(available: int, count: int) -> torch.Tensor:
    """Return `count` of `available` rows, ascending; those of a smaller count are among them."""
    order = torch.randperm(available, generator=torch.Generator().manual_seed(SUBSET_SEED))
    return order[:count].sort().values


class ImageData(Examples):
    """Batches (images float32 [B, C, H, W], zero mean and unit variance over train; labels int64 [B]).

    Kept as uint8 in memory and normalised a batch at a time. Order and `train_limit` are those of `Examples`; of
    data in groups, evaluation yields the group of each test example int64 [B] too.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        seed: int,
        train_limit: int | None = None,
        eval_batch_size: int = 256,
    ) -> None:
        super().__init__(folder, batch_size, seed, train_limit, eval_batch_size)
        self.images = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_images.npy")) for s in self.meta["sizes"]
        }
        self.groups = {
            path.stem.removesuffix("_groups"): torch.from_numpy(np.load(path))
            for path in Path(folder).glob("*_groups.npy")
        }
        if train_limit is not None:
            self.images["train"] = self.images["train"][self.kept]
        mean, std = (torch.tensor(self.meta[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        self.scale, self.shift = 1 / (255 * std), mean / std

    @property
    def shapes(self) -> dict[str, int]:
        return {"in_channels": self.meta["shape"][0], "num_classes": self.meta["num_classes"]}

    def probe_dataloader(self) -> Batches:
        """Return a fixed part of train, as large as val at most: what the generalisation gap is measured against."""
        return self.in_order("train", torch.arange(min(len(self.labels["train"]), len(self.labels["val"]))))

    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        images = self.images[split][rows].float().mul_(self.scale).sub_(self.shift)
        groups = (self.groups[split][rows],) if split in self.groups else ()
        return images, self.labels[split][rows], *groups


PAD_ID = 0


class SentenceData(Examples):
    """Batches (tokens int64 [B, window], PAD_ID after a row's end; labels int64 [B]).

    A row longer than the window is cut to its first tokens. One length for all, so that every batch costs the
    same. Order and `train_limit` are those of `Examples`. BadInput: a window that is no whole number from 1.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        window: int,
        seed: int,
        train_limit: int | None = None,
        eval_batch_size: int = 128,
    ) -> None:
        check_window(window, least=1)
        super().__init__(folder, batch_size, seed, train_limit, eval_batch_size)
        self.tokens = {s: rows_of(Path(folder), s, window) for s in self.meta["sizes"]}
        self.tokens["train"] = self.tokens["train"][self.kept]

    @property
    def shapes(self) -> dict[str, int]:
        return {"vocab_size": self.meta["vocab_size"], "num_classes": self.meta["num_classes"]}

    def probe_dataloader(self) -> Batches:
        """Return a fixed random part of train, as large as val at most: the generalisation gap is measured against it.

        Random, because rows may lie class by class.
        """
        available = len(self.labels["train"])
        return self.in_order("train", subset(available, min(available, len(self.labels["val"]))))

    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.tokens[split][rows].long(), self.labels[split][rows]


def rows_of(folder: Path, split: str, window: int) -> torch.Tensor:
    """Return int32 [R, window]: the first tokens of each row, then PAD_ID."""
    tokens, offsets = (np.load(folder / f"{split}_{what}.npy") for what in ("tokens", "offsets"))
    at = offsets[:-1, None] + np.arange(window)
    inside = at < offsets[1:, None]
    return torch.from_numpy(np.where(inside, tokens[np.where(inside, at, 0)], PAD_ID).astype(np.int32))
