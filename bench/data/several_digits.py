"""Make pictures of several of scikit-learn's digits: two tasks side by side, digits at the places of one canvas.

A picture's label is the number that its digits are written as, so that every digit can be read from it. Each set is
drawn by a seed of its own, as those of `bench.data.generated`; digits are dealt to the splits first, so that no digit
is in two of them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bench.data.generated import SIDE, _digits, _pictures, _versions
from bench.data.sources import Source
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import DatasetDict

DIGITS = {"train": 597, "validation": 400, "test": 800}
"""How many of the digits each split has."""

CANVASES = {"train": 4000, "validation": 1000, "test": 2000}
CELLS = 2
"""Of a canvas, along either side."""


def two_views(turn: float = 30.0, noise: float = 0.2, seed: int = 0) -> Source:
    """Read two tasks, a channel each: digits, and other digits that are turned and noised.

    Each digit of a split stands once in either channel, beside one drawn evenly. Those of the second channel are turned
    by `turn` degrees, all by the same, with linear interpolation; then normal noise of the standard deviation `noise`
    is added, white being 1. The label is a number of two digits, that of the first channel before that of the second.

    Raises BadInput for noise below 0.
    """
    if not noise >= 0:
        raise BadInput(f"data.source.noise={noise} is not allowed: give a number from 0")

    def load() -> "DatasetDict":
        from scipy.ndimage import rotate

        images, labels = _digits()
        generator = np.random.default_rng(seed)
        turned = rotate(images.astype(float), turn, axes=(2, 1), reshape=False, order=1)
        noised = turned + generator.normal(0, 255 * noise, images.shape)
        views = images, np.rint(np.clip(noised, 0, 255)).astype(np.uint8)
        splits = {}
        for split, own in _dealt(generator, len(images)):
            shown = np.stack([own, generator.permutation(own)], 1)
            pixels = [view[shown[:, channel]] for channel, view in enumerate(views)]
            splits[split] = np.stack(pixels, 1), _number(labels[shown])
        return _pictures(splits, _numbers(2))

    arguments = {"turn": turn, "noise": noise, "seed": seed}
    return Source(lambda: {"generated": "two_views", **arguments, **_versions("scikit-learn", "scipy")}, load)


def digit_canvases(count: int = 3, seed: int = 0) -> Source:
    """Read pictures of 16 x 16 with `count` digits, drawn evenly, in as many of its four quarters.

    The label is the number that they are written as, in no order that tells where a digit stands.

    Raises BadInput unless `count` is 1 to 4.
    """
    if count not in range(1, CELLS**2 + 1):
        raise BadInput(f"data.source.count={count} is not allowed: give 1 to {CELLS**2} digits")

    def load() -> "DatasetDict":
        images, labels = _digits()
        generator, splits = np.random.default_rng(seed), {}
        for split, own in _dealt(generator, len(images)):
            shown = generator.choice(own, (CANVASES[split], count))
            cells = np.zeros((len(shown), CELLS**2, SIDE, SIDE), np.uint8)
            places = generator.permuted(np.tile(np.arange(CELLS**2), (len(shown), 1)), axis=1)[:, :count]
            cells[np.arange(len(shown))[:, None], places] = images[shown]
            grid = cells.reshape(-1, CELLS, CELLS, SIDE, SIDE).swapaxes(2, 3)
            splits[split] = grid.reshape(-1, CELLS * SIDE, CELLS * SIDE), _number(labels[shown])
        return _pictures(splits, _numbers(count))

    arguments = {"count": count, "seed": seed}
    return Source(lambda: {"generated": "digit_canvases", **arguments, **_versions("scikit-learn")}, load)


def _dealt(generator: np.random.Generator, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each split with the numbers of its digits."""
    order = generator.permutation(count)
    for split, size in DIGITS.items():
        own, order = order[:size], order[size:]
        yield split, own


def _number(digits: np.ndarray) -> np.ndarray:
    """Return the number that each row of digits [N, K] is written as."""
    return digits @ 10 ** np.arange(digits.shape[1])[::-1]


def _numbers(count: int) -> list[str]:
    """Return all numbers of `count` digits, in words of that length."""
    return [f"{number:0{count}}" for number in range(10**count)]
