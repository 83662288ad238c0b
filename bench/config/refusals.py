"""Check a composed config against its schema; say in one line what is wrong, what is allowed and how to mend it.

What Hydra refuses before a config is composed is worded here too.

Import this only where a cell is checked: pydantic takes 50 ms that `--help` must not wait for.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import OverrideParseException
from pydantic import ValidationError
from yaml import YAMLError, safe_load

from bench.config.schema import (
    ROLES,
    SCOPES,
    Config,
    Data,
    Task,
    Tying,
    fields_of,
    listed,
    paths,
    section_of,
)
from bench.config.targets import scores_of
from bench.data.encode import PRETRAINED, SMALLEST
from bench.runs import machine
from bench.runs.tying_spec import GROWL, finder_of
from bench.tying.errors import BadInput, has_as_part, offer, spelled_like

BEST = {
    **dict.fromkeys(("accuracy", "digit_accuracy", "cosine", "rank_correlation"), "max"),
    **dict.fromkeys(("perplexity", "mse", "mae", "rmse", "nll"), "min"),
    "next_token_accuracy": "max",
}
"""By score that can be the metric of a task: whether its highest or its lowest value is best."""

MODULES = {
    "image": "bench.data.batches.ImageData",
    "text": "bench.data.text.TextData",
    "labelled_text": "bench.data.batches.SentenceData",
    "series": "bench.data.series.SeriesData",
}
"""What reads prepared data of a kind. It is no part of a run's identity, so it cannot be chosen."""


OTHER_WORDS = {
    "data": ("dataset",),
    "dropout": ("p", "dropout_rate", "dropout_prob"),
    "model.heads": ("heads", "n_head", "n_heads", "num_heads", "num_attention_heads"),
    "model.depth": ("layers", "n_layer", "n_layers", "num_layers", "num_hidden_layers", "blocks"),
    "model.width": ("hidden", "hidden_size", "hidden_dim", "d_model", "n_embd", "channels"),
    "optimizer.lr": ("learning_rate",),
    "seed": ("random_state",),
    "task.batches.batch_size": ("bs",),
    "task.batches.window": ("bptt", "block_size", "context", "seq_len", "sequence_length", "max_length"),
    "trainer.accelerator": ("device", "gpu", "gpus", "cuda"),
    "trainer.max_epochs": ("n_epochs", "num_epochs", "num_train_epochs"),
    "trainer.patience": ("early_stopping",),
    "tying": ("tie", "share", "sharing", "weight_tying", "tie_word_embeddings"),
    "tying.strength": ("lambda", "lambda_", "lam"),
    "weight_decay": ("wd", "l2"),
}
"""By key: what other libraries call it."""

NO_CHOICE, HUGE = "Config group override must be a string or a list", "for integer string conversion"
"""What Hydra raises, as a plain ValueError, for `start=null` and `tying=1`, and Python for a number of 5,000 digits."""
ABSENT = r"In '(.+)': Could not (?:find|load) '(.+)/([^/]+)'(?: Available options in .*: (.*)|\.)?$"
"""How Hydra says that a group has no such choice."""
OPTUNA = "hydra-optuna-sweeper==1.3.0 optuna==2.10.1 'SQLAlchemy<2' 'alembic<1.14'"


def check(config: Mapping[str, Any]) -> None:
    """Refuse a composed config that is not allowed.

    Raises:
        BadInput: one line about the first fault, with the number of the others.
    """
    try:
        checked = Config.model_validate(config)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        lines = list(dict.fromkeys(_line(fault, config) for fault in faults))
        others = f" ({len(lines) - 1} more after this)" if len(lines) > 1 else ""
        raise BadInput(lines[0] + others) from None
    for contradiction in _contradictions(checked):
        raise BadInput(contradiction)


def near(path: str, beside: Collection[str] | None = None) -> str | None:
    """Find the key that was probably meant: first in the same section, then elsewhere.

    Args:
        path: The key that is unknown, dotted.
        beside: The keys of its section; None: all that it can have, whatever its kind.
    """
    section, _, key = path.lower().rpartition(".")
    places = {known: known.rpartition(".") for known in paths() if known != path}
    if beside is None:
        beside = [last for inside, _, last in places.values() if inside == section]
    here = {word: f"{section}.{word}".lstrip(".") for word in beside}
    elsewhere = {last: known for known, (inside, _, last) in reversed(places.items()) if inside != section}
    synonyms = {word: known for known, words in OTHER_WORDS.items() for word in words}
    meant = synonyms.get(spelled_like(key, synonyms, cutoff=0.9))
    candidates = (
        here.get(spelled_like(key, here)),
        meant if meant in here.values() else None,
        elsewhere.get(key),
        meant,
        here.get(has_as_part(key, here)),
        None if section in places else elsewhere.get(has_as_part(key, elsewhere)),
        elsewhere.get(spelled_like(key, elsewhere, cutoff=0.85)),
    )
    return next((known for known in candidates if known not in (None, path)), None)


def unknown_key(path: str, beside: Collection[str] | None = None) -> str:
    """Say that a key is unknown, and which one was meant or which there are. The arguments are those of `near`."""
    if meant := near(path, beside):
        return f"unknown key {path}: did you mean {meant}?"
    listing = "`python -m bench --help` lists the keys"
    return f"unknown key {path}: " + (
        listing if beside is None else f"allowed are {', '.join(beside) or 'none'}"
    )


def unknown_flag(flag: str, flags: Collection[str]) -> str | None:
    """Say which key or flag was meant by a flag of `python -m bench` that there is not; None where none is near."""
    name, _, value = flag.lstrip("-").partition("=")
    if like := spelled_like(f"--{name}", flags):
        return f"did you mean {like}?"
    name = name.replace("-", "_")
    key = name if name in paths() else near(name)
    return key and f"did you mean {key}={value or '...'}, without dashes?"


def of_hydra(error: Exception, words: Sequence[str], several: str = "add -m to run each") -> str:
    """Return what was wrong, what is allowed and how to fix it, where Hydra or a parser words it otherwise.

    Args:
        error: What Hydra, OmegaConf or yaml raised.
        words: The command line.
        several: What a command does for several values of a key.
    """
    text = " ".join(str(error).split())
    if isinstance(error, YAMLError):
        return f"a file of conf/ is no yaml: {text}; mend it and start again"
    if HUGE in text:
        return "a number of thousands of digits is not allowed: give a smaller one"
    if NO_CHOICE in text:
        return _no_choice(words)
    if "Could not find 'hydra/sweeper/optuna'" in text:
        return (
            f"hydra/sweeper=optuna needs its plugin, which is not installed: .venv/bin/pip install {OPTUNA}"
        )
    text = re.split(" Config search path:| full_key:| See https://hydra.cc", text)[0]
    if absent := re.match(ABSENT, text):
        file, group, choice, names = absent.groups()
        where = "" if any(choice in word for word in words) else f"conf/{file}.yaml: "
        return f"{where}there is no {group}={choice}: {offer(choice, names.split() if names else _choices(group))}"
    if unknown := re.match(r"Could not (?:override|delete from config\.) '([^']+)'", text):
        if choices := _of_group(unknown[1]):
            return f"{unknown[1]} cannot be set like this: {choices}"
        return unknown_key(unknown[1])
    if ambiguous := re.match(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", text):
        key, values = ambiguous.groups()
        if "." not in key and key not in paths() and near(key):
            return unknown_key(key)
        return f"{key}={values} are several values: {several}, or write {key}=[{values}] for one list"
    if bare := re.match(r"Error parsing override '([\w-]+)' missing EQUAL at '<EOF>'", text):
        return f"{bare[1]} has no value: {_with_value(bare[1])}"
    if isinstance(error, OverrideParseException) or "LexerNoViableAlt" in text:
        where = re.split(r" \^$| expecting \{", text)[0]
        return (
            f"{where}: this is no key=value; write it as seed=1, several as seed=1,2 after -m, and put a value with "
            "other signs in quotes, as 'sweep.note=\"two words\"'"
        )
    return text


def _no_choice(words: Sequence[str]) -> str:
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        if equals and not key:
            return f"{word} has no key: give key=value, such as seed=1"
        if equals and not all(map(_is_name, value.split(","))) and (choices := _of_group(key)):
            return f"{word} is not allowed: {choices}"
    return "a group was given a number or null: its choices are names, which `python -m bench --help` lists"


def _with_value(word: str) -> str:
    """Say how a word without a value is given: as a choice of its group, or as a key."""
    groups = [path.name for path in sorted(machine.CONF.iterdir()) if _choices(path.name)]
    for group in groups:
        if word in _choices(group):
            return f"did you mean {group}={word}?"
    key = word if word in paths() else near(word)
    return f"did you mean {key}=...?" if key else "give key=value, such as seed=1"


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (machine.CONF / group).glob("*.yaml"))


def _of_group(key: str) -> str | None:
    """Say which choices a group has; None where `key` is no group."""
    names = _choices(key)
    if not names:
        return None
    example = "none" if "none" in names else names[0]
    return (
        f"{key} is a group and its choices are names, such as {key}={example}; there are {', '.join(names)}"
    )


def _is_name(text: str) -> bool:
    try:
        return isinstance(safe_load(text), str)
    except YAMLError:  # half of a list
        return True


def _line(fault: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors in our words."""
    own_words = fault.get("ctx", {}).get("error")
    if isinstance(own_words, BadInput):
        return str(own_words)
    path, words, beside = _place(fault, config)
    dotted = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return unknown_key(dotted, beside)
    value: Any = config
    for key in path:
        if key not in value:
            return f"{dotted} is missing from the config: choose a task, data set and model that set it"
        value = value[key]
    return f"{dotted}={_shown(value)} is not allowed: it must be {words}"


def _place(fault: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[list[str], str, list[str]]:
    """Return where a fault is: the key's path in the config, what its value must be, and the keys of its section."""
    path, words, beside, inside = [], "", [], Config
    for step in fault["loc"]:
        if isinstance(inside, dict):  # by which `kind` pydantic chose
            inside = inside[step]
        elif inside is None:  # within a value, such as a list
            break
        else:
            fields = fields_of(inside)
            path.append(step)
            beside = sorted(fields)
            inside = section_of(fields[step]) if step in fields else None
            words = fields[step].description or "keys with values, as in conf/" if step in fields else ""
    if isinstance(inside, dict) and fault["type"].startswith("union_tag"):
        return [*path, "kind"], listed(tuple(inside)), ["kind"]
    return path, words, beside


def _shown(value: Any) -> str:
    text = " ".join(str(value).split()) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _contradictions(config: Config) -> Iterator[str]:
    """Yield what is wrong with values that are each allowed, a line each."""
    task, data, trainer, tying = config.task, config.data, config.trainer, config.tying
    yield from _contradictions_of_metric(task)
    if data.kind == "series" and data.time is None and data.time_format is not None:
        yield "data.time_format is read with data.time alone: name the column of the times there"
    yield from _contradictions_of_data(data)
    if data.kind != task.kind:
        yield f"data={data.name} is {data.kind} data: task={task.name} takes {task.kind} data"
    yield from _contradictions_of_tying(tying, config.model.depth)
    if task.batches.batch_size % trainer.devices:
        yield (
            f"task.batches.batch_size={task.batches.batch_size} cannot be shared by "
            f"trainer.devices={trainer.devices}: make it a multiple"
        )
    if trainer.output_precision is not None:
        setting = f"trainer.output_precision={trainer.output_precision}"
        if task.kind != "text":
            yield f"{setting} is for the output layer of language models: leave it null here"
        if trainer.precision == "64-true":
            yield f"{setting} and trainer.precision=64-true exclude each other: set the former to null"
    if config.control is not None and tying.parts:
        if "width" not in config.model.model_fields_set:
            yield (
                f"control={config.control} changes model.width, which this model has not: "
                "choose a model that has it, or control=null"
            )
        # A network with blocks left out begins from those that it keeps.
        if config.start is not None and config.control != "delete":
            yield (
                f"control={config.control} is a network of another size than start begins from: set one to null"
            )
    for key in ("use_gradients", "quantize"):
        if getattr(trainer, key) and trainer.compile:
            yield (
                f"trainer.{key}=true works on a copy of the network, which trainer.compile does not know: "
                "set one of them to null"
            )
    if trainer.example_scores and trainer.devices > 1:
        yield (
            f"trainer.example_scores=true is for one process, and trainer.devices={trainer.devices} share the test "
            "split: set one of them back"
        )
    if trainer.quantize and tying.rank:
        yield (
            "trainer.quantize=true stores weights in int8, and a relaxed weight is a sum of float ones: set "
            "tying.rank=0 or trainer.quantize=null"
        )


def _contradictions_of_tying(tying: Tying, depth: int) -> Iterator[str]:
    for key in ("k", "groups", "repeats"):
        value = getattr(tying, key)
        if value is not None and value > depth:
            yield (
                f"tying.{key}={value} is not allowed: it must be a whole number from 1 to {depth}, the depth"
            )
    for name, part in tying.parts.items():
        scope = part.model_extra.get("scope", "weights")
        if part.target.startswith("bench.") and not _is_scope(scope):
            key = "tying.scope" if scope == tying.scope else f"tying.parts.{name}.scope"
            yield f"{key}={_shown(scope)} is not allowed: it must be {SCOPES}"
    if tying.k is not None and tying.fraction is not None:
        yield "tying.k and tying.fraction are both set: set one of them, the other stays null"
    if finder := finder_of(tying.parts):
        if tying.grouping is not None or "grouped" in tying.parts:
            yield f"tying.grouping is what tying={finder} finds: leave it null, or choose tying=grouped"
        if finder == GROWL and not tying.strength:
            yield f"tying.strength={tying.strength} finds no rows for tying=growl: give a number > 0"
    elif any("grouping" in part.model_extra for part in tying.parts.values()) and (
        len(tying.grouping or ()) != depth
    ):
        yield (
            f"tying.grouping={tying.grouping} is not allowed: give a whole number for each of the {depth} blocks, "
            "input first"
        )


def _is_scope(value: Any) -> bool:
    roles = value if isinstance(value, list) and value else [value]
    return value in ("weights", "all") or all(role in ROLES for role in roles)


def _contradictions_of_metric(task: Task) -> Iterator[str]:
    target, metric = task.module.target, task.metric
    if not target.startswith("bench."):
        return  # scores of its own
    scores = tuple(name for name in BEST if name in scores_of(target))
    if scores and metric.name not in scores:
        yield f"task.metric.name={metric.name} is not allowed: it must be {listed(scores)}"
    elif scores and metric.mode != BEST[metric.name]:
        best = f"{metric.name} is best at its {BEST[metric.name]}imum"
        yield f"task.metric.mode={metric.mode} is not allowed: {best}"


def _contradictions_of_data(data: Data) -> Iterator[str]:
    wanted = {"_target_": MODULES[data.kind], "_partial_": True}
    wanted |= {
        key: getattr(data, key) for key in ("train_limit", "val_limit", "test_limit") if hasattr(data, key)
    }
    if data.module != wanted:
        yield (
            f"data.module={_shown(data.module)} is not allowed: data of kind {data.kind} are read by "
            f"{MODULES[data.kind]}; leave it as in conf/data/*.yaml"
        )
    if data.kind == "text" and data.files is not None and "files" not in data.source:
        yield "data.files is read by data=text_files alone: choose that, or leave data.files out"
    tokenizer, tokenizer_of = getattr(data, "tokenizer", None), getattr(data, "tokenizer_of", None)
    if (tokenizer == PRETRAINED) != (tokenizer_of is not None):
        yield "data.tokenizer=pretrained and data.tokenizer_of=MODEL go together: set both or neither"
    if tokenizer == PRETRAINED and data.vocab_size is not None:
        yield "data.vocab_size is the trained model's own with data.tokenizer=pretrained: set it to null"
    if tokenizer in (None, PRETRAINED) or (data.vocab_size is None and tokenizer != "bpe"):
        return
    least = SMALLEST[tokenizer]
    if data.vocab_size is None or data.vocab_size < least:
        every_word = "" if tokenizer == "bpe" else ", or null for every word"
        yield (
            f"data.vocab_size={data.vocab_size} is not allowed: with data.tokenizer={tokenizer} it must be "
            f"a whole number >= {least}{every_word}"
        )
