"""Cells against `none`: families, margins, effects and ranks, and what cannot be said."""

import math

import pytest
import record_maker as made

from bench.analysis.comparison import chosen_vs_untied, vs_untied
from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.analysis.statistics import holm
from bench.report.comparison import comparison, differences


def section_of(folder, *pairs, records=()):
    """One section, of what `made.pair` gives."""
    lines, found = [line for pair in pairs for line in pair[0]], [r for pair in pairs for r in pair[1]]
    made.write_sweep(folder / "runs", lines, [*found, *records])
    (section,) = sections(read_sweep(folder / "runs", "quick")[0])
    return section


def by_tying(section, dropout: float = 0.0):
    found = vs_untied(section)
    assert [each.cell for each in found] == list(section.cells)
    return {each.cell.tying: each for each in found if each.cell.dropout == dropout}


def test_the_family_is_the_tyings_at_one_dropout_and_weight_decay(tmp_path):
    pairs = []
    for dropout in (0.0, 0.2):
        pairs += [made.pair(100.0, 101.0, 103.0, dropout=dropout)]
        pairs += [made.pair(99.0, 101.5, 100.0 - 9 * dropout, tying="cross_layer", dropout=dropout)]
        pairs += [made.pair(90.0, 92.5, 95.0 + 9 * dropout, tying="soft", dropout=dropout)]
    section = section_of(tmp_path, *pairs)
    for dropout in (0.0, 0.2):
        found = by_tying(section, dropout)
        tied = [found["cross_layer"], found["soft"]]
        assert [each.p_holm for each in tied] == holm([each.p for each in tied])
        assert found["none"].difference is found["none"].p_holm is None and found["none"].verdict == ""


def test_a_tying_that_could_not_be_tested_is_no_member_of_the_family(tmp_path):
    pairs = [made.pair(100.0, 101.0, 103.0), made.pair(90.0, 92.5, 95.0, tying="cross_layer")]
    alone = by_tying(section_of(tmp_path / "a", *pairs))["cross_layer"]
    pairs += [made.pair(91.0, tying="soft"), made.pair(91.0, tying="top_k(k=2)", first_seed=9)]
    found = by_tying(section_of(tmp_path / "b", *pairs))
    assert found["cross_layer"].p_holm == alone.p_holm == alone.p
    assert found["soft"].p_holm is None and found["soft"].verdict == "too few seeds"
    assert found["top_k(k=2)"].difference is None and found["top_k(k=2)"].verdict == ""


def test_the_margin_is_half_a_point_of_a_share_and_a_percent_of_anything_else(tmp_path):
    task = {"task": "image_cnn"}
    share = section_of(
        tmp_path / "a", made.pair(0.9, 0.92, **task), made.pair(0.8, 0.8, tying="soft", **task)
    )
    assert by_tying(share)["soft"].margin == 0.005
    other = section_of(tmp_path / "b", made.pair(90.0, 110.0), made.pair(80.0, 70.0, tying="soft"))
    assert by_tying(other)["soft"].margin == pytest.approx(1.0)
    assert vs_untied(section_of(tmp_path / "c", made.pair(1.0, tying="soft")))[0].margin is None


def test_an_effect_is_in_spreads_of_the_seeds_that_are_paired(tmp_path):
    untied, tied = made.pair(100.0, 102.0, 500.0), made.pair(103.0, 105.0, tying="cross_layer")
    found = by_tying(section_of(tmp_path, untied, tied))["cross_layer"]
    assert found.effect == pytest.approx(3 / math.sqrt(2)) and found.difference.n == 2


def test_seeds_that_do_not_spread_give_no_effect_and_no_warning(tmp_path):
    untied, tied = made.pair(100.0, 100.0), made.pair(103.0, 103.0, tying="cross_layer")
    found = by_tying(section_of(tmp_path, untied, tied))["cross_layer"]
    assert found.effect is None and found.p == 0.0 and found.verdict == "worse (too few seeds)"


def test_ranks_are_shared_by_equals_and_change_is_against_no_regularisation(tmp_path):
    pairs = [made.pair(value, tying=tying) for tying, value in (("none", 90.0), ("soft", 90.0))]
    pairs += [made.pair(95.0, tying="cross_layer"), made.pair(94.0, dropout=0.2)]
    pairs += [made.pair(93.0, tying="cross_layer", dropout=0.2)]
    pairs += [made.pair(92.0, tying="top_k(k=2)", dropout=0.2)]
    section = section_of(tmp_path, *pairs)
    plain, dropped = by_tying(section), by_tying(section, 0.2)
    assert {tying: (a.rank, a.rank_change) for tying, a in plain.items()} == {
        "none": (1, None), "soft": (1, None), "cross_layer": (3, None)
    }  # fmt: skip
    assert {tying: (a.rank, a.rank_change) for tying, a in dropped.items()} == {
        "none": (3, -2), "cross_layer": (2, 1), "top_k(k=2)": (1, None)
    }  # fmt: skip


def test_a_failed_seed_is_missing_from_the_pairs_and_named(tmp_path):
    line = made.entry("soft", seed=3)
    untied, tied = made.pair(100.0, 101.0, 103.0), made.pair(90.0, 92.5, tying="soft")
    broken = made.unfinished(line, "diverged", "loss is nan")
    section = section_of(tmp_path, untied, (tied[0] + [line], tied[1]), records=[broken])
    assert by_tying(section)["soft"].difference.n == 2
    assert differences(section).rows[0][3] == "2"
    assert comparison(section).rows[1][-1] == "diverged: loss is nan (1 of 3 seeds)"


def test_a_hole_is_a_row_of_the_differences(tmp_path):
    line = made.entry("soft")
    pairs = [made.pair(100.0, 101.0), made.pair(90.0, 92.5, tying="cross_layer"), ([line], [])]
    section = section_of(tmp_path, *pairs, records=[made.unfinished(line, "failed", "out of memory")])
    assert [row[:5] for row in differences(section).rows][1] == ["soft", "0", "0", "0", "hole"]


def test_what_is_compared_best_against_best_is_chosen_on_validation_and_is_one_family(tmp_path):
    lines, records = [], []
    for tying, dropout, test, val in (
        ("none", 0.0, 100.0, 90.0), ("none", 0.2, 90.0, 95.0),
        ("cross_layer", 0.0, 80.0, 99.0), ("cross_layer", 0.2, 101.0, 85.0), ("soft", 0.0, 110.0, 99.0),
    ):  # fmt: skip
        for seed in (1, 2):
            lines.append(made.entry(tying, dropout, seed=seed))
            noise = seed * (0.3 if tying == "soft" else 0.5)
            records.append(made.record(lines[-1], test + noise, val=val))
    found = chosen_vs_untied(section_of(tmp_path, (lines, records)))
    assert {tying: a.cell.dropout for tying, a in found.items()} == {"none": 0, "cross_layer": 0.2, "soft": 0}
    assert found["cross_layer"].difference.mean == pytest.approx(1) and found["cross_layer"].rank == 2
    tied = [found["cross_layer"], found["soft"]]
    assert [each.p_holm for each in tied] == holm([each.p for each in tied])


def grouped(line, value, correct, count):
    return made.record(line, value) | {"test_groups": {"correct": correct, "count": count}}


def test_groups_are_drawn_jointly_for_all_seeds(tmp_path):
    lines = [made.entry(task="image_cnn", seed=seed) for seed in (1, 2)]
    correct, count = [4, 0] * 6, [4, 4] * 6
    one = section_of(
        tmp_path / "a", ([lines[0]], [grouped(lines[0], 0.5, correct, count)])
    ).cells[0].by_group  # fmt: skip
    both = [grouped(line, 0.5, correct, count) for line in lines]
    section = section_of(tmp_path / "b", (lines, both))
    # The same groups right at both seeds: a second seed says nothing new about the groups.
    assert section.cells[0].by_group == one and one.mean == 0.5 and one.n == 12
    table = comparison(section)
    (text,) = (row[table.header.index("by group\n[95 %]")] for row in table.rows)
    assert text == f"[{100 * one.low:.2f}, {100 * one.high:.2f}]"


@pytest.mark.parametrize("other", [None, {"correct": [1] * 11, "count": [1] * 11}, {"correct": [0] * 12}])
def test_seeds_without_the_same_groups_have_no_interval_of_groups(tmp_path, other):
    lines = [made.entry(task="image_cnn", seed=seed) for seed in (1, 2)]
    records = [grouped(lines[0], 0.5, [1, 0] * 6, [1] * 12), made.record(lines[1], 0.5, test_groups=other)]
    section = section_of(tmp_path, (lines, records))
    assert section.cells[0].by_group is None
    assert "by group\n[95 %]" not in comparison(section).header


def test_nine_groups_are_too_few_to_draw_from(tmp_path):
    line = made.entry(task="image_cnn")
    section = section_of(tmp_path, ([line], [grouped(line, 0.5, [1] * 9, [2] * 9)]))
    assert section.cells[0].by_group is None
