"""Bytes on disk, of models whose weights can be counted."""

import torch
from torch import nn

from bench.meters.memory import checkpoint_bytes

MATRIX = 200 * 200 * 4


def stack(layers: int, shared: bool) -> nn.Sequential:
    model = nn.Sequential(*(nn.Linear(200, 200, bias=False) for _ in range(layers)))
    for layer in model if shared else ():
        layer.weight = model[0].weight
    return model


def test_a_file_holds_the_weights_and_little_else(tmp_path) -> None:
    model = stack(1, shared=False)
    counted = checkpoint_bytes(model)
    assert MATRIX < counted < MATRIX + 4096
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert abs(counted - (tmp_path / "model.pt").stat().st_size) < 256  # its own name is inside


def test_a_shared_tensor_is_stored_once() -> None:
    assert 8 * MATRIX < checkpoint_bytes(stack(8, shared=False)) < 8 * MATRIX + 8192
    assert MATRIX < checkpoint_bytes(stack(8, shared=True)) < MATRIX + 4096


def test_buffers_are_stored_and_gradients_are_not() -> None:
    model = nn.Sequential(nn.Linear(200, 200, bias=False))
    plain = checkpoint_bytes(model)
    model(torch.ones(1, 200)).sum().backward()
    assert checkpoint_bytes(model) == plain
    model.register_buffer("extra", torch.zeros(200, 200))
    assert MATRIX <= checkpoint_bytes(model) - plain < MATRIX + 1024
