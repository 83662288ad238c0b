import random
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cell_maker import CONF, made, trained_package
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis.archive import portable
from bench.analysis.runs import Metric, RunRecord
from bench.config.run_config import NOT_REPEATED, RunConfig
from bench.report.html import NOT_RECORDED, command
from bench.sweep import prerequisites
from bench.sweep.prerequisites import source, with_grouping

BY_HAND = [
    ("task=text_gru", "tying=soft", "tying.strength=0.5", "dropout=0.2", "seed=7"),
    ("task=text_gru", "tying=soft_decoupled", "tying.init=shared", "tying.scope=all"),
    ("task=image_cnn", "tying=top_k", "tying.k=2", "model.norm=group"),
    ("task=image_cnn", "tying=cross_layer", "control=params", "runs=/elsewhere", "retry=true"),
    ("task=text_transformer", "tying=[top_k,embedding]", "tying.k=2", "tying.scope=[attention,feed_forward]"),
    ("task=text_transformer", "tying=albert", "model=llama", "+model.config.vocab_size=100", "model.heads=2"),
    ("task=text_gru", "tying=learned", "tying.shuffle=2", "tying.strength=0.5", "model.depth=6"),
    ("task=text_gru", "tying=[embedding,learned]", "start=untied", "start.lr=0.02", "start.merge=first"),
    ("task=main/text_gru", "data=wikitext2", "data.train_limit=5", "trainer=ddp", "optimizer.clip=null"),
    ("task=text_gru", "lr_search.factors=[0.5,1]", "sweep.note='of two words, and a $sign'"),
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


def run_of(cell: RunConfig) -> RunRecord:
    """The run of a cell as a record has it."""
    header = cell.header()
    names = ("id", "task", "data", "dropout", "weight_decay", "seed", "cell")
    known = {name: header[name] for name in names} | {"spec": cell.spec, "metric": Metric(**header["metric"])}
    return RunRecord(**known, cost_id="", status="done", reason=None, record=header)


@pytest.fixture(autouse=True, scope="module")
def trained_model(tmp_path_factory):
    with trained_package(tmp_path_factory.mktemp("minilm")):
        yield


@pytest.mark.parametrize("overrides", [*BY_HAND, *map(drawn, GRIDS)], ids=[*map(" ".join, BY_HAND), *GRIDS])
def test_the_printed_command_gives_the_same_run(overrides):
    cell = made(*overrides)
    words = shlex.split(command(run_of(cell)))
    assert words[:3] == ["python", "-m", "bench"]
    assert made(*words[3:]).id == cell.id
    assert not {word.split("=")[0] for word in words} & set(NOT_REPEATED)


def test_what_is_found_out_before_a_run_is_found_out_again():
    search = ("lr_search.factors=[0.5,1]", "lr_search.widen=0")
    cell = made("task=text_gru", "tying=learned", *search, "model.depth=4")
    grouped = with_grouping(cell, [0, 1, 1, 0])
    slow = prerequisites.candidates(grouped)[0]
    records = {c.id: {"status": "failed"} for c in prerequisites.candidates(grouped)}
    records[slow.id] = {"status": "done", "val": {"perplexity": 5.0}}
    settled, _ = prerequisites.chosen(grouped, records)
    assert settled.config["optimizer"]["lr"] == slow.config["optimizer"]["lr"]
    assert settled.overrides == cell.overrides is not None
    for needed in (slow, source(cell), made("tying=cross_layer", "start=untied").start):
        assert needed.overrides is None


@pytest.fixture(scope="module")
def run() -> RunRecord:
    return run_of(made("seed=3"))


def test_a_record_without_overrides_has_no_command(run):
    assert command(run).endswith("seed=3")
    assert command(replace(run, record={**run.record, "overrides": None})) == NOT_RECORDED
    assert command(replace(run, record={})) == NOT_RECORDED


PATHS = st.lists(st.from_regex(r"[a-z][a-z0-9_.]{0,5}", fullmatch=True), min_size=2, max_size=4)


@given(st.lists(PATHS, min_size=1, max_size=3))
def test_files_of_a_machine_are_not_told(paths):
    listed = ",".join(str(Path("/", *parts)) for parts in paths)
    kept = portable({"overrides": ["data=text_files", f"data.files=[{listed}]"]}, Path("runs"))["overrides"]
    told = ",".join(f"/path/to/{parts[-1]}" for parts in paths)
    assert kept == ["data=text_files", f"data.files=[{told}]"]
