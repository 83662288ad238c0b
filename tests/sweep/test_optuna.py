"""A search with Optuna: each trial is a normal record, and the same command finds them again."""

import importlib.util
import json
from typing import Any

import pytest
import yaml
from command import Bench

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
    reason="hydra-optuna-sweeper is not installed (pip's [optuna])",
)

QUICK = ["trainer.limit_train_batches=8", "hydra.sweeper.n_trials=4"]


def found(bench: Bench, sweep: str) -> dict[str, Any]:
    return yaml.safe_load((bench.results / sweep / "optimization_results.yaml").read_text())


def values(bench: Bench, sweep: str, key: str, metric: str) -> dict[float, float]:
    """The metric on validation by what was tried, of all runs that the sweep consists of."""
    manifest = json.loads((bench.runs / "sweeps" / f"{sweep}.json").read_text())
    records = [bench.records()[run["id"]] for run in manifest["runs"]]
    return {record["config"]["tying"][key]: record["val"][metric] for record in records}


def test_strength_is_searched_over_several_launches_and_found_again(bench: Bench) -> None:
    command = ["-m", "sweep=search_strength", *QUICK]
    assert bench(*command).returncode == 0
    tried = values(bench, "search_strength_text_gru", "strength", "perplexity")
    assert len(tried) == 4 and all(1e-4 <= strength <= 10 for strength in tried)
    best = found(bench, "search_strength_text_gru")
    assert best["best_value"] == min(tried.values())  # a perplexity is the better the lower
    assert tried[best["best_params"]["tying.strength"]] == best["best_value"]

    stamps = bench.stamps()
    assert bench(*command).returncode == 0
    assert bench.stamps() == stamps  # the same trials in the same order, none run again
    assert found(bench, "search_strength_text_gru") == best


def test_k_is_searched_on_another_task_in_its_direction(bench: Bench) -> None:
    assert bench("-m", "sweep=search_k", "task=image_cnn", *QUICK).returncode == 0
    tried = values(bench, "search_k_image_cnn", "k", "accuracy")
    assert set(tried) <= set(range(1, 7))  # model.depth=6
    assert found(bench, "search_k_image_cnn")["best_value"] == max(tried.values())


def test_a_diverged_trial_does_not_end_the_search(bench: Bench) -> None:
    result = bench("-m", "sweep=search_strength", *QUICK, "optimizer.lr=choice(0.004,1e12)")
    assert result.returncode == 0, result.stderr
    assert {record["status"] for record in bench.records().values()} == {"done", "diverged"}
    assert found(bench, "search_strength_text_gru")["best_params"]["optimizer.lr"] == 0.004
