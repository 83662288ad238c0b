"""What attention keeps of each token: methods that share its keys and values, their size, and models that use it."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.tying.apply import parameters_by_name, weight
from bench.tying.errors import BadInput
from bench.tying.methods import Stack, blocks_of, in_repeats
from bench.tying.plan import NotApplicable, TyingPlan
from bench.tying.structure import joined, modules_by_name, submodule, unwrapped
from bench.tying.tie import Tie, is_integer
from bench.tying.view import Step, View

_APART = (("k_proj", "v_proj"), ("key", "value"))
"""What attention calls its layers of keys and of values: Llama's and most others, and BERT's."""
_FUSED = "c_attn"
"""GPT-2's layer of queries, keys and values."""


@dataclass(frozen=True)
class Attention:
    """Where one attention makes its keys and values.

    Args:
        block: Of the stack, from the output end (-1 is the last).
        key, value: Module names; one and the same where queries, keys and values are one layer's.
        heads: How many heads of keys and values it has.
        width: Of all of them together.
        axis: Along which the weight has its outputs.
    """

    block: int
    key: str
    value: str
    heads: int
    width: int
    axis: int

    @property
    def is_fused(self) -> bool:
        return self.key == self.value


def attentions(model: nn.Module, stack: Stack = None) -> list[Attention]:
    """Return every attention of the blocks. NotApplicable where there is none whose keys and values are understood."""
    blocks = blocks_of(model, stack)
    found = [
        attention for at, block in enumerate(blocks) for attention in _inside(model, block, at - len(blocks))
    ]
    if not found:
        raise NotApplicable(
            "no keys and values in the blocks of this network: it has no attention with k_proj and v_proj, key and "
            "value, or c_attn"
        )
    return found


def _inside(model: nn.Module, block: str, at: int) -> Iterator[Attention]:
    for path, module in modules_by_name(submodule(model, block)).items():
        children = module._modules
        for key, value in _APART:
            if isinstance(children.get(key), nn.Linear) and isinstance(children.get(value), nn.Linear):
                width = children[key].out_features
                if width == children[value].out_features:
                    names = (joined(block, path, child) for child in (key, value))
                    yield Attention(at, *names, _heads(model, width), width, axis=0)
        fused = children.get(_FUSED)
        if type(fused).__name__.endswith("Conv1D") and fused.nf == 3 * fused.nx:
            name = joined(block, path, _FUSED)
            yield Attention(at, name, name, _heads(model, fused.nx), fused.nx, axis=1)


def _heads(model: nn.Module, width: int) -> int:
    """Return how many heads of keys and values the config says; NotApplicable where none fits."""
    configs = (getattr(module, "config", None) for module in unwrapped(model).modules())
    config = next((one for one in configs if hasattr(one, "num_attention_heads")), None)
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    if not heads or width % heads:
        raise NotApplicable(f"the network's config tells no number of heads that {width} keys fall into")
    return heads


@dataclass(frozen=True)
class _Segment:
    """A part of the shared tensor along its outputs: each of its `heads` heads is used `uses` times, one beside the
    other."""

    start: int
    length: int
    heads: int = 1
    uses: int = 1


def _view(shape: Sequence[int], axis: int, segments: Sequence[_Segment], total: int) -> View:
    """Return the view of a weight whose outputs, along `axis`, are these segments of `total` shared ones."""
    before, after = tuple(shape[:axis]), tuple(shape[axis + 1 :])
    chains = []
    for part in segments:
        chain: list[Step] = []
        if part.length < total:
            chain.append(("narrow", axis, part.start, part.length))
        if part.uses > 1:
            chain.append(("reshape", *before, part.heads, part.length // part.heads, *after))
            chain.append(("expand", axis + 1, part.uses))
            chain.append(("reshape", *before, part.length * part.uses, *after))
        chains.append(tuple(chain))
    steps = chains[0] if len(chains) == 1 else (("cat", axis, *chains),)
    return View((*before, total, *after), steps)


def _leaves(model: nn.Module, name: str, axis: int) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Yield the weight and, where there is one, the bias of a layer: name, shape and the axis of its outputs."""
    for leaf in ("weight", "bias"):
        tensor = getattr(submodule(model, name), leaf, None)
        if tensor is not None:
            yield joined(name, leaf), tuple(tensor.shape), axis if tensor.ndim > 1 else 0


def gqa(model: nn.Module, *, kv_heads: int, stack: Stack = None) -> TyingPlan:
    """Share keys and values between heads: `kv_heads` of them are left, each used by as many neighbours.

    As many as the network has tie nothing; one is `mqa`.

    Raises:
        BadInput: The heads of the network do not divide into so many groups.
        NotApplicable: The network has no attention that is understood.

    Source: Ainslie et al. 2023 (GQA), section 2.2.
    """
    ties = []
    for attention in attentions(model, stack):
        heads, width = attention.heads, attention.width
        if not is_integer(kv_heads) or not 1 <= kv_heads <= heads or heads % kv_heads:
            divisors = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
            raise BadInput(
                f"kv_heads is {kv_heads!r}; the {heads} heads of {attention.key} fall into equal groups of: {divisors}"
            )
        left, uses = width // heads * kv_heads, heads // kv_heads
        shared = [_Segment(0, left, kv_heads, uses)]
        total = left
        if attention.is_fused:
            keys = _Segment(width, left, kv_heads, uses)
            shared = [_Segment(0, width), keys, _Segment(width + left, left, kv_heads, uses)]
            total = width + 2 * left
        for layer in dict.fromkeys((attention.key, attention.value)) if uses > 1 else ():
            for name, shape, axis in _leaves(model, layer, attention.axis):
                ties.append(
                    Tie((name,), blocks=(attention.block,), views=(_view(shape, axis, shared, total),))
                )
    return TyingPlan(tuple(ties))


def mqa(model: nn.Module, *, stack: Stack = None) -> TyingPlan:
    """Share one head of keys and values between all heads (Shazeer 2019, section 3); `gqa` of one head."""
    return gqa(model, kv_heads=1, stack=stack)


def k_equals_v(model: nn.Module, *, stack: Stack = None) -> TyingPlan:
    """Make values with the weights of the keys, in each attention of the blocks.

    Raises NotApplicable where the network has no attention that is understood.
    """
    ties = []
    for attention in attentions(model, stack):
        block, width = attention.block, attention.width
        if attention.is_fused:
            keys = _Segment(width, width)
            for name, shape, axis in _leaves(model, attention.key, attention.axis):
                view = _view(shape, axis, [_Segment(0, width), keys, keys], 2 * width)
                ties.append(Tie((name,), blocks=(block,), views=(view,)))
            continue
        leaves = (_leaves(model, layer, attention.axis) for layer in (attention.key, attention.value))
        for (key, _, _), (value, _, _) in zip(*leaves, strict=True):
            ties.append(Tie((key, value), blocks=(block, block)))
    return TyingPlan(tuple(ties))


def kv_across_layers(model: nn.Module, *, repeats: int, stack: Stack = None) -> TyingPlan:
    """Share the weights of keys and values between each `repeats` layers in a row; each keeps its own queries.

    One repeat ties nothing. What is shared are weights, not the keys and values themselves: each layer reads its own.

    Raises:
        BadInput: `repeats` is no number of blocks.
        NotApplicable: The network has no attention that is understood, or layers in a row have none alike.
    """
    depth = len(blocks_of(model, stack))
    if not is_integer(repeats) or not 1 <= repeats <= depth:
        raise BadInput(
            f"repeats is {repeats!r}; the network has {depth} blocks: it must be an integer from 1 to {depth}"
        )
    groups: dict[tuple, list[Attention]] = {}
    for attention in attentions(model, stack):
        group = in_repeats(depth, repeats)[attention.block]
        inside = attention.key.removeprefix(blocks_of(model, stack)[attention.block])
        groups.setdefault((group, inside, attention.width, attention.is_fused), []).append(attention)
    plan = TyingPlan(
        tuple(tie for group in groups.values() if len(group) > 1 for tie in _across(model, group))
    )
    if repeats > 1 and plan == TyingPlan():
        raise NotApplicable(f"no {repeats} layers in a row have keys and values of one shape")
    return plan


def _across(model: nn.Module, group: Sequence[Attention]) -> Iterator[Tie]:
    blocks = tuple(attention.block for attention in group)
    first, width = group[0], group[0].width
    for layer in dict.fromkeys(("key", "value")) if not first.is_fused else ("key",):
        names = [_leaves(model, getattr(attention, layer), attention.axis) for attention in group]
        for leaves in zip(*names, strict=True):
            views = ()
            if first.is_fused:  # all queries, then the keys and values of all
                queries, total = len(group) * width, (len(group) + 2) * width
                views = tuple(
                    _view(
                        shape,
                        axis,
                        [_Segment(at * width, width), _Segment(queries, 2 * width)],
                        total,
                    )
                    for at, (_, shape, axis) in enumerate(leaves)
                )
            yield Tie(tuple(name for name, _, _ in leaves), blocks=blocks, views=views)


@torch.no_grad()
def kv_numbers_per_token(model: nn.Module, stack: Stack = None) -> int | None:
    """Return how many numbers of a token the network must keep for those that come after it; None without attention.

    These are the distinct rows of the weights of keys and values, layer by layer: what two rows make is one number
    where they are one. Weights that are shared across layers read other inputs and spare nothing. Where positions are
    turned into keys (rotary), a key that is also a value is kept as it was before.
    """
    try:
        all_attentions = attentions(model, stack)
    except NotApplicable:
        return None
    return sum(len(_rows(model, attention).unique(dim=0)) for attention in all_attentions)


def _rows(model: nn.Module, attention: Attention) -> Tensor:
    """[outputs, inputs (+ 1 of the bias)]: the rows that make keys and values of one attention."""
    rows = []
    for layer in dict.fromkeys((attention.key, attention.value)):
        parts = [
            weight(model, name).movedim(axis, 0).reshape(shape[axis], -1)
            for name, shape, axis in _leaves(model, layer, attention.axis)
        ]
        rows.append(torch.cat(parts, 1)[attention.width if attention.is_fused else 0 :])
    return torch.cat(rows)


@torch.no_grad()
def grouped_query(model: nn.Module) -> nn.Module:
    """Return the same network as a grouped-query model of `transformers`, with its own smaller keys and values.

    The model's config must have `num_key_value_heads` (Llama, Mistral, Qwen and others), and its heads be equal in
    equal groups, as `gqa` and `mqa` make them. Whatever else is tied becomes one tensor per name. `model` is not
    changed.

    Raises:
        NotApplicable: The config has no such key, or heads are not equal.
    """
    inner = unwrapped(model)
    config: Any = copy.deepcopy(getattr(inner, "config", None))
    if getattr(config, "num_key_value_heads", None) is None:
        raise NotApplicable(f"{type(inner).__name__} has no num_key_value_heads in its config")
    all_attentions = attentions(inner)
    counts = {
        _groups(weight(inner, f"{layer}.weight"), a.heads)
        for a in all_attentions
        for layer in (a.key, a.value)
    }
    config.num_key_value_heads = heads = max(counts)
    with torch.random.fork_rng(devices=[]):  # its first weights are replaced at once
        exported = type(inner)(config).to(next(inner.parameters()).dtype)
    grouped = {
        name: attention
        for attention in all_attentions
        for layer in (attention.key, attention.value)
        for name, _, _ in _leaves(inner, layer, attention.axis)
    }
    for name, parameter in parameters_by_name(exported).items():
        value = weight(inner, name)
        if name in grouped:
            attention = grouped[name]
            by_head = value.unflatten(0, (heads, attention.heads // heads, -1))
            if not bool((by_head == by_head[:, :1]).all()):
                raise NotApplicable(f"the heads of {name} are not equal in {heads} groups")
            value = by_head[:, 0].flatten(0, 1)
        parameter.copy_(value)
    for name, buffer in inner.named_buffers():
        exported.get_buffer(name).copy_(buffer)
    return exported.train(inner.training)


def _groups(rows: Tensor, heads: int) -> int:
    """Return into how few equal groups of equal heads these rows fall."""
    by_head = rows.unflatten(0, (heads, -1))
    for groups in (n for n in range(1, heads) if heads % n == 0):
        inside = by_head.unflatten(0, (groups, -1))
        if bool((inside == inside[:, :1]).all()):
            return groups
    return heads
