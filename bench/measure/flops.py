"""Floating-point operations of a call, as torch counts them: from shapes, and for every use of a tensor."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Shape = Sequence[int]


def flops_of(call: Callable[[], object]) -> int:
    """Floating-point operations of one `call`: those of matmul, convolution, attention, recurrent layers.

    A multiplication and an addition are two. A weight that is used twice counts twice: tying changes nothing.
    Causal attention counts in full, half of it masked. What is element by element does not count.
    """
    with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        call()
    return counter.get_total_flops()


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(upstream: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(upstream, query, key, value)


def _recurrent(inputs: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """Each matrix of each layer and direction times each step of each sequence."""
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


def _recurrent_backward(inputs: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    return 2 * _recurrent(inputs, weights)


# What torch's own table lacks (torch 2.13): attention on a CPU, and cuDNN's recurrent layers.
_FORMULAS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    torch.ops.aten._cudnn_rnn: _recurrent,
    torch.ops.aten._cudnn_rnn_backward: _recurrent_backward,
}
