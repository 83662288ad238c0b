"""The empirical tests, on frames whose answers can be had in the head."""

import math

import pandas as pd
import pytest

from bench.analysis.runs import Metric
from bench.claims.checks import efficiency, paired
from bench.claims.checks.paired import best_on_validation
from bench.tying.errors import BadInput

BY = ["task", "data"]


def run(tying="none", seed=1, test=0.5, val=None, dropout=0.0, **given):
    made = {"id": f"{tying}-{seed}-{dropout}-{sorted(given.items())}", "task": "image_cnn", "data": "digits"}
    made |= {"fingerprint": "f1", "tying": tying, "dropout": dropout, "weight_decay": 0.0, "seed": seed}
    made |= {"status": "done", "metric": "accuracy", "metric_mode": "max", "test_accuracy": test}
    return made | {"val_accuracy": test if val is None else val} | given


def cell(tying, values, **given):
    return [run(tying, seed, value, **given) for seed, value in enumerate(values, start=1)]


def frame(*cells):
    return pd.DataFrame([row for rows in cells for row in rows])


def gain(rows, **given):
    asked = {"ours": "tying == 'top'", "theirs": "tying == 'none'", "by": BY} | given
    return paired.gain(rows, **asked)


def test_a_gain_is_in_points_and_paired_by_seed():
    # Differences 1, 2, 3 points: mean 2, sd 1, t of 2 degrees 4.303, so 2 -+ 4.303 / sqrt(3).
    (part,) = gain(frame(cell("top", [0.61, 0.72, 0.53]), cell("none", [0.60, 0.70, 0.50])))
    found = part.numbers()
    assert part.name == "image_cnn, digits" and part.decides and part.seeds == 3
    assert found["gain"] == pytest.approx(2) and found["gain_low"] == pytest.approx(
        2 - 4.3027 / math.sqrt(3), 1e-4
    )
    assert found["gain_high"] == pytest.approx(4 - found["gain_low"])


def test_a_lower_perplexity_is_a_gain():
    worse, better = (
        [
            row
            | {
                "metric": "perplexity",
                "metric_mode": "min",
                "test_perplexity": value,
                "val_perplexity": value,
            }
            for row in cell(tying, [0.5, 0.5])
        ]
        for tying, value in (("none", 100.0), ("top", 100.0 / math.e))
    )
    assert gain(frame(worse, better))[0].numbers()["gain"] == pytest.approx(100)


def test_each_part_is_measured_by_itself_in_a_readers_order():
    cells = [cell(t, [v], width=w) for w in (10, 4) for t, v in (("top", 0.5 + w / 100), ("none", 0.5))]
    parts = gain(frame(*cells), by=["task", "width"])
    assert [(p.name, round(p.numbers()["gain"])) for p in parts] == [
        ("image_cnn, width=4", 4),
        ("image_cnn, width=10", 10),
    ]


def test_two_fingerprints_are_two_parts():
    rows = [cell(t, [v], fingerprint=f) for f, v in (("f1", 0.6), ("f2", 0.7)) for t in ("top", "none")]
    assert [part.name for part in gain(frame(*rows))] == ["image_cnn, digits, f1", "image_cnn, digits, f2"]


def test_context_decides_nothing():
    rows = [cell(t, [0.5], size=s) for s in (1, 2) for t in ("top", "none")]
    parts = gain(frame(*rows), by=["size"], context="size > 1")
    assert [part.decides for part in parts] == [True, False]


def test_the_best_cell_is_chosen_on_validation_and_scored_on_test():
    flattered = cell("none", [0.9], dropout=0.5, val=0.1)
    rows = frame(cell("top", [0.5]), cell("none", [0.3], val=0.2), flattered)
    (part,) = gain(rows, choose={"theirs": ["dropout"]})
    assert part.numbers()["gain"] == pytest.approx(20) and "dropout=0 by validation, best of 2" in part.note


@pytest.mark.parametrize(("mode", "winner"), [("max", 0.2), ("min", 0.0)])
def test_best_goes_with_the_mode(mode, winner):
    rows = frame(cell("none", [0.1], dropout=0.0), cell("none", [0.3], dropout=0.2))
    assert set(best_on_validation(rows, ["dropout"], Metric("accuracy", mode)).dropout) == {winner}


@pytest.mark.parametrize(
    ("status", "said"),
    [("failed", "1 of 2 failed"), ("diverged", "1 of 2 diverged"), ("not_finite", "1 of 2 not a number")],
)
def test_a_run_without_a_number_is_said_and_not_averaged(status, said):
    rows = cell("top", [0.6, math.nan])
    rows[1]["status"] = status
    (part,) = gain(frame(rows, cell("none", [0.5, 0.5])))
    assert part.numbers()["gain"] == pytest.approx(10) and part.seeds == 1 and said in part.note


def test_without_a_pair_there_is_no_number():
    (part,) = gain(frame(cell("top", [0.6])))
    assert not part.is_measured and "no runs of theirs" in part.note
    assert gain(frame(cell("none", [0.6]))) == []


def test_two_runs_of_a_seed_are_refused_with_what_differs():
    rows = frame(cell("top", [0.6], dropout=0.0), cell("top", [0.6], dropout=0.5), cell("none", [0.5]))
    with pytest.raises(BadInput, match="two runs of seed 1 in one selection: they differ in dropout"):
        gain(rows)


@pytest.mark.parametrize(
    "expression",
    [
        "tying = 'top'",
        "tying ==",
        "nowhere == 1",
        "tying > 1",
        "tying",
        "1",
        "seed + 1",
        "`a b",
        "@x > 0",
        "f(seed)",
    ],
)
def test_a_bad_expression_is_one_line(expression):
    with pytest.raises(BadInput, match="^bad expression [^\n]*$"):
        gain(frame(cell("top", [0.6]), cell("none", [0.5])), ours=expression)


def test_an_unknown_column_is_named():
    with pytest.raises(BadInput, match="no column 'colour'"):
        gain(frame(cell("top", [0.6]), cell("none", [0.5])), by=["colour"])


def test_a_lowering_is_told_from_one_that_is_too_small():
    rows = frame(*(cell(t, [0.5] * 2, gap=g) for t, g in (("top", 0.9), ("none", 1.0))))
    asked = {"ours": "tying == 'top'", "theirs": "tying == 'none'", "by": BY, "unit": "nats lower"}
    (part,) = paired.lowering(rows, columns={"at last": "gap"}, share=0.15, **asked)
    found = part.numbers()
    assert (
        part.name.endswith("at last")
        and found["lower"] == pytest.approx(0.1)
        and found["beyond"] == pytest.approx(-0.05)
    )
    assert found["percent"] == pytest.approx(10)


def test_a_lowering_beside_another_network_decides_nothing_and_needs_its_runs():
    gaps = (("top", 0.9), ("none", 1.0), ("small", 0.8))
    rows = frame(*(cell(t, [0.5] * 2, gap=g) for t, g in gaps))
    asked = {"ours": "tying == 'top'", "theirs": "tying == 'none'", "by": BY, "unit": "nats", "share": 0.15}
    context = {"beside a small one": "tying == 'small'", "beside a big one": "tying == 'big'"}
    plain, small = paired.lowering(rows, columns={"at last": "gap"}, context=context, **asked)
    assert plain.decides and not small.decides
    assert small.name.endswith("at last, beside a small one")
    assert small.numbers()["lower"] == pytest.approx(-0.1)


@pytest.mark.parametrize(("middle", "place"), [(0.5, 0.5), (0.6, 0.0), (0.4, 1.0), (0.7, -0.5)])
def test_between_knows_its_place(middle, place):
    rows = frame(cell("none", [0.6] * 2), cell("full", [0.4] * 2), cell("soft", [middle] * 2))
    ends = {"one": "tying == 'none'", "other": "tying == 'full'"}
    (part,) = paired.between(rows, ours="tying == 'soft'", by=BY, **ends)
    assert part.numbers()["position"] == pytest.approx(place)
    assert part.numbers()["over_one"] == pytest.approx(100 * (middle - 0.6))
    assert part.numbers()["over_other"] == pytest.approx(100 * (middle - 0.4))


@pytest.mark.parametrize("extra", [0.0, 0.03, -0.03])
def test_an_interaction_is_the_difference_of_differences(extra):
    def value(tying, dropout, decay):
        both = extra if tying == "top" and dropout else 0
        return 0.5 + 0.1 * (tying == "top") - 0.05 * bool(dropout) + 0.01 * decay + both

    rows = [
        row
        for tying in ("none", "top")
        for dropout in (0.0, 0.2)
        for decay in (0, 1)
        for row in cell(tying, [value(tying, dropout, decay)] * 2, dropout=dropout, weight_decay=decay)
    ]
    axes = {"dropout": [0, 0.2], "weight_decay": [0, 1]}
    asked = {"tied": "tying == 'top'", "untied": "tying == 'none'", "axes": axes, "by": ["task"]}
    first, second = paired.interaction(pd.DataFrame(rows), **asked)
    assert first.numbers()["interaction"] == pytest.approx(100 * extra, abs=1e-9)
    assert first.numbers()["alone"] == pytest.approx(-5)
    assert second.numbers()["interaction"] == pytest.approx(0, abs=1e-9)


def test_partial_tying_saves_what_arithmetic_says():
    """Six blocks of 100: all tied saves 500; three tied save 200 of 300."""
    shared = {"depth": 6, "num_params_untied": 1000}
    rows = frame(
        cell("none", [0.5] * 2, num_params=1000, k=None, **shared),
        cell("full", [0.4] * 2, num_params=500, k=None, **shared),
        cell("top", [0.45] * 2, num_params=800, k=3, **shared),
    )
    asked = {"ours": "tying == 'top'", "full": "tying == 'full'", "none": "tying == 'none'"}
    part, against = paired.partial(rows, by=["task"], k="k", depth="depth", **asked)
    assert part.numbers()["saved"] == pytest.approx(200 / 3) and part.numbers()["gain"] == pytest.approx(5)
    assert not against.decides and against.numbers()["gain"] == pytest.approx(-5)


def test_a_cut_of_time_turns_the_ends_of_the_ratio_and_a_batch_follows_the_formula():
    """Tied holds half of the untied: at a share of 0.5 the batch is 0.75 / 0.5, and twice from 1 / 1.5 on."""
    cost = {"step_ratio": 0.6, "step_ratio_low": 0.5, "step_ratio_high": 0.7}
    held = dict.fromkeys(efficiency.HELD, 100.0)
    half = dict.fromkeys(efficiency.HELD, 50.0)
    rows = frame(cell("none", [0.5], **held), cell("top", [0.5] * 3, **half, **cost))
    sides = {"ours": "tying == 'top'", "theirs": "tying == 'none'", "by": ["task"], "over": ["tying"]}
    time, batch = efficiency.costs(rows, cuts={"step": "step_ratio"}, cut=40, shares=[0.5], **sides)
    assert time.numbers()["cut"] == pytest.approx(40) and time.numbers()["reached"] == pytest.approx(100)
    assert (time.numbers()["cut_low"], time.numbers()["cut_high"]) == pytest.approx((30, 50))
    assert batch.numbers()["batch"] == pytest.approx(1.5) and batch.numbers()["reached"] == pytest.approx(50)
    assert "67 %" in batch.note


def test_a_gain_stands_beside_each_opponent_and_beside_the_largest_network():
    rows = frame(cell("top", [0.6] * 2), cell("none", [0.5] * 2), cell("none", [0.3] * 2, dropout=0.5))
    theirs = {"said": "tying == 'none' and dropout == 0.5", "fair": "tying == 'none' and dropout == 0"}
    asked = {
        "ours": "tying == 'top'",
        "theirs": theirs,
        "by": BY,
        "pairs_of_theirs": {"plain": ["fair", "said"]},
    }
    found = paired.gains(rows, **asked)[0].numbers()
    assert [found[name] for name in ("said", "fair", "plain")] == pytest.approx([30, 10, 20])
    sized = [
        cell("none", [0.5 + loss] * 2, dropout=dropout, width=width)
        for width, harm in ((4, -0.1), (8, -0.3))
        for dropout, loss in ((0.0, 0.0), (0.5, harm))
    ]
    sides = {"ours": "dropout > 0", "theirs": "dropout == 0", "by": BY, "size": "width", "small": "width < 8"}
    small, large = paired.gain_by_size(frame(*sized), **sides)
    assert (small.decides, large.decides) == (True, False)
    assert small.numbers()["gain"] == pytest.approx(-10) and small.numbers()["more"] == pytest.approx(20)


def test_a_race_goes_to_a_loss_that_both_reach():
    """Ours is at 2 after 100 of its steps, theirs (best 2) after 200: half the steps, and of a step 0.8 the time."""
    ours, theirs = "50:3;100:2;150:1", "100:3;200:2"
    rows = frame(
        cell("none", [0.5] * 2, curve_val_nll=theirs, train_step_ratio=1.0),
        cell("top", [0.5] * 2, curve_val_nll=ours, train_step_ratio=0.8),
    )
    (part,) = efficiency.race(rows, ours="tying == 'top'", theirs="tying == 'none'", by=["task"])
    assert part.numbers()["steps"] == pytest.approx(0.5) and part.numbers()["time"] == pytest.approx(0.4)


@pytest.mark.parametrize(("goal", "step"), [(4.0, 10), (3.0, 10), (2.5, 15), (2.0, 20), (1.5, 35)])
def test_between_validations_a_curve_is_straight(goal, step):
    assert efficiency.reached([(10, 3.0), (20, 2.0), (30, 2.2), (40, 0.8)], goal) == pytest.approx(step)


def int8_cell(tying, before, after, size, small, metric="perplexity", mode="min"):
    scores = [{"test_nll": b, "int8_test_nll": a} for b, a in zip(before, after, strict=True)]
    named = [
        {f"{split}_perplexity": math.exp(row[f"{split}_nll"]) for split in ("test", "int8_test")}
        for row in scores
    ]
    held = {"int8_bytes_float": size, "int8_bytes": small, "metric": metric, "metric_mode": mode}
    rows = cell(tying, [0.5] * len(before))
    return [row | given | named | held for row, given, named in zip(rows, scores, named, strict=True)]


def test_what_int8_saves_and_loses_tied_against_untied():
    tied = int8_cell("tied", [2.0, 2.0, 2.0], [2.02, 2.04, 2.06], 100, 30)  # 1, 2, 3 %
    untied = int8_cell("none", [4.0, 4.0, 4.0], [4.04, 4.04, 4.04], 400, 100)  # 1 %
    asked = {"ours": "tying != 'none'", "theirs": "tying == 'none'", "by": BY, "over": ["tying"]}
    (part,) = paired.further(frame(tied, untied), **asked)
    found = part.numbers()
    assert part.name == "image_cnn, digits, tied" and part.seeds == 3
    sizes = [found[key] for key in ("shrink", "shrink_untied", "shrink_of_untied")]
    assert sizes == pytest.approx([70, 75, 17.5])
    assert [found[key] for key in ("lost", "lost_untied", "lost_more")] == pytest.approx([2, 1, 1])
    assert found["lost_more_low"] == pytest.approx(1 - 4.3027 / math.sqrt(3), 1e-4)
    # In nats: 2, 4 and 6 hundredths against 4 each.
    assert found["metric_lost_more"] == pytest.approx(0, abs=1e-9)
    assert found["metric_lost_more_high"] == pytest.approx(2 * 4.3027 / math.sqrt(3), 1e-4)


def test_a_run_that_was_not_quantised_is_not_known():
    rows = int8_cell("tied", [2.0, 2.0], [2.1, 2.1], 100, 30) + cell("none", [0.5, 0.5])
    made = frame(
        [
            row | {"metric": "perplexity", "metric_mode": "min", "test_nll": 2.0, "test_perplexity": 7.0}
            for row in rows
        ]
    )
    (part,) = paired.further(made, ours="tying != 'none'", theirs="tying == 'none'", by=BY, over=["tying"])
    assert part.numbers()["lost_more"] is None and part.numbers()["shrink"] == pytest.approx(70)
