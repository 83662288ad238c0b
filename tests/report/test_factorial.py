import math
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import record_maker as made

from bench.analysis.factorial import (
    ADDS_UP,
    BETTER,
    REINFORCES,
    REPLACES,
    WORSE,
    Effect,
    Factorial,
    factorial,
    reading,
)
from bench.analysis.groups import Section, sections
from bench.analysis.runs import Metric, RunRecord, read_sweep
from bench.report.factorial import csv_rows, effects_table, factorial_lines
from bench.report.markup import plain
from bench.report.plots.interactions import interactions
from bench.report.plots.style import draw
from bench.runs.store import Status

SEEDS = (1, 2, 3, 4, 5)


def section(values: dict[tuple, float], metric: str = "accuracy", mode: str = "max") -> Section:
    """(tying, dropout, weight decay, seed) -> test metric, None for a run that failed, as a section."""
    runs = []
    for (tying, dropout, decay, seed), value in values.items():
        scores = {} if value is None else {metric: value, "nll": math.log(value)}
        runs.append(
            RunRecord(
                id=f"{tying}-{dropout}-{decay}-{seed}", task="image_cnn", data="digits", spec=made.spec_of(tying),
                dropout=dropout, weight_decay=decay, seed=seed, cell=f"{tying}-{dropout}-{decay}", cost_id="",
                metric=Metric(metric, mode), status="failed" if value is None else Status.DONE, reason=None,
                record={"test": scores, "val": scores},
            )
        )  # fmt: skip
    (found,) = sections(runs)
    return found


def grid(value, tyings=("none", "cross_layer"), dropouts=(0.0, 0.2), decays=(0.0,), seeds=SEEDS) -> dict:
    """(tying, dropout, weight decay, seed) -> value of the same."""
    return {at: value(*at) for at in product(tyings, dropouts, decays, seeds)}


def fitted(*args, **given) -> dict[str, Effect]:
    found = factorial(section(*args, **given))
    assert isinstance(found, Factorial), found
    return {effect.term: effect for effect in found.effects}


def sometimes(tying: str, dropout: float, decay: float, seed: int) -> float:
    """No two runs alike, everything between 0 and 1."""
    return 0.5 + 0.3 * math.sin(7 * len(tying) + 31 * dropout + 5 * decay + 3 * seed)


def test_two_by_two_is_the_difference_of_differences():
    # Cell means 90, 92, 91, 96; seeds 1 apart on either side; residuals +1 -1 0 0, the other way in seed 2.
    mean = {("none", 0.0): 0.90, ("none", 0.2): 0.92, ("cross_layer", 0.0): 0.91, ("cross_layer", 0.2): 0.96}
    rest = {("none", 0.0): 0.01, ("none", 0.2): -0.01}

    def value(tying, dropout, decay, seed):
        side = 1 if seed == 1 else -1
        return mean[tying, dropout] + side * (0.01 + rest.get((tying, dropout), 0))

    values = grid(value, seeds=(1, 2))
    effects = fitted(values)
    assert {term: round(effect.estimate, 9) for term, effect in effects.items()} == {
        "cross_layer": 1, "dropout 0.2": 2, "cross_layer x dropout 0.2": 5 - 2,
    }  # fmt: skip
    # Residual sum of squares 4 on 8 - 5 = 3 degrees of freedom; four cells of two runs each: variance 2 * 4 / 3.
    half = 3.182446305 * math.sqrt(8 / 3)
    interaction = effects["cross_layer x dropout 0.2"]
    assert (interaction.low, interaction.high) == pytest.approx((3 - half, 3 + half), rel=1e-8)
    found = factorial(section(values))
    assert (found.n, found.df, found.reference) == (8, 3, "none, dropout 0, weight decay 0")


def test_what_a_seed_adds_to_all_its_runs_changes_no_effect():
    plainly = fitted(grid(sometimes))
    shifted = fitted(grid(lambda *at: sometimes(*at) + 0.07 * at[-1] ** 2))
    for term, effect in plainly.items():
        assert shifted[term][1:5] == pytest.approx(effect[1:5], abs=1e-7)


def test_all_estimates_together_are_the_cell_means():
    values = grid(sometimes, ("none", "embedding", "cross_layer"), (0.0, 0.2, 0.5), (0.0, 1.0))
    effects = fitted(values)
    assert len(effects) == 3 * 3 * 2 - 1

    def mean(tying, dropout, decay):
        return 100 * np.mean([values[tying, dropout, decay, seed] for seed in SEEDS])

    corner = {"cross_layer", "dropout 0.5", "weight decay 1"}
    parts = [effect.estimate for effect in effects.values() if set(effect.parts) <= corner]
    assert len(parts) == 7
    assert mean("none", 0, 0) + sum(parts) == pytest.approx(mean("cross_layer", 0.5, 1))


def test_factors_of_a_perplexity_add_up_in_nats():
    rng = np.random.default_rng(3)

    def value(tying, dropout, decay, seed):
        factors = (0.9 if tying == "cross_layer" else 1) * (0.8 if dropout else 1)
        return 100 * factors * math.exp(0.001 * rng.standard_normal())

    found = section(grid(value), "perplexity", "min")
    effects = {effect.term: effect for effect in factorial(found).effects}
    assert effects["dropout 0.2"].estimate == pytest.approx(math.log(0.8), abs=0.002)
    assert effects["dropout 0.2"].reading == effects["cross_layer"].reading == "better"
    assert effects["cross_layer x dropout 0.2"].reading == ADDS_UP
    assert "nats" in factorial(found).metric


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("tying", "dropout", "both", "said"),
    [(3, 2, -1, REPLACES), (3, 2, 1, REINFORCES), (-3, 2, -1, REPLACES), (-3, 2, 1, REINFORCES)]
    + [(-3, -2, 1, BETTER), (-3, -2, -1, WORSE), (0.05, -2, -1, WORSE), (3, 2, 0.05, ADDS_UP)],
)
def test_readings_know_which_way_the_metric_runs(sign, tying, dropout, both, said):
    def effect(gain: float) -> Effect:
        return Effect("", sign * gain, sign * gain - 0.1, sign * gain + 0.1, 0.01, "")

    assert reading(effect(both), [effect(tying), effect(dropout)], sign) == said


def test_intervals_cover_and_nothing_is_seldom_an_alarm():
    rng, fits = np.random.default_rng(20), 500
    truth = {"cross_layer": 2.0, "dropout 0.2": 1.0, "cross_layer x dropout 0.2": 0.0}
    covered = dict.fromkeys(truth, 0)
    alarms = 0
    for _ in range(fits):
        seeds = rng.normal(0, 0.02, 6)
        effects = fitted(
            grid(
                lambda tying, dropout, decay, seed, shift=seeds: 0.8
                + 0.02 * (tying != "none") + 0.01 * bool(dropout) + shift[seed] + rng.normal(0, 0.01)
            )
        )  # fmt: skip
        for term, value in truth.items():
            covered[term] += effects[term].low <= value <= effects[term].high
        alarms += effects["cross_layer x dropout 0.2"].p < 0.05
    # Two standard errors of 500 fits are 1.95 %.
    assert all(0.93 <= found / fits <= 0.97 for found in covered.values()), covered
    assert alarms == fits - covered["cross_layer x dropout 0.2"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (grid(sometimes, dropouts=(0.0,)), "one dropout and one weight decay"),
        (grid(sometimes, tyings=("none",)), "none is the only tying"),
        (grid(sometimes, tyings=("embedding", "cross_layer")), "`none` was not run"),
        (grid(sometimes, seeds=(7,)), "one seed (7)"),
        (grid(lambda *at: len(at[0]) / 100), "differ in nothing"),
        (
            grid(lambda *at: sometimes(*at) if at[-1] == 1 + bool(at[1]) else None, seeds=(1, 2)),
            "cannot tell",
        ),
        (
            grid(lambda *at: None if at[:2] == ("none", 0.2) else sometimes(*at)),
            "`none` has no finished run at dropout 0.2, weight decay 0",
        ),
        (
            grid(lambda *at: None if at[:2] == ("cross_layer", 0.2) else sometimes(*at)),
            "cross_layer has no finished run at dropout 0.2, weight decay 0",
        ),
        (grid(sometimes, ["none", *map(str, range(150))], seeds=(1, 2)), "more than the 250"),
        (grid(lambda *at: None), "`none` has no finished run at dropout 0, weight decay 0 and dropout 0.2"),
    ],
)
def test_what_cannot_be_fitted_says_why_in_one_line(values, reason):
    said = factorial(section(values))
    assert isinstance(said, str) and reason in said and "\n" not in said


def test_a_tying_with_a_hole_is_left_out_and_missing_runs_are_named():
    tyings = ("none", "embedding", "cross_layer")

    def value(tying, dropout, decay, seed):
        hole = (tying, dropout) == ("embedding", 0.2) or (tying, dropout, seed) == ("cross_layer", 0.2, 3)
        return None if hole else sometimes(tying, dropout, decay, seed)

    found = factorial(section(grid(value, tyings)))
    assert not [effect for effect in found.effects if "embedding" in effect.term]
    assert found.n == 19
    said = " ".join(factorial_lines(found))
    assert "embedding has no finished run at dropout 0.2" in said
    assert "cross_layer at dropout 0.2, weight decay 0, seed 3 (failed)" in said


def test_controls_are_in_no_fit():
    bare = factorial(section(grid(sometimes)))
    controlled = grid(sometimes, ("none", "cross_layer", "cross_layer, control=params"))
    assert factorial(section(controlled)) == bare


def test_the_order_of_the_runs_changes_nothing():
    values = grid(sometimes, decays=(0.0, 1.0))
    other = factorial(section(dict(reversed(values.items()))))
    assert plain(effects_table(other)) == plain(effects_table(factorial(section(values))))


def test_table_and_csv_have_every_effect_and_each_tying_its_answer():
    found = section(grid(sometimes, ("none", "embedding", "cross_layer"), decays=(0.0, 1.0)))
    fit = factorial(found)
    table = effects_table(fit)
    assert [row[0] for row in table.rows] == [effect.term for effect in fit.effects]
    assert [row["term"] for row in csv_rows(found, fit)] == [effect.term for effect in fit.effects]
    first, second, *_ = factorial_lines(fit)
    assert first.startswith("Does embedding replace dropout and weight decay, or add to them?")
    assert second.startswith("Does cross_layer replace")


def test_an_answer_tells_the_effect_under_the_tying():
    values = grid(
        lambda *at: 0.5 + 0.01 * (at[1] > 0) * (1 if at[0] == "none" else 3) + 0.001 * (at[-1] * 7 % 3)
    )
    values["none", 0.0, 0.0, 1] += 1e-6
    answer, *_ = factorial_lines(factorial(section(values)))
    assert "by +1.00 [" in answer and "by +3.00 [" in answer and "a difference of +2.00 [" in answer


def written(folder: Path, **given) -> list[Section]:
    made.write_sweep(folder, *made.grid({"text_gru": "pydocs"}, **given))
    return sections(read_sweep(folder, "quick")[0])


def test_the_picture_is_the_same_bytes_again_and_shows_values_on_hover(tmp_path):
    found = written(tmp_path, seeds=SEEDS, tyings=("none", "cross_layer"))
    first, second = draw(interactions, found), draw(interactions, found)
    assert first == second
    assert ElementTree.fromstring(first[".svg"]).tag.endswith("svg")
    # Two tyings at four places; three interactions and the one of dropout with weight decay.
    assert first[".svg"].count(b"<title>") == 8 + 4


def test_the_picture_of_a_sweep_that_is_not_done_is_an_svg(tmp_path):
    """Of a tying and a weight decay nothing may be recorded yet."""
    lines, records, costs = made.grid({"text_gru": "pydocs"}, seeds=(1,), tyings=("none", "cross_layer"))
    done = [r for r in records if (r["tying"], r["weight_decay"]) != ("cross_layer", 0.5)]
    made.write_sweep(tmp_path, lines, done, costs)
    drawn = draw(interactions, sections(read_sweep(tmp_path, "quick")[0]))
    assert ElementTree.fromstring(drawn[".svg"]).tag.endswith("svg")


def test_the_picture_says_why_there_is_no_fit(tmp_path):
    figure = interactions(written(tmp_path, seeds=(1,)))
    assert any("one seed (1)" in text.get_text() for text in figure.axes[-1].texts)


def test_no_picture_where_nothing_can_interact(tmp_path):
    assert interactions(written(tmp_path, dropouts=(0.0,), decays=(0.0,))) is None
    assert interactions([]) is None
