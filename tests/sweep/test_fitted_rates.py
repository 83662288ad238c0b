"""The rule of learning rates: what it gives, and how it comes out of the pilot's records."""

import math

import pytest
from cell_maker import CONF, composed
from omegaconf import OmegaConf

from bench.analysis.archive import path_of, read
from bench.config.refusals import check
from bench.runs.machine import ROOT
from bench.sweep import rates
from bench.sweep.design import NETWORKS
from bench.sweep.rates import best_rate, fitted, pilot_runs, rate_of, recorded_rules


def record(width, rate, nll, task="text_gru", tying="none", shared=None, status="done"):
    config = {"model": {"width": width}, "optimizer": {"lr": rate, "shared_lr": shared}}
    return {"task": task, "tying": tying, "status": status, "val": {"nll": nll}, "config": config}


def bowl(best, rates):
    return {rate: 3 + math.log(rate / best) ** 2 for rate in rates}


@pytest.mark.parametrize("best", [0.003, 0.004, 0.006])
def test_the_best_rate_is_the_bottom_of_the_bowl(best):
    assert best_rate(bowl(best, (0.0015, 0.004, 0.01))) == pytest.approx(best)


def test_at_an_end_of_the_grid_the_best_rate_is_that_end():
    assert best_rate(bowl(1e-5, (0.0015, 0.004, 0.01))) == 0.0015
    assert best_rate(bowl(1, (0.0015, 0.004, 0.01))) == 0.01


def test_a_rule_that_rates_follow_is_the_one_that_is_fitted():
    rule = {"at_64": 0.005, "power": -0.7}
    records = [
        record(width, rate, nll)
        for width in (32, 64, 128)
        for rate, nll in bowl(
            rule["at_64"] * (width / 64) ** rule["power"], (0.0006, 0.0015, 0.004, 0.01, 0.025)
        ).items()
    ]
    others = [record(64, 1.0, 0.0, shared="sqrt"), record(64, 1.0, 0.0, status="failed")]
    assert fitted([*records, *others]) == {"text_gru": {"none": rule}}


def test_a_rate_follows_the_rule_of_its_method(monkeypatch):
    rule = {"at_64": 0.008, "power": -0.5}
    rules = {"text_gru": {"none": rule, "cross_layer": {**rule, "power": 0}}}
    monkeypatch.setattr(rates, "recorded_rules", lambda: rules)
    assert rate_of("text_gru", "none", 64) == 0.008 and rate_of("text_gru", "none", 256) == 0.004
    assert rate_of("text_gru", "cycle", 256) == rate_of("text_gru", "cross_layer", 256) == 0.008


def test_the_rules_of_conf_are_those_of_the_recorded_pilot():
    recorded = fitted(read(path_of(ROOT / "results", "map_pilot")).records.values())
    assert {task: recorded_rules()[task] for task in recorded} == recorded


def test_every_network_has_a_rule_for_each_method():
    assert recorded_rules().keys() == NETWORKS.keys()
    for task, rules in recorded_rules().items():
        assert rules.keys() == {"none", "cross_layer"} | ({"embedding"} if "text" in task else set())
        assert all(1e-4 < rate_of(task, method, width) < 0.05 for method in rules for width in (32, 64, 128))
    image = OmegaConf.load(CONF / "task" / "image_cnn.yaml").optimizer.lr
    assert all(rate_of("image_cnn", method, 16) == image for method in ("none", "cross_layer"))


def test_every_run_of_the_pilot_is_allowed_and_another_run():
    runs = pilot_runs(None)
    assert len({tuple(run.values()) for run in runs}) == len(runs) == 2 * 3 * 4 * (3 + 2)
    for run in runs[::7]:
        check(
            OmegaConf.to_container(
                composed("sweep=map_pilot", *(f"{k}={v}" for k, v in run.items())), resolve=True
            )
        )
