"""How a model of `transformers` is described in a file, so that it can be built again from the package alone."""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from bench.tying import HARD, Tie, TyingPlan
from bench.tying.apply import INT8, SCALE, is_factor, parameters_by_name
from bench.tying.errors import BadInput
from bench.tying.gate import check_in_memory
from bench.tying.int8 import is_quantised, quantize, stored_plan
from bench.tying.proof import answer, does_not_run, tensors_in
from bench.tying.structure import copied, joined, modules_by_name, plain_name, unwrapped
from bench.tying.tie import closure
from bench.tying.view import View

TIES_ENDS = "tie_word_embeddings"


def description(model: nn.Module, plan: TyingPlan) -> tuple[dict[str, Any] | None, str]:
    """Class and config of a model of the `transformers` package; None, and the reason, where none makes it again.

    A model whose output matrix was tied or untied by hand is described as it is. The reason is empty for models of
    other packages, of which nobody expects it.
    """
    inner = unwrapped(model)
    kind = type(inner)
    if kind.__module__.partition(".")[0] != "transformers":
        return None, ""
    package = sys.modules["transformers"]
    if not isinstance(inner, package.PreTrainedModel) or getattr(package, kind.__name__, None) is not kind:
        return None, f"{kind.__name__} is a part of a model, which transformers does not build by itself"
    config = inner.config.to_dict()
    ours, reason = _fingerprint(model, plan), ""
    for tied in (config.get(TIES_ENDS), not config.get(TIES_ENDS)):
        described = {"transformers": kind.__name__, "config": config | {TIES_ENDS: tied}}
        if TIES_ENDS not in config:
            del described["config"][TIES_ENDS]
        try:
            described = json.loads(json.dumps(described))
            with torch.device("meta"):
                theirs = _fingerprint(built(described), plan)
        except Exception as error:  # whatever a config's own code raises
            reason = (
                reason
                or " ".join(f"its config does not make it: {type(error).__name__}: {error}".split())[:200]
            )
            continue
        if ours == theirs:
            return described, ""
        differing = sorted(_differing(ours, theirs)) or ["its ties"]
        reason = reason or f"it is not as its config makes it ({differing[0]})"
    return None, reason


def built(described: Mapping[str, Any]) -> nn.Module:
    """The model of a description, with random weights. ValueError, in one line, where its class is not known."""
    import transformers  # seconds, and only here

    kind = getattr(transformers, str(described.get("transformers")), None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise ValueError(f"asks for the class {described.get('transformers')!r}, which transformers lacks")
    config = dict(described["config"])
    with torch.random.fork_rng(devices=[]):  # its first weights are replaced at once
        return kind(transformers.AutoConfig.for_model(config.pop("model_type"), **config))


Fingerprint = tuple[dict[str, tuple[int, ...]], set[frozenset[str]]]


def _fingerprint(model: nn.Module, plan: TyingPlan) -> Fingerprint:
    """Names and shapes of the model's state, and which names are one tensor once the plan is applied.

    Of int8 weights and of differences the names that they were made of.
    """
    parameters = parameters_by_name(model)
    shapes, names = {}, {}
    for name, tensor in names_of(model).items():
        if name in parameters and is_factor(name, parameters):
            continue
        if name.endswith(SCALE) and name.removesuffix(SCALE) + INT8 in parameters:
            continue
        float_name = name.removesuffix(INT8) if name in parameters else name
        shapes[float_name] = parameters.shape(name) if name in parameters else tuple(tensor.shape)
        names.setdefault(id(tensor), set()).add(float_name)
    hard = (tie.names for tie in plan.ties if tie.is_hard)
    return shapes, {frozenset(group) for group in closure([*names.values(), *hard]) if len(group) > 1}


def _differing(ours: Fingerprint, theirs: Fingerprint) -> set[str]:
    return {name for name, _ in ours[0].items() ^ theirs[0].items()}


FORMAT = "tying-bench 1"
READS, OUTPUT = "example/reads/", "example/output"
"""Where the example lies in the file; no parameter's name has a slash."""

Example = Mapping[str, Tensor]


def names_of(model: nn.Module) -> dict[str, Tensor]:
    """Every plain name of every parameter and persistent buffer. BadInput where there is more to the model's state."""
    names: dict[str, Tensor] = dict(parameters_by_name(model))
    for path, module in modules_by_name(model).items():
        for leaf, buffer in module._buffers.items():
            if buffer is not None and leaf not in module._non_persistent_buffers_set:
                names[plain_name(joined(path, leaf))] = buffer
    inner = unwrapped(model)
    known = {*names, *(name for name, _ in inner.named_parameters(remove_duplicate=False))}
    known |= {name for name, _ in inner.named_buffers(remove_duplicate=False)}
    for name, value in inner.state_dict().items():
        if not isinstance(value, Tensor):
            raise BadInput(f"the state {name} is no tensor: such a model cannot be kept in safetensors")
        if name not in known and plain_name(name) not in known:
            raise BadInput(
                f"the state {name} is no parameter and no buffer (extra state of its module): such a model cannot be "
                "kept here"
            )
    return names


def check_storable(names: Mapping[str, Tensor]) -> None:
    """BadInput where a tensor cannot be written, or two parameters lie in the same memory without being one."""
    check_in_memory(names, "to be saved")
    for kind, name in {tensor.dtype: name for name, tensor in names.items()}.items():
        try:
            safetensors.torch.save({"": torch.empty(0, dtype=kind)})
        except (KeyError, ValueError, safetensors.SafetensorError) as error:
            shown = str(kind).removeprefix("torch.")
            raise BadInput(
                f"{name} holds {shown}, which safetensors cannot keep: convert it before"
            ) from error
    parameters = {name: tensor for name, tensor in names.items() if isinstance(tensor, nn.Parameter)}
    by_storage: dict[int, dict[int, str]] = {}
    for name, tensor in parameters.items():
        others = by_storage.setdefault(tensor.untyped_storage()._cdata, {})
        if id(tensor) not in others and tensor.numel():
            for other in others.values():
                if _overlap(tensor, parameters[other]):
                    raise BadInput(
                        f"{other} and {name} are two parameters that lie in the same memory, a tie that "
                        "neither an optimizer nor a file sees: make them one Parameter (a plan does), or give each "
                        "its own memory"
                    )
            others[id(tensor)] = name


def check_example(example: Example) -> None:
    """BadInput for what is no mapping of keyword arguments to tensors: nothing else can be kept in the file."""
    if not isinstance(example, Mapping):
        raise BadInput(
            f"the example is a {type(example).__name__}; give keyword arguments of the model, as a dictionary"
        )
    for key, value in example.items():
        if not isinstance(key, str):
            raise BadInput(f"the example has {key!r} for a name; give keyword arguments of the model")
        if not isinstance(value, Tensor):
            raise BadInput(f"the example has {key} = {value!r}; it can hold tensors alone")


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one storage have an element in common."""
    if one.dtype != other.dtype:
        return True
    taken = torch.zeros(one.untyped_storage().nbytes() // one.element_size(), dtype=torch.bool)
    taken.as_strided(one.shape, one.stride(), one.storage_offset()).fill_(True)
    return bool(taken.as_strided(other.shape, other.stride(), other.storage_offset()).any())


def stored_as(names: Mapping[str, Tensor]) -> dict[str, str]:
    """Each name -> the first name of its tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in names.items()}


def plain(tensor: Tensor) -> Tensor:
    """On the CPU, with memory of its own: what lies in a larger one, or in that of another, cannot be stored."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def each_alone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`plain` of each, and none in the memory of another, as views that are buffers may be."""
    alone: dict[str, Tensor] = {}
    used: set[int] = set()
    for name, tensor in tensors.items():
        alone[name] = plain(tensor)
        if alone[name].untyped_storage()._cdata in used:
            alone[name] = alone[name].clone()
        used.add(alone[name].untyped_storage()._cdata)
    return alone


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Of what is said of the model, and of the tensors' names, dtypes, shapes and bytes."""
    sha256 = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()


def as_data(tie: Tie) -> dict[str, Any]:
    strength = "hard" if tie.is_hard else tie.strength
    views = [[view.shape, view.steps, *([True] if view.mapped else [])] for view in tie.views]
    data = {"names": tie.names, "strength": strength, "blocks": tie.blocks, "rank": tie.rank}
    return data | ({"views": views} if views else {})


def from_data(entry: Mapping[str, Any]) -> Tie:
    strength = HARD if entry["strength"] == "hard" else entry["strength"]
    views = tuple(View(*view) for view in entry.get("views", ()))
    return Tie(tuple(entry["names"]), strength, tuple(entry["blocks"]), entry.get("rank", 0), views)


def answer_of(model: nn.Module, example: Example) -> Tensor:
    """The logits, or else the first tensor, of what the model answers without dropout and under one seed.

    Raises BadInput where it cannot read the example, or answers it with no tensor.
    """
    try:
        answered = answer(model, example)
    except Exception as error:
        raise does_not_run(error, "give keyword arguments that it reads") from error
    first = next(tensors_in(getattr(answered, "logits", answered)), None)
    if first is None:
        raise BadInput("the model answers the example with no tensor: leave the example out")
    check_in_memory({"the answer to the example": first}, "to be kept")
    return first


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
    whole = file.whole
    model = _built(path, file.model, whole) if model is None else model
    check_in_memory(names_of(model), f"to take what {path} holds")
    # What a quantised model, or one that views make weights of, will hold is known once there is one.
    is_made = file.is_quantised or any(tie.is_hard and tie.views for tie in file.plan.ties)
    like = _prepared(file, copied(model)) if is_made else model
    _check_fits(path, whole, names_of(like), {} if is_made else file.plan.differences(like))
    _check_shares(path, file, names_of(like))
    names = names_of(_prepared(file, model))
    with torch.no_grad():
        for name, tensor in file.tensors.items():
            names[name].copy_(tensor)
    file.plan.verify(model)
    if file.output is not None:
        _check_answer(path, file.output, answer_of(model, file.reads))
    return model, file.plan


def check(file: str | Path, path: Path, model: nn.Module) -> None:
    """BadInput where `file`, which is to be `path`, would not be loaded again into the model that it was made of."""
    kept = _read(Path(file))
    _check_fits(path, kept.whole, names_of(model), {})
    _check_shares(path, kept, names_of(model))
    if kept.output is None:
        return
    try:
        _check_answer(path, kept.output, answer_of(model, kept.reads))
    except BadInput as error:
        raise BadInput(
            "the model answers the example in two ways, with random numbers or a state that are not torch's: leave "
            "the example out"
        ) from error


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
    def whole(self) -> dict[str, Tensor]:
        """Every name with its tensor, a shared one under each of its names."""
        return self.tensors | {name: self.tensors[first] for name, first in self.shared.items()}

    @property
    def stored_plan(self) -> TyingPlan:
        """Under the names of the tensors in the file."""
        return stored_plan(self.plan, {**self.tensors, **self.shared})


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
        file_format = metadata.get("format", "none")
        raise BadInput(
            f"{path} has the format {file_format!r}, not {FORMAT!r}: only bench.tying.checkpoint.save writes a "
            "plan along"
        )
    hashed_metadata = {key: value for key, value in metadata.items() if key != "sha256"}
    if digest(tensors, hashed_metadata) != metadata.get("sha256"):
        raise BadInput(f"{path} holds something else than was saved: it was changed or damaged since")
    try:
        plan = TyingPlan(tuple(from_data(entry) for entry in json.loads(metadata["plan"])))
        shared, model = json.loads(metadata["shared"]), json.loads(metadata["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} has metadata that cannot be read: {type(error).__name__}: {error}") from error
    # Older files have a wrapper's part in them.
    tensors = {plain_name(name): tensor for name, tensor in tensors.items()}
    shared = {plain_name(name): plain_name(first) for name, first in shared.items()}
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
            first, second = sorted(stored)[:2]
            raise BadInput(
                f"{path} holds {first} and {second} as two tensors, which its plan ties: it was saved untied; "
                "apply the plan and save again"
            )


def _check_fits(
    path: Path, whole: Mapping[str, Tensor], names: Mapping[str, Tensor], new: Mapping[str, tuple[int, int]]
) -> None:
    """new: what the plan will add to the model, with its shape."""
    known = names.keys() | new.keys()
    for verb, lost in (("lacks", known - whole.keys()), ("has", whole.keys() - known)):
        if lost:
            other = "the model has" if verb == "lacks" else "the model lacks"
            raise BadInput(
                f"{path} {verb} {sorted(lost)[0]}, which {other} ({len(lost)} such names): give the model it was "
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
                f"{path} holds {stored[0]} and {stored[1]} as two tensors, and the model shares them by itself: give "
                "one that does not (of transformers with tie_word_embeddings=False)"
            )
        if apart := [name for name, first in file.shared.items() if first in group and name not in group]:
            raise BadInput(
                f"{path} holds {apart[0]} and {file.shared[apart[0]]} as one tensor, and the model does not share "
                "them: give the model it was saved from"
            )


def _check_answer(path: Path, saved: Tensor, now: Tensor) -> None:
    relative, absolute = _CLOSE.get(
        saved.dtype.to_real() if saved.is_complex() else saved.dtype, (2e-2, 1e-2)
    )
    now = now.to(saved.device)
    if saved.dtype == now.dtype == torch.bool:
        saved, now = saved.byte(), now.byte()
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
    try:
        model = built(described)
    except ValueError as error:
        raise BadInput(f"{path} {error}") from error
    for name, parameter in names_of(model).items():
        held = whole.get(name, whole.get(name + SCALE))  # of a quantised weight the scale tells it
        if held is not None:
            parameter.data = parameter.data.to(held.dtype)
    return model.eval()


def save(model: nn.Module, plan: TyingPlan, path: str | Path, example: Example | None = None) -> None:
    """Write the model, which `plan` was applied to, to `path`: all of it or nothing. It may be quantised since.

    What was written is read and checked as `load` does before it takes the place of an older file.
    example: keyword arguments of `model`, kept in the file with what it answers, which `load` compares. It is asked
    without dropout and under one seed.
    Raises BadInput where a tie of the plan is not one tensor in the model, where the model's state cannot be kept,
    where two answers to the example differ, and where `path` cannot be written. Warns, in one line, where a model of
    `transformers` is saved that `load` cannot build, so that it must be given: load(path, model).
    """
    path, names = Path(path), names_of(model)
    if not isinstance(plan, TyingPlan):
        raise BadInput(
            f"the plan is a {type(plan).__name__}: give the one that was applied, or TyingPlan() where nothing is tied"
        )
    try:
        plan.verify(model)
    except RuntimeError as error:
        raise BadInput(f"{error}: apply the plan before the model is saved") from error
    check_storable(names)
    if example is not None:
        check_example(example)
    stored = stored_as(names)
    tensors = each_alone({name: names[name] for name in dict.fromkeys(stored.values())})
    if example is not None:
        tensors |= {READS + key: plain(value).clone() for key, value in example.items()}
        tensors[OUTPUT] = plain(answer_of(model, example)).clone()
    described, why_not = description(model, plan)
    metadata = {
        "format": FORMAT,
        "plan": json.dumps([as_data(tie) for tie in plan.ties]),
        "shared": json.dumps({name: first for name, first in stored.items() if name != first}),
        "model": json.dumps(described),
    }
    if is_quantised(model):
        metadata["quantised"] = "int8"
    metadata["sha256"] = digest(tensors, metadata)
    with _written_whole(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)
        check(temporary, path, model)
    if why_not:
        warnings.warn(f"{path} must be read as load(path, model): {why_not}", stacklevel=2)


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes `path` at the end, whole, and only if nothing was raised.

    Where `path` is a link, what it leads to is written. A device, in whose place the file would come, is refused.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise BadInput(f"cannot write {path}: it is there and is no file; choose another path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            temporary = Path(scratch) / path.name
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except (OSError, safetensors.SafetensorError) as error:
        raise BadInput(
            f"cannot write {path}: {error}; choose a folder that you may write to, with space left"
        ) from error
