"""What each value of the config may be: checked before anything is prepared, hashed or written."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from bench.errors import BadInput

TOP = frozenset(
    ("task", "data", "model", "tying", "dropout", "weight_decay", "seed", "optimizer", "trainer", "measure")
    + ("control", "start", "lr_search", "logger", "sweep", "retry", "runs", "results", "cache")
)


def _number(
    low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> Callable[[Any], bool]:
    def within(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return False
        above = value > low if open_low else value >= low
        return above and (value < high if open_high else value <= high)

    return within


def _integer(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low


def _optional(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


def _one_of(*allowed: Any) -> Callable[[Any], bool]:
    return lambda value: value in allowed and not isinstance(value, bool)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None


def _is_grouping(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_integer(0), value))


_finite = _number(0, math.inf, open_high=True)
_positive = _number(0, math.inf, open_low=True, open_high=True)

STRATEGIES = (
    "auto or ddp (fsdp, deepspeed and model parallelism shard or flatten parameters, "
    "which can untie shared ones silently)"
)

LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("dropout", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("weight_decay", _finite, "a number >= 0"),
    ("seed", _integer(0), "a whole number >= 0"),
    ("tying.k", _optional(_integer(1)), "a whole number from 1 to model.depth"),
    ("tying.fraction", _optional(_number(0, 1, open_low=True)), "a number in (0, 1]"),
    ("tying.groups", _optional(_integer(1)), "a whole number from 1 to model.depth"),
    ("tying.rank", _optional(_integer(0)), "a whole number >= 0"),
    ("tying.repeats", _optional(_integer(1)), "a whole number from 1 to model.depth"),
    (
        "tying.grouping",
        _optional(_is_grouping),
        "a list of whole numbers, one for each block, such as [0,0,1,1]",
    ),
    ("tying.shuffle", _optional(_integer(1)), "a whole number >= 1, or null for the learned grouping itself"),
    ("tying.strength", _optional(_finite), "a number >= 0"),
    ("tying.form", _one_of(None, "penalty", "decoupled"), "penalty or decoupled"),
    ("tying.init", _one_of(None, "own", "shared"), "own or shared"),
    ("control", _one_of(None, "params", "respend"), "params, respend or null"),
    ("model.depth", _integer(1), "a whole number >= 1"),
    ("optimizer.lr", _positive, "a number > 0"),
    ("optimizer.beta1", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("optimizer.beta2", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("optimizer.warmup_share", _number(0, 1, open_high=True), "a number in [0, 1)"),
    ("optimizer.clip", _optional(_positive), "a number > 0, or null to turn clipping off"),
    ("trainer.max_epochs", _integer(1), "a whole number >= 1"),
    ("trainer.val_check_interval", _number(0, 1, open_low=True), "a share of an epoch in (0, 1]"),
    ("trainer.limit_train_batches", _optional(_integer(1)), "a whole number >= 1, or null for no limit"),
    ("trainer.limit_eval_batches", _optional(_integer(1)), "a whole number >= 1, or null for no limit"),
    ("trainer.precision", _one_of("32-true", "64-true", "bf16-mixed"), "32-true, 64-true or bf16-mixed"),
    ("trainer.output_precision", _one_of(None, "bf16"), "bf16, or null for that of trainer.precision"),
    (
        "trainer.compile",
        _one_of(None, "default", "reduce-overhead", "max-autotune"),
        "default, reduce-overhead or max-autotune (modes of torch.compile), or null",
    ),
    (
        "trainer.use_gradients",
        lambda value: value is None or value is True,
        "true, or null for no such curves",
    ),
    ("trainer.quantize", lambda value: value is None or value is True, "true, or null for no int8"),
    ("trainer.accelerator", _one_of("auto", "cpu", "gpu"), "auto, cpu or gpu"),
    ("trainer.devices", _integer(1), "a whole number >= 1"),
    ("trainer.strategy", _one_of("auto", "ddp"), STRATEGIES),
    (
        "trainer.checkpoint_every_s",
        _optional(_positive),
        "a number of seconds > 0, or null for no resume points",
    ),
    ("trainer.threads", _integer(1), "a whole number >= 1"),
    ("task.batches.batch_size", _integer(1), "a whole number >= 1"),
    ("data.train_limit", _optional(_integer(1)), "a whole number >= 1, or null for all"),
    ("measure.min_calls", _integer(1), "a whole number >= 1"),
    ("measure.min_seconds", _finite, "a number >= 0"),
    ("measure.max_seconds", _positive, "a number > 0"),
    ("measure.memory_gib", _positive, "a number of GiB > 0"),
    ("measure.cold", lambda v: isinstance(v, bool), "true or false"),
    ("lr_search.seed", _integer(0), "a whole number >= 0"),
    ("sweep.name", _optional(_is_name), "letters, digits, _, - and . (it names a folder of results)"),
    ("sweep.fail_fast", lambda v: isinstance(v, bool), "true or false"),
    ("retry", lambda v: isinstance(v, bool), "true or false"),
)

START = (
    ("start.max_epochs", _integer(1), "a whole number >= 1"),
    ("start.lr", _positive, "a number > 0"),
    ("start.merge", _one_of("first", "mean", "least_squares"), "first, mean or least_squares"),
    ("start.likeness", lambda v: v in (None, True, False), "true, or null"),
)
"""Where `start` is not null."""

LEARNED = "learned"
"""The part of a plan whose grouping the controller finds before the run (`bench.learned`)."""

CLOSED = ("tying", "start", "optimizer", "trainer", "measure", "lr_search", "sweep")
"""Sections with no keys but those above and these; the others are checked by whoever reads them."""

KNOWN = {path for path, _, _ in LIMITS + START} | {
    "tying.scope",
    "tying.parts",
    "lr_search.factors",
    "sweep.note",
    "sweep.point",
}


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
    factors = config["lr_search"]["factors"]
    if factors is not None and (
        not isinstance(factors, list) or not factors or not all(map(_positive, factors))
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
