"""Where a language model's windows lie in a stream, so that every position is scored once."""

import torch

IGNORED = -100  # a target that is not scored: cross_entropy's default ignore_index


def stream_bounds(count: int, streams: int) -> list[tuple[int, int]]:
    """[start, stop) of at most `streams` contiguous parts of `count`; lengths differ by at most one."""
    streams = min(streams, count)
    edges = [count * i // streams for i in range(streams + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def padded_streams(tokens: torch.Tensor, bounds: list[tuple[int, int]], fill: int) -> torch.Tensor:
    """The parts as rows [S, longest], filled up on the right."""
    return torch.nn.utils.rnn.pad_sequence(
        [tokens[a:b] for a, b in bounds], batch_first=True, padding_value=fill
    )


def overlapping(count: int, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [W, window] of windows at stride window // 2, and which are scored there, bool [W, window].

    Each of `count` positions is scored in exactly one window, with at least window / 2 inputs of context (its
    own included), or with all there are where fewer precede it. Positions at or beyond `count` are padding.
    """
    stride = window // 2
    starts = torch.arange(0, max(count - window, 0) + stride, stride)
    columns = torch.arange(window)
    positions = starts[:, None] + columns
    new = (starts[:, None] == 0) | (columns >= window - stride)
    return positions, new & (positions < count)
