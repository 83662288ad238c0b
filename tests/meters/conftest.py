"""What tests of the meters share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine two threads wait for each other longer than for memory."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def device() -> torch.device:
    """The device at hand: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
