"""Read from a model, or from the keys of a task, what the map needs to place it; flags say what cannot be read."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.analysis.points import OF_TEXT, Point, point_of
from bench.audit.load import LEAST, Subject, subject
from bench.models.own import OwnLanguageModel
from bench.runs import machine
from bench.runs.worker import one_line
from bench.tying import NotApplicable
from bench.tying.apply import parameters_by_name, weight
from bench.tying.errors import BadInput, spelled_like
from bench.tying.methods import blocks_of
from bench.tying.mixture import NAME as EXPERTS
from bench.tying.recurrent import RecurrentLayers
from bench.tying.structure import CONVOLUTIONS, Parts, modules_by_name, parts_of

YOURS = "yours"
"""The corpus of a model whose data is not among those of the bench."""
WITH_WORDS = (*OF_TEXT, "lstm", "masked-transformer", "encoder-decoder", "mixture-of-experts", "hybrid")
"""Kinds of network whose vocabulary counts, as they predict words."""
NETWORKS = (*WITH_WORDS, "encoder", "cnn")


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
            "vocab": LEAST["vocab_size"],
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

    overrides: the keys of a task, with those that flags stand for; configs: its folder of further choices; config: what
    they compose to. None and empty for a model.

    ties_itself: whether its input and output embedding are one tensor already.
    """

    name: str
    model: nn.Module
    point: Point
    ties_itself: bool
    overrides: tuple[str, ...] | None = None
    configs: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)


def sized(words: Sequence[str], flags: Given, configs: str | None = None) -> Sized:
    """Read the model that the command line asks for.

    Args:
        words: one MODEL as `bench.audit.load.subject` takes it, or keys of a task such as `task=text_gru`.
        configs: a folder with choices of the user's own, such as `model/mine.yaml`, for keys of a task.

    Raises:
        BadInput: no such model, task or folder, a number that cannot be meant, or a size that cannot be read, with its
            flag.
    """
    flags.check()
    if all("=" in word and not Path(word).exists() for word in words):
        return _of_task(tuple(words), flags, configs)
    if configs is not None:
        raise BadInput(
            f"--config-dir is for keys of a task, such as task=text_gru model=mine; {words[0]} is a MODEL"
        )
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
    model = _with_head(_shapes_of(maker))
    parts = parts_of(model)
    read = _read(maker.name, model, parts, flags)
    if flags.tokens is None:
        raise BadInput(
            f"how much data {maker.name} is trained on cannot be read: give --tokens, such as --tokens 2e8"
        )
    dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    dropouts += [
        module.dropout for module in model.modules() if isinstance(module, nn.RNNBase | RecurrentLayers)
    ]
    point = Point(
        **read,
        corpus=YOURS,
        tokens=int(flags.tokens),
        passes=float(flags.passes or 1),
        dropout=max(dropouts, default=0.0) if flags.dropout is None else flags.dropout,
        weight_decay=flags.weight_decay or 0.0,
        parameters=untied_params(model),
    )
    parameters, ends = parameters_by_name(model), (parts.embedding, parts.unembedding)
    ties_itself = None not in ends and parameters.get(ends[0]) is parameters.get(ends[1])
    return Sized(maker.name, model, point, ties_itself)


def _read(name: str, model: nn.Module, parts: Parts, flags: Given) -> dict[str, Any]:
    """Return the network, vocabulary, width and depth of a model that is not the bench's; flags come first.

    Raises:
        BadInput: one of them can neither be read nor is given.
    """
    embedding = None if parts.embedding is None else tuple(weight(model, parts.embedding).shape)
    try:
        depth: int | None = len(blocks_of(model))
    except (NotApplicable, BadInput):
        depth = sum(isinstance(module, nn.RNNBase) for module in modules_by_name(model).values()) or None
    network = flags.network or _network(model, parts)
    if network is None:
        raise BadInput(f"what kind of network {name} is cannot be read: give --network {'|'.join(NETWORKS)}")
    if (
        flags.network is None
        and embedding
        and parts.unembedding is None
        and _may_predict(model, parts, network)
    ):
        raise BadInput(
            f"{name} reads words and no layer of it has as many outputs: if it is a language model all the same, "
            f"say --network {'transformer' if network == 'encoder' else network}; of classifiers the map has encoder "
            "and cnn"
        )
    if network in WITH_WORDS and embedding and embedding[0] < (least := LEAST["vocab_size"]):
        raise BadInput(f"the embedding of {name} has {embedding[0]} words; it must have {least} or more")
    sizes: dict[str, int | None] = {
        "vocab": flags.vocab or (embedding[0] if embedding else None) if network in WITH_WORDS else 0,
        "depth": flags.depth or depth,
        "width": flags.width or (embedding[-1] if embedding else _channels(model)),
    }
    if missing := [size for size, value in sizes.items() if value is None]:
        words = {"vocab": "vocabulary"}
        names = " and ".join(f"the {words.get(size, size)}" for size in missing)
        options = " and ".join(f"--{size}" for size in missing)
        raise BadInput(f"{names} of {name} cannot be read: give {options}")
    return {
        "network": network,
        "vocabulary": sizes["vocab"],
        "depth": sizes["depth"],
        "width": sizes["width"],
    }


def _may_predict(model: nn.Module, parts: Parts, network: str) -> bool:
    """Return whether a model without an output matrix may be a language model: no classifier that the map has."""
    blocks = tuple(f"{block}." for block in parts.stack)
    heads = [
        path
        for path, module in modules_by_name(model).items()
        if isinstance(module, nn.Linear) and not path.startswith(blocks)
    ]
    return network in ("gru", "lstm") or (network == "encoder" and not heads)


def _shapes_of(maker: Subject) -> nn.Module:
    """Make the model without its numbers where its maker can do that, else with them."""
    try:
        with torch.device("meta"):
            return maker.fresh()
    except BadInput:
        raise
    except Exception as error:  # somebody's own function need not work without numbers
        try:
            return maker.trained()
        except BadInput as reason:
            raise BadInput(f"{reason} (made without numbers it says: {one_line(error)})") from error


def _with_head(model: nn.Module) -> nn.Module:
    """Return a model of transformers whose config names no class as a language model, where it can be no other."""
    package = sys.modules.get("transformers")
    if package is None or not isinstance(model, package.PreTrainedModel) or model.config.architectures:
        return model
    kind = type(model.config)
    if kind not in package.MODEL_FOR_CAUSAL_LM_MAPPING or kind in package.MODEL_FOR_MASKED_LM_MAPPING:
        return model
    with torch.device("meta"):
        return package.AutoModelForCausalLM.from_config(model.config)


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
    if "attention" in roles and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return "encoder-decoder"
    if "attention" in roles and parts.unembedding:
        return _language_model(model, parts)
    if "attention" in roles:
        return "encoder"
    has_images = parts.embedding is None and any(isinstance(module, CONVOLUTIONS) for module in modules)
    return "cnn" if has_images else None


def _language_model(model: nn.Module, parts: Parts) -> str | None:
    """Return the kind of a language model with attention; None for RWKV, whose blocks called so are recurrent."""
    if type(model).__name__.endswith(("ForMaskedLM", "ForPreTraining")):
        return "masked-transformer"
    blocks = tuple(f"{block}." for block in parts.stack)
    inside = {path: module for path, module in modules_by_name(model).items() if path.startswith(blocks)}
    last_names = {path.rpartition(".")[2] for path in inside}
    if "receptance" in last_names:
        return None
    if any(isinstance(module, CONVOLUTIONS) for module in inside.values()):
        return "hybrid"  # of attention and state-space or linear-attention layers, which convolve
    return "mixture-of-experts" if EXPERTS in last_names else "transformer"


def _channels(model: nn.Module) -> int | None:
    """Return the output channels of the first convolution; None without one."""
    convolutions = (module for module in modules_by_name(model).values() if isinstance(module, CONVOLUTIONS))
    return next((module.out_channels for module in convolutions), None)


def _of_task(overrides: tuple[str, ...], flags: Given, configs: str | None) -> Sized:
    """Compose a run from its keys, prepare its data, and build its network without numbers."""
    from bench.training import build  # Lightning and the data modules: seconds that other models need not pay

    config, words = _composed(overrides, configs), " ".join(overrides)
    shapes = build.data_module(config).shapes
    with torch.device("meta"):
        model = build.network(config, shapes, dropout=0.0)
    record = {
        "config": config,
        "data_meta": config["data"]["meta"],
        "num_params_untied": untied_params(model),
    }
    sizes = ("vocab", "depth", "width", "network")
    if not config["model"]["_target_"].startswith("bench."):
        point = _own_point(record, model, flags)
    elif given := [name for name in sizes if getattr(flags, name) is not None]:
        raise BadInput(
            f"--{given[0]} is of a MODEL; of a task give its key, such as model.depth or data.vocab_size"
        )
    else:
        point = point_of(record, shapes.get("vocab_size"))
    if point is None:
        raise BadInput(f"{words}: the map has language models and classifiers, and this is neither")
    keys = {"tokens": "data.train_limit", "passes": "trainer.max_epochs"}
    changes: dict[str, Any] = {
        "tokens": None if flags.tokens is None else int(flags.tokens),
        "passes": flags.passes,
        "dropout": flags.dropout,
        "weight_decay": flags.weight_decay,
    }
    changed = {name: value for name, value in changes.items() if value is not None}
    also = [f"{keys.get(name, name)}={round(v) if name in keys else v}" for name, v in changed.items()]
    if isinstance(model, OwnLanguageModel) and config["trainer"]["output_precision"] is not None:
        also.append("trainer.output_precision=null")  # without it the runs are refused
    return Sized(words, model, replace(point, **changed), False, (*overrides, *also), configs, config)


def _own_point(record: Mapping[str, Any], model: nn.Module, flags: Given) -> Point | None:
    """Place a model of the user's own that a task trains; None where the map has no such task."""
    config = record["config"]
    name, metric = config["model"]["_target_"], config["task"]["metric"]["name"]
    if metric not in ("perplexity", "accuracy"):
        return None
    read = _read(name, model, parts_of(model), flags)
    if metric == "perplexity" and not read["vocabulary"]:
        raise BadInput(
            f"{name} looks like a classifier ({read['network']}) and predicts words here: "
            "give --network gru, transformer or lstm"
        )
    return point_of(record, sizes=read)


def _composed(overrides: Sequence[str], configs: str | None) -> Mapping[str, Any]:
    """Return the checked config of a run of these keys. BadInput in one line for keys that Hydra does not take."""
    if configs is not None and not Path(configs).is_dir():
        raise BadInput(f"--config-dir={configs} is no folder: give one that holds such as model/mine.yaml")
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from bench.config.refusals import of_hydra
    from bench.config.run_config import from_hydra

    further = [f"hydra.searchpath=['file://{Path(configs).absolute()}']"] if configs is not None else []
    try:
        with initialize_config_dir(str(machine.CONF), version_base="1.3"):
            composed = compose("config", [*overrides, *further])
        return from_hydra(composed).config
    except (HydraException, OmegaConfBaseException) as error:
        reason = of_hydra(error, overrides, several="give one")
        raise BadInput(f"{' '.join(overrides)} is no task: {reason}") from error
