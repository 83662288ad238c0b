"""Measure how alike blocks are: by their weights, with hidden units matched, and by what they compute."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from bench.tying import NotApplicable, TyingPlan
from bench.tying.apply import weight
from bench.tying.gate import as_real, check_values
from bench.tying.methods import blocks_of, cross_layer
from bench.tying.penalty import gram
from bench.tying.proof import evaluating
from bench.tying.structure import joined, modules_by_name, parts_of, submodule

Parts = Sequence[tuple[Sequence[int], Tensor]]
"""Of each kind of weight the blocks that have it, and the `gram` of their tensors."""


def cosines(products: Tensor) -> Tensor:
    """[n][n] of a `gram`: NaN where a tensor is zero."""
    sizes = products.diagonal().sqrt()
    return products / (sizes[:, None] * sizes)


def distances(products: Tensor) -> Tensor:
    """[n][n] of a `gram`: ||A - B|| over the root of their mean square norm; sqrt(2) where orthogonal, of one norm."""
    squares = products.diagonal()
    apart = (squares[:, None] + squares - 2 * products).clamp(min=0)
    return (2 * apart / (squares[:, None] + squares)).sqrt()


def cosine(model: nn.Module) -> list[list[float | None]]:
    """[depth][depth]: the cosine between two blocks' weights, over all that namesakes of one shape hold.

    1.0 where a pair shares its tensors, None where it has no namesakes of one shape. Weights are raw: units
    that another initialisation would have put in another order are not aligned. Raises NotApplicable as
    `cross_layer` does.
    """
    return whole(*_parts(model))


def distance(model: nn.Module) -> list[list[float | None]]:
    """[depth][depth]: ||A - B|| of two blocks' weights over the root of their mean square norm, else as `cosine`."""
    products, sizes = _summed(*_parts(model))
    apart = (sizes + sizes.T - 2 * products).clamp(min=0)
    return _listed((2 * apart / (sizes + sizes.T)).sqrt())


def whole(depth: int, parts: Parts) -> list[list[float | None]]:
    """[depth][depth] cosines over all parts."""
    products, sizes = _summed(depth, parts)
    return _listed(products / (sizes * sizes.T).sqrt())


def _parts(model: nn.Module) -> tuple[int, Parts]:
    depth = len(blocks_of(model))
    plan = cross_layer(model)
    check_values({n: weight(model, n) for tie in plan.ties for n in tie.names}, "to be compared")
    return depth, [
        ([block % depth for block in tie.blocks], gram([weight(model, name) for name in tie.names]))
        for tie in plan.ties
    ]


def _summed(depth: int, parts: Parts) -> Tensor:
    """[2][depth][depth]: inner products of two blocks' tensors, and squares of the first one's that both have."""
    sums = torch.zeros(2, depth, depth, dtype=torch.float64)
    for blocks, inner in parts:
        at = torch.tensor(blocks)
        places = torch.meshgrid(at, at, indexing="ij")
        sums[0][places] += inner
        sums[1][places] += inner.diagonal()[:, None].expand_as(inner)
    return sums


def _listed(matrix: Tensor) -> list[list[float | None]]:
    return [[value if value == value else None for value in row] for row in matrix.tolist()]


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
        block_input = next(
            (argument for argument in arguments if isinstance(argument, Tensor)), named.get("hidden_states")
        )
        self._read = None
        if block_input is not None and block_input.ndim > 1:
            rows = _positions(block_input)
            self._read = (block_input.shape, rows[self._further(len(rows))].clone())

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
    all_outputs = [Outputs(name) for name in blocks]
    with evaluating(model), contextlib.ExitStack() as hooks:
        for block_outputs in all_outputs:
            for handle in _hooked(submodule(model, block_outputs.name), block_outputs):
                hooks.callback(handle.remove)
        forwards()
    for block_outputs in all_outputs:
        if not block_outputs.count:
            raise NotApplicable(f"block {block_outputs.name} was not reached by the sample")
    return all_outputs


def _hooked(block: nn.Module, into: Outputs) -> list[torch.utils.hooks.RemovableHandle]:
    # Without a return value a hook changes nothing.
    def before(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        into.before(arguments, named)

    def after(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        into.after(output)

    return [block.register_forward_pre_hook(before, with_kwargs=True), block.register_forward_hook(after)]


def _positions(tensor: Tensor) -> Tensor:
    """[N, features] of [N, features], [B, T, features] or [B, features, H, W]."""
    features_last = tensor.movedim(1, -1) if tensor.ndim > 3 else tensor
    return features_last.reshape(-1, features_last.shape[-1])


_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORM = (_NormBase, nn.GroupNorm, nn.LayerNorm)
Layer = tuple[str, nn.Module]


@dataclass(frozen=True)
class Hidden:
    """axes: (name of a parameter inside the block, its dimension that counts the hidden units)."""

    units: int
    axes: tuple[tuple[str, int], ...]

    def rows(self, block: nn.Module) -> Iterator[Tensor]:
        """[units, ...] of each parameter: what enters or leaves a hidden unit through it."""
        for name, axis in self.axes:
            yield as_real(weight(block, name).detach().movedim(axis, 0)).reshape(self.units, -1)


def hidden_of(model: nn.Module, block: str) -> Hidden:
    """The units between the two layers of a block's feed-forward part, or between its two convolutions.

    Permuting them in all these axes alike leaves the block's function as it is: their activation function acts on
    each of them alone. A feed-forward part is one layer into the units, or a gate and one, and one layer out of
    them, in the order of their registration; layers whose role is unknown are one only where the two widths differ.
    A batch norm between convolutions has a scale and a shift for each unit, which are left out here: scales start at
    1 for every unit and would make all blocks alike. The state of a GRU is no such axis: it is added to the residual
    stream, whose order all blocks share. Raises NotApplicable, with the reason, for any other block.
    """
    role, inside = parts_of(model).role, list(modules_by_name(submodule(model, block)).items())
    linear = [(name, module) for name, module in inside if _width_in(module) is not None]
    roles = {name: role(joined(block, name, "weight")) for name, _ in linear}
    named = [layer for layer in linear if roles[layer[0]] == "feed_forward"]
    if named:
        return _feed_forward(named)
    unnamed = [layer for layer in linear if roles[layer[0]] == "other"]
    if len(unnamed) == 2 and _width_out(unnamed[0][1]) != _width_out(unnamed[1][1]):
        return _feed_forward(unnamed)
    if any(isinstance(module, _CONV) for _, module in inside):
        return _convolutions(inside)
    raise NotApplicable("the block has no feed-forward layers with hidden units between them")


def _feed_forward(layers: list[Layer]) -> Hidden:
    *into, (last, out) = layers
    units = _width_in(out)
    if not 1 <= len(into) <= 2 or any(_width_out(layer) != units for _, layer in into):
        shapes = ", ".join(f"{name} {_width_in(layer)} -> {_width_out(layer)}" for name, layer in layers)
        raise NotApplicable(f"the feed-forward layers are no chain through hidden units: {shapes}")
    axes = [axis for name, layer in into for axis in _leaving(name, layer)]
    return Hidden(units, (*axes, (joined(last, "weight"), 0 if _is_transposed(out) else 1)))


def _convolutions(inside: list[Layer]) -> Hidden:
    convolutions = [at for at, (_, module) in enumerate(inside) if isinstance(module, _CONV)]
    if len(convolutions) != 2:
        raise NotApplicable(
            f"the block has {len(convolutions)} convolutions, not one into hidden units and one out"
        )
    first, last = convolutions
    (into_name, into), (out_name, out) = inside[first], inside[last]
    between = [module for _, module in inside[first:last]]
    if any(isinstance(module, _NORM) and not isinstance(module, _BatchNorm) for module in between):
        raise NotApplicable("the norm between the convolutions treats channels by their order")
    if into.groups != 1 or out.groups != 1 or into.out_channels != out.in_channels:
        raise NotApplicable("the convolutions are no chain through hidden units")
    return Hidden(into.out_channels, (*_leaving(into_name, into), (joined(out_name, "weight"), 1)))


def _leaving(name: str, layer: nn.Module) -> list[tuple[str, int]]:
    """The axes of a layer's own outputs."""
    bias = [(joined(name, "bias"), 0)] if layer.bias is not None else []
    return [(joined(name, "weight"), 1 if _is_transposed(layer) else 0), *bias]


def _is_transposed(layer: nn.Module) -> bool:
    """Whether the weight is [in, out], as in the `Conv1D` of transformers, which is a linear layer."""
    return type(layer).__name__ == "Conv1D"


def _width_in(layer: nn.Module) -> int | None:
    """None for what is no linear layer."""
    if not isinstance(layer, nn.Linear) and not (_is_transposed(layer) and layer.weight.ndim == 2):
        return None
    return layer.weight.shape[0 if _is_transposed(layer) else 1]


def _width_out(layer: nn.Module) -> int:
    return layer.weight.shape[1 if _is_transposed(layer) else 0]


MOST = 4096
"""Hidden units that are matched: that many take 1.5 to 3 s a pair of blocks on one core, and 0.2 GiB; half, a fifth."""
SLICE = 256
"""Units whose products are made together."""


@dataclass(frozen=True)
class Aligned:
    """Cosines over all weights that have an axis of hidden units: as stored (`raw`), and after matching."""

    raw: float
    cosine: float


def aligned_cosine(model: nn.Module, one: str, other: str) -> float | None:
    """`align(model, one, other).cosine`; None where that does not apply."""
    try:
        return align(model, one, other).cosine
    except NotApplicable:
        return None


@torch.no_grad()
def align(model: nn.Module, one: str, other: str, elsewhere: nn.Module | None = None) -> Aligned:
    """Match the hidden units of two blocks, `other` in the model `elsewhere` if that is given, and compare.

    The permutation is the one that makes the inner product of all weights with an axis of hidden units largest
    (a linear assignment), so the aligned cosine is never below the raw one, and above 0 by chance: compare it
    with that of a network at random initialisation. Hidden units are those of `hidden_of`; the residual stream,
    attention heads and what has no such axis (the bias behind the units) stay out.
    Raises NotApplicable, with the reason, where `hidden_of` does, where the blocks differ in shape, above MOST
    units, and where all weights of a block are 0.

    Source: Ainsworth, Hayase & Srinivasa 2023 (Git Re-Basin), section 3.2, for one axis, where it needs one pass.
    """
    ours, theirs = hidden_of(model, one), hidden_of(elsewhere or model, other)
    pairs = list(zip(_rows(model, one, ours), _rows(elsewhere or model, other, theirs), strict=False))
    if ours != theirs or any(a.shape != b.shape for a, b in pairs):
        raise NotApplicable(
            f"the two blocks have {ours.units} and {theirs.units} hidden units, or weights of other shapes"
        )
    if ours.units > MOST:
        raise NotApplicable(f"{ours.units} hidden units are too many to match: at most {MOST} are")
    sizes = [sum(float(_norm(side)) ** 2 for side in sides) for sides in zip(*pairs, strict=True)]
    if not all(sizes):
        raise NotApplicable("all weights of the hidden units are 0")
    costs, whole = _costs(pairs), (sizes[0] * sizes[1]) ** 0.5
    raw = -float(costs.trace())
    best = -float(costs[linear_sum_assignment(costs.numpy())].sum())
    # Of several best permutations the stored order may be one, and its sum differ in the last digit.
    return Aligned(raw / whole, max(raw, best) / whole)


def joined_pairs(plan: TyingPlan) -> list[tuple[int, int]]:
    """Return the pairs of blocks that share a tensor by a hard tie, numbered as the tie does, each pair once."""
    pairs: set[tuple[int, int]] = set()
    for tie in plan.ties:
        if tie.is_hard:
            pairs |= set(combinations(sorted({block for block in tie.blocks if block is not None}), 2))
    return sorted(pairs)


@torch.no_grad()
def align_to_first(model: nn.Module, pairs: Sequence[tuple[int, int]]) -> None:
    """Put the hidden units of each block into the best order for the first block that it is paired with, in place.

    No block computes anything else than before: a mean that is taken after this is one of units that match. Blocks
    without hidden units (`hidden_of`) stay as they are. pairs: numbers of blocks, negative ones from the output.
    """
    stack = blocks_of(model)
    firsts: dict[int, int] = {}
    for first, other in sorted(tuple(sorted(at % len(stack) for at in pair)) for pair in pairs):
        firsts.setdefault(other, first)
    for other, first in sorted(firsts.items()):
        try:
            ours, theirs = hidden_of(model, stack[first]), hidden_of(model, stack[other])
        except NotApplicable:
            continue
        sides = list(zip(_rows(model, stack[first], ours), _rows(model, stack[other], theirs), strict=True))
        order = torch.from_numpy(linear_sum_assignment(_costs(sides).numpy())[1])
        for name, axis in theirs.axes:
            parameter = weight(submodule(model, stack[other]), name)
            parameter.copy_(parameter.index_select(axis, order.to(parameter.device)))


def _costs(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[units][units] float64: minus the inner products, which the assignment reads as they are, without a copy."""
    units = len(pairs[0][0])
    costs = torch.zeros(units, units, dtype=torch.float64)
    for a, b in pairs:
        right = b.to("cpu", _precise(b.dtype)).T
        for at in range(0, units, SLICE):
            costs[at : at + SLICE] -= a[at : at + SLICE].to("cpu", _precise(a.dtype)) @ right
    return costs


def _rows(model: nn.Module, block: str, hidden: Hidden) -> list[Tensor]:
    return list(hidden.rows(submodule(model, block)))


def _norm(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor, dtype=_precise(tensor.dtype))


def _precise(dtype: torch.dtype) -> torch.dtype:
    """What products are summed in: float32, or float64 for weights of that."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Representations:
    """Of the blocks in the order in which they were given.

    cka: [depth][depth], 0 to 1; None where two outputs have not the same positions, or one is constant.
    influence: 0 where a block leaves the direction of its input as it is; None where input and output differ in shape.
    positions: that were compared, of each block. Unrelated outputs of P and Q features have a CKA of about
    sqrt(P Q / ((N + P) (N + Q))) at N positions, not 0.
    """

    cka: list[list[float | None]]
    influence: list[float | None]
    positions: list[int]


def representations(model: nn.Module, blocks: Sequence[str], forwards: Callable[[], None]) -> Representations:
    """What the blocks, by their module names, put out while `forwards()` runs the model.

    The model is in evaluation mode, without gradients, and as it was afterwards. At most `outputs.POSITIONS`
    positions of each block are kept, a uniform sample of all; a position is a token, or a pixel of [B, C, H, W].
    Influence is 1 - the mean cosine of a block's input and output over these positions.
    Blocks whose outputs differ in their number of positions are not compared: nothing is pooled.
    Raises NotApplicable where a block was not reached or puts out no tensor.

    Source: Kornblith et al. 2019, section 3 (linear CKA); Men et al. 2024 (ShortGPT), section 3.1 (block influence).
    """
    all_outputs = outputs(model, blocks, forwards)
    return Representations(
        cka_map(all_outputs),
        [block_outputs.influence for block_outputs in all_outputs],
        [len(block_outputs.features) for block_outputs in all_outputs],
    )


def cka_map(found: Sequence[Outputs]) -> list[list[float | None]]:
    """[depth][depth] of what `outputs` found."""
    own = [_self_similarity(block_outputs.features) for block_outputs in found]
    cka: list[list[float | None]] = [[None] * len(found) for _ in found]
    for one, ours in enumerate(found):
        for other in range(one + 1):
            cka[one][other] = cka[other][one] = _between(ours, found[other], own[one], own[other])
    return cka


def across(ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> list[float | None]:
    """CKA of each block and the block of its place among others that read the same data."""
    return [
        _between(one, other, _self_similarity(one.features), _self_similarity(other.features))
        for one, other in zip(ours, theirs, strict=True)
    ]


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Of X [N, P] and Y [N, Q], rows that belong together: |Y'X|^2 / (|X'X| |Y'Y|), columns centred; NaN if constant.

    In float64 and in the space of features: P x Q numbers, whatever N.
    """
    return _cka(one, other, _self_similarity(one), _self_similarity(other))


def _between(one: Outputs, other: Outputs, own: float, others: float) -> float | None:
    if one.count != other.count:
        return None
    cka = _cka(one.features, other.features, own, others)
    return cka if cka == cka else None


def _cka(one: Tensor, other: Tensor, own: float, others: float) -> float:
    return (
        float((_centred(other).T @ _centred(one)).square().sum()) / (own * others)
        if own * others
        else float("nan")
    )


def _self_similarity(features: Tensor) -> float:
    centred = _centred(features)
    return float(torch.linalg.matrix_norm(centred.T @ centred))


def _centred(features: Tensor) -> Tensor:
    exact = features.double()
    return exact - exact.mean(0)
