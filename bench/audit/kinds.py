"""What is compared: each kind of weight, its tensors along the stack, and how alike they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from bench.tying import cross_layer
from bench.tying.sharing import weight
from bench.tying.similarity import cosines, distances, gram, whole
from bench.tying.strategies import Scope, Stack, blocks_of
from bench.tying.summary import pattern_of


@dataclass(frozen=True)
class Kind:
    """Namesakes of one shape along the stack.

    names, places: of its tensors, input first; places as a tie has them, -1 for the block nearest the output. shared:
    index -> that of the first name of the same tensor. products: their `gram`.
    """

    pattern: str
    names: tuple[str, ...]
    places: tuple[int, ...]
    depth: int
    shape: tuple[int, ...]
    numel: int
    shared: tuple[int, ...]
    products: Tensor

    @property
    def blocks(self) -> tuple[int, ...]:
        """Counted from 0 at the input."""
        return tuple(place % self.depth for place in self.places)

    def cosine(self, one: int, other: int) -> float:
        return float(cosines(self.products)[one, other])

    def distance(self, one: int, other: int) -> float:
        return float(distances(self.products)[one, other])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Indices of two tensors, each pair once, but for those that are one tensor already."""
        for one in range(len(self.names)):
            for other in range(one + 1, len(self.names)):
                if self.shared[one] != self.shared[other]:
                    yield one, other


def kinds_of(model: nn.Module, stack: Stack = None, scope: Scope = "weights") -> tuple[Kind, ...]:
    """Every kind within the scope (`bench.tying.cross_layer`, and its errors). Nothing of the model is kept."""
    depth = len(blocks_of(model, stack))
    found = []
    for tie in cross_layer(model, stack=stack, scope=scope).ties:
        tensors = [weight(model, name) for name in tie.names]
        first: dict[int, int] = {}
        kind = Kind(
            pattern=pattern_of(tie.names),
            names=tie.names,
            places=tie.blocks,
            depth=depth,
            shape=tuple(tensors[0].shape),
            numel=tensors[0].numel(),
            shared=tuple(first.setdefault(id(tensor), at) for at, tensor in enumerate(tensors)),
            products=gram(tensors),
        )
        found.append(kind)
    return tuple(found)


def block_cosines(kinds: Sequence[Kind]) -> list[list[float | None]]:
    """[depth][depth] over all kinds; None where two blocks have nothing in common."""
    return whole(kinds[0].depth, [(kind.blocks, kind.products) for kind in kinds])
