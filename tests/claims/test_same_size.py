"""Hard against soft tying of one size, on frames whose answers can be had in the head."""

import pandas as pd
import pytest

from bench.claims.checks.paired import gain_at_size
from bench.tying.errors import BadInput


def cell(tying, values, size, strength=None, untied=1100.0, **given):
    return [
        {"id": f"{tying}-{seed}-{strength}", "task": "image_cnn", "fingerprint": "f1", "tying": tying}
        | {
            "seed": seed,
            "status": "done",
            "metric": "accuracy",
            "metric_mode": "max",
            "test_accuracy": value,
            "strength": strength,
        }
        | {"num_params": size if tying == "top" else untied, "effective_params": size}
        | given
        for seed, value in enumerate(values, start=1)
    ]


def part(*cells, within=0.01):
    frame = pd.DataFrame([row for rows in cells for row in rows])
    sides = {"ours": "tying == 'top'", "theirs": "tying == 'soft'", "by": ["task"]}
    (found,) = gain_at_size(frame, **sides, size="effective_params", strength="strength", within=within)
    return found


TOP = cell("top", [0.5, 0.6, 0.7], 1000.0)
WEAK, NEAR, STRONG = (
    cell("soft", [value] * 3, size, strength)
    for value, size, strength in ((0.9, 1090.0, 0.001), (0.4, 1005.0, 0.01), (0.1, 900.0, 0.1))
)


def test_it_is_compared_with_the_strength_that_is_nearest_in_size_whatever_its_score():
    found = part(TOP, WEAK, NEAR, STRONG)
    assert found.numbers()["gain"] == pytest.approx(20) and found.seeds == 3 and found.decides
    assert found.numbers()["ratio"] == pytest.approx(1.005)
    assert "strength=0.01, of 3 the nearest in size" in found.note


def test_the_size_of_a_strength_is_a_mean_over_seeds():
    """980 and 1020 are 1000 together, and nearer than 1005."""
    mixed = cell("soft", [0.3] * 2, 980.0, 0.02)
    mixed[1]["effective_params"] = 1020.0
    found = part(TOP, NEAR, mixed)
    assert found.numbers()["ratio"] == pytest.approx(1) and "strength=0.02" in found.note


def test_the_size_of_ours_is_counted_as_that_of_theirs_and_a_mean_over_seeds_too():
    mine = [row | {"effective_params": size} for row, size in zip(TOP, (890, 900, 910), strict=True)]
    found = part(mine, NEAR, STRONG)
    assert found.numbers()["ratio"] == pytest.approx(1) and "strength=0.1" in found.note


def test_nearest_is_meant_in_ratios():
    """From 1000, 1250 is as far as 800: 790 is farther than 1250, and 810 nearer."""
    for size, chosen in ((790.0, 1.25), (810.0, 0.81)):
        found = part(TOP, cell("soft", [0.3], 1250.0, 1), cell("soft", [0.3], size, 2), within=0.5)
        assert found.numbers()["ratio"] == pytest.approx(chosen)


def test_where_none_is_near_nothing_is_compared_and_it_says_so():
    found = part(TOP, WEAK, STRONG)
    assert found.numbers()["gain"] is None and not found.decides
    assert found.numbers()["ratio"] == pytest.approx(1.09)
    assert "n/a: not within 1 % of the size of ours" in found.note
    assert part(TOP, WEAK, STRONG, within=0.1).decides


def test_only_seeds_of_both_are_compared_and_a_missing_one_is_said():
    diverged = [row | {"status": "diverged"} if row["seed"] == 2 else row for row in NEAR]
    found = part(TOP, diverged)
    assert found.numbers()["gain_n"] == 2 and "theirs: 1 of 3 diverged" in found.note


def test_without_runs_or_sizes_nothing_is_known():
    assert not part(TOP).is_measured and "no runs of theirs" in part(TOP).note
    unsized = part(TOP, [row | {"effective_params": None} for row in NEAR])
    assert not unsized.is_measured and "theirs: no effective number of parameters" in unsized.note


def test_records_from_before_there_was_such_a_size_are_refused_by_name():
    rows = [{key: row[key] for key in row if key != "effective_params"} for row in TOP + NEAR]
    with pytest.raises(BadInput, match="no column 'effective_params'"):
        part(rows)
