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
    EQUAL,
    REINFORCES,
    REPLACES,
    WORSE,
    Effect,
    Factorial,
    Grid,
    factorial,
    reading,
)
from bench.analysis.groups import Section, sections
from bench.analysis.runs import Metric, RunRecord, read_sweep
from bench.analysis.statistics import paired
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
    # Seed 1 says 97 - 92 - 92 + 92 = 5, seed 2 says 95 - 90 - 92 + 88 = 1: standard error 2 on one degree of freedom.
    half = 12.70620474 * 2
    interaction = effects["cross_layer x dropout 0.2"]
    assert (interaction.low, interaction.high) == pytest.approx((3 - half, 3 + half), rel=1e-8)
    found = factorial(section(values))
    assert (found.n, found.seeds, found.reference) == (8, [1, 2], "none, dropout 0, weight decay 0")


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
    assert "nats" in factorial(found).response
    table = effects_table(factorial(found))
    (row,) = (row for row in table.rows if row[0] == "dropout 0.2")
    assert "(change in %)" in table.header[1] and row[1].startswith(("−19.", "−20."))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("tying", "dropout", "both", "said"),
    [(3, 2, -1, REPLACES), (3, 2, 1, REINFORCES), (-3, 2, -1, REPLACES), (-3, 2, 1, REINFORCES)]
    + [(-3, -2, 1, BETTER), (-3, -2, -1, WORSE), (0.05, -2, -1, WORSE), (3, 2, 0.05, ADDS_UP)],
)
def test_readings_know_which_way_the_metric_runs(sign, tying, dropout, both, said):
    def effect(gain: float) -> Effect:
        p = 0.01 if abs(gain) > 0.1 else 0.5
        return Effect((), sign * gain, sign * gain - 0.1, sign * gain + 0.1, p, n=5, asked=5, p_holm=p)

    assert reading(effect(both), [effect(tying), effect(dropout)], sign) == said


def test_intervals_cover_although_runs_of_one_seed_are_alike():
    # What a tying does differs between seeds, and is much the same at every dropout and decay: of the variance of a
    # run within its cell 90 % is its seed's, shared by all tyings, or its seed's and tying's, and 10 % its own.
    rng, sections_made, tyings = np.random.default_rng(20), 100, ["none", *map(str, range(12))]
    dropouts, decays, seeds = (0.0, 0.2), (0.0, 1.0), range(6)
    covered: dict[int, list[bool]] = {1: [], 2: [], 3: []}
    for _ in range(sections_made):
        shape = (len(tyings), len(dropouts), len(decays), len(seeds))
        noise = (
            math.sqrt(0.5) * rng.standard_normal(len(seeds))
            + math.sqrt(0.4) * rng.standard_normal((len(tyings), 1, 1, len(seeds)))
            + math.sqrt(0.1) * rng.standard_normal(shape)
        )
        values = {
            (tying, dropout, decay, seed): 0.5 + 0.01 * noise[a, b, c, d] + 0.02 * a * (1 + b)
            for (a, tying), (b, dropout), (c, decay), (d, seed) in product(
                enumerate(tyings), enumerate(dropouts), enumerate(decays), enumerate(seeds)
            )
        }
        for effect in fitted(values).values():
            if effect.tying is not None:
                at = tyings.index(effect.tying)
                truth = {1: 2.0 * at, 2: 2.0 * at * ("dropout 0.2" in effect.parts), 3: 0.0}
                order = len(effect.parts)
                covered[order].append(effect.low <= truth[order] <= effect.high)
    # Two standard errors of 1,200 intervals are 1.3 %; what is not covered of an effect of 0 is a false alarm.
    shares = {order: np.mean(hits) for order, hits in covered.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


@pytest.mark.parametrize("metric, mode", [("accuracy", "max"), ("perplexity", "min")])
def test_the_effect_of_a_tying_is_the_paired_difference(metric, mode):
    values = grid(sometimes, ("none", "embedding", "cross_layer"), decays=(0.0, 1.0), seeds=range(1, 8))
    values["cross_layer", 0.0, 0.0, 3] = values["none", 0.2, 1.0, 5] = None
    scale = math.log if metric == "perplexity" else lambda value: 100 * value
    for term, effect in fitted(values, metric, mode).items():
        if term in ("embedding", "cross_layer"):
            ours, theirs = (
                {s: scale(values[t, 0.0, 0.0, s]) for s in range(1, 8) if values[t, 0.0, 0.0, s]}
                for t in (term, "none")
            )
            difference = paired(ours, theirs)
            expected = (difference.mean, difference.low, difference.high, difference.p)
            assert effect[1:5] == pytest.approx(expected, rel=1e-9)
            assert effect.n == difference.n == (7 if term == "embedding" else 6)


def test_an_effect_that_lacks_seeds_says_so_and_one_that_lost_them_is_not_judged():
    values = grid(sometimes, decays=(0.0, 1.0), seeds=range(1, 8))
    values["cross_layer", 0.2, 0.0, 2] = None
    found = factorial(section(values))
    rows = {row[0]: row for row in effects_table(found).rows}
    n = effects_table(found).header.index("n")
    assert rows["cross_layer"][n] == rows["dropout 0.2"][n] == "7"
    assert rows["cross_layer x dropout 0.2"][n] == "6 of 7"
    assert rows["cross_layer x dropout 0.2"][-1] == "not judged: 1 of 7 seeds diverged or failed"
    assert "not judged" not in rows["cross_layer"][-1]


def test_an_effect_that_is_the_same_at_all_seeds_has_no_interval():
    values = grid(lambda *at: 0.5 + 0.1 * bool(at[1]) + (at[0] != "none") * 0.01 * at[-1])
    effects = fitted(values)
    same = effects["dropout 0.2"]
    assert (round(same.estimate, 9), same.low, same.high, same.p) == (10, None, None, None)
    assert same.reading == EQUAL and not same.is_shown
    assert effects["cross_layer"].is_shown
    table = effects_table(factorial(section(values)))
    assert [row[2] for row in table.rows if row[0] == "dropout 0.2"] == ["—"]


def test_a_term_s_cells_alternate():
    cells = Grid(["none", "a"], [0.0, 0.2], [0.0, 1.0], {})
    assert cells.contrast(("a", None, None)) == ([("a", 0.0, 0.0)], [("none", 0.0, 0.0)])
    assert cells.contrast((None, 0.2, None), under="a") == ([("a", 0.2, 0.0)], [("a", 0.0, 0.0)])
    plus, minus = cells.contrast(("a", 0.2, 1.0))
    # (a - none) at dropout 0.2, less (a - none) at 0, both at decay 1, less the same at decay 0.
    assert set(plus) == {("a", 0.2, 1.0), ("none", 0.0, 1.0), ("none", 0.2, 0.0), ("a", 0.0, 0.0)}
    assert set(minus) == {("none", 0.2, 1.0), ("a", 0.0, 1.0), ("a", 0.2, 0.0), ("none", 0.0, 0.0)}


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
            "no seed has a finished run in every cell of `dropout 0.2`",
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
    found = factorial(section(controlled))
    # The verdict of a tying is of one family with that against its control.
    assert [e._replace(reading="") for e in found.effects] == [e._replace(reading="") for e in bare.effects]
    assert (found.n, found.within, found.left_out) == (bare.n, bare.within, bare.left_out)


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
    values["cross_layer", 0.0, 0.0, 1] += 2e-6
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
