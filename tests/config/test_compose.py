"""The fast composition against Hydra's own, on every named sweep."""

import functools
import itertools
from pathlib import Path

import pytest
from cell_maker import CONF
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from bench.config.compose import Composer
from bench.config.run_config import _null_unused

SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))
NO_GRIDS = [name for name in SWEEPS if "/hydra/sweeper" in (CONF / "sweep" / f"{name}.yaml").read_text()]
CHOICES = {
    "task": ("image_cnn", "text_gru"),
    "tying": ("none", "top_k", "soft", "[embedding,top_k]", "nothing"),
}
CHOICES |= {"data": ("digits", "text_files"), "logger": ("csv",), "model": ("cnn", "5", "null")}
VALUES = {
    "dropout": ("0", "0.2", "1e-3", "-1", "${weight_decay}", "nan", "${nowhere}", "{a:1}"),
    "weight_decay": ("0.5", "${dropout}", "1_000", "[1,2]", "?"),
    "seed": ("3", "007", "true", "'3'", "a b", "int(3.7)"),
    "tying.k": ("2", "null", "", "'null'"),
    "tying.fraction": ("0.3", "${unless:${tying.k},0.5}"),
    "tying.scope": ("[attention]", "[attention,'feed forward']", "all", "{}"),
    "tying.parts": ("{}", "{soft:null}", "{mine:{_target_:x.y,k:[1,{a:b}]}}"),
    "optimizer": ("{lr:0.1}", "{lr:0.1,momentum:1}", "null", "3"),
    "optimizer.lr": ("1e-3", "${oc.env:HOME}", '"1e-3"', "1,2", "???"),
    "model.depth": ("6", "${seed}"),
    "model.nothing": ("1",),
    "task.batches.batch_size": ("8",),
    "task.batches": ("{batch_size:9}", "{more:9}"),
    "data.source.name": ("x/y", "a\\,b", "'a, b=c'"),
    "dropout.inside": ("1",),
    "sweep.note": ("a note", "'it''s'", "$x", "é"),
    "sweep.point": ("{dropout:0,weight_decay:1}", "null"),
    "sweep": ("{note:x}", "null"),
    "+more": ("1", "{a:1}"),
    "+model.config.size": ("3", "[1,2]"),
    "++seed": ("9", "null"),
    "~seed": ("1", "2"),
    "~optimizer.lr": ("",),
    "data/x": ("1",),
    "data@other": ("digits",),
    "+data@other": ("digits",),
    "hydra.job.name": ("other",),
    "lr_search.factors": ("[0.5,1]", "[]"),
    "lr_search.factors[0]": ("2",),
    "measure": ("{min_calls:1}",),
    "1": ("2",),
    "bad key": ("1",),
}
OVERRIDES = [f"{key}={value}" for key, values in {**CHOICES, **VALUES}.items() for value in values]
OVERRIDES += ["~logger", "~seed", "+logger=csv", "seed", "a=b=c", "=", "seed=[", "tying=none,soft"]


@pytest.fixture(scope="module")
def loader():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().hydra.config_loader


@functools.cache
def master(loader, *overrides: str) -> DictConfig:
    """What a launcher is set up with: the config of the sweep itself."""
    given = [*overrides, "hydra.mode=MULTIRUN"]
    return loader.load_configuration("config", given, run_mode=RunMode.MULTIRUN)


@functools.cache
def composer(loader, *overrides: str) -> Composer:
    return Composer(loader, master(loader, *overrides))


def told(make):
    """The config as it is and with each interpolation replaced, or the error in its own words."""
    try:
        cfg = make()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        return type(error), str(error)
    if "hydra" in cfg:
        with open_dict(cfg):
            del cfg["hydra"]
    flags = OmegaConf.is_struct(cfg), OmegaConf.is_readonly(cfg), OmegaConf.is_struct(cfg.get("tying", cfg))
    return repr(OmegaConf.to_container(cfg)), resolved(cfg), flags


def resolved(cfg):
    try:
        return repr(OmegaConf.to_container(cfg, resolve=True))
    except OmegaConfBaseException as error:
        return type(error), str(error)


def assert_same(loader, sweep, overrides):
    own = functools.partial(loader.load_sweep_config, master(loader, *sweep), list(overrides))
    assert told(functools.partial(composer(loader, *sweep), overrides)) == told(own), overrides


@pytest.mark.parametrize("sweep", [name for name in SWEEPS if name not in NO_GRIDS])
def test_a_cell_of_each_choice_of_every_named_sweep(loader, sweep):
    params = OmegaConf.load(CONF / "sweep" / f"{sweep}.yaml").hydra.sweeper.params
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    axes = [
        [f"{p.key_or_group}={value}" for value in p.sweep_string_iterator()]
        for p in parsed
        if p.is_discrete_sweep()
    ]
    cells = list(itertools.product(*axes))
    for cell in cells[:: max(1, len(cells) // 2)]:
        assert_same(loader, (f"sweep={sweep}",), (*cell, f"sweep={sweep}"))


@pytest.mark.parametrize("search", NO_GRIDS)
def test_a_trial_of_a_search(loader, search):
    """The same config where the search engine is installed, and the same refusal where it is not."""
    assert_same(loader, (), (f"sweep={search}", "tying.k=3", "tying.strength=0.5"))


@pytest.mark.parametrize("override", OVERRIDES)
def test_each_kind_of_override(loader, override):
    assert_same(loader, (), (override,))


@given(overrides=st.lists(st.sampled_from(OVERRIDES), max_size=4), text=st.booleans())
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_overrides_together(loader, overrides, text):
    assert_same(loader, (), [*(["task=text_gru", "tying=soft"] if text else []), *overrides])


def test_a_value_wins_over_what_a_choice_sets_wherever_it_stands(loader):
    make = composer(loader)
    for order in itertools.permutations(
        ["tying=soft", "tying.strength=3", "task=text_gru", "optimizer.lr=5"]
    ):
        cfg = make(order)
        assert (cfg.tying.strength, cfg.tying.parts.soft.strength) == (3, 3)
        assert (cfg.optimizer.lr, cfg.task.name) == (5, "text_gru")


def test_hydra_composes_once_for_all_cells_that_differ_in_values(loader, monkeypatch):
    asked = []
    own = type(loader).load_sweep_config
    monkeypatch.setattr(type(loader), "load_sweep_config", lambda *a: asked.append(a[2]) or own(*a))
    make = Composer(loader, master(loader))
    seeds = [make(["task=text_gru", f"dropout=0.{d}", f"seed={s}"]).seed for d in (1, 2) for s in (3, 4)]
    assert seeds == [3, 4, 3, 4] and asked == [["task=text_gru"]]
    make(["task=text_gru", "tying=soft", "seed=3"])
    make(["task=text_gru", "+model.more=1", "seed=3"])
    make(["task=text_gru", "+model.more=1", "seed=4"])
    assert len(asked) == 3


def test_what_is_done_to_one_cell_reaches_no_other(loader):
    make = composer(loader)
    first = make(["tying=none", "tying.k=2"])
    assert _null_unused(first) == ("tying.k",)
    first.sweep.name = "changed"
    assert make(["tying=none", "tying.k=2"]).tying.k == 2 and make(["tying=none"]).sweep.name is None


def test_settings_of_hydra_given_with_the_sweep_reach_each_cell(loader):
    path = Path(__file__).parent
    sweep = (f"hydra.searchpath=[file://{path}]",)
    assert_same(loader, sweep, ("seed=2",))
