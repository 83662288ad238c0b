"""The model that is asked for: a run, a file of `bench.saving`, a folder or hub name of `transformers`, a factory."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.errors import BadInput
from bench.saving import blank, load
from bench.tying import NotApplicable

ANOTHER_SEED = 1_000_003
"""Added to a run's own seed where a network is made anew."""
ALLOWED = (
    "a run's folder (runs/ID), a file of bench.saving.save, a transformers folder or hub name, "
    "or package.module:function"
)


@dataclass(frozen=True)
class Subject:
    """`trained` makes the model with its weights; `fresh` one of the same kind as it is before training.

    `fresh` raises NotApplicable, with the reason, where the model cannot be made anew.
    """

    name: str
    trained: Callable[[], nn.Module]
    fresh: Callable[[], nn.Module]


def subject(asked: str) -> Subject:
    """Raises BadInput where there is no such model, in one line; what is found may still fail to load, likewise."""
    path = Path(asked)
    if (path / "config.yaml").is_file():
        return _run(path)
    if path.is_file():
        return _saved(path)
    if (path / "config.json").is_file() or not (path.exists() or ":" in asked):
        return _pretrained(asked)
    if ":" in asked and not path.exists():
        return _factory(asked)
    raise BadInput(f"there is no model in {asked}; allowed are {ALLOWED}")


def _run(folder: Path) -> Subject:
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    weights = folder / "best.ckpt"

    def network(seed: int, tied: bool) -> nn.Module:
        from bench import assembly  # Lightning and the data modules: seconds that other subjects need not pay
        from bench.controls import controlled

        sized = controlled({**config, "seed": seed}, shapes := assembly.data_module(config).shapes)[0]
        model = assembly.network(sized, shapes, dropout=0.0)
        if tied:
            assembly.tie(sized, model, assembly.plan_for(sized, model))
        return model

    def trained() -> nn.Module:
        if not weights.is_file():
            raise BadInput(f"{folder} holds no best.ckpt: the run is not done; `make status` says what is")
        model = network(config["seed"], tied=True)
        state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
        inside = {
            key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")
        }
        model.load_state_dict(inside)
        return model

    return Subject(f"run {folder.name}", trained, lambda: network(config["seed"] + ANOTHER_SEED, tied=False))


def _saved(path: Path) -> Subject:
    return Subject(path.name, lambda: load(path)[0], lambda: blank(path))


def _pretrained(asked: str) -> Subject:
    """Of the package's own classes: no code comes from the hub, and nothing is unpickled."""
    import transformers

    from bench.data.hub import hub_answers, offline

    transformers.utils.logging.disable_progress_bar()
    here = Path(asked).exists()
    local = here or offline() or not hub_answers()
    try:
        config = transformers.AutoConfig.from_pretrained(
            asked, trust_remote_code=False, local_files_only=local
        )
    except (OSError, ValueError) as error:
        away = "no such folder here, and the hub does not answer or is not to be asked"
        reason = away if local and not here else _first_line(error)
        raise BadInput(f"there is no model {asked}: {reason}; allowed are {ALLOWED}") from error
    kind = getattr(transformers, (config.architectures or [""])[0], transformers.AutoModel)

    def trained() -> nn.Module:
        try:
            return kind.from_pretrained(
                asked, config=config, dtype="auto", use_safetensors=True, local_files_only=local
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise BadInput(f"the weights of {asked} cannot be loaded: {_first_line(error)}") from error

    def fresh() -> nn.Module:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(config.dtype or dtype)  # a network in float32 would take twice the memory
        try:
            return kind.from_config(config) if kind is transformers.AutoModel else kind(config)
        finally:
            torch.set_default_dtype(dtype)

    return Subject(asked, trained, fresh)


def _factory(asked: str) -> Subject:
    """A function without arguments that returns the trained model."""
    module, _, function = asked.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"cannot import {asked}: {_first_line(error)}; allowed are {ALLOWED}") from error

    def made() -> nn.Module:
        try:
            model = make()
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise BadInput(
                f"{asked}() raised {reason}; it takes no arguments and returns the model"
            ) from error
        if not isinstance(model, nn.Module):
            raise BadInput(f"{asked} returned a {type(model).__name__}; it must return a torch.nn.Module")
        return model

    return Subject(asked, made, lambda: anew(made()))


def anew(model: nn.Module) -> nn.Module:
    """The model as before training, in its place: modules that know how initialise themselves again.

    Raises NotApplicable where parameters are left that no module initialises.
    """
    if config := getattr(model, "config", None):  # of transformers, which initialises from the whole model
        kind = type(model)
        del model
        return kind(config)
    left = {name for name, _ in model.named_parameters()}
    for path, module in model.named_modules():
        again = getattr(module, "reset_parameters", None)
        if callable(again):
            again()
            left -= {f"{path}.{name}" if path else name for name, _ in module.named_parameters()}
    if left:
        raise NotApplicable(
            f"no module initialises {sorted(left)[0]} again: give it a method reset_parameters()"
        )
    return model


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
