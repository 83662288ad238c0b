"""The designed experiment: its points do not move, lie where they may, and compare arms at one budget."""

from types import SimpleNamespace

import pytest
from cell_maker import composed
from hydra.core.plugins import Plugins
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from bench.config.refusals import check
from bench.config.run_config import _null_unused
from bench.sweep import design
from bench.sweep.design import NETWORKS, points
from bench.tying.errors import BadInput

MANY = points(160)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 160))
def test_a_point_is_the_same_whatever_their_number(count):
    assert points(count) == MANY[:count]


def test_points_lie_within_the_ranges_and_fill_them():
    text = [point for point in MANY if point.is_text]
    cnn = [point for point in MANY if not point.is_text]
    assert len(cnn) == len(MANY) // design.CNN_EVERY
    assert {point.vocab_size for point in text} == set(design.VOCAB_SIZES)
    assert {point.depth for point in text} == set(range(2, 9))
    assert (min(p.width for p in text), max(p.width for p in text)) == design.WIDTHS
    assert all(design.UNIQUE_TOKENS[0] <= p.unique <= design.UNIQUE_TOKENS[1] for p in text)
    assert {(p.task, p.data) for p in text} == {
        (task, data) for task in ("text_gru", "text_transformer") for data in ("pydocs", "wikitext2")
    }
    for values in ([p.dropout for p in text], [p.weight_decay for p in text]):
        assert values.count(0.0) > len(text) / 5 and max(values) > 0.3
    assert {point.depth for point in cnn} == set(design.CNN_DEPTHS)
    passes = [p.steps * NETWORKS[p.task] / p.unique for p in text]
    assert 0.9 < min(passes) < 1.1 and 8 < max(passes) < 17
    assert max(p.steps * NETWORKS[p.task] for p in text) <= 2_000_000


def test_every_budget_ends_with_a_validation():
    assert all(point.steps % design.VALIDATIONS == 0 for point in MANY)


def test_arms_are_paired_by_seed_and_budget():
    for point in MANY:
        runs = list(point.overrides())
        assert len(runs) == len(point.seeds) * len(point.arms)
        free = {"tying", "tying.fraction", "tying.groups", "control", "optimizer.lr", "seed"}
        assert len({tuple(v for k, v in run.items() if k not in free) for run in runs}) == 1
        tyings = [arm["tying"] for arm in point.arms]
        assert {"none", "cross_layer"} <= set(tyings)
        assert ("embedding" in tyings) == point.is_text
    shares = [
        sum(len(p.seeds) == 3 for p in MANY),
        sum(any("control" in arm for arm in p.arms) for p in MANY),
    ]
    assert shares[0] == pytest.approx(len(MANY) / 5, abs=2)
    assert shares[1] == pytest.approx(len(MANY) * 0.8 / 3, abs=2)


@pytest.mark.parametrize("number", [0, 3, 4, 6, 7])
def test_every_run_of_a_point_is_allowed_and_another_run(number):
    seen = set()
    for run in MANY[number].overrides():
        cfg = composed("sweep=map", *(f"{key}={value}" for key, value in run.items()))
        assert _null_unused(cfg) == ()
        config = OmegaConf.to_container(cfg, resolve=True)
        check(config)
        seen.add(repr((config["tying"], config["control"], config["seed"], config["optimizer"])))
    assert len(seen) == len(MANY[number].seeds) * len(MANY[number].arms)


def cfg(count, root=None):
    return OmegaConf.create({"sweep": {"points": count}, "data": {"root": root}})


def test_points_without_their_data_are_left_out_and_the_others_stay(tmp_path, capsys):
    without = design.map_runs(cfg(20))
    assert "of 20 points are of WikiText-2 and are left out: data.root=FOLDER" in capsys.readouterr().out
    (tmp_path / "wikitext").mkdir()
    every = design.map_runs(cfg(20, str(tmp_path)))
    printed = capsys.readouterr().out
    assert "left out" not in printed and "note: 20 points" in printed and "hours of one core" in printed
    assert [run for run in every if run["data"] != "wikitext2"] == without != every


def test_the_check_of_the_rule_has_the_rate_of_the_map_between_two_others(tmp_path):
    (tmp_path / "wikitext").mkdir()
    asked = cfg(40, str(tmp_path))
    checked, of_map = design.rate_check_runs(asked), design.map_runs(asked)
    arms = [checked[start : start + 3] for start in range(0, len(checked), 3)]
    assert {arm[0]["tying"] for arm in arms} == {"none", "embedding", "cross_layer"} and len(arms) >= 4 * 2
    assert {arm[0]["task"] for arm in arms} == {"map/text_gru", "map/text_transformer", "map/image_cnn"}
    for low, rule, high in arms:
        assert rule in of_map and low not in of_map and high not in of_map
        assert float(low["optimizer.lr"]) < float(rule["optimizer.lr"]) < float(high["optimizer.lr"])


def test_each_role_alone_is_shared_with_the_seeds_and_rates_of_cross_layer(tmp_path):
    (tmp_path / "wikitext").mkdir()
    asked = cfg(64, str(tmp_path))
    every, of_map = design.role_runs(asked), design.map_runs(asked)
    by_role = [run for run in every if run["tying"] != "none"]
    plain, scopes = [], {}
    for run in by_role:
        scope = run.pop("tying.scope")
        scopes.setdefault(run["task"], []).append(scope)
        plain += [run] if run not in plain else []
    assert scopes.keys() == {"map/text_gru", "map/text_transformer"}
    for task, shared in scopes.items():
        roles = design.ROLES[task.removeprefix("map/")]
        assert [shared.count(role) for role in roles] == [len(shared) / 2] * 2

    def place(run):
        free = {"tying", "tying.fraction", "tying.groups", "control", "optimizer.lr", "seed"}
        return tuple(sorted((key, value) for key, value in run.items() if key not in free))

    with_more = {place(run) for run in of_map if run.get("control") == "delete"}
    cross_layer = [run for run in of_map if run["tying"] == "cross_layer" and "control" not in run]
    wanted = [run for run in cross_layer if place(run) in with_more]
    assert plain == sorted(wanted, key=lambda run: run["seed"])
    assert len(by_role) == 2 * len(plain) <= 60
    untied = [run for run in every if run["tying"] == "none"]
    assert [run | {"tying": "cross_layer"} for run in untied] == [
        run for run in plain if run["task"] == "map/text_transformer"
    ]


@pytest.mark.parametrize("number", [0, 7])
def test_every_run_of_one_role_is_allowed(number, monkeypatch):
    monkeypatch.setattr(design, "points", lambda count: [MANY[number]])
    for run in design.role_runs(cfg(1)):
        config = composed("sweep=map_roles", *(f"{key}={value}" for key, value in run.items()))
        assert _null_unused(config) == ()
        check(OmegaConf.to_container(config, resolve=True))
        assert run["tying"] == "none" or config.tying.parts.cross_layer.scope == run["tying.scope"]


def test_a_sweep_without_any_data_is_refused(monkeypatch):
    wikitext = next(point for point in MANY if point.data == "wikitext2")
    monkeypatch.setattr(design, "points", lambda count: [wikitext])
    with pytest.raises(BadInput, match=r"sweep\.points=1: none of them has its data here"):
        design.map_runs(cfg(1))


def test_the_sweeper_hands_over_the_runs_and_the_command_line_wins(monkeypatch):
    Plugins.instance()
    from hydra_plugins.bench_sweeper import DesignSweeper

    given_to_launcher = []
    launcher = SimpleNamespace(launch=lambda jobs, initial_job_idx: given_to_launcher.extend(jobs) or [])
    sweeper = DesignSweeper("bench.sweep.design.map_runs")
    sweeper.hydra_context = SimpleNamespace(config_loader=None)
    sweeper.launcher = launcher
    sweeper.runs = [{"task": "a", "seed": "1"}, {"task": "b", "seed": "2"}]
    sweeper.sweep(["sweep=map", "seed=5,6"])
    assert given_to_launcher == [
        ("sweep=map", "seed=5", "task=a"),
        ("sweep=map", "seed=6", "task=a"),
        ("sweep=map", "seed=5", "task=b"),
        ("sweep=map", "seed=6", "task=b"),
    ]
