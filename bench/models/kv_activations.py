"""A language model whose layers use the keys and values of a layer before them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bench.models.checks import check_positive
from bench.models.transformer import CausalLM
from bench.tying.attention import Attention, attentions
from bench.tying.errors import BadInput
from bench.tying.methods import in_repeats
from bench.tying.plan import NotApplicable


class SharedKeysAndValues(CausalLM):
    """`CausalLM` in which each `repeats` layers in a row attend to the keys and values of the first of them.

    What is shared are the keys and values themselves, so that one copy of them is kept of each token; the other layers
    have no weights for them. The untied twin is `CausalLM` of the same sizes, which has those weights.
    Raises BadInput for an architecture that makes queries, keys and values by one layer, as GPT-2 does.

    Source: Brandon et al. 2024 (Cross-Layer Attention), section 3.
    """

    def __init__(
        self,
        vocab_size: int,
        window: int,
        architecture: str = "llama",
        depth: int = 4,
        width: int = 128,
        heads: int = 4,
        dropout: float = 0.0,
        config: Mapping[str, Any] | None = None,
        feed_forward: int | None = None,
        injection: str = "none",
        repeats: int = 2,
    ) -> None:
        sizes = (depth, width, heads, dropout, config, feed_forward, injection)
        super().__init__(vocab_size, window, architecture, *sizes)
        check_positive(repeats=repeats)
        try:
            found = attentions(self)
        except NotApplicable as reason:
            raise BadInput(f"{reason}: set model.architecture=llama") from reason
        if any(attention.is_fused for attention in found):
            raise BadInput(
                "this architecture makes queries, keys and values by one layer, which it cannot leave out: set "
                "model.architecture=llama"
            )
        labels = in_repeats(len(self.parts.stack), repeats)
        for label in dict.fromkeys(labels):
            first, *others = (attention for attention in found if labels[attention.block] == label)
            for layer in ("key", "value") if others else ():
                self._reuse(layer, first, others)

    def _reuse(self, layer: str, first: Attention, others: list[Attention]) -> None:
        kept = Kept(len(others))
        self.get_submodule(getattr(first, layer)).register_forward_hook(kept.keep)
        for attention in others:
            path, _, leaf = getattr(attention, layer).rpartition(".")
            setattr(self.get_submodule(path), leaf, Reused(kept))


class Kept:
    """What one layer made, until the last of `uses` has taken it: it holds the graph of a whole step."""

    def __init__(self, uses: int) -> None:
        self.uses, self.left = uses, 0
        self.made: Tensor | None = None

    def keep(self, module: nn.Module, given: Any, made: Tensor) -> None:
        self.made, self.left = made, self.uses

    def take(self) -> Tensor:
        made, self.left = self.made, self.left - 1
        if self.left == 0:
            self.made = None
        return made


class Reused(nn.Module):
    """Stands in the place of a layer and gives what another layer made of its own input."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, hidden: Tensor) -> Tensor:
        return self.kept.take()
