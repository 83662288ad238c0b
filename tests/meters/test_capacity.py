"""The largest batch, against steps whose bytes are lines in the head, and really measured on every network."""

from collections.abc import Callable

import pytest
import torch
from grid import build
from torch import Tensor, nn

from bench.meters.memory import Moment, largest_batch, peak_by_batch, peak_bytes, timeline


@pytest.mark.parametrize(
    ("limit", "most"), [(99, 0), (109, 0), (110, 1), (119, 1), (120, 2), (100_105, 10_000)]
)
def test_the_largest_batch_is_the_last_that_fits(limit: int, most: int) -> None:
    assert largest_batch(lambda examples: 100 + 10 * examples, limit) == most


def moments(*held: int, place: str = "step") -> list[Moment]:
    return [Moment(place, f"operation {index}", count) for index, count in enumerate(held)]


def test_the_peak_moves_to_the_steepest_line() -> None:
    tried = []

    def step(examples: int) -> list[Moment]:
        tried.append(examples)
        return moments(1000, 500 + 3 * examples, 5 * examples)

    peak_of = peak_by_batch(step, 2)
    assert tried == [2, 4, 8]
    assert [peak_of(n) for n in (1, 8, 200, 10_000)] == [1000, 1000, 1100, 50_000]


def test_a_loop_over_blocks_holds_one_block_however_many_there_are() -> None:
    def step(examples: int) -> list[Moment]:
        block = min(4, examples)
        loop = [Moment("loop", "block", 2 * examples + 100 * block)] * -(-examples // 4)
        return moments(examples) + loop + moments(examples)

    peak_of = peak_by_batch(step, 2)
    assert [peak_of(n) for n in (4, 8, 10_000)] == [408, 416, 20_400]


@pytest.mark.parametrize("held", [lambda n: n * n, lambda n: 10 + 3 * (n % 3)])
def test_what_does_not_grow_evenly_is_refused(held: Callable[[int], int]) -> None:
    with pytest.raises(ValueError, match="does not grow evenly up to 128 examples"):
        peak_by_batch(lambda n: moments(held(n)), 2)


def test_other_places_at_every_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="does not grow evenly"):
        peak_by_batch(lambda n: moments(10 * n, place=f"kernel for {n}"), 2)


def test_an_allocator_that_rounds_up_is_within_its_tolerance() -> None:
    def rounded(examples: int) -> list[Moment]:
        return moments(512 * -(-169 * examples // 512))

    with pytest.raises(ValueError):
        peak_by_batch(rounded, 2)
    assert peak_by_batch(rounded, 2, tolerance=0.3)(1000) == pytest.approx(169_000, rel=0.3)


def test_inference_of_one_layer_in_the_head() -> None:
    model = nn.Linear(100, 100, bias=False)  # 40,000 bytes, and an example in and out 400 each

    def infer(examples: int) -> list[Moment]:
        x = torch.ones(examples, 100)
        with torch.no_grad():
            return timeline(model, None, lambda: model(x), [x])

    peak_of = peak_by_batch(infer)
    assert peak_of(10_000) == 40_000 + 10_000 * 800
    assert largest_batch(peak_of, 40_799) == 0
    assert largest_batch(peak_of, 10**9) == (10**9 - 40_000) // 800


def resized(batch: list, examples: int) -> list:
    """The rows of a batch, over and over."""
    rows = torch.arange(examples) % len(batch[0])
    return [item[rows] if isinstance(item, Tensor) else item for item in batch]


@pytest.mark.parametrize("what", ["train", "infer"])
@pytest.mark.parametrize("task", ["image_cnn", "text_gru", "text_transformer"])
def test_what_is_told_is_what_is_measured(cell: Callable, task: str, what: str) -> None:
    built = build(cell(task, "cross_layer"))
    module, model, optimizer = built.module, built.model, built.module.adamw()

    def arguments(examples: int) -> tuple:
        optimizer.zero_grad(set_to_none=True)
        batch = resized(built.batches[0], examples)
        tensors = [item for item in batch if isinstance(item, Tensor)]

        def train() -> None:
            optimizer.zero_grad(set_to_none=True)
            module.loss(batch).backward()
            module.configure_gradient_clipping(optimizer)
            optimizer.step()

        @torch.no_grad()
        def infer() -> None:
            model(batch[0])

        return (model, optimizer, train, tensors) if what == "train" else (model, None, infer, tensors[:1])

    peak_of = peak_by_batch(lambda examples: timeline(*arguments(examples)), 4)
    limit = peak_of(100) + 1
    most = largest_batch(peak_of, limit)
    assert most >= 100
    assert peak_bytes(*arguments(most))["total"] == peak_of(most) <= limit
    assert peak_bytes(*arguments(most + 1))["total"] == peak_of(most + 1) > limit
