"""Every yaml of conf/ composes, names things that exist, and asks for what is allowed."""

import importlib.util
import itertools

import pytest
import yaml
from cell_maker import CONF, composed, composer
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import OmegaConf
from transformers import BertConfig, BertModel

from bench.config.refusals import check
from bench.config.run_config import LEARNING, _null_unused

GROUPS = ("task", "tying", "start", "data", "model", "logger", "trainer", "sweep")
CHOICES = [
    (group, str(path.relative_to(CONF / group).with_suffix("")))
    for group in GROUPS
    for path in sorted((CONF / group).rglob("*.yaml"))
]
TASK_OF = dict.fromkeys(("gru", "pydocs", "text_files", "wikitext2"), "text_gru")
TASK_OF |= dict.fromkeys(("map", "map_pilot", "map_rates", "map_higher", "map_roles"), "map/text_gru")
TASK_OF |= dict.fromkeys(("gpt2", "llama", "kv_activations", "mixtral"), "text_transformer")
TASK_OF |= dict.fromkeys(("gru_forecaster", "co2", "vix", "exchange_rate"), "series_gru")
TASK_OF |= dict.fromkeys(("bert", "sst2", "pydocs_packages"), "text_classifier")
TASK_OF |= dict.fromkeys(
    ("sentence_encoder", "pretrained", "pretrained_half"), "sentence_embedding"
) | dict.fromkeys(("shared_over", "shared_over_embedding", "pairs_left_out", "patterns"), "text_gru")
TASK_OF |= {
    choice: "text_gru"
    for group, choice in CHOICES
    if group == "sweep" and choice.startswith(("trained_out", "wikitext2_full"))
}
TASK_OF |= dict.fromkeys(("trained_out_images", "trained_out_image_sizes", "trained_out_scans"), "image_cnn")
TASK_OF |= {
    "trained_out_series": "series_gru",
    "trained_out_sentences": "text_classifier",
    "trained_out_transformer": "text_transformer",
}
TYINGS = [choice for group, choice in CHOICES if group == "tying"]
SEARCHES, DESIGNS = (
    [
        choice
        for group, choice in CHOICES
        if group == "sweep" and f"/hydra/sweeper: {kind}" in (CONF / group / f"{choice}.yaml").read_text()
    ]
    for kind in ("optuna", "design")
)
"""These are no grids: tests/sweep/test_optuna.py and tests/sweep/test_design.py."""
SWEEPS = [choice for group, choice in CHOICES if group == "sweep" and choice not in SEARCHES + DESIGNS]
KEYS = [
    "k",
    "fraction",
    "groups",
    "repeats",
    "kv_heads",
    "rank",
    "grouping",
    "shuffle",
    "strength",
    "form",
    "init",
    "merge",
    "scope",
    "parts",
]
YAMLS = sorted(CONF.rglob("*.yaml"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder that holds a trained model, for what begins from one."""
    folder = tmp_path_factory.mktemp("begun")
    sizes = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=50)).save_pretrained(folder)
    return folder


def plain(cfg):
    return OmegaConf.to_container(cfg, resolve=True)


def targets(node):
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "_target_")
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from targets(item)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_is_allowed(group, choice, trained):
    if choice in SEARCHES and importlib.util.find_spec("optuna") is None:
        pytest.skip("optuna is not installed")
    task = f"task={TASK_OF.get(choice, 'image_cnn')}"
    given = ["tying.grouping=[0,1,1,1,1,1,1,1,2]"] if choice == "grouped" else []  # it has no default
    given += [f"start.model={trained}"] if choice.startswith("pretrained") else []
    cfg = composed(*([] if group == "task" else [task]), f"{group}={choice}", *given)
    _null_unused(cfg)
    check(plain(cfg))


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: str(p.relative_to(CONF)))
def test_every_target_exists(path):
    for target in targets(yaml.safe_load(path.read_text())):
        assert callable(get_object(target)), target


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: str(p.relative_to(CONF)))
def test_every_yaml_is_in_a_group_that_is_tested(path):
    group = path.relative_to(CONF).parts[0]
    assert group in (
        *GROUPS,
        "hydra",
        "config.yaml",
        "claims",
        "rates.yaml",
    )  # tests/claims, tests/sweep/test_design.py


@pytest.mark.parametrize("tying", TYINGS)
def test_every_tying_has_the_same_keys(tying):
    assert list(plain(composed(f"tying={tying}"))["tying"]) == KEYS


@pytest.mark.parametrize("tying", TYINGS)
def test_a_tying_keeps_what_its_parts_read_and_nothing_else(tying):
    """What they read is seen from outside: which key, when it changes, changes them."""
    given = {"k": 2, "fraction": 0.25, "strength": 3.0, "form": "penalty", "init": "shared", "scope": "all"}
    given |= {"groups": 2, "repeats": 3, "grouping": [0, 0, 1], "shuffle": 1, "kv_heads": 4}
    before = composed(f"tying={tying}")
    before.tying.update(given)
    read = set()
    for key in given:
        after = before.copy()
        after.tying[key] = "changed"
        if plain(after.tying.parts) != plain(before.tying.parts):
            read.add(key)
    expected = read | ({"form", "init"} if "strength" in read else set())
    expected |= LEARNING.get(tying, set())  # the controller reads them
    unused = _null_unused(before)
    assert {key for key in given if before.tying[key] is not None} == expected
    assert set(unused) == {f"tying.{key}" for key in given.keys() - expected}


@pytest.mark.parametrize("tying", TYINGS)
def test_what_a_tying_sets_by_itself_is_used(tying):
    assert _null_unused(composed(f"tying={tying}")) == ()


def axes_of(sweep):
    """Each axis of a named sweep with its values, as Hydra's own sweeper takes them apart."""
    params = OmegaConf.load(CONF / "sweep" / f"{sweep}.yaml").hydra.sweeper.params
    parse = OverridesParser.create().parse_override
    overrides = {key: parse(f"{key}={values}") for key, values in params.items()}
    return {
        key: list(given.sweep_string_iterator()) if given.is_sweep_override() else [given.get_value_string()]
        for key, given in overrides.items()
    }


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_cell_of_a_named_sweep_is_allowed(sweep, trained):
    axes = axes_of(sweep)
    numbers = [key for key in axes if key in ("dropout", "weight_decay", "seed")]  # need no composing anew
    choices = [key for key in axes if key not in numbers]
    compose = composer(f"sweep={sweep}")
    for choice in itertools.product(*(axes[key] for key in choices)):
        chosen = [f"{group}={value}" for group, value in zip(choices, choice, strict=True)]
        chosen += [f"start.model={trained}"] if sweep == "pretrained" else []
        cfg = compose([f"sweep={sweep}", *chosen])
        _null_unused(cfg)
        config = plain(cfg)
        assert config["sweep"]["name"] == sweep
        for cell in itertools.product(*(axes[key] for key in numbers)):
            check(config | {key: yaml.safe_load(value) for key, value in zip(numbers, cell, strict=True)})


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_varies_what_a_table_has_rows_or_sections_for(sweep):
    """Rows change no shape; what does change one makes a section, or two networks would stand side by side."""
    rows = {
        "task",
        "data",
        "tying",
        *("tying.k", "tying.fraction", "tying.groups", "tying.repeats", "tying.grouping", "tying.shuffle"),
        *("tying.strength", "tying.merge"),
        "control",
        "dropout",
        "weight_decay",
        "seed",
        "sweep.point",
    }
    sections = {
        "model",
        "trainer.output_precision",
        "model.width",
        "model.init_scale",
        "model.injection",
        "optimizer.lr",
        "optimizer.shared_lr",
    }
    assert set(axes_of(sweep)) <= rows | sections


def test_the_smoke_sweep_has_the_cells_of_the_default():
    smoke, quick = (OmegaConf.load(CONF / "sweep" / f"{name}.yaml") for name in ("smoke", "quick"))
    assert smoke.hydra.sweeper.params == quick.hydra.sweeper.params


def test_the_search_for_a_rate_reports_none_of_its_seeds(trained):
    for sweep in SWEEPS:
        cfg = composed(f"sweep={sweep}", *([f"start.model={trained}"] if sweep == "pretrained" else []))
        searched = {str(seed) for seed in (cfg.lr_search.seed, *cfg.lr_search.more_seeds)}
        assert searched.isdisjoint(axes_of(sweep).get("seed", [str(cfg.seed)]))
