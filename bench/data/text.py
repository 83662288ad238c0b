"""Serve prepared text as batches of windows in which every position is scored once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.data.batches import Batches, RankedDataModule, check_limit, check_positive, check_window
from bench.data.prepare import load
from bench.tying.errors import BadInput

IGNORED = -100  # a target that is not scored: cross_entropy's default ignore_index


def stream_bounds(count: int, streams: int) -> list[tuple[int, int]]:
    """Return [start, stop) of at most `streams` contiguous parts of `count`; lengths differ by at most one."""
    streams = min(streams, count)
    edges = [count * i // streams for i in range(streams + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def padded_streams(tokens: torch.Tensor, bounds: list[tuple[int, int]], fill: int) -> torch.Tensor:
    """Return the parts as rows [S, longest], filled up on the right."""
    return torch.nn.utils.rnn.pad_sequence(
        [tokens[a:b] for a, b in bounds], batch_first=True, padding_value=fill
    )


def overlapping(count: int, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions [W, window] of windows at stride window // 2, and which are scored there, bool [W, window].

    Each of `count` positions is scored in exactly one window, with at least window / 2 inputs of context (its
    own included), or with all there are where fewer precede it. Positions at or beyond `count` are padding.
    """
    stride = window // 2
    starts = torch.arange(0, max(count - window, 0) + stride, stride)
    columns = torch.arange(window)
    positions = starts[:, None] + columns
    new = (starts[:, None] == 0) | (columns >= window - stride)
    return positions, new & (positions < count)


EOS_ID = 0
Batch = tuple[torch.Tensor, torch.Tensor, bool]


class TextData(RankedDataModule):
    """Batches (inputs int64 [B, T], targets int64 [B, S], fresh): next tokens, -100 where not scored.

    S = T, or fewer in evaluation, where only the last S positions of each window are asked for.

    The input before a split's first token is <eos>. `carry`: row b continues row b of the batch before, and
    `fresh` says that it does not (forget the state); else windows stand alone and `fresh` is always true.

    Training, whole windows only, with an offset drawn from (seed, epoch), the stream closed to a ring:
    `carry` reads `batch_size` parallel streams in order; else windows are shuffled. Evaluation scores every
    token of a split once: `carry` in `eval_streams` streams, whatever the batch size or the number of ranks;
    else in windows at stride T / 2, each token with at least T / 2 of context. `train_limit`: the first so
    many tokens of train. `val_limit`, `test_limit`: so many tokens of a split, in pieces evenly over it.
    """

    def __init__(
        self,
        folder: Path | str,
        batch_size: int,
        window: int,
        seed: int,
        carry: bool,
        eval_streams: int = 16,
        eval_batch_size: int = 32,
        train_limit: int | None = None,
        val_limit: int | None = None,
        test_limit: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.meta: dict[str, Any] = load(folder).meta
        check_positive(batch_size=batch_size, eval_streams=eval_streams, eval_batch_size=eval_batch_size)
        check_window(window, least=2)
        check_limit(train_limit, self.meta["sizes"]["train"], "tokens")
        self.batch_size, self.window, self.carry = batch_size, window, carry
        self.eval_streams, self.eval_batch_size = eval_streams, eval_batch_size
        self.tokens = {
            s: torch.from_numpy(np.load(Path(folder) / f"{s}_tokens.npy")) for s in self.meta["sizes"]
        }
        self.tokens["train"] = self.tokens["train"][:train_limit]
        for split, limit in (("val", val_limit), ("test", test_limit)):
            if limit is not None and limit < len(self.tokens[split]):
                self.tokens[split] = self._pieces(self.tokens[split], limit)
        if batch_size * window > len(self.tokens["train"]):
            raise BadInput(
                f"batch_size={batch_size} x window={window} exceeds the {len(self.tokens['train'])} "
                "training tokens: "
                f"lower one of them, or raise data.train_limit"
            )

    @property
    def shapes(self) -> dict[str, int]:
        return {"vocab_size": self.meta["vocab_size"]}

    def train_dataloader(self) -> Batches:
        self.check_batch_size(self.batch_size)
        steps = len(self.tokens["train"]) // (self.batch_size * self.window)
        if not self.carry:
            steps = len(self.tokens["train"]) // self.window // self.batch_size
        batches = self.train_streams if self.carry else self.train_windows
        return Batches(steps, lambda start: batches(steps, start))

    def val_dataloader(self) -> Batches:
        return self.scored_once(self.tokens["val"])

    def test_dataloader(self) -> Batches:
        return self.scored_once(self.tokens["test"])

    def probe_dataloader(self) -> Batches:
        """Return pieces of train, a quarter of val's count in all: the generalisation gap is measured against them."""
        train = self.tokens["train"]
        return self.scored_once(self._pieces(train, min(len(train), max(1, len(self.tokens["val"]) // 4))))

    def _pieces(self, tokens: torch.Tensor, count: int) -> torch.Tensor:
        """Return `count` of the tokens, in as many pieces as streams, evenly over all of them.

        Their beginning alone may be harder or easier than the rest.
        """
        at = torch.arange(count)
        apart = (len(tokens) - count) / max(1, self.eval_streams - 1)
        return tokens[at + (at * self.eval_streams // count * apart).long()]

    def ring(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (inputs, targets) of train, int64 [N], turned by a random offset."""
        targets = self.tokens["train"].long()
        offset = int(torch.randint(len(targets), (), generator=generator))
        return preceded(targets).roll(-offset), targets.roll(-offset)

    def train_streams(self, steps: int, start: int = 0) -> Iterator[Batch]:
        used = steps * self.batch_size * self.window
        inputs, targets = (
            self.share(x[:used].view(self.batch_size, -1)) for x in self.ring(self.generator())
        )
        for step in range(start, steps):
            part = slice(step * self.window, (step + 1) * self.window)
            yield inputs[:, part].contiguous(), targets[:, part].contiguous(), step == 0

    def train_windows(self, steps: int, start: int = 0) -> Iterator[Batch]:
        generator = self.generator()
        count = len(self.tokens["train"]) // self.window
        inputs, targets = (x[: count * self.window].view(count, -1) for x in self.ring(generator))
        order = torch.randperm(count, generator=generator)
        for step in range(start, steps):
            rows = self.share(order[step * self.batch_size : (step + 1) * self.batch_size])
            yield inputs[rows], targets[rows], True

    def scored_once(self, tokens: torch.Tensor) -> Batches:
        return self.eval_in_streams(tokens) if self.carry else self.eval_in_windows(tokens)

    def eval_in_streams(self, tokens: torch.Tensor) -> Batches:
        bounds = stream_bounds(len(tokens), self.eval_streams)
        count = -(-max(b - a for a, b in bounds) // self.window)

        def batches(start: int) -> Iterator[Batch]:
            targets = tokens.long()
            x = self.share(padded_streams(preceded(targets), bounds, EOS_ID))
            y = self.share(padded_streams(targets, bounds, IGNORED))
            for step in range(start, count):
                part = slice(step * self.window, (step + 1) * self.window)
                yield x[:, part].contiguous(), y[:, part].contiguous(), step == 0

        return Batches(count, batches)

    def eval_in_windows(self, tokens: torch.Tensor) -> Batches:
        """Yield windows: the first scores all of itself, of the others only the new targets are given."""
        positions, scored = overlapping(len(tokens), min(self.window, max(len(tokens), 2)))
        new = positions.shape[1] // 2
        slices = self.eval_slices(len(positions) - 1, self.eval_batch_size) if len(positions) > 1 else []

        def batches(start: int) -> Iterator[Batch]:
            targets = tokens.long()
            inputs = preceded(targets)
            inside = positions.clamp(max=len(tokens) - 1)
            scored_targets = targets[inside].masked_fill(~scored, IGNORED)
            first = scored_targets[:1] if self.rank == 0 else torch.full_like(scored_targets[:1], IGNORED)
            if start == 0:
                yield inputs[inside[:1]], first, True
            for part in slices[max(start - 1, 0) :]:
                rows = self.share(torch.arange(len(positions))[1:][part])
                yield inputs[inside[rows]], scored_targets[rows, -new:], True

        return Batches(1 + len(slices), batches)


def preceded(targets: torch.Tensor) -> torch.Tensor:
    """Return the input of each target: the token before it, <eos> before the first."""
    return torch.cat([targets.new_full((1,), EOS_ID), targets[:-1]])
