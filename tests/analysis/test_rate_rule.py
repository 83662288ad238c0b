"""What a rule of learning rates costs: the validation loss at its rate above the least of three rates."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis import archive
from bench.analysis.rate_rule import Arm
from bench.analysis.runs import rows
from bench.report.map import page, the_map
from bench.runs.store import Status

QUICK = Path(__file__).parents[2] / "results" / "quick" / archive.FILE


@pytest.fixture(scope="module")
def untied():
    return next(run for run in rows(archive.read(QUICK)) if run.is_done and run.tying == "none")


def at(run, rate, nll, status=Status.DONE):
    record = copy.deepcopy(dict(run.record))
    record["config"]["optimizer"]["lr"], record["val"]["nll"] = rate, nll
    return replace(run, id=f"{rate}", status=status, record=record)


@pytest.mark.parametrize(
    "losses, regret, best",
    [((2.5, 2.0, 3.0), 0.0, 0), ((1.75, 2.0, 3.0), 0.25, -1), ((2.5, 2.0, 1.5), 0.5, 1)],
)
def test_the_regret_is_the_loss_above_the_least(untied, losses, regret, best):
    (arm,) = Arm.of(at(untied, rate, nll) for rate, nll in zip((1, 2, 3), losses, strict=True))
    assert (arm.task, arm.method, arm.regret, arm.best) == (untied.task, "none", regret, best)


def test_a_run_that_diverged_is_worst_and_an_arm_without_a_rate_is_left_out(untied):
    two = [at(untied, 1, 2.0), at(untied, 3, 2.0)]
    (arm,) = Arm.of([*two, at(untied, 2, 1.0, Status.DIVERGED)])
    assert arm.regret == math.inf
    assert Arm.of(two) == []
    text = page(replace(the_map([]), rates=(arm,)), {})
    assert "at 1 of 1 checked arms another one was better. What" in text
    assert (
        "What the rule of learning rates costs" in text and f"checked ones: {untied.task} diverged." in text
    )


def test_where_a_task_was_run_at_higher_rates_too_the_better_rate_counts(untied):
    (arm,) = Arm.of(at(untied, rate, nll) for rate, nll in zip((1, 2, 3), (2.0, 2.5, 2.1), strict=True))
    assert (arm.regret, round(arm.regret_of_two, 9)) == (0.5, 0.1)
    text = page(replace(the_map([]), rates=(arm,), raised={untied.task}), {})
    assert f"Arms of {untied.task} have the better of it and higher ones" in text
    assert f"checked ones: {untied.task} {100 * math.expm1(0.1):.1f}." in text
