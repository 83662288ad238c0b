"""Check a composed config against its schema; say in one line what is wrong, what is allowed and how to mend it.

Import this only where a cell is checked: pydantic takes 50 ms that `--help` must not wait for.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from bench.config.schema import Config, Data, Task, Tying, fields_of, listed, paths, section_of
from bench.data.encode import PRETRAINED, SMALLEST
from bench.tying.errors import BadInput

SCORES = {
    "image": {"accuracy": "max", "nll": "min"},
    "labelled_text": {"accuracy": "max", "nll": "min"},
    "text": {"perplexity": "min", "nll": "min", "next_token_accuracy": "max"},
    "series": {"mae": "min", "rmse": "min", "nll": "min"},
}
"""By the kind of data that a task takes: the scores that can be its metric, and which way each is better."""

OWN_SCORES = {
    "bench.tasks.autoencoding.Autoencoding": {"mse": "min", "nll": "min"},
    "bench.tasks.sentence_embedding.SentenceEmbedding": {
        "cosine": "max",
        "rank_correlation": "max",
        "nll": "min",
    },
}
"""The same of tasks that are scored by something else than what their data tell."""

MODULES = {
    "image": "bench.data.batches.ImageData",
    "text": "bench.data.text.TextData",
    "labelled_text": "bench.data.batches.SentenceData",
    "series": "bench.data.series.SeriesData",
}
"""What reads prepared data of a kind. It is no part of a run's identity, so it cannot be chosen."""


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
    """Find the key that was probably meant.

    That is one spelled alike in the same section, the same word elsewhere, or one that has the word in its name or its
    letters as initials, and the other way round: `epochs` for `trainer.max_epochs`, `wd` for `weight_decay`.

    beside: the keys of that section; None: all that it can have, whatever its kind.
    """
    section, _, key = path.lower().rpartition(".")
    places = {known: known.rpartition(".") for known in paths() if known != path}
    alike = {last: known for known, (inside, _, last) in places.items() if inside == section}
    alike = {last: known for last, known in alike.items() if beside is None or last in beside}
    slips = [alike[last] for last in difflib.get_close_matches(key, alike, n=1, cutoff=0.75)]
    elsewhere = [known for known, (inside, _, last) in places.items() if last == key and inside != section]
    slips_elsewhere = [
        known
        for known in difflib.get_close_matches(path, places, n=1, cutoff=0.85)
        if places[known][0] != section
    ]
    akin = sorted(
        (known for known, (_, _, last) in places.items() if _is_akin(key, last)),
        key=lambda known: (places[known][0] != section, known.startswith("start."), known.count(".")),
    )
    return next(iter(slips + elsewhere + slips_elsewhere + akin), None)


def _is_akin(word: str, key: str) -> bool:
    """Tell whether one is a word of the other, give or take a letter, or its initials."""
    words, keys = word.split("_"), key.split("_")
    initials = ["".join(part[0] for part in parts if part) for parts in (words, keys)]
    alike = difflib.get_close_matches(word, [key, *keys], n=1, cutoff=0.8)
    return bool(alike) or key in words or key == initials[0] or word == initials[1]


def _line(fault: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """One of pydantic's errors in our words."""
    own_words = fault.get("ctx", {}).get("error")
    if isinstance(own_words, BadInput):
        return str(own_words)
    path, words, beside = _place(fault, config)
    dotted = ".".join(path)
    if fault["type"] == "extra_forbidden":
        meant = near(dotted, beside)
        return f"unknown key {dotted}: " + (
            f"did you mean {meant}?" if meant else f"allowed are {', '.join(beside)}"
        )
    value: Any = config
    for key in path:
        if key not in value:
            return f"{dotted} is missing from the config: choose a task, data set and model that set it"
        value = value[key]
    return f"{dotted}={_shown(value)} is not allowed: it must be {words}"


def _place(fault: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[list[str], str, list[str]]:
    """Where a fault is: the key's path in the config, what its value must be, and the keys of its section."""
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
        given = f"trainer.output_precision={trainer.output_precision}"
        if task.kind != "text":
            yield f"{given} is for the output layer of language models: leave it null here"
        if trainer.precision == "64-true":
            yield f"{given} and trainer.precision=64-true exclude each other: set the former to null"
    if config.control is not None and tying.parts:
        if "width" not in config.model.model_fields_set:
            yield (
                f"control={config.control} changes model.width, which this model has not: "
                "choose a model that has it, or control=null"
            )
        if config.start is not None and not (config.start.is_pretrained and config.control == "delete"):
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
    if tying.k is not None and tying.fraction is not None:
        yield "tying.k and tying.fraction are both set: set one of them, the other stays null"
    if "learned" in tying.parts:
        if tying.grouping is not None or "grouped" in tying.parts:
            yield "tying.grouping is what tying=learned finds: leave it null, or choose tying=grouped"
    elif any("grouping" in part.model_extra for part in tying.parts.values()) and (
        len(tying.grouping or ()) != depth
    ):
        yield (
            f"tying.grouping={tying.grouping} is not allowed: give a whole number for each of the {depth} blocks, "
            "input first"
        )


def _contradictions_of_metric(task: Task) -> Iterator[str]:
    scores, metric = OWN_SCORES.get(task.module.target, SCORES[task.kind]), task.metric
    if not task.module.target.startswith("bench."):
        return  # scores of its own
    if metric.name not in scores:
        yield f"task.metric.name={metric.name} is not allowed: it must be {listed(tuple(scores))}"
    elif metric.mode != scores[metric.name]:
        best = f"{metric.name} is best at its {scores[metric.name]}imum"
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
    tokenizer, of = getattr(data, "tokenizer", None), getattr(data, "tokenizer_of", None)
    if (tokenizer == PRETRAINED) != (of is not None):
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
