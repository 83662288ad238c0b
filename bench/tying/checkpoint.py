"""What the file is made of: names, which of them are one tensor, a digest, a plan as data, the model's answer."""

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from bench.tying import HARD, Tie, TyingPlan
from bench.tying.errors import BadInput
from bench.tying.int8 import SCALE, is_quantised, quantize, stored_plan
from bench.tying.structure import plain_name
from bench.tying.tie import closure

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


_CLOSE = {torch.float64: (1e-7, 1e-9), torch.float32: (1e-3, 1e-4)}
"""(rtol, atol) of outputs on another machine; of less precise numbers 2e-2 and 1e-2."""


def load(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, TyingPlan]:
    """The model in the file, tied again, and its plan.

    model: a network of the same architecture, tied or not, which takes the weights; without one, a model of
        `transformers` is built from its config (of the package itself: no code comes with the file).
    A quantised file makes a quantised model (`bench.tying.int8`), and takes one that is not yet.
    Every hard tie is checked to be one tensor, and the example, where there is one, to be answered as it was.
    Raises BadInput, in one line and before `model` is changed, for a file that is truncated, no file of `save`, changed
    since, holds a tie as several tensors, or does not fit the model; and after it, where the answers differ.
    """
    path = Path(path)
    file = _read(path)
    whole = {name: file.tensors[file.shared.get(name, name)] for name in [*file.tensors, *file.shared]}
    model = _built(path, file.model, whole) if model is None else model
    # What a quantised model will hold is known once there is one.
    like = _prepared(file, copy.deepcopy(model)) if file.is_quantised else model
    _check_fits(path, whole, names_of(like), {} if file.is_quantised else file.plan.differences(like))
    _check_shares(path, file, names_of(like))
    names = names_of(_prepared(file, model))
    with torch.no_grad():
        for name, tensor in file.tensors.items():
            names[name].copy_(tensor)
    file.stored_plan.verify(model)
    if file.output is not None:
        _check_answer(path, file.output, answer_of(model, file.reads))
    return model, file.plan


def blank(path: str | Path) -> nn.Module:
    """A model of the file's architecture before training, from the random numbers of now; BadInput as `load`."""
    path = Path(path)
    return _built(path, _read(path).model, {})


@dataclass(frozen=True)
class _File:
    tensors: dict[str, Tensor]
    shared: dict[str, str]
    plan: TyingPlan
    model: dict[str, Any] | None
    reads: dict[str, Tensor]
    output: Tensor | None
    is_quantised: bool

    @property
    def stored_plan(self) -> TyingPlan:
        """Under the names of the tensors in the file."""
        return stored_plan(self.plan, {*self.tensors, *self.shared})


def _prepared(file: _File, model: nn.Module) -> nn.Module:
    """The model in place, with the file's plan applied, and quantised as the file is."""
    file.plan.apply(model)
    return quantize(model) if file.is_quantised else model


def _read(path: Path) -> _File:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except OSError as error:
        raise BadInput(
            f"cannot read {path}: {error.strerror or error}; give a file of bench.tying.checkpoint.save"
        ) from error
    except safetensors.SafetensorError as error:
        raise BadInput(
            f"{path} is no whole safetensors file ({error}): it was cut short or damaged"
        ) from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise BadInput(
            f"{path} has the format {found!r}, not {FORMAT!r}: only bench.tying.checkpoint.save writes a plan along"
        )
    said = {key: value for key, value in metadata.items() if key != "sha256"}
    if digest(tensors, said) != metadata.get("sha256"):
        raise BadInput(f"{path} holds something else than was saved: it was changed or damaged since")
    try:
        plan = TyingPlan(tuple(from_data(entry) for entry in json.loads(metadata["plan"])))
        shared, model = json.loads(metadata["shared"]), json.loads(metadata["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} has metadata that cannot be read: {type(error).__name__}: {error}") from error
    reads = {key.removeprefix(READS): tensors.pop(key) for key in list(tensors) if key.startswith(READS)}
    output = tensors.pop(OUTPUT, None)
    if (kind := metadata.get("quantised")) not in (None, "int8"):
        raise BadInput(f"{path} is quantised to {kind!r}: only int8 is known here")
    file = _File(tensors, shared, plan, model, reads, output, kind is not None)
    _check_ties(path, file.stored_plan, shared, tensors)
    return file


def _check_ties(
    path: Path, plan: TyingPlan, shared: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> None:
    """Each name leads to a tensor, and all names of a hard tie to one."""
    if lost := sorted(set(shared.values()) - set(tensors)):
        raise BadInput(f"{path} lacks the tensor {lost[0]}, which other names share: it was changed since")
    for tie in plan.ties:
        stored = {shared.get(name, name) for name in tie.names}
        if lost := sorted(stored - set(tensors)):
            raise BadInput(f"{path} lacks the tensor {lost[0]}, which its plan ties: it was changed since")
        if tie.is_hard and len(stored) > 1:
            one, two = sorted(stored)[:2]
            raise BadInput(
                f"{path} holds {one} and {two} as two tensors, which its plan ties: it was saved untied; apply "
                "the plan and save again"
            )


def _check_fits(
    path: Path, whole: Mapping[str, Tensor], names: Mapping[str, Tensor], new: Mapping[str, tuple[int, int]]
) -> None:
    """new: what the plan will add to the model, with its shape."""
    known = names.keys() | new.keys()
    for what, lost in (("lacks", known - whole.keys()), ("has", whole.keys() - known)):
        if lost:
            other = "the model has" if what == "lacks" else "the model lacks"
            raise BadInput(
                f"{path} {what} {sorted(lost)[0]}, which {other} ({len(lost)} such names): give the model it was "
                "saved from, built with the same sizes"
            )
    for name, tensor in whole.items():
        for kind, ours, theirs in (
            ("shape", tuple(tensor.shape), new[name] if name in new else tuple(names[name].shape)),
            ("dtype", tensor.dtype, tensor.dtype if name in new else names[name].dtype),
        ):
            if ours != theirs:
                raise BadInput(f"{path} holds {name} with {kind} {ours}, the model has it with {theirs}")


def _check_shares(path: Path, file: _File, names: Mapping[str, Tensor]) -> None:
    """What is one tensor in the file is one in the model once the plan is applied, and nothing else is."""
    own: dict[int, set[str]] = {}
    for name, tensor in names.items():
        own.setdefault(id(tensor), set()).add(name)
    for group in closure([*own.values(), *(tie.names for tie in file.stored_plan.ties if tie.is_hard)]):
        if len(stored := sorted({file.shared.get(name, name) for name in group})) > 1:
            raise BadInput(
                f"{path} holds {stored[0]} and {stored[1]} as two tensors, and the model shares them by itself"
            )
        if apart := [name for name, first in file.shared.items() if first in group and name not in group]:
            raise BadInput(
                f"{path} holds {apart[0]} and {file.shared[apart[0]]} as one tensor, and the model does not share "
                "them: give the model it was saved from"
            )


def _check_answer(path: Path, saved: Tensor, now: Tensor) -> None:
    relative, absolute = _CLOSE.get(saved.dtype, (2e-2, 1e-2))
    now = now.to(saved.device)
    if saved.shape != now.shape or not torch.allclose(
        now, saved, rtol=relative, atol=absolute, equal_nan=True
    ):
        apart = (
            f"{(now - saved).abs().max():.3g}" if saved.shape == now.shape else f"shape {tuple(now.shape)}"
        )
        raise BadInput(
            f"the model of {path} answers its example otherwise than when it was saved (largest difference "
            f"{apart}): its code or its config is another"
        )


def _built(path: Path, described: Mapping[str, Any] | None, whole: Mapping[str, Tensor]) -> nn.Module:
    if described is None:
        raise BadInput(f"{path} does not say how its model is built: give it, as load(path, model)")
    import transformers  # seconds, and only here

    found = getattr(transformers, str(described.get("transformers")), None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise BadInput(
            f"{path} asks for the class {described.get('transformers')!r}, which transformers lacks"
        )
    config = dict(described["config"])
    with torch.random.fork_rng(devices=[]):  # its first weights are replaced at once
        model = found(transformers.AutoConfig.for_model(config.pop("model_type"), **config))
    for name, parameter in names_of(model).items():
        held = whole.get(name, whole.get(name + SCALE))  # of a quantised weight the scale tells it
        if held is not None:
            parameter.data = parameter.data.to(held.dtype)
    return model.eval()


def save(model: nn.Module, plan: TyingPlan, path: str | Path, example: Example | None = None) -> None:
    """Write the model, which `plan` was applied to, to `path`: all of it or nothing. It may be quantised since.

    example: keyword arguments of `model`, kept in the file with what it answers, which `load` compares.
    Raises BadInput where a tie of the plan is not one tensor in the model, and where `path` cannot be written.
    """
    path, names = Path(path), names_of(model)
    try:
        stored_plan(plan, names).verify(model)
    except RuntimeError as error:
        raise BadInput(f"{error}: apply the plan before the model is saved") from error
    stored = stored_as(names)
    tensors = {name: plain(names[name]) for name in dict.fromkeys(stored.values())}
    if example is not None:
        tensors |= {READS + key: plain(value) for key, value in example.items()}
        tensors[OUTPUT] = plain(answer_of(model, example))
    metadata = {
        "format": FORMAT,
        "plan": json.dumps([as_data(tie) for tie in plan.ties]),
        "shared": json.dumps({name: first for name, first in stored.items() if name != first}),
        "model": json.dumps(_description(model)),
    }
    if is_quantised(model):
        metadata["quantised"] = "int8"
    metadata["sha256"] = digest(tensors, metadata)
    _write_whole(path, tensors, metadata)


def _description(model: nn.Module) -> dict[str, Any] | None:
    """Class and config of a model of the `transformers` package; None of any other."""
    if type(model).__module__.partition(".")[0] != "transformers":
        return None
    return {"transformers": type(model).__name__, "config": model.config.to_dict()}


def _write_whole(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write beside `path` first, so that `path` holds what it held before or the whole new file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            temporary = Path(scratch) / path.name
            safetensors.torch.save_file(tensors, temporary, metadata)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise BadInput(
            f"cannot write {path}: {error}; choose a folder that you may write to, with space left"
        ) from error
