"""Load the model that an audit is asked for, and the sample that it reads."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.zoo import NAMES, in_package
from bench.runs.store import BEST
from bench.runs.worker import one_line
from bench.training.init_from_run import weights_of
from bench.tying import NotApplicable
from bench.tying.apply import parameters_by_name
from bench.tying.checkpoint import blank, load
from bench.tying.errors import BadInput
from bench.tying.gate import as_real
from bench.tying.int8 import is_quantised
from bench.tying.recurrent import layers_apart
from bench.tying.similarity import POSITIONS
from bench.tying.structure import joined, modules_by_name, named_parameters, unwrapped
from bench.tying.tie import is_integer

Forwards = Callable[[nn.Module], None]
"""Runs a model over the sample."""
WINDOW, ROWS = 128, 4
"""Tokens of a window of text, and windows of a batch."""
LEAST = {"vocab_size": 2, "hidden_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1}
"""What a config of transformers must say at least; some of its classes make an empty model of less, with warnings."""
ALLOWED_SAMPLES = "a text file, or package.module:function that returns batches"


def validation(config: Mapping[str, Any]) -> Forwards:
    """Return what runs a model over a run's validation split, as `bench.training.init_from_run.sample` says."""
    from bench.training import build  # Lightning and the data modules take seconds
    from bench.training.init_from_run import sample

    return sample(config, build.data_module(config))


def asked_for(sample: str, tokenizer: Callable[[], Any] | None) -> Forwards:
    """Return what runs a model over `--sample`. BadInput for no such file or function, and text without tokenizer."""
    if Path(sample).is_file():
        return _text(Path(sample), tokenizer)
    if ":" not in sample:
        raise BadInput(f"there is no sample {sample}; allowed are {ALLOWED_SAMPLES}")
    batches = _called(_imported(sample, ALLOWED_SAMPLES), sample, "batches")
    is_list = isinstance(batches, list) and bool(batches)
    if not is_list or not all(isinstance(batch, dict | tuple) for batch in batches):
        raise BadInput(
            f"the sample {sample} must return a list of batches, each a dict of keyword arguments or a tuple of "
            "positional ones"
        )

    def forwards(model: nn.Module) -> None:
        for batch in batches:
            if isinstance(batch, dict):
                model(**batch)
            else:
                model(*batch)

    return forwards


def _imported(target: str, allowed: str) -> Callable[[], Any]:
    """Import package.module:function. BadInput where there is none."""
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"cannot import {target}: {one_line(error)}; allowed are {allowed}") from error


def _called(make: Callable[[], Any], target: str, returns: str) -> Any:
    try:
        return make()
    except Exception as error:  # whatever somebody's own function raises
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise BadInput(f"{target}() raised {reason}; it takes no arguments and returns {returns}") from error


def count_in_config(model: nn.Module, key: str) -> int | None:
    """Return a whole number >= 1 of the model's own config; None where it has no such key or another value there."""
    value = getattr(getattr(model, "config", None), key, None)
    return value if is_integer(value) and value > 0 else None


def _text(path: Path, tokenizer: Callable[[], Any] | None) -> Forwards:
    """Return what runs a model over windows of a text: as many first tokens as positions are kept, none special."""
    if tokenizer is None:
        raise BadInput(
            f"the sample {path} is text, and this model has no tokenizer: give package.module:function"
        )
    try:
        text = path.read_text(encoding="utf-8")
        tokens = tokenizer()(text, add_special_tokens=False, verbose=False)["input_ids"]
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise BadInput(
            f"the sample {path} cannot be tokenised: {one_line(error)}; give package.module:function"
        ) from error

    def forwards(model: nn.Module) -> None:
        longest = count_in_config(model, "max_position_embeddings") or WINDOW
        length = min(WINDOW, longest, len(tokens))
        count = min(len(tokens), max(POSITIONS, length)) // length
        for batch in torch.tensor(tokens[: count * length]).view(count, length).split(ROWS):
            model(batch)

    if len(tokens) < 2:
        raise BadInput(f"the sample {path} has {len(tokens)} tokens; give a text of some thousand")
    return forwards


ANOTHER_SEED = 1_000_003
"""Added to a run's own seed where a network is made anew."""
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
)
ALLOWED = (
    "a run's folder (runs/ID), a file of bench.tying.checkpoint.save, a transformers folder or hub name, "
    f"a trained network of a package ({NAMES}), or package.module:function"
)


@dataclass(frozen=True)
class Subject:
    """`trained` makes the model with its weights; `fresh` one of the same kind as it is before training.

    `fresh` raises NotApplicable, with the reason, where the model cannot be made anew. tokenizer: makes that of a
    text model, where it has one. reads: makes what runs it over data of its own, where it has such.
    """

    name: str
    trained: Callable[[], nn.Module]
    fresh: Callable[[], nn.Module]
    tokenizer: Callable[[], Any] | None = None
    reads: Callable[[], Forwards] | None = None

    def forwards(self, sample: str | None) -> Forwards | None:
        """Return what runs it over its own data or the sample; None without. BadInput for both, and a wrong sample."""
        if self.reads is None:
            return None if sample is None else asked_for(sample, self.tokenizer)
        if sample is not None:
            raise BadInput(f"{self.name} reads its own validation split: leave out --sample")
        return self.reads()


def subject(name: str) -> Subject:
    """Find a model by its name. BadInput, in one line, where there is none; what is found may fail to load likewise."""
    path = in_package(name)
    if path is not None:
        return _of_transformers(name, path) if path.is_dir() else voice_encoder(name, path)
    path = Path(name)
    if (path / "config.yaml").is_file():
        return _run(path)
    if path.is_file():
        return _saved(path)
    if (path / "config.json").is_file() or not (path.exists() or ":" in name):
        return _pretrained(name)
    if path.is_dir():
        raise BadInput(
            f"{name} holds no config.json and no config.yaml: model.save_pretrained({name}) writes the former; "
            f"allowed are {ALLOWED}"
        )
    if ":" in name and not path.exists():
        return _factory(name)
    raise BadInput(f"there is no model in {name}; allowed are {ALLOWED}")


def _run(folder: Path) -> Subject:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{folder}/config.yaml is damaged ({one_line(error)}): delete {folder} and run it again"
        ) from error
    weights = folder / BEST

    def network(seed: int, tied: bool) -> nn.Module:
        from bench.training import build  # Lightning and the data modules take seconds

        sized = build.controlled({**config, "seed": seed}, shapes := build.data_module(config).shapes)[0]
        model = build.network(sized, shapes, dropout=0.0)
        if tied:
            build.tie(sized, model, build.plan_for(sized, model))
        return model

    def trained() -> nn.Module:
        if not weights.is_file():
            raise BadInput(f"{folder} holds no {BEST}: the run is not done; `make status` says what is")
        model = network(config["seed"], tied=True)
        try:
            model.load_state_dict(weights_of(weights))
        except Exception as error:  # whatever a damaged file raises
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise BadInput(
                f"{weights} holds no weights of this run ({reason}): delete {folder} and run it again"
            ) from error
        return model

    def fresh() -> nn.Module:
        return network(config["seed"] + ANOTHER_SEED, tied=False)

    return Subject(f"run {folder.name}", trained, fresh, reads=lambda: validation(config))


def _saved(path: Path) -> Subject:
    def trained() -> nn.Module:
        model = load(path)[0]
        if is_quantised(model):
            raise BadInput(
                f"{path} holds int8, which has no cosines to speak of: audit what it was made from"
            )
        return model

    return Subject(path.name, trained, lambda: blank(path), lambda: _tokenizer(str(path.parent), True))


def _pretrained(name: str) -> Subject:
    from bench.data.sources import AWAY, is_away

    if Path(name).exists():
        return _of_transformers(name, name)
    local = is_away()
    return _of_transformers(name, name, local, AWAY if local else None)


def _of_transformers(name: str, place: Path | str, local: bool = True, away: str | None = None) -> Subject:
    """Find a model of the package's own classes. away: why a name of the hub is not there, if it is not."""
    import transformers

    from bench.models.pretrained import class_of, load

    transformers.utils.logging.set_verbosity_error()  # its remarks would stand around an error's one line
    try:
        config = transformers.AutoConfig.from_pretrained(
            place, trust_remote_code=False, local_files_only=local
        )
        kind = class_of(config)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"there is no model {name}: {away or one_line(error)}; allowed are {ALLOWED}"
        ) from error
    except Exception as error:  # whatever a class of transformers raises for a value of another type
        raise BadInput(f"the config.json of {name} cannot be used: {one_line(error)}; restore it") from error
    for key, least in LEAST.items():
        if isinstance(size := getattr(config, key, None), int) and size < least:
            raise BadInput(
                f"the config.json of {name} cannot be used: {key} is {size}, it must be {least} or more; restore it"
            )

    def trained() -> nn.Module:
        try:
            return load(place, config, kind, local)
        except BadInput:
            raise
        except Exception as error:  # as above: some values are read only here
            raise BadInput(
                f"the config.json of {name} makes no model: {one_line(error)}; restore it"
            ) from error

    def fresh() -> nn.Module:
        make = kind.from_config if kind is transformers.AutoModel else kind
        return _in_precision(config.dtype or torch.get_default_dtype(), lambda: make(config))

    return Subject(name, trained, fresh, lambda: _tokenizer(str(place), local))


def voice_encoder(name: str, path: Path) -> Subject:
    """Make the subject of a file with the state of Resemblyzer's encoder, an nn.LSTM of several layers under `lstm`."""

    def fused(state: Mapping[str, Tensor]) -> nn.LSTM:
        gates, channels = state["lstm.weight_ih_l0"].shape
        return nn.LSTM(channels, gates // 4, sum("weight_ih" in key for key in state), batch_first=True)

    def saved() -> dict[str, Tensor]:
        from bench.models.pretrained import load_tensors

        state = load_tensors(path).get("model_state", {})
        if "lstm.weight_ih_l0" not in state:
            raise BadInput(f"{path} holds no lstm.weight_ih_l0, so it is no state of Resemblyzer's encoder")
        return state

    def trained() -> nn.Module:
        lstm = fused(state := saved())
        lstm.load_state_dict({key: state[f"lstm.{key}"] for key in lstm.state_dict()})
        return layers_apart(lstm)

    return Subject(name, trained, lambda: layers_apart(fused(saved())))


def _tokenizer(place: str, local: bool) -> Any:
    """Load the tokenizer that lies there. ValueError or OSError where none does."""
    import transformers

    if Path(place).is_dir() and not any((Path(place) / name).is_file() for name in TOKENIZERS):
        raise ValueError(f"there is no tokenizer in {place}")  # transformers would make an empty one
    return transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=local)


def _factory(target: str) -> Subject:
    """Make the subject of a function without arguments that returns the trained model."""
    make = _imported(target, ALLOWED)

    def trained() -> nn.Module:
        model = _called(make, target, "the model")
        if not isinstance(model, nn.Module):
            raise BadInput(
                f"{target} returned an object of class {type(model).__name__}; it must return a torch.nn.Module"
            )
        return layers_apart(model)

    return Subject(target, trained, lambda: anew(trained()))


SAMPLE, FEW, ALIKE = 4096, 8, 0.99
"""Values that a tensor is known by, so many that correlate by chance, and the correlation from which two are one."""


def sample_of(tensor: Tensor) -> Tensor:
    """Return the first values of a tensor, enough to know it by, in float64 on the CPU."""
    return as_real(tensor.detach()).flatten()[:SAMPLE].double().cpu()


def is_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two samples are of one tensor, which at most was scaled or hardly moved.

    Means are left out: magnitudes, which are all positive, are not one tensor for that.
    """
    if len(one) <= FEW:
        return one.equal(other)
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1]) > ALIKE


def is_constant(tensor: Tensor) -> bool:
    """Tell whether all values are equal, as those that a norm begins with."""
    values = as_real(tensor.detach()).flatten()
    return bool((values == values[:1]).all())


def anew(model: nn.Module) -> nn.Module:
    """Return the model as before training, in its place, or one made anew from the config of `transformers`.

    Modules that know how initialise themselves again. A parameter that keeps its values all the same, as under
    weight_norm and other reparametrisations, and one that no module initialises, gets its own values in random order:
    a draw from their distribution. Raises NotApplicable where all values of such a weight are equal.
    """
    model = unwrapped(model)
    if make := _from_config(model):
        del model
        return make()
    parameters = parameters_by_name(model)
    before = {name: sample_of(parameter) for name, parameter in parameters.items()}
    left = set(parameters)
    for path, module in modules_by_name(model).items():
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            with contextlib.suppress(TypeError):  # one that takes arguments
                again()
                left -= {joined(path, name) for name, _ in named_parameters(module)}
    for name, parameter in parameters.items():
        constant = is_constant(parameter)
        if constant and name in left and parameter.ndim > 1:
            raise NotApplicable(
                f"no module initialises {name} again, all of whose values are equal: give it a method "
                "reset_parameters()"
            )
        if not constant and is_same(before[name], sample_of(parameter)):
            with torch.no_grad():
                values = parameter.flatten()
                parameter.copy_(values[torch.randperm(len(values))].view_as(parameter))
    return model


def _from_config(model: nn.Module) -> Callable[[], nn.Module] | None:
    """Return what makes a model of `transformers` anew, all at once; None for any other, and where it makes another."""
    package = sys.modules.get("transformers")
    if package is None or not isinstance(model, package.PreTrainedModel):
        return None
    kind, config, dtype = type(model), model.config, model.dtype
    try:
        with torch.device("meta"):
            fresh = parameters_by_name(kind(config))
    except Exception:  # whatever the constructor of somebody's own class raises
        return None
    ours = parameters_by_name(model)
    if {name: p.shape for name, p in ours.items()} != {name: p.shape for name, p in fresh.items()}:
        return None
    return lambda: _in_precision(dtype, lambda: kind(config))


def _in_precision(dtype: torch.dtype, make: Callable[[], nn.Module]) -> nn.Module:
    """Make a network in this precision: in float32 one of half precision would take twice the memory."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return make()
    finally:
        torch.set_default_dtype(usual)
