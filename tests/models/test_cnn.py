"""The residual network: shapes, first loss, what can be shared, dropout, bad sizes."""

import math
from collections import defaultdict

import pytest
import torch
from torch.nn import functional as F

from bench.models.cnn import ResNet
from bench.tying.errors import BadInput


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (1, 28), (3, 28), (3, 32)])
def test_every_image_size_trains(channels: int, side: int, norm: str) -> None:
    model = ResNet(channels, 7, width=8, norm=norm)
    logits = model(torch.randn(4, channels, side, side))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 6])).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters()
    )


def test_each_later_stage_halves_the_image_and_doubles_the_width() -> None:
    model = ResNet(1, 10, depth=6, stages=3, width=4)
    x = model.stem(torch.randn(2, 1, 8, 8))
    shapes = []
    for block in model.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 8, 8), (4, 8, 8), (8, 4, 4), (8, 4, 4), (16, 2, 2), (16, 2, 2)]


@pytest.mark.parametrize("classes", [2, 10])
def test_first_loss_is_that_of_a_guess(classes: int) -> None:
    torch.manual_seed(0)
    model = ResNet(1, classes)
    loss = F.cross_entropy(model(torch.randn(64, 1, 28, 28)), torch.arange(64) % classes)
    assert loss.item() == pytest.approx(math.log(classes), rel=0.1)


def test_namesakes_of_one_shape_hold_over_40_percent_of_the_convolutions() -> None:
    model = ResNet(1, 10, depth=9, stages=3, width=16)
    total, kinds = 0, defaultdict(int)
    for name, parameter in model.named_parameters():
        if model.parts.role(name) == "conv":
            total += parameter.numel()
            namesake = name.split(".", 2)[2] if name.startswith("blocks.") else name
            kinds[namesake, parameter.shape] = parameter.numel()
    # Stem 144; stages of 6, 5 and 5 kernels of 2304, 9216 and 36864, the later two with one of half that
    # size, where the width doubles. Shared, each stage keeps two of its large kernels, and the half one.
    assert total == 144 + 6 * 2304 + 5 * 9216 + 4608 + 5 * 36864 + 18432
    assert sum(kinds.values()) == 144 + 2 * (2304 + 9216 + 36864) + 4608 + 18432
    assert sum(kinds.values()) < 0.6 * total


def test_every_block_holds_the_same_names() -> None:
    names = [[name for name, _ in block.named_parameters()] for block in ResNet(1, 10).blocks]
    assert len(names) == 9
    assert all(each == names[0] for each in names)


@pytest.mark.parametrize(
    ("sizes", "wrong"),
    [
        ({"depth": 10}, "depth 10"),
        ({"norm": "layer"}, "'layer'"),
        ({"dropout": 1.0}, "1.0"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_bad_sizes_are_named(sizes: dict, wrong: str) -> None:
    with pytest.raises(BadInput, match=wrong):
        ResNet(1, 10, **sizes)


def test_the_depth_that_is_proposed_is_accepted() -> None:
    with pytest.raises(BadInput, match="model.depth=9 or 12"):
        ResNet(1, 10, depth=10, stages=3)
    with pytest.raises(BadInput, match="model.depth=3$"):
        ResNet(1, 10, depth=2, stages=3)
