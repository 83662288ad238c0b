"""Make small data sets that need no network: digits turned, digits in pairs, sequences with a planted motif.

Each is drawn by a seed of its own, once and for all: what a run's seed or `split_seed` is does not change it.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from bench.data.sources import Source
from bench.tying.errors import BadInput

if TYPE_CHECKING:
    from datasets import DatasetDict

SIDE = 8
"""Of scikit-learn's digits, in pixels."""


def turned_digits(side: int = 12, seed: int = 0) -> Source:
    """Read scikit-learn's digits, each turned by an angle of its own.

    A digit of 8 x 8 stands in the middle of `side` x `side` pixels and is turned about it, by an angle drawn evenly of
    the full circle, with linear interpolation. One split, in the order of scikit-learn.

    Raises BadInput for a side below 8.
    """
    if side < SIDE:
        raise BadInput(
            f"data.source.side={side} is not allowed: digits of {SIDE} x {SIDE} must fit, give {SIDE} or more"
        )

    def load() -> "DatasetDict":
        from scipy.ndimage import rotate

        images, labels = _digits()
        before = (side - SIDE) // 2
        room = (before, side - SIDE - before)
        padded = np.pad(images, ((0, 0), room, room)).astype(float)
        angles = np.random.default_rng(seed).uniform(0, 360, len(images))
        turned = [
            rotate(image, angle, reshape=False, order=1) for image, angle in zip(padded, angles, strict=True)
        ]
        pixels = np.rint(np.clip(turned, 0, 255)).astype(np.uint8)
        return _pictures({"train": (pixels, labels)}, "0123456789")

    return Source(
        lambda: {
            "generated": "turned_digits",
            "side": side,
            "seed": seed,
            **_versions("scikit-learn", "scipy"),
        },
        load,
    )


PAIRS = {"train": (1197, 4000), "validation": (300, 1000), "test": (300, 1000)}
"""Of each split: how many digits it has, and how many pairs are drawn of them."""


def digit_pairs(seed: int = 0) -> Source:
    """Read pairs of scikit-learn's digits, as pictures of two channels: label 1 where both show the same digit.

    The digits are dealt to the splits first, so that no picture is in two of them. A pair's first digit is drawn evenly
    of its split; its second, in every other pair, of those of the same label, else of those of another.
    """

    def load() -> "DatasetDict":
        images, labels = _digits()
        generator = np.random.default_rng(seed)
        order, splits = generator.permutation(len(images)), {}
        for split, (count, pairs) in PAIRS.items():
            own, order = order[:count], order[count:]
            first, same = generator.integers(count, size=pairs), np.arange(pairs) % 2
            alike = labels[own][:, None] == labels[own][first]
            allowed = np.where(same, alike, ~alike)
            second = np.where(allowed, generator.random(allowed.shape), -1).argmax(0)
            splits[split] = np.stack([images[own[first]], images[own[second]]], 1), same
        return _pictures(splits, ("different", "same"))

    return Source(lambda: {"generated": "digit_pairs", "seed": seed, **_versions("scikit-learn")}, load)


SEQUENCES = {"train": 2000, "validation": 1000, "test": 1000}
LETTERS = 4  # A, C, G, T


def planted_motifs(length: int = 40, motif: int = 10, mutation: float = 0.1, seed: int = 0) -> Source:
    """Make DNA sequences with a motif somewhere (label 1), or with its letters in another order (label 0).

    A sequence is `length` letters drawn evenly. One motif of `motif` letters is drawn for the whole data set. In each
    sequence a copy of it, whose letters are drawn anew with the probability `mutation`, is written over the letters
    from a place drawn evenly of all where it fits; of every other sequence the copy's letters are shuffled first, so
    that how often a letter occurs tells nothing. A sequence is a picture of one row with a channel for each letter, 255
    where the letter stands.

    Raises BadInput where the motif does not fit or `mutation` is no probability.
    """
    if not 1 < motif <= length or not 0 <= mutation < 1:
        raise BadInput(
            f"data.source: a motif of {motif} letters in {length}, mutation {mutation}; allowed are 2 letters to the "
            "length, and mutation from 0 to below 1"
        )

    def load() -> "DatasetDict":
        generator = np.random.default_rng(seed)
        consensus, splits = generator.integers(LETTERS, size=motif), {}
        for split, count in SEQUENCES.items():
            sequences, labels = generator.integers(LETTERS, size=(count, length)), np.arange(count) % 2
            is_new = generator.random((count, motif)) < mutation
            copies = np.where(is_new, generator.integers(LETTERS, size=is_new.shape), consensus)
            copies = np.where(labels[:, None], copies, generator.permuted(copies, axis=1))
            start = generator.integers(length - motif + 1, size=(count, 1))
            np.put_along_axis(sequences, start + np.arange(motif), copies, axis=1)
            channels = sequences[:, None, None] == np.arange(LETTERS)[:, None, None]
            splits[split] = channels.astype(np.uint8) * 255, labels
        return _pictures(splits, ("shuffled", "motif"))

    arguments = {"length": length, "motif": motif, "mutation": mutation, "seed": seed}
    return Source(lambda: {"generated": "planted_motifs", **arguments}, load)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 digits, uint8 [N, 8, 8] from 0 to 255, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return np.rint(images.reshape(-1, SIDE, SIDE) * (255 / 16)).astype(np.uint8), labels


def _pictures(splits: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> "DatasetDict":
    """Return the pictures, uint8 [N, H, W] or [N, C, H, W], and labels of each split as a data set."""
    from datasets import Array2D, Array3D, ClassLabel, Dataset, DatasetDict, Features

    made = {}
    for split, (pixels, labels) in splits.items():
        kind = Array2D if pixels.ndim == 3 else Array3D
        features = Features(
            {"image": kind(pixels.shape[1:], "uint8"), "label": ClassLabel(names=list(names))}
        )
        made[split] = Dataset.from_dict({"image": pixels, "label": labels}, features=features)
    return DatasetDict(made)


def _versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}
