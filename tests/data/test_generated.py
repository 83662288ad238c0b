"""Data sets that are made: what their documentation promises of them."""

import numpy as np
import pytest

from bench.data.generated import PAIRS, SEQUENCES, _digits, digit_pairs, planted_motifs, turned_digits
from bench.tying.errors import BadInput


def read(source):
    """(pixels, labels) of each split."""
    return {
        split: (rows.with_format("numpy")[:]["image"].astype(np.uint8), np.asarray(rows["label"]))
        for split, rows in source.load().items()
    }


def test_a_sequence_is_one_letter_at_each_place_and_labels_tell_who_has_the_motif():
    data = read(planted_motifs(length=20, motif=10, mutation=0.0))
    assert {split: len(labels) for split, (_, labels) in data.items()} == SEQUENCES
    pixels, labels = data["train"]
    assert pixels.shape[1:] == (4, 1, 20) and set(np.unique(pixels)) == {0, 255}
    assert (pixels.sum(1) == 255).all() and labels.mean() == 0.5
    letters = pixels[:, :, 0].argmax(1)
    windows = np.lib.stride_tricks.sliding_window_view(letters, 10, axis=1)
    found, counts = np.unique(windows[labels == 1].reshape(-1, 10), axis=0, return_counts=True)
    has = (windows == found[counts.argmax()]).all(2).any(1)
    assert has[labels == 1].all() and has[labels == 0].mean() < 0.01


def test_no_digit_of_a_pair_is_in_two_splits_and_labels_are_right():
    images, labels = _digits()
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    data, seen = read(digit_pairs()), set()
    for split, (pixels, same) in data.items():
        assert len(same) == PAIRS[split][1] and same.mean() == 0.5
        pairs = [[picture.tobytes() for picture in pair] for pair in pixels]
        assert [int(label_of[a] == label_of[b]) for a, b in pairs] == same.tolist()
        own = {picture for pair in pairs for picture in pair}
        assert not own & seen
        seen |= own


def test_digits_are_turned_each_by_its_own_angle_and_the_same_every_time():
    (pixels, labels), (again, _) = (read(turned_digits())["train"] for _ in range(2))
    assert np.array_equal(pixels, again) and np.array_equal(labels, _digits()[1])
    middle = pixels[:, 2:10, 2:10].astype(float)
    assert pixels.shape == (1797, 12, 12) and not (middle == _digits()[0]).all((1, 2)).any()
    sums = [part.reshape(1797, -1).sum(1, dtype=float) for part in (pixels, _digits()[0])]
    assert np.corrcoef(*sums)[0, 1] > 0.95  # turning moves ink and does not make it


@pytest.mark.parametrize("make", [lambda: turned_digits(side=7), lambda: planted_motifs(motif=41)])
def test_what_cannot_be_made_is_refused(make):
    with pytest.raises(BadInput, match="data.source"):
        make()
