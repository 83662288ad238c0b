import functools
import random
import shlex
from dataclasses import replace

import pytest
import yaml
from cell_maker import CONF, made
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.learned import with_grouping
from bench.report import commands
from bench.report.commands import NO_LONGER, NOT_RECORDED, command, value
from bench.report.rows import Metric, Run

BY_HAND = [
    ("task=text_gru", "tying=soft", "tying.strength=0.5", "dropout=0.2", "seed=7"),
    ("task=text_gru", "tying=soft_decoupled", "tying.init=shared", "tying.scope=all"),
    ("task=text_gru", "tying=soft_embedding", "tying.strength=1e-05", "weight_decay=1"),
    ("task=image_cnn", "tying=top_k"),
    ("task=image_cnn", "tying=top_k", "tying.k=2", "model.norm=group"),
    ("task=image_cnn", "tying=top_k", "tying.fraction=0.3"),
    ("task=image_cnn", "tying=cross_layer", "control=params"),
    ("task=text_transformer", "tying=[top_k,embedding]", "tying.k=2", "tying.scope=[attention,feed_forward]"),
    ("task=text_transformer", "tying=albert", "model=llama", "+model.config.vocab_size=100", "model.heads=2"),
    ("task=text_transformer", "tying=[embedding,soft]", "tying.form=decoupled", "task.batches.window=16"),
    ("task=text_gru", "tying=learned", "tying.shuffle=2", "tying.strength=0.5", "model.depth=6"),
    ("task=text_gru", "tying=cross_layer", "start=untied", "start.max_epochs=3", "optimizer.lr=0.1"),
    ("task=text_gru", "tying=[embedding,learned]", "start=untied", "start.lr=0.02", "start.merge=first"),
    ("task=main/text_gru", "data=wikitext2", "data.train_limit=5", "trainer=ddp", "optimizer.clip=null"),
]


def drawn(sweep: str) -> tuple[str, ...]:
    """One cell of a sweep, drawn by its name."""
    asked = yaml.safe_load((CONF / "sweep" / f"{sweep}.yaml").read_text())["hydra"]["sweeper"]["params"]
    axes = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in asked.items()])
    draw = random.Random(sweep)
    chosen = [
        f"{axis.key_or_group}={draw.choice(list(axis.sweep_string_iterator()))}"
        if axis.is_sweep_override()
        else axis.input_line
        for axis in axes
    ]
    return (*chosen, f"sweep={sweep}")


GRIDS = [p.stem for p in sorted((CONF / "sweep").glob("*.yaml")) if "override /hydra" not in p.read_text()]


@functools.cache
def recorded(*overrides: str) -> Run:
    """The run of a cell as a record has it."""
    cell = made(*overrides)
    said = cell.header()
    names = ("id", "task", "data", "tying", "dropout", "weight_decay", "seed", "cell")
    given = {name: said[name] for name in names}
    metric = Metric(**said["metric"])
    return Run(**given, cost_id="", metric=metric, status="done", reason=None, record={"config": cell.config})


def said_again(run: Run) -> list[str]:
    words = shlex.split(command(run))
    assert words[:3] == ["python", "-m", "bench"]
    return words[3:]


@pytest.mark.parametrize("overrides", BY_HAND, ids=" ".join)
def test_the_printed_command_gives_the_same_run(overrides):
    run = recorded(*overrides)
    again = made(*said_again(run))
    assert (again.id, again.label) == (run.id, run.tying)


def test_what_was_learned_is_learned_again_and_not_said():
    run = recorded("task=text_gru", "tying=learned", "model.depth=6")
    known = with_grouping(made("task=text_gru", "tying=learned", "model.depth=6"), [0, 1, 1, 2, 2, 2])
    assert command(replace(run, record={"config": known.config})) == command(
        run
    ) and "grouping" not in command(run)


@pytest.mark.parametrize("sweep", GRIDS)
def test_the_printed_command_gives_the_same_run_of_each_sweep(sweep):
    run = recorded(*drawn(sweep))
    again = made(*said_again(run))
    assert (again.id, again.label) == (run.id, run.tying)


def test_it_says_what_differs_and_no_more():
    assert command(recorded("seed=3")) == (
        "python -m bench task=image_cnn data=digits tying=none dropout=0 weight_decay=0 seed=3"
    )
    short = command(recorded("task=main/text_gru", "tying=albert", "weight_decay=1"))
    assert short == (
        "python -m bench task=main/text_gru data=pydocs 'tying=[embedding,cross_layer]' "
        "dropout=0 weight_decay=1 seed=1"
    )


def test_files_of_a_machine_are_not_told():
    text = command(recorded("task=text_gru", "data=text_files", "data.files=/home/someone/book.txt"))
    assert "data.files=/path/to/book.txt" in text and "someone" not in text


def without(config: dict, *keys: str) -> dict:
    return {key: item for key, item in config.items() if key not in keys}


@pytest.mark.parametrize("missing", ["task", "data", "tying"])
def test_a_record_without_its_config_has_no_command(missing):
    run = recorded("seed=3")
    config = run.record["config"]
    assert command(replace(run, record={})) == NOT_RECORDED
    assert command(replace(run, record={"config": without(config, missing)})) == NOT_RECORDED


def test_what_conf_does_not_have_any_more_is_said(tmp_path, monkeypatch):
    run = recorded("seed=3")
    config = run.record["config"]
    for changed in (
        {"task": config["task"] | {"name": "gone"}},
        {"data": config["data"] | {"name": "gone"}},
        {"tying": config["tying"] | {"parts": {"gone": {"_target_": "x"}}}},
        {"tying": config["tying"] | {"parts": {"gone": {}, "lost": {}}}},
    ):
        assert command(replace(run, record={"config": config | changed})) == NO_LONGER
    monkeypatch.setattr(commands, "CONF", tmp_path)
    assert command(run) == NOT_RECORDED


def test_hydra_goes_on_with_what_it_was_doing():
    run = recorded("task=text_gru", "tying=top_k")
    commands._composed.cache_clear()
    commands._without_seed.cache_clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        assert command(run).startswith("python -m bench task=text_gru")
        assert GlobalHydra.instance().hydra is before
        assert compose("config", overrides=["seed=5"]).seed == 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(VALUES.filter(lambda found: "${" not in repr(found)))
def test_a_value_survives_shell_and_hydra(found):
    text = shlex.split(shlex.quote(f"key={value(found)}"))
    (override,) = OverridesParser.create().parse_overrides(text)
    assert repr(override.value()) == repr(found) or override.value() == found
