"""Operations of a call, against counts by hand, and the law that tying changes none of them."""

from collections.abc import Callable

import pytest
import torch
from grid import CELLS, TASKS, applies, build, step
from torch import nn
from torch.nn import functional as F

from bench.meters.flops import flops_of
from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM


def test_a_matmul_and_a_convolution_in_the_head() -> None:
    assert flops_of(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5
    image, kernel = torch.ones(1, 2, 8, 8), torch.ones(4, 2, 3, 3)
    assert flops_of(lambda: F.conv2d(image, kernel, padding=1)) == 2 * (8 * 8) * (3 * 3) * 2 * 4
    assert flops_of(lambda: torch.ones(5) + 1) == 0


def test_backward_is_twice_forward_and_once_where_the_input_needs_no_gradient() -> None:
    layer = nn.Linear(7, 3)
    forward = 2 * 4 * 7 * 3
    plain, wanted = torch.ones(4, 7), torch.ones(4, 7, requires_grad=True)
    assert flops_of(lambda: layer(plain).sum().backward()) == 2 * forward
    assert flops_of(lambda: layer(wanted).sum().backward()) == 3 * forward


def test_a_weight_used_twice_counts_twice() -> None:
    layer, x = nn.Linear(5, 5), torch.ones(2, 5)
    assert flops_of(lambda: layer(layer(x))) == 2 * flops_of(lambda: layer(x))


def test_attention_is_scores_and_their_sum_and_backward_once_more_for_the_scores() -> None:
    q, k, v = (torch.ones(2, 3, 8, 4, requires_grad=True) for _ in range(3))
    product = 2 * (2 * 3) * 8 * 8 * 4
    assert flops_of(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)) == 2 * product
    whole = flops_of(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward())
    assert whole == (2 + 5) * product


TOKENS = torch.arange(10).reshape(2, 5)  # B = 2, T = 5
WIDTH, VOCAB = 8, 12
OUTPUT = 2 * 10 * WIDTH * VOCAB


def test_a_gru_by_hand() -> None:
    model = GRULanguageModel(VOCAB, depth=3, width=WIDTH)
    one = 2 * 10 * (3 * WIDTH) * WIDTH  # input to three gates, of all steps; and as much from the state
    forward = 3 * 2 * one + OUTPUT
    assert flops_of(lambda: model(TOKENS)) == forward
    # Twice that backward, but for the first of five states, which needs no gradient.
    whole = flops_of(lambda: model(TOKENS)[0].sum().backward())
    assert whole == 3 * forward - 3 * (one // 5)


def test_a_transformer_by_hand() -> None:
    model = CausalLM(VOCAB, 5, "gpt2", depth=2, width=WIDTH, heads=2)
    matrices = 2 * 10 * 12 * WIDTH**2  # attention 4, feed-forward 2 times 4
    product = 2 * 2 * 5 * 5 * WIDTH  # of attention, two sequences: two forward, five backward
    assert flops_of(lambda: model(TOKENS)) == 2 * matrices + OUTPUT + 2 * 2 * product
    whole = flops_of(lambda: model(TOKENS)[0].sum().backward())
    assert whole == 3 * (2 * matrices + OUTPUT) + 2 * 7 * product


def test_a_cnn_by_hand() -> None:
    model, images = ResNet(1, 10, depth=2, stages=2, width=4), torch.ones(2, 1, 8, 8)

    def conv(side: int, into: int, out: int) -> int:
        return 2 * 2 * side**2 * 9 * into * out

    stem, classifier = conv(8, 1, 4), 2 * 2 * 8 * 10
    blocks = conv(8, 4, 4) * 2 + conv(4, 4, 8) + conv(4, 8, 8)
    assert flops_of(lambda: model(images)) == stem + blocks + classifier
    whole = flops_of(lambda: model(images).sum().backward())
    assert whole == 2 * stem + 3 * (blocks + classifier)


def test_cudnns_recurrent_layer_counts_as_the_steps_it_takes_elsewhere() -> None:
    gru = nn.GRU(WIDTH, WIDTH)
    on_cpu = flops_of(lambda: gru(torch.ones(5, 2, WIDTH)))

    def as_cudnn() -> None:
        x, hidden = torch.empty(5, 2, WIDTH, device="meta"), torch.empty(1, 2, WIDTH, device="meta")
        weights = [weight.detach().to("meta") for weight in gru.parameters()]
        torch._cudnn_rnn(x, weights, 4, None, hidden, None, 3, WIDTH, 0, 1, False, 0.0, True, False, [], None)

    assert flops_of(as_cudnn) == on_cpu == 2 * 10 * (3 * WIDTH) * (WIDTH + WIDTH)


@pytest.mark.parametrize("task", TASKS)
def test_tying_changes_no_operation(cell: Callable, task: str) -> None:
    def of_a_step(tying: str) -> int:
        built = build(cell(task, tying))
        optimizer = built.module.adamw()
        return flops_of(lambda: step(built.module, optimizer, built.batches[0]))

    tyings = [tying for other, tying in CELLS if other == task and applies(task, tying)]
    counts = {tying: of_a_step(tying) for tying in tyings}
    computing = {tying: counts.pop(tying) for tying in ("relaxed", "joint_embedding") if tying in counts}
    assert len(set(counts.values())) == 1 and min(counts.values()) > 0, counts
    # Relaxed ties multiply the factors of their differences besides, a joint embedding its learned map.
    assert "relaxed" in computing and min(computing.values()) > counts["none"], computing
