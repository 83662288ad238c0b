"""Every yaml of the group has the keys of its kind; every wrong value gets one line."""

import functools
from collections.abc import Callable
from pathlib import Path

import cell_maker
import pytest
from omegaconf import OmegaConf

from bench.config import refusals, schema
from bench.data.sources import source_of
from bench.tying.errors import BadInput

NAMES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))

TASKS = {"image": "image_cnn", "text": "text_gru", "series": "series_gru", "labelled_text": "text_classifier"}
KINDS = schema.section_of(schema.Config.model_fields["data"])


@functools.cache
def composed(kind: str) -> dict:
    return OmegaConf.to_container(cell_maker.composed(f"task={TASKS[kind]}"), resolve=True)


def check(data: dict) -> None:
    """The schema's check of a config with these data, under a task that takes them."""
    refusals.check({**composed(data["kind"] if data["kind"] in TASKS else "image"), "data": data})


def test_the_group_is_complete() -> None:
    expected = {
        "digits",
        "fashion_mnist",
        "cifar10",
        "pneumoniamnist",
        "blood_cells",
        "pydocs",
        "wikitext2",
        "text_files",
        "sst2",
        "pydocs_packages",
        "co2",
        "vix",
        "exchange_rate",
    }
    assert expected <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_yaml_has_exactly_the_keys_of_its_kind(name: str, configured: Callable[..., dict]) -> None:
    config = configured(name, train_limit=12, root="somewhere")
    of_start = {"tokenizer_of"}  # start=pretrained sets it
    assert set(config) == set(schema.fields_of(KINDS[config["kind"]])) - of_start
    assert config["name"] == name
    assert config["module"]["_partial_"] is True and config["module"]["train_limit"] == 12
    assert config["source"].get("root", "somewhere") == "somewhere"
    check(config)
    source_of(config)


@pytest.mark.parametrize(
    "name, change",
    [
        ("digits", {"kind": "sound"}),
        ("digits", {"name": "../up"}),
        ("digits", {"train_limit": 0}),
        ("digits", {"train_limit": 1.5}),
        ("digits", {"split_seed": -1}),
        ("digits", {"split_seed": True}),
        ("digits", {"holdout": 0}),
        ("digits", {"holdout": 1.0}),
        ("digits", {"tokenizer": "words"}),
        ("digits", {"root": 3}),
        ("pydocs", {"tokenizer": "letters"}),
        ("pydocs", {"vocab_size": 2}),
        ("pydocs", {"tokenizer": "bpe", "vocab_size": 256}),
        ("wikitext2", {"tokenizer": "bpe"}),
        ("pydocs", {"files": "x.txt"}),
        ("pydocs", {"vocabulary": 100}),
        ("sst2", {"holdout": 0}),
        ("sst2", {"vocab_size": 2}),
        ("sst2", {"tokenizer": "letters"}),
        ("pydocs_packages", {"files": "x.txt"}),
        ("co2", {"columns": []}),
        ("co2", {"columns": ["co2", "co2"]}),
        ("co2", {"columns": "co2"}),
        ("co2", {"time": 1}),
        ("co2", {"log": 1}),
        ("co2", {"time_format": "day first"}),
        ("co2", {"time_format": "%d.%m.%Y", "time": None}),
        ("digits", {"range": [0]}),
        ("digits", {"range": [255, 0]}),
        ("digits", {"range": [0, float("inf")]}),
        ("digits", {"range": "0 to 255"}),
        ("co2", {"holdout": 0.1}),
    ],
)
def test_wrong_value(name: str, change: dict, configured: Callable[..., dict]) -> None:
    with pytest.raises(BadInput, match="data.(vocab_size|" + list(change)[0] + ")") as error:
        check(configured(name) | change)
    assert "\n" not in str(error.value)


def test_missing_key(configured: Callable[..., dict]) -> None:
    config = configured("pydocs")
    del config["vocab_size"]
    with pytest.raises(BadInput, match="data.vocab_size is missing from the config"):
        check(config)


@pytest.mark.parametrize(
    "source",
    [None, {}, {"_target_": "bench.data.sources.absent"}, {"_target_": "bench.data.sources.digits", "x": 1}],
)
def test_wrong_source(source: dict | None) -> None:
    with pytest.raises(BadInput, match="data.source") as error:
        source_of({"source": source})
    assert "\n" not in str(error.value)


def test_a_source_must_be_one() -> None:
    with pytest.raises(BadInput, match="Source"):
        source_of({"source": {"_target_": "builtins.dict"}})
