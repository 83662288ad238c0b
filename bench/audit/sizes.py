"""Read from a model, or from the keys of a task, what the map needs to place it; flags say what cannot be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.analysis.points import OF_TEXT, Point, point_of
from bench.audit.load import Subject, subject
from bench.runs import machine
from bench.tying import NotApplicable
from bench.tying.apply import parameters_by_name, weight
from bench.tying.errors import BadInput, spelled_like
from bench.tying.methods import blocks_of
from bench.tying.recurrent import RecurrentLayers
from bench.tying.structure import CONVOLUTIONS, Parts, modules_by_name, parts_of

YOURS = "yours"
"""The corpus of a model whose data is not among those of the bench."""
NETWORKS = ("gru", "transformer", "encoder", "cnn", "lstm")


@dataclass(frozen=True)
class Given:
    """What flags say of a model; None where they do not."""

    tokens: float | None = None
    passes: float | None = None
    vocab: int | None = None
    depth: int | None = None
    width: int | None = None
    network: str | None = None
    dropout: float | None = None
    weight_decay: float | None = None

    def check(self) -> None:
        """Raise BadInput, in one line, for a number that cannot be meant."""
        least = {
            "tokens": 1,
            "passes": 1,
            "vocab": 2,
            "depth": 1,
            "width": 1,
            "dropout": 0,
            "weight_decay": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not low <= value < float("inf"):
                flag = name.replace("_", "-")
                raise BadInput(f"--{flag} is {value:g}; it must be {low} or more{EXAMPLES.get(name, '')}")
        if self.dropout is not None and self.dropout >= 1:
            raise BadInput(f"--dropout is {self.dropout:g}; it must be 0 or more and below 1")
        if self.network is not None and self.network not in NETWORKS:
            raise BadInput(f"--network is {self.network}; allowed are {', '.join(NETWORKS)}")


EXAMPLES = {
    "tokens": ": how many different training tokens (or images) there are, such as 2e8",
    "passes": ": how often training reads them, such as 3",
}


@dataclass(frozen=True)
class Sized:
    """A model with its place: `model` is untied and holds shapes, no numbers need be in it.

    overrides: the keys of a task, with those that flags stand for; config: what the former compose to. None and empty
    for a model.

    ties_itself: whether its input and output embedding are one tensor already.
    """

    name: str
    model: nn.Module
    point: Point
    ties_itself: bool
    overrides: tuple[str, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)


def sized(words: Sequence[str], flags: Given) -> Sized:
    """Read the model that the command line asks for.

    Args:
        words: one MODEL as `bench.audit.load.subject` takes it, or keys of a task such as `task=text_gru`.

    Raises:
        BadInput: no such model or task, a number that cannot be meant, or a size that cannot be read, with its flag.
    """
    flags.check()
    if all("=" in word and not Path(word).exists() for word in words):
        return _of_task(tuple(words), flags)
    if len(words) > 1:
        raise BadInput(
            f"{' '.join(words)}: give one MODEL, or keys of a task such as task=text_gru model.width=128: "
            "`python -m bench.advise --help` lists what is allowed"
        )
    tasks = [path.stem for path in (machine.CONF / "task").glob("*.yaml")]
    if (task := spelled_like(words[0], tasks)) and not Path(words[0]).exists():
        raise BadInput(f"there is no model {words[0]}: did you mean task={task}?")
    return _of_model(subject(words[0]), flags)


def _of_model(maker: Subject, flags: Given) -> Sized:
    model = _shapes_of(maker)
    parts = parts_of(model)
    embedding = None if parts.embedding is None else tuple(weight(model, parts.embedding).shape)
    try:
        depth: int | None = len(blocks_of(model))
    except (NotApplicable, BadInput):
        depth = sum(isinstance(module, nn.RNNBase) for module in modules_by_name(model).values()) or None
    network = flags.network or _network(model, parts)
    if network is None:
        raise BadInput(
            f"what kind of network {maker.name} is cannot be read: give --network {'|'.join(NETWORKS)}"
        )
    if flags.network is None and network in ("gru", "lstm") and embedding and parts.unembedding is None:
        raise BadInput(
            f"{maker.name} reads words and no layer of it has as many outputs: if it is a language model all the same, "
            f"say --network {network}; of classifiers the map has encoder and cnn"
        )
    is_text = network in (*OF_TEXT, "lstm")
    sizes: dict[str, int | None] = {
        "vocab": flags.vocab or (embedding[0] if embedding else None) if is_text else 0,
        "depth": flags.depth or depth,
        "width": flags.width or (embedding[-1] if embedding else _channels(model)),
    }
    if missing := [name for name, value in sizes.items() if value is None]:
        words = {"vocab": "vocabulary"}
        names = " and ".join(f"the {words.get(name, name)}" for name in missing)
        options = " and ".join(f"--{name}" for name in missing)
        raise BadInput(f"{names} of {maker.name} cannot be read: give {options}")
    if flags.tokens is None:
        raise BadInput(
            f"how much data {maker.name} is trained on cannot be read: give --tokens, such as --tokens 2e8"
        )
    dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    dropouts += [
        module.dropout for module in model.modules() if isinstance(module, nn.RNNBase | RecurrentLayers)
    ]
    point = Point(
        network=network,
        corpus=YOURS,
        vocabulary=int(sizes["vocab"]),
        width=int(sizes["width"]),
        depth=int(sizes["depth"]),
        tokens=int(flags.tokens),
        passes=float(flags.passes or 1),
        dropout=max(dropouts, default=0.0) if flags.dropout is None else flags.dropout,
        weight_decay=flags.weight_decay or 0.0,
        parameters=untied_params(model),
    )
    parameters, ends = parameters_by_name(model), (parts.embedding, parts.unembedding)
    ties_itself = None not in ends and parameters.get(ends[0]) is parameters.get(ends[1])
    return Sized(maker.name, model, point, ties_itself)


def _shapes_of(maker: Subject) -> nn.Module:
    """Make the model without its numbers where its maker can do that, else with them."""
    try:
        with torch.device("meta"):
            return maker.fresh()
    except BadInput:
        raise
    except Exception:  # somebody's own function need not work without numbers
        return maker.trained()


def untied_params(model: nn.Module) -> int:
    """Count the elements of the parameters under each of their names: those of the model with nothing shared."""
    return sum(parameter.numel() for parameter in parameters_by_name(model).values())


def _network(model: nn.Module, parts: Parts) -> str | None:
    """Return the kind of network by its modules and the roles of its weights; None where nothing tells."""
    modules = modules_by_name(model).values()
    if any(isinstance(module, nn.LSTM | nn.LSTMCell) for module in modules):
        return "lstm"
    if any(isinstance(module, nn.GRU | nn.GRUCell) for module in modules):
        return "gru"
    roles = {parts.role(name) for name in parameters_by_name(model)}
    if "attention" in roles:
        return "transformer" if parts.unembedding else "encoder"
    return "cnn" if any(isinstance(module, CONVOLUTIONS) for module in modules) else None


def _channels(model: nn.Module) -> int | None:
    """Return the output channels of the first convolution; None without one."""
    convolutions = (module for module in modules_by_name(model).values() if isinstance(module, CONVOLUTIONS))
    return next((module.out_channels for module in convolutions), None)


def _of_task(overrides: tuple[str, ...], flags: Given) -> Sized:
    """Compose a run from its keys, prepare its data, and build its network without numbers."""
    from bench.training import build  # Lightning and the data modules: seconds that other models need not pay

    config = _composed(overrides)
    shapes = build.data_module(config).shapes
    with torch.device("meta"):
        model = build.network(config, shapes, dropout=0.0)
    record = {
        "config": config,
        "data_meta": config["data"]["meta"],
        "num_params_untied": untied_params(model),
    }
    point = point_of(record, shapes.get("vocab_size"))
    if point is None:
        raise BadInput(
            f"{' '.join(overrides)}: the map has language models and classifiers, and this is neither"
        )
    keys = {"tokens": "data.train_limit", "passes": "trainer.max_epochs"}
    changes: dict[str, Any] = {
        "tokens": None if flags.tokens is None else int(flags.tokens),
        "passes": flags.passes,
        "dropout": flags.dropout,
        "weight_decay": flags.weight_decay,
    }
    if sizes := [name for name in ("vocab", "depth", "width", "network") if getattr(flags, name) is not None]:
        raise BadInput(
            f"--{sizes[0]} is of a MODEL; of a task give its key, such as model.depth or data.vocab_size"
        )
    changed = {name: value for name, value in changes.items() if value is not None}
    also = tuple(f"{keys.get(name, name)}={round(v) if name in keys else v}" for name, v in changed.items())
    return Sized(" ".join(overrides), model, replace(point, **changed), False, (*overrides, *also), config)


def _composed(overrides: Sequence[str]) -> Mapping[str, Any]:
    """Return the checked config of a run of these keys. BadInput in one line for keys that Hydra does not take."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from bench.config.refusals import of_hydra
    from bench.config.run_config import from_hydra

    try:
        with initialize_config_dir(str(machine.CONF), version_base="1.3"):
            composed = compose("config", list(overrides))
        return from_hydra(composed).config
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(f"{' '.join(overrides)} is no task: {of_hydra(error, overrides)}") from error
