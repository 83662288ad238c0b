"""Prepared text with labels as batches of rows of one length."""

from pathlib import Path

import numpy as np
import torch

from bench.data.batches import Batches
from bench.data.examples import Examples, subset
from bench.errors import BadInput

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
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise BadInput(f"task.batches.window={window!r} is not allowed: give a whole number from 1")
        super().__init__(folder, batch_size, seed, train_limit, eval_batch_size)
        self.tokens = {s: rows_of(Path(folder), s, window) for s in self.meta["sizes"]}
        self.tokens["train"] = self.tokens["train"][self.kept]

    @property
    def shapes(self) -> dict[str, int]:
        return {"vocab_size": self.meta["vocab_size"], "num_classes": self.meta["num_classes"]}

    def probe_dataloader(self) -> Batches:
        """A fixed random part of train, as large as val at most: what the generalisation gap is measured against.

        Random, because rows may lie class by class.
        """
        available = len(self.labels["train"])
        return self.in_order("train", subset(available, min(available, len(self.labels["val"]))))

    def batch(self, split: str, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.tokens[split][rows].long(), self.labels[split][rows]


def rows_of(folder: Path, split: str, window: int) -> torch.Tensor:
    """int32 [R, window]: the first tokens of each row, then PAD_ID."""
    tokens, offsets = (np.load(folder / f"{split}_{what}.npy") for what in ("tokens", "offsets"))
    at = offsets[:-1, None] + np.arange(window)
    inside = at < offsets[1:, None]
    return torch.from_numpy(np.where(inside, tokens[np.where(inside, at, 0)], PAD_ID).astype(np.int32))
