"""Marks a test that times this machine, and gives it more than one try."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

TRIES = 5
"""A process on the same cores adds to what is timed now and then; a wrong meter is wrong in every try."""


def quiet(test: Callable[..., None]) -> Callable[..., None]:
    """Mark `test` as `quiet` and let it fail only where it fails `TRIES` times in a row."""

    @functools.wraps(test)
    def tried(*args: Any, **kwargs: Any) -> None:
        for _ in range(TRIES - 1):
            try:
                return test(*args, **kwargs)
            except AssertionError:
                continue
        return test(*args, **kwargs)

    return pytest.mark.quiet(tried)
