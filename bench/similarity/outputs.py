"""What blocks put out while a model reads: features of some positions, a uniform sample of all."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.tying import NotApplicable

POSITIONS = 2048
"""That are kept of a block's output."""
_MIX = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


class Outputs:
    """Of one block: `features` [N, P] on the CPU, in the dtype of the output, N <= POSITIONS; `count` of all positions.

    Kept are the positions with the smallest of pseudo-random keys, which depend on the position's number alone: a
    uniform sample of them all, however they come in batches, and the same for two blocks that put out as many. (Every
    64th would be the same corner of each image, or the same place of each window.)
    """

    def __init__(self, name: str) -> None:
        self.name, self.count = name, 0
        self.features = torch.empty(0, 0)
        self._keys = torch.empty(0, dtype=torch.int64)
        self._cosines = torch.empty(0, dtype=torch.float64)
        self._read: tuple[torch.Size, Tensor] | None = None

    @property
    def influence(self) -> float | None:
        """1 - the mean cosine of input and output; None where they differ in shape."""
        mean = float(self._cosines.mean())
        return 1 - mean if mean == mean else None

    def before(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        """Copy what is read, as a block may change it in place: the first tensor, or `hidden_states`."""
        given = next((each for each in arguments if isinstance(each, Tensor)), named.get("hidden_states"))
        self._read = None
        if given is not None and given.ndim > 1:
            rows = _positions(given)
            self._read = (given.shape, rows[self._further(len(rows))].clone())

    def after(self, output: Any) -> None:
        first = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(first, Tensor) or first.ndim < 2:
            raise NotApplicable(
                f"block {self.name} puts out a {type(first).__name__}, not a tensor of features"
            )
        rows = _positions(first)
        further = self._further(len(rows))
        features = rows[further]
        self._keep(self._next_keys(len(rows))[further], features.cpu(), self._turned(first.shape, features))
        self.count += len(rows)

    def _turned(self, shape: torch.Size, features: Tensor) -> Tensor:
        """Cosines with what was read there; NaN where it has another shape."""
        if self._read is None or self._read[0] != shape:
            return torch.full((len(features),), torch.nan, dtype=torch.float64)
        return F.cosine_similarity(self._read[1].double(), features.double(), dim=-1).cpu()

    def _keep(self, keys: Tensor, features: Tensor, cosines: Tensor) -> None:
        """Of these and what is kept already, those of the smallest keys."""
        if not self.count:
            self.features = features.new_empty(0, features.shape[1])
        if features.shape[1] != self.features.shape[1]:
            widths = f"{self.features.shape[1]} features once, {features.shape[1]} later"
            raise NotApplicable(f"block {self.name} puts out {widths}")
        keys = torch.cat([self._keys, keys])
        kept = keys.argsort()[:POSITIONS]
        self._keys = keys[kept]
        self.features = torch.cat([self.features, features])[kept]
        self._cosines = torch.cat([self._cosines, cosines])[kept]

    def _next_keys(self, n: int) -> Tensor:
        """int64 [n], of the next n positions: the mixing of splitmix64 (Steele et al. 2014), which wraps around."""
        keys = torch.arange(self.count, self.count + n) * _MIX[0]
        keys = (keys ^ (keys >> 30)) * _MIX[1]
        keys = (keys ^ (keys >> 27)) * _MIX[2]
        return keys ^ (keys >> 31)

    def _further(self, n: int) -> Tensor:
        """Which of the next n positions have one of the smallest keys so far."""
        keys = torch.cat([self._keys, self._next_keys(n)])
        best = keys.argsort()[:POSITIONS] - len(self._keys)
        return best[best >= 0]


def outputs(model: nn.Module, blocks: Sequence[str], forwards: Callable[[], None]) -> list[Outputs]:
    """Of each block by name while `forwards()` runs the model; NotApplicable where one was not reached."""
    found = [Outputs(name) for name in blocks]
    with _evaluating(model), contextlib.ExitStack() as hooks, torch.no_grad():
        for each in found:
            for handle in _hooked(model.get_submodule(each.name), each):
                hooks.callback(handle.remove)
        forwards()
    for each in found:
        if not each.count:
            raise NotApplicable(f"block {each.name} was not reached by the sample")
    return found


def _hooked(block: nn.Module, into: Outputs) -> list[torch.utils.hooks.RemovableHandle]:
    # Without a return value a hook changes nothing.
    def before(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        into.before(arguments, named)

    def after(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        into.after(output)

    return [block.register_forward_pre_hook(before, with_kwargs=True), block.register_forward_hook(after)]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _positions(tensor: Tensor) -> Tensor:
    """[N, features] of [N, features], [B, T, features] or [B, features, H, W]."""
    features_last = tensor.movedim(1, -1) if tensor.ndim > 3 else tensor
    return features_last.reshape(-1, features_last.shape[-1])
