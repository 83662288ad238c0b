"""Make a weight of a shared tensor: a chain of rearrangements as data, each entry a signed copy of a shared one."""

import base64
import functools
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn import functional as F

from bench.tying.errors import BadInput

Step = tuple[Any, ...]
"""The name of a rearrangement, then its parameters: numbers, texts, or chains of further steps."""

MAP = ("matrix", "bias")
"""The parameters that a use with a learned map has of its own (`Made`)."""


@dataclass(frozen=True)
class View:
    """Makes a weight from a shared tensor of this shape; without steps the weight is the shared tensor itself.

    The law of all steps: made[j] = sign[j] * shared.flatten()[index[j]], and sign 0 where an entry is always 0. What
    they make is the weight, unless the view is mapped.

    Args:
        shape: Of the shared tensor.
        steps: One after the other, each a name of STEPS and its parameters.
        mapped: Whether a learned map makes the weight of what the steps make (`Made`). The map belongs to the use and
            not to the view, which has no parameters: calling the view takes the steps alone.

    Raises:
        BadInput: An unknown step, or one that the tensor before it does not allow; a map of a single number.
    """

    shape: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    mapped: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "steps", _as_tuples(self.steps))
        if not self.result and self.mapped:
            raise BadInput("a learned map reads rows of numbers, and this view makes a single one")

    def __call__(self, shared: Tensor) -> Tensor:
        return _chained(shared, self.steps)

    @functools.cached_property
    def result(self) -> tuple[int, ...]:
        """Return the shape of what it makes."""
        return tuple(self(torch.empty(self.shape, device="meta")).shape)

    @property
    def is_whole(self) -> bool:
        """Tell whether the weight is the shared tensor itself."""
        return not self.steps and not self.mapped

    def entries(self) -> tuple[Tensor, Tensor]:
        """Return (index, sign) of each entry that the steps make, int64 of its shape on the CPU, found by one probe."""
        return _entries(self)

    @functools.cached_property
    def covers(self) -> bool:
        """Tell whether it reads every entry of the shared tensor."""
        index, sign = self.entries()
        return len(index[sign != 0].unique()) == math.prod(self.shape)

    @property
    def spelled(self) -> str:
        """Return the names of its steps, for a table."""
        names = [step[0] for step in self.steps]
        return " ".join([*names, "learned map"] if self.mapped else names) or "whole"


@functools.lru_cache(maxsize=256)
def _entries(view: View) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        probe = view(torch.arange(1, math.prod(view.shape) + 1, device="cpu").view(view.shape))
        return (probe.abs() - 1).clamp(0), probe.sign()


class Made(nn.Module):
    """The parametrization by which a module reads a weight that a view makes of a shared tensor.

    A mapped one owns a learned map. Each row e that the steps make becomes tanh(U e + b), with the matrix U [width,
    width] and the bias b [width]. They begin as 1 and 0, so that small weights begin close to the shared tensor, and no
    random number is drawn.

    Args:
        like: A tensor of the dtype and on the device that the map is to have.

    Source: Pappas et al. 2018 (Beyond weight tying), equation 7.
    """

    def __init__(self, view: View, like: Tensor) -> None:
        super().__init__()
        self.view = view
        if view.mapped:
            width = view.result[-1]
            self.matrix = Parameter(torch.eye(width, dtype=like.dtype, device=like.device))
            self.bias = Parameter(torch.zeros(width, dtype=like.dtype, device=like.device))

    def forward(self, shared: Tensor) -> Tensor:
        rearranged = self.view(shared)
        return torch.tanh(F.linear(rearranged, self.matrix, self.bias)) if self.view.mapped else rearranged

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return a shared tensor that the steps make the weight of: of entries that are one, the first."""
        return lifted([(self.view, weight)])

    def extra_repr(self) -> str:
        return f"{self.view.shape}: {self.view.spelled}"


@torch.no_grad()
def lifted(uses: Sequence[tuple[View, Tensor]], mean: bool = False) -> Tensor:
    """Return the shared tensor of some weights and their views: of each entry's uses the first value, or the mean.

    An entry that none of them reads is 0. The mean of n independent values has 1 / sqrt(n) of their scale: the first
    keeps the scale of an initialisation. Weights of learned maps count only where the others do not read everything.
    """
    plain = [(view, weight) for view, weight in uses if not view.mapped]
    if 0 < len(plain) < len(uses) and not unread([view for view, _ in plain]):
        uses = plain
    shape, like = uses[0][0].shape, uses[0][1]
    parts = [(*view.entries(), weight) for view, weight in uses]
    index = torch.cat([index.flatten() for index, _, _ in parts]).to(like.device)
    sign = torch.cat([sign.flatten() for _, sign, _ in parts]).to(like.device)
    value = torch.cat([weight.flatten() for _, _, weight in parts]) * sign.to(like.dtype)
    index, value = index[sign != 0], value[sign != 0]
    at = torch.arange(len(index), device=like.device)
    first = at.new_full((math.prod(shape),), len(index)).scatter_reduce(0, index, at, "amin")
    shared = torch.cat([value, value.new_zeros(1)])[first]
    if mean:
        # From differences: values that are equal stay what they are, to the bit.
        count = torch.bincount(index, minlength=len(shared)).clamp(min=1)
        shared = shared + torch.zeros_like(shared).index_add(0, index, value - shared[index]) / count
    return shared.view(shape)


def unread(views: Sequence[View]) -> int:
    """Count the shared entries that none of these views reads."""
    read = [index[sign != 0] for index, sign in (view.entries() for view in views)]
    return math.prod(views[0].shape) - len(torch.cat(read).unique())


# --- the steps ---


def _expand(tensor: Tensor, axis: int, count: int) -> Tensor:
    """Use the tensor so many times along a new axis; nothing is copied."""
    sizes = list(tensor.shape)
    sizes.insert(axis, count)
    return tensor.unsqueeze(axis).expand(sizes)


def _rows(tensor: Tensor, *labels: int) -> Tensor:
    """One row of the tensor for each label; -1 is a row of zeros."""
    width = len(tensor)
    at = torch.tensor([label if label >= 0 else 0 for label in labels], device=tensor.device)
    if any(not -1 <= label < width for label in labels):
        raise ValueError(f"labels must be from -1 to {width - 1}")
    rows = tensor.index_select(0, at)
    if min(labels) >= 0:
        return rows
    real = torch.tensor([label >= 0 for label in labels], device=tensor.device)
    return rows * real.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))


def _hash(tensor: Tensor, seed: int, *sizes: int) -> Tensor:
    """Entries in buckets of equal size, each with a random sign (Chen et al. 2015, HashedNets, section 4.3)."""
    return _signed(tensor, *_buckets(tensor.numel(), seed, sizes, tensor.device))


def _gather(tensor: Tensor, packed: str, *sizes: int) -> Tensor:
    """Entry j is that of number |n| - 1 with the sign of n, and 0 for n = 0: `packed` holds an n for each entry."""
    return _signed(tensor, *_unpacked(packed, sizes, tensor.device))


def _signed(tensor: Tensor, index: Tensor, sign: Tensor) -> Tensor:
    taken = tensor.reshape(-1).index_select(0, index).view(sign.shape)
    return taken * sign.to(tensor.dtype)


@functools.lru_cache(maxsize=256)
def _buckets(count: int, seed: int, sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    if not 1 <= count <= math.prod(sizes):
        raise ValueError(f"{count} buckets for {math.prod(sizes)} entries")
    with torch.inference_mode(False):
        generator = torch.Generator().manual_seed(seed)
        index = torch.randperm(math.prod(sizes), generator=generator, device="cpu") % count
        sign = torch.randint(0, 2, sizes, generator=generator, device="cpu", dtype=torch.int8) * 2 - 1
        return index.to(device), sign.to(device)


@functools.lru_cache(maxsize=256)
def _unpacked(packed: str, sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<i8")
    with torch.inference_mode(False):
        signed = torch.from_numpy(numbers.copy()).view(sizes)
        return (signed.abs() - 1).clamp(0).flatten().to(device), signed.sign().to(torch.int8).to(device)


def gather(index: Tensor, sign: Tensor) -> Step:
    """Return the step that takes these entries with these signs, as data."""
    numbers = ((index + 1) * sign).contiguous().numpy().astype("<i8")
    return "gather", base64.b64encode(zlib.compress(numbers.tobytes())).decode(), *index.shape


STEPS: dict[str, Callable[..., Tensor]] = {
    "reshape": lambda tensor, *sizes: tensor.reshape(sizes),
    "permute": lambda tensor, *axes: tensor.permute(axes),
    "expand": _expand,
    "narrow": torch.narrow,
    "rot90": lambda tensor, turns: torch.rot90(tensor, turns, (-2, -1)),
    "roll": lambda tensor, shift, axis: tensor.roll(shift, axis),
    "negate": torch.neg,
    "rows": _rows,
    "hash": _hash,
    "gather": _gather,
    "stack": lambda tensor, axis, *chains: torch.stack([_chained(tensor, chain) for chain in chains], axis),
    "cat": lambda tensor, axis, *chains: torch.cat([_chained(tensor, chain) for chain in chains], axis),
}
"""Rearrangements by name, functions of a tensor and their parameters.

reshape *sizes; permute *axes; expand axis count (so many uses along a new axis, without a copy); narrow axis start
length; rot90 turns (of the last two axes); roll shift axis; negate; rows *labels (-1: zeros); hash seed *sizes (as many
buckets as the tensor has entries); gather packed *sizes (see `gather`); stack axis *chains; cat axis *chains.
"""


def _chained(tensor: Tensor, steps: Sequence[Step]) -> Tensor:
    for name, *parameters in steps:
        if name not in STEPS:
            raise BadInput(f"a view has no step {name!r}; its steps are: {', '.join(STEPS)}")
        try:
            tensor = STEPS[name](tensor, *parameters)
        except BadInput:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shown = ", ".join(f"{parameter}"[:40] for parameter in parameters)
            reason = " ".join(str(error).split())[:160]
            raise BadInput(
                f"a view cannot take the step {name}({shown}) of a tensor of shape {tuple(tensor.shape)}: {reason}"
            ) from error
    return tensor


def _as_tuples(data: Any) -> Any:
    """Return the data with tuples for lists, so that steps read from JSON are those that were written."""
    return tuple(map(_as_tuples, data)) if isinstance(data, (list, tuple)) else data
