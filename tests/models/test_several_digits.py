"""Networks that read several digits: what their data, their score and their ties promise."""

from itertools import permutations

import numpy as np
import pytest
import torch
from grid import build, steps

from bench.data.generated import _digits
from bench.data.several_digits import DIGITS, digit_canvases, two_views
from bench.models.slots import SlotAttention
from bench.models.two_networks import Networks
from bench.tying import cross_layer
from bench.tying.errors import BadInput


def read(source):
    """(pixels, labels) of each split."""
    return {
        split: (rows.with_format("numpy")[:]["image"].astype(np.uint8), np.asarray(rows["label"]))
        for split, rows in source.load().items()
    }


def label_of():
    return {image.tobytes(): int(label) for image, label in zip(*_digits(), strict=True)}


def test_views_without_a_turn_and_noise_are_the_digits_of_the_label_and_in_one_split():
    digits, seen = label_of(), set()
    for split, (pixels, labels) in read(two_views(turn=0, noise=0)).items():
        assert len(labels) == DIGITS[split]
        assert [10 * digits[a.tobytes()] + digits[b.tobytes()] for a, b in pixels] == labels.tolist()
        own, other = ({picture.tobytes() for picture in pixels[:, channel]} for channel in (0, 1))
        assert own == other and not own & seen
        seen |= own
    pixels, labels = read(two_views(turn=180, noise=0))["test"]
    turned = [digits[np.rot90(picture, 2).tobytes()] for picture in pixels[:, 1]]
    assert turned == (labels % 10).tolist()


def test_the_quarters_of_a_canvas_hold_the_digits_of_its_label():
    digits = label_of() | {np.zeros((8, 8), np.uint8).tobytes(): None}
    pixels, labels = read(digit_canvases(count=3))["validation"]
    for picture, label in zip(pixels, labels, strict=True):
        quarters = [digits[picture[i : i + 8, j : j + 8].tobytes()] for i in (0, 8) for j in (0, 8)]
        assert sorted(digit for digit in quarters if digit is not None) == sorted(map(int, f"{label:03}"))
        assert quarters.count(None) == 1


def test_a_set_is_scored_by_the_best_of_all_orders(cell):
    built = build(cell("image_slots", "none"))
    pictures, labels = built.batches[0]
    logits = built.model(pictures)
    digits = torch.tensor([[*map(int, f"{label:03}")] for label in labels.tolist()])
    nll = -logits.log_softmax(-1)
    least = torch.stack(
        [nll.gather(2, digits[:, order, None]).mean((1, 2)) for order in permutations(range(3))]
    ).amin(0)
    torch.testing.assert_close(built.module.loss((pictures, labels)), least.mean())
    other = digits.flip(1) @ torch.tensor([100, 10, 1])
    scores = [built.module.each((pictures, of)) for of in (labels, other)]
    assert torch.equal(scores[0]["correct"], scores[1]["correct"])
    assert scores[0]["cluster"].tolist() == [at for at in range(len(labels)) for _ in range(3)]


def test_an_order_is_read_as_the_number_is_written(cell):
    built = build(cell("two_tasks", "none"))
    pictures, labels = built.batches[0]
    log_p = built.model(pictures).log_softmax(-1)
    rows = torch.arange(len(labels))
    expected = -(log_p[rows, 0, labels // 10] + log_p[rows, 1, labels % 10]).mean() / 2
    torch.testing.assert_close(built.module.loss((pictures, labels)), expected)


def test_one_network_for_all_tasks_answers_alike_and_slots_of_one_rule_differ_by_their_start_alone():
    torch.manual_seed(1)
    networks, pictures = Networks(2, 100, (4, 3)), torch.randn(5, 2, 4, 3)
    cross_layer(networks, scope="all").apply(networks, example=pictures)
    torch.testing.assert_close(networks(pictures), networks(pictures.flip(1)).flip(1))
    slots, canvas = SlotAttention(1, 1000, (6, 5), width=8), torch.randn(5, 1, 6, 5)
    before = slots(canvas)
    cross_layer(slots, scope="all").apply(slots, example=canvas)
    after = slots(canvas)
    with torch.no_grad():
        slots.start.copy_(slots.start.flip(0))
    torch.testing.assert_close(slots(canvas), after.flip(1))
    assert not torch.allclose(before, after)


def test_a_soft_tie_draws_the_tasks_together(cell):
    """After the same steps the networks are nearer to one another than those that nothing draws."""

    def distance(tying, *more):
        built = build(cell("two_tasks", tying, *more))
        steps(built, 20)
        ours, theirs = (list(network.parameters()) for network in built.model.networks)
        return sum((a - b).square().sum().item() for a, b in zip(ours, theirs, strict=True))

    assert distance("soft", "tying.scope=all", "tying.strength=1") < 0.5 * distance("none")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Networks(1, 10, (8, 8)), "2 networks need a channel and a digit of the label each"),
        (lambda: SlotAttention(1, 100, (16, 16)), "3 slots need a digit of the label each"),
        (lambda: two_views(noise=-1), "data.source.noise=-1 is not allowed"),
        (lambda: digit_canvases(count=5), "data.source.count=5 is not allowed: give 1 to 4 digits"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, reason):
    with pytest.raises(BadInput, match=reason):
        make()
