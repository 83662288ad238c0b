"""Serve a prepared time series as batches of windows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.batches import Batches, RankedDataModule, check_limit, check_positive, check_window
from bench.data.prepare import load
from bench.tying.errors import BadInput

Batch = tuple[torch.Tensor, torch.Tensor]


class SeriesData(RankedDataModule):
    """Batches (inputs float32 [B, T, C], targets float32 [B, S, C]): the change after each of the last S inputs.

    T is `window`; S = T in training, T // 2 in evaluation, where what is not scored is NaN. Before its first value
    the series stands still: those changes are 0.

    Training: windows inside of train at every `stride`-th step, from an offset drawn from (seed, epoch), shuffled;
    the last partial batch is dropped. Evaluation scores every step of a split once, with at least T / 2 steps before
    it, which may be those of the split before: they are its past. `train_limit`: the last so many steps of
    train, next to val; what came before them is not read at all.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        window: int,
        stride: int,
        seed: int,
        eval_batch_size: int = 32,
        train_limit: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.meta: dict[str, Any] = load(folder).meta
        sizes = dict(self.meta["sizes"])
        check_positive(batch_size=batch_size, stride=stride, eval_batch_size=eval_batch_size)
        check_window(window, least=2)
        check_limit(train_limit, sizes["train"], "steps")
        parts = {s: np.load(Path(folder) / f"{s}_changes.npy") for s in ("train", "val", "test")}
        parts["train"] = parts["train"][-train_limit if train_limit else 0 :]
        self.batch_size, self.window, self.stride = batch_size, window, stride
        self.eval_batch_size = eval_batch_size
        ends = np.cumsum([0, *(len(part) for part in parts.values())]).tolist()
        self.bounds = dict(zip(parts, zip(ends[:-1], ends[1:], strict=True), strict=True))
        shortest = min(len(part) for part in parts.values())
        if window > shortest:
            raise BadInput(
                f"window={window} is longer than the {shortest} steps of a split: lower it, or give a longer series"
            )
        self.count = (len(parts["train"]) - window + 1) // stride
        if batch_size > self.count:
            raise BadInput(
                f"batch_size={batch_size} exceeds the {self.count} training windows of {window} steps at stride "
                f"{stride}: lower one of them, or raise data.train_limit"
            )
        changes = torch.from_numpy(np.concatenate([*parts.values()]))
        still = changes.new_zeros(window, changes.shape[1])
        # [N + 1, T, C], a view: the changes up to an end, exclusive, in steps from the first of train.
        self.windows = torch.cat([still, changes]).unfold(0, window, 1).transpose(1, 2)

    @property
    def shapes(self) -> dict[str, int]:
        return {"channels": self.windows.shape[2]}

    def train_dataloader(self) -> Batches:
        self.check_batch_size(self.batch_size)
        return Batches(self.count // self.batch_size, self.train_batches)

    def val_dataloader(self) -> Batches:
        return self.scored(*self.ends("val"))

    def test_dataloader(self) -> Batches:
        return self.scored(*self.ends("test"))

    def probe_dataloader(self) -> Batches:
        """Return pieces of half a window, evenly over train, val's count at most: the gap is measured against them."""
        ends, new = self.ends("train")
        first, stop = self.bounds["val"]
        count = min(len(ends), (stop - first) // (self.window // 2))
        chosen = torch.arange(count) * len(ends) // count
        return self.scored(ends[chosen], new[chosen])

    def train_batches(self, start: int = 0) -> Iterator[Batch]:
        generator = self.generator()
        offset = int(torch.randint(self.stride, (), generator=generator))
        order = torch.randperm(self.count, generator=generator)
        for step in range(start, self.count // self.batch_size):
            rows = self.share(order[step * self.batch_size : (step + 1) * self.batch_size])
            ends = self.window + offset + self.stride * rows
            yield self.windows[ends - 1].contiguous(), self.windows[ends].contiguous()

    def ends(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return where the windows that score a split end, exclusive, and how many of its steps are new in each."""
        first, stop = self.bounds[split]
        new = self.window // 2
        ends = torch.arange(first + new, stop + new, new).clamp(max=stop)
        return ends, ends.diff(prepend=torch.tensor([first]))

    def scored(self, ends: torch.Tensor, new: torch.Tensor) -> Batches:
        slices = self.eval_slices(len(ends), self.eval_batch_size)
        width = self.window // 2

        def batches(start: int) -> Iterator[Batch]:
            for part in slices[start:]:
                rows = self.share(torch.arange(len(ends))[part])
                targets = self.windows[ends[rows], -width:]
                old = torch.arange(width) < width - new[rows, None]
                yield (
                    self.windows[ends[rows] - 1].contiguous(),
                    targets.masked_fill(old[:, :, None], torch.nan),
                )

        return Batches(len(slices), batches)
