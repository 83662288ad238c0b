"""Whether a config is as `bench.allowed` has it: checked before anything is prepared, hashed or written."""

from collections.abc import Mapping
from typing import Any

from bench.allowed import CLOSED, KNOWN, LEARNED, LIMITS, START, TOP, positive
from bench.errors import BadInput


def check(config: Mapping[str, Any]) -> None:
    """BadInput, in one line, for the first value of a composed config that is not allowed."""
    for key in config:
        if key not in TOP:
            raise BadInput(f"unknown key {key}: allowed are {', '.join(sorted(TOP))}")
    _check_keys(config)
    for path, rule, allowed in LIMITS + (START if config["start"] is not None else ()):
        value = _at(config, path)
        if not rule(value):
            raise BadInput(f"{path}={value} is not allowed: it must be {allowed}")
    _check_kind(config)
    _check_depth(config)
    _check_ranks(config)
    _check_output_precision(config)
    _check_control(config)
    for key in ("use_gradients", "quantize"):
        if config["trainer"][key] and config["trainer"]["compile"]:
            raise BadInput(
                f"trainer.{key}=true works on a copy of the network, which trainer.compile does not know: "
                "set one of them to null"
            )
    if config["trainer"]["quantize"] and config["tying"]["rank"]:
        raise BadInput(
            "trainer.quantize=true stores weights in int8, and a relaxed weight is a sum of float ones: set "
            "tying.rank=0 or trainer.quantize=null"
        )
    factors = config["lr_search"]["factors"]
    if factors is not None and (
        not isinstance(factors, list) or not factors or not all(map(positive, factors))
    ):
        raise BadInput(
            f"lr_search.factors={factors} is not allowed: it must be a list such as [0.5,1,2], or null"
        )


def _check_keys(config: Mapping[str, Any]) -> None:
    """A key that nothing reads would name a run that is none of its own."""
    for section in CLOSED:
        given = config[section] if isinstance(config.get(section), Mapping) else {}
        known = sorted(path.split(".")[1] for path in KNOWN if path.startswith(f"{section}."))
        for key in given:
            if key not in known:
                raise BadInput(f"unknown key {section}.{key}: allowed are {', '.join(known)}")


def _check_kind(config: Mapping[str, Any]) -> None:
    batches = config["task"]["batches"]
    marks = {"carry": "text", "stride": "series", "window": "labelled_text"}
    takes = next((kind for mark, kind in marks.items() if mark in batches), "image")
    name, kind = config["data"]["name"], config["data"]["kind"]
    if kind in ("image", *marks.values()) and kind != takes:
        raise BadInput(f"data={name} is {kind} data: task={config['task']['name']} takes {takes} data")


def _check_depth(config: Mapping[str, Any]) -> None:
    tying, depth = config["tying"], config["model"]["depth"]
    for key in ("k", "groups", "repeats"):
        if tying[key] is not None and tying[key] > depth:
            raise BadInput(
                f"tying.{key}={tying[key]} is not allowed: it must be a whole number from 1 to {depth}, the depth"
            )
    if tying["k"] is not None and tying["fraction"] is not None:
        raise BadInput("tying.k and tying.fraction are both set: set one of them, the other stays null")
    labels = tying["grouping"]
    if LEARNED in tying["parts"]:
        if labels is not None or "grouped" in tying["parts"]:
            raise BadInput(
                "tying.grouping is what tying=learned finds: leave it null, or choose tying=grouped"
            )
    elif any("grouping" in part for part in tying["parts"].values()) and len(labels or ()) != depth:
        raise BadInput(
            f"tying.grouping={labels} is not allowed: give a whole number for each of the {depth} blocks, input first"
        )


def _check_ranks(config: Mapping[str, Any]) -> None:
    batch_size, devices = config["task"]["batches"]["batch_size"], config["trainer"]["devices"]
    if batch_size % devices:
        raise BadInput(
            f"task.batches.batch_size={batch_size} cannot be shared by trainer.devices={devices}: make it a multiple"
        )


def _check_output_precision(config: Mapping[str, Any]) -> None:
    if config["trainer"]["output_precision"] is None:
        return
    set_to = f"trainer.output_precision={config['trainer']['output_precision']}"
    if "carry" not in config["task"]["batches"]:
        raise BadInput(f"{set_to} is for the output layer of language models: leave it null here")
    if config["trainer"]["precision"] == "64-true":
        raise BadInput(f"{set_to} and trainer.precision=64-true exclude each other: set the former to null")


def _check_control(config: Mapping[str, Any]) -> None:
    control = config["control"]
    if control is None or not config["tying"]["parts"]:
        return
    if "width" not in config["model"]:
        raise BadInput(
            f"control={control} changes model.width, which this model has not: "
            "choose a model that has it, or control=null"
        )
    if config["start"] is not None:
        raise BadInput(
            f"control={control} is a network of another size than start=untied trains: set one to null"
        )


def _at(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise BadInput(
                f"{path} is missing from the config: choose a task, data set and model that set it"
            )
        value = value[name]
    return value
