"""The keys of the Hydra group `data`, checked before anything is read."""

import re
from collections.abc import Mapping
from typing import Any

from bench.data.sources import Source
from bench.data.tokenization import SMALLEST, TOKENIZERS
from bench.errors import BadInput

COMMON = ("name", "kind", "root", "train_limit", "split_seed", "source", "module")
KEYS = {"image": (*COMMON, "holdout"), "text": (*COMMON, "tokenizer", "vocab_size", "files")}
KEYS["series"] = (*COMMON, "columns", "time", "log")
KEYS["labelled_text"] = (*COMMON, "holdout", "tokenizer", "vocab_size")
NOT_PREPARED = (
    "root",
    "train_limit",
    "module",
    "source",
    "files",
)  # the source says itself what identifies it


def checked(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` as plain resolved values, or BadInput: the first key that is wrong, and what is allowed."""
    plain = resolved(data)
    kind = plain.get("kind")
    require(kind in KEYS, "data.kind", kind, " or ".join(KEYS))
    if unknown := sorted(set(plain) - set(KEYS[kind])):
        raise BadInput(f"unknown key data.{unknown[0]}: allowed are {', '.join(KEYS[kind])}")
    if missing := sorted(set(KEYS[kind]) - set(plain)):
        raise BadInput(
            f"missing key data.{missing[0]}: conf/data/*.yaml of kind {kind} need {', '.join(KEYS[kind])}"
        )
    name, root = plain["name"], plain["root"]
    require(
        isinstance(name, str) and re.fullmatch(r"[\w-]+", name), "data.name", name, "letters, digits, _ and -"
    )
    require(root is None or isinstance(root, str), "data.root", root, "null or a folder")
    whole_number("train_limit", plain["train_limit"], 1, null=True)
    whole_number("split_seed", plain["split_seed"], 0)
    if "holdout" in KEYS[kind]:
        holdout = plain["holdout"]
        share = isinstance(holdout, float) and 0 < holdout < 1
        require(
            share or is_int(holdout, 1),
            "data.holdout",
            holdout,
            "a share in (0, 1) or a count of examples from 1",
        )
    if "tokenizer" in KEYS[kind]:
        tokenizer = plain["tokenizer"]
        require(tokenizer in TOKENIZERS, "data.tokenizer", tokenizer, ", ".join(TOKENIZERS))
        whole_number("vocab_size", plain["vocab_size"], SMALLEST[tokenizer], null=tokenizer != "bpe")
    if kind == "series":
        _check_series(plain)
    if kind == "text" and plain["files"] is not None and "files" not in (plain["source"] or ()):
        raise BadInput("data.files is read by data=text_files alone: choose that, or leave data.files out")
    return plain


def _check_series(plain: Mapping[str, Any]) -> None:
    names, time = plain["columns"], plain["time"]
    distinct = (
        isinstance(names, list) and all(isinstance(n, str) for n in names) and len(set(names)) == len(names)
    )
    require(names and distinct, "data.columns", names, "a list of names, each once, such as [OPEN,CLOSE]")
    require(time is None or isinstance(time, str), "data.time", time, "a name of a column, or null")
    require(isinstance(plain["log"], bool), "data.log", plain["log"], "true or false")


def source_of(plain: Mapping[str, Any]) -> Source:
    """The `Source` that `data.source` names; BadInput where it is none or refuses its arguments."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    node = plain["source"]
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise BadInput(
            "data.source needs a _target_: for example bench.data.sources.hub; see conf/data/*.yaml"
        )
    try:
        source = instantiate(dict(node))
    except InstantiationException as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise BadInput(f"data.source: {reason}; see the arguments in bench/data/sources.py") from error
    require(
        isinstance(source, Source),
        "data.source._target_",
        node["_target_"],
        "a function that returns a Source",
    )
    return source


def resolved(data: Mapping[str, Any]) -> dict[str, Any]:
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = data if isinstance(data, DictConfig) else OmegaConf.create(dict(data))
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise BadInput(f"data: {' '.join(str(error).split())}; see conf/data/*.yaml for the keys") from error


def is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole_number(key: str, value: Any, least: int, null: bool = False) -> None:
    allowed = f"a whole number from {least}" + (" or null" if null else "")
    require((null and value is None) or is_int(value, least), f"data.{key}", value, allowed)


def require(good: Any, key: str, value: Any, allowed: str) -> None:
    if not good:
        raise BadInput(f"{key}={value!r} is not allowed: give {allowed}")
