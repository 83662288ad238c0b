"""Every position of a split is scored exactly once, with the context that was promised."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data.text import IGNORED, overlapping, padded_streams, stream_bounds


def test_overlapping_by_hand() -> None:
    positions, scored = overlapping(7, 4)
    assert positions.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]
    assert [row[keep].tolist() for row, keep in zip(positions, scored, strict=True)] == [
        [0, 1, 2, 3],
        [4, 5],
        [6],
    ]


@given(count=st.integers(1, 400), window=st.integers(2, 70))
def test_overlapping_scores_each_position_once_with_half_a_window_of_context(count: int, window: int) -> None:
    positions, scored = overlapping(count, window)
    assert sorted(positions[scored].tolist()) == list(range(count))
    inputs = torch.arange(1, window + 1).expand_as(positions)  # how many inputs a column has seen
    enough = torch.minimum(positions + 1, torch.full_like(positions, -(-window // 2)))
    assert (inputs[scored] >= enough[scored]).all()


@given(count=st.integers(1, 400), streams=st.integers(1, 40))
def test_streams_tile_the_positions(count: int, streams: int) -> None:
    bounds = stream_bounds(count, streams)
    assert [p for a, b in bounds for p in range(a, b)] == list(range(count))
    lengths = {b - a for a, b in bounds}
    assert len(bounds) == min(streams, count) and max(lengths) - min(lengths) <= 1


def test_padded_streams_by_hand() -> None:
    rows = padded_streams(torch.arange(5), stream_bounds(5, 2), IGNORED)
    assert rows.tolist() == [[0, 1, IGNORED], [2, 3, 4]]
