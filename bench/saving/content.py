"""What the file is made of: names, which of them are one tensor, a digest, a plan as data, the model's answer."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.anatomy import plain_name
from bench.errors import BadInput
from bench.tying import HARD, Tie

FORMAT = "tying-bench 1"
READS, OUTPUT = "example/reads/", "example/output"
"""Where the example lies in the file; no parameter's name has a slash."""

Example = Mapping[str, Tensor]


def names_of(model: nn.Module) -> dict[str, Tensor]:
    """Every name of every parameter and persistent buffer, as ties name them. BadInput where there is more to the
    model's state."""
    kept = model.state_dict()
    if other := [name for name, value in kept.items() if not isinstance(value, Tensor)]:
        raise BadInput(f"the state {other[0]} is no tensor: such a model cannot be kept in safetensors")
    found = dict(model.named_parameters(remove_duplicate=False))
    found |= dict(model.named_buffers(remove_duplicate=False))
    return {plain_name(name): found[name] for name in kept}


def stored_as(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Each name -> the first name of its tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in names.items()}


def plain(tensor: Tensor) -> Tensor:
    """On the CPU, with memory of its own: a view into a larger one cannot be stored."""
    tensor = tensor.detach().cpu().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Of what is said of the model, and of the tensors' names, dtypes, shapes and bytes."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def as_data(tie: Tie) -> dict[str, Any]:
    strength = "hard" if tie.is_hard else tie.strength
    return {"names": tie.names, "strength": strength, "blocks": tie.blocks, "rank": tie.rank}


def from_data(entry: Mapping[str, Any]) -> Tie:
    strength = HARD if entry["strength"] == "hard" else entry["strength"]
    return Tie(tuple(entry["names"]), strength, tuple(entry["blocks"]), entry.get("rank", 0))


@torch.no_grad()
def answer_of(model: nn.Module, example: Example) -> Tensor:
    """The logits, or else the first tensor, of what the model answers without dropout."""
    modes, device = [(m, m.training) for m in model.modules()], next(model.parameters()).device
    model.eval()
    answer = model(**{key: value.to(device) for key, value in example.items()})
    for module, mode in modes:
        module.training = mode
    return next(_tensors(getattr(answer, "logits", answer)))


def _tensors(answer: Any) -> Iterator[Tensor]:
    if isinstance(answer, Tensor):
        yield answer
    elif isinstance(answer, Mapping):
        answer = answer.values()
    if not isinstance(answer, Tensor):
        for part in answer:
            yield from _tensors(part) if part is not None else ()
