"""A causal language model of `transformers` with a mixture of experts in each block."""

from typing import Any

from bench.models.transformer import CausalLM


class MixtureOfExperts(CausalLM):
    """Take and return what `CausalLM` does; a token reads some experts of each block alone.

    Experts are multiplied one after the other, which any precision allows. Building tries the grouped product once,
    whose rows must be of a multiple of 16 bytes: feed-forward widths are multiples of `feed_forward_step`.
    """

    feed_forward_step = 8

    def __init__(self, *sizes: Any, **named: Any) -> None:
        super().__init__(*sizes, **named)
        self.model.set_experts_implementation("eager")
