"""A causal language model of `transformers` with a mixture of experts in each block."""

from bench.models.transformer import CausalLM


class MixtureOfExperts(CausalLM):
    """Take and return what `CausalLM` does.

    A token reads some experts of each block alone. Their matrices are multiplied in one grouped call, which takes rows
    of a multiple of 16 bytes: feed-forward widths are multiples of `feed_forward_step`.
    """

    feed_forward_step = 8
