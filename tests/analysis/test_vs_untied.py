"""Cells against `none`: families, margins, effects and ranks, and what cannot be said."""

import math

import pytest
import record_maker as made

from bench.analysis.comparison import chosen_vs_untied, n_compared, vs_controls, vs_untied
from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.analysis.statistics import holm_of_two, p_beyond, paired
from bench.analysis.verdict import Kind
from bench.report.comparison import comparison, controls, differences, headline

FLOOR = "worse than the trigram floor"


def section_of(folder, *pairs, records=()):
    """One section, of what `made.pair` gives."""
    lines, found = [line for pair in pairs for line in pair[0]], [r for pair in pairs for r in pair[1]]
    made.write_sweep(folder / "runs", lines, [*found, *records])
    (section,) = sections(read_sweep(folder / "runs", "quick")[0])
    return section


def text_of(row) -> str:
    """The verdict as it is printed, without what it says of a floor that made-up records miss."""
    return str(row.verdict).replace(f"; {FLOOR}", "")


def by_tying(section, dropout: float = 0.0):
    found = vs_untied(section)
    assert [each.cell for each in found] == list(section.cells)
    return {each.cell.tying: each for each in found if each.cell.dropout == dropout}


def test_the_family_is_all_that_the_pages_show_of_a_section(tmp_path):
    pairs = []
    for dropout in (0.0, 0.2):
        pairs += [made.pair(100.0, 101.0, 103.0, dropout=dropout)]
        pairs += [made.pair(99.0, 101.5, 100.0 - 9 * dropout, tying="cross_layer", dropout=dropout)]
        pairs += [made.pair(90.0, 92.5, 95.0 + 9 * dropout, tying="soft", dropout=dropout)]
    pairs += [made.pair(95.0, 97.5, 99.0, tying="cross_layer, control=params")]
    section = section_of(tmp_path, *pairs)
    rows = {(row.cell, row.reference): row for row in vs_untied(section) if row.difference}
    rows |= {(row.cell, row.reference): row for row in vs_controls(section)}
    chosen = {(row.cell, row.reference): row for row in chosen_vs_untied(section).values() if row.difference}
    # Four ties and a control against `none`, a tie against its control, and of what validation chose the pairs whose
    # `none` has another dropout.
    apart = chosen.keys() - rows.keys()
    assert len(rows) == 6 and apart and all(cell.dropout != none.dropout for cell, none in apart)
    assert n_compared(section) == len(rows) + len(apart)
    family = [*rows.values(), *(chosen[pair] for pair in apart)]
    corrected = holm_of_two([(row.p, p_beyond(row.difference, row.margin)) for row in family])
    assert [row.p_holm for row in family] == [of_none for of_none, _ in corrected]
    # A pair has the same verdict in the summary as on the page of its task.
    assert all(chosen[pair].verdict == rows[pair].verdict for pair in chosen.keys() & rows.keys())
    none = by_tying(section)["none"]
    assert none.difference is none.p_holm is None and none.verdict.kind == Kind.NOTHING


def test_a_tying_that_could_not_be_tested_is_no_member_of_the_family(tmp_path):
    pairs = [made.pair(100.0, 101.0, 103.0), made.pair(90.0, 92.5, 95.0, tying="cross_layer")]
    alone = by_tying(section_of(tmp_path / "a", *pairs))["cross_layer"]
    lost = [made.entry("sandwich", seed=seed) for seed in (1, 2, 3)]
    records = [made.record(lost[0], 90.0), made.record(lost[1], 95.0), made.unfinished(lost[2], "failed", "")]
    pairs += [(lost, records)]
    pairs += [made.pair(91.0, tying="soft"), made.pair(91.0, tying="top_k(k=2)", first_seed=9)]
    found = by_tying(section_of(tmp_path / "b", *pairs))
    assert found["cross_layer"].p_holm == alone.p_holm == alone.p
    assert found["soft"].p_holm is None and found["soft"].verdict.kind == Kind.TOO_FEW
    assert found["top_k(k=2)"].difference is None and found["top_k(k=2)"].verdict.kind == Kind.NOTHING
    assert found["sandwich"].n_pairs == 2 and found["sandwich"].p_holm is found["sandwich"].p is None


def test_the_margin_is_half_a_point_of_a_share_and_a_percent_of_anything_else(tmp_path):
    task = {"task": "image_cnn"}
    share = section_of(
        tmp_path / "a", made.pair(0.9, 0.92, **task), made.pair(0.8, 0.8, tying="soft", **task)
    )
    assert by_tying(share)["soft"].margin == 0.005
    other = section_of(tmp_path / "b", made.pair(90.0, 110.0), made.pair(80.0, 70.0, tying="soft"))
    # Of a perplexity seeds are compared by its logarithm.
    assert by_tying(other)["soft"].margin == pytest.approx(math.log(1.01))
    assert vs_untied(section_of(tmp_path / "c", made.pair(1.0, tying="soft")))[0].margin is None


def test_an_effect_is_in_spreads_of_the_seeds_that_are_paired(tmp_path):
    nats = made.pair(*map(math.exp, (4.0, 4.02, 6.0))), made.pair(*map(math.exp, (4.03, 4.05)), tying="soft")
    found = by_tying(section_of(tmp_path, *nats))["soft"]
    assert found.effect == pytest.approx(3 / math.sqrt(2)) and found.difference.n == 2


@pytest.mark.parametrize(("tied", "whose"), [((103.0, 103.0), "seeds"), ((103.0, 104.0), "seeds of none")])
def test_seeds_that_do_not_spread_are_asked_about_and_not_tested(tmp_path, tied, whose):
    section = section_of(tmp_path, made.pair(100.0, 100.0), made.pair(*tied, tying="cross_layer"))
    found = by_tying(section)["cross_layer"]
    assert found.p is found.p_holm is None and found.verdict.kind == Kind.NO_SPREAD
    assert text_of(found) == f"{whose} have no effect (is the seed ignored?)"


def test_an_accuracy_that_is_the_same_at_all_seeds_is_none_of_an_ignored_seed(tmp_path):
    """Two seeds that get every example right differ in their loss."""
    lines, records = made.pair(1.0, 1.0, task="image_cnn")
    records[0]["test"]["nll"] = 0.01
    tied = made.pair(0.98, 0.99, tying="soft", task="image_cnn")
    assert by_tying(section_of(tmp_path, (lines, records), tied))["soft"].verdict.kind == Kind.UNDECIDED


def test_a_network_that_loses_nothing_has_nothing_for_a_seed_to_change(tmp_path):
    lines, records = made.pair(1.0, 1.0, task="image_cnn")
    for record in records:
        record["test"]["nll"] = 0.0
    tied = made.pair(0.98, 0.97, tying="soft", task="image_cnn")
    assert by_tying(section_of(tmp_path, (lines, records), tied))["soft"].verdict.kind == Kind.UNDECIDED


# Runs that diverged or failed.


def lost_at(tying, values, lost, status="diverged"):
    """A cell with a number at some seeds, and none at `lost` further ones."""
    lines = [made.entry(tying, seed=seed) for seed in range(1, len(values) + lost + 1)]
    records = [made.record(line, value) for line, value in zip(lines, values, strict=False)]
    return lines, records + [made.unfinished(line, status, "a reason") for line in lines[len(values) :]]


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_tying_that_lost_runs_is_ranked_last_never_best_and_not_judged(tmp_path, status):
    """Its five good seeds are far better than those of `none`, and another tying is far worse."""
    untied, good = [100.0, 101, 102, 103, 104, 105, 106, 107], [50.0, 52, 51, 53, 50]
    pairs = [made.pair(*untied), lost_at("cross_layer", good, 3, status)]
    pairs += [made.pair(*(value + 30 + value % 3 for value in untied), tying="soft")]
    section = section_of(tmp_path, *pairs)
    found = by_tying(section)
    assert {tying: row.rank for tying, row in found.items()} == {"none": 1, "soft": 2, "cross_layer": 3}
    assert text_of(found["cross_layer"]) == f"3 of 8 {status}" and found["cross_layer"].p is None
    assert found["soft"].verdict.kind == Kind.WORSE
    table, none = comparison(section), section.cells[0]
    marked = [c for r, c in table.best if table.rows[r][0] == "cross_layer"]
    assert [table.header[c] for c in marked] == ["unique\nparameters"] and none in section.best_cells
    summary = headline([section])
    assert not any(
        summary.rows[r][0] == "cross_layer" and "perplexity" in summary.header[c] for r, c in summary.best
    )


def test_an_untied_cell_that_lost_runs_makes_no_tying_worse(tmp_path):
    section = section_of(
        tmp_path,
        lost_at("none", [90.0, 91.0, 92.5], 2, "failed"),
        made.pair(100.0, 102, 101, 103, 104, tying="soft"),
    )
    found = by_tying(section)
    assert text_of(found["soft"]) == "none: 2 of 5 failed" and found["soft"].verdict.kind == Kind.LOST
    assert (found["soft"].rank, found["none"].rank) == (1, 2)


def test_all_runs_lost_is_a_verdict_and_not_run_yet_is_none(tmp_path):
    lines = [made.entry("soft", seed=seed) for seed in (1, 2)]
    waiting = [made.entry("cross_layer", seed=seed) for seed in (1, 2, 3)]
    some = made.pair(*[80.0 + 7 * at for at in range(2)], tying="cross_layer")[1]
    records = [made.unfinished(line, "diverged", "loss is nan") for line in lines]
    section = section_of(tmp_path, made.pair(100.0, 101.0, 102.0), (lines, records), (waiting, some))
    found = by_tying(section)
    assert text_of(found["soft"]) == "2 of 2 diverged" and found["soft"].rank == 3
    assert text_of(found["cross_layer"]).endswith("; 1 of 3 not run yet")
    assert found["cross_layer"].verdict.kind == Kind.UNDECIDED and found["cross_layer"].rank == 1
    assert section.best_cells == [section.tyings["none"][0]]


@pytest.mark.parametrize("gap", ["diverged", "failed", None])
def test_a_cell_that_lacks_seeds_is_never_chosen_before_a_complete_one(tmp_path, gap):
    """One lucky seed of five, by far the best on validation; None: the others are not run yet."""
    lines = [made.entry("soft", dropout, seed=seed) for dropout in (0.0, 0.2) for seed in range(5)]
    records = [made.record(line, 100.0 + line["seed"]) for line in lines[:5]] + [made.record(lines[5], 10.0)]
    records += [made.unfinished(line, gap, "a reason") for line in lines[6:] if gap]
    section = section_of(tmp_path, (lines, records))
    assert section.chosen("soft").dropout == 0.0
    # Where nothing is complete the choice is by validation again.
    alone = section_of(tmp_path / "alone", (lines[5:], records[5:]))
    assert alone.chosen("soft").dropout == 0.2 and bool(alone.best_cells) == (gap is None)


# Perplexities near overflow.


def test_perplexities_near_overflow_are_compared_by_their_losses(tmp_path):
    nlls = [[600.0, 601.0, 602.5], [590.0, 592.0, 593.0]]
    pairs = [
        made.pair(*map(math.exp, of_cell), tying=tying)
        for tying, of_cell in zip(("none", "soft"), nlls, strict=True)
    ]
    section = section_of(tmp_path, *pairs)
    found = by_tying(section)["soft"]
    assert found.margin == pytest.approx(math.log(1.01))
    expected = paired(*(dict(enumerate(of_cell)) for of_cell in nlls[::-1]))
    assert found.difference.mean == pytest.approx(expected.mean) and found.p == pytest.approx(expected.p)
    table = comparison(section)
    assert table.rows[1][6].startswith("−100.0 % [")
    assert max(len(text) for text in table.rows[1][:7]) < 40


# What was trained out, and what a count does better.


def still(line, value, share):
    """A record whose validation loss falls by that share in the last quarter of its budget."""
    nll = math.log(value)
    curves = {"epoch": [1, 2, 3, 4], "step": [10, 20, 30, 40], "val_nll": [9.0, 8.0, nll, (1 - share) * nll]}
    return made.record(line, value, curves=curves)


@pytest.mark.parametrize(("searched", "rate"), [(None, "rate"), (made.SEARCHED, "")])
@pytest.mark.parametrize(
    ("tied", "untied", "budget"), [(0.03, 0.0, "budget"), (0.0, 0.03, "budget"), (0.004, 0.004, "")]
)
def test_a_verdict_names_the_limits_within_which_it_holds(tmp_path, tied, untied, budget, searched, rate):
    """At this budget, where a side was still improving; a hint at this rate, where no search chose that of all rows."""
    lines = [made.entry(tying, seed=seed) for tying in ("none", "soft") for seed in range(5)]
    values = [70.0 + at % 5 + (20.0 + at % 2) * (at > 4) for at in range(10)]
    records = [
        still(line, value, tied if line["tying"] == "soft" else untied) | {"lr_search": searched}
        for line, value in zip(lines, values, strict=True)
    ]
    section = section_of(tmp_path, (lines, records))
    limits = " and ".join(filter(None, (budget, rate)))
    within = f" at this {limits}" * bool(limits) + ", a hint" * bool(rate)
    assert str(by_tying(section)["soft"].verdict) == f"worse{within}; {FLOOR}"
    assert str(by_tying(section)["none"].verdict) == FLOOR
    header = comparison(section).header
    assert ("still improving\n% a quarter" in header) == bool(budget)


@pytest.mark.parametrize(
    ("steps", "losses", "gain"),
    [
        ([10, 20, 30, 40], [4.0, 3.0, 2.0, 1.9], 0.05),
        ([10, 20, 30, 40], [4.0, 3.0, 2.0, 2.5], 0.0),  # the best lies before the last quarter
        ([10, 20, 30, 40], [4.0, 3.0, 3.5, 2.4], 0.2),  # of the best so far
        ([20, 40], [3.0, 1.0], 0.5),  # as if it had fallen evenly: 2 at three quarters
        ([40], [3.0], None),
        ([10, 20, 30, 40], [4.0, math.nan, 2.0, 1.9], 0.05),
        ([10, 40], [0.0, 0.0], None),
        ([], [], None),
    ],
)
def test_the_last_quarter(tmp_path, steps, losses, gain):
    line = made.entry()
    record = made.record(line, curves={"step": steps, "val_nll": losses})
    (cell,) = section_of(tmp_path, ([line], [record])).cells
    assert cell.late_gain == (gain if gain is None else pytest.approx(gain))


def test_who_lost_patience_early_was_trained_out_and_no_curve_is_not_known(tmp_path):
    line, curve = made.entry(), {"step": [10, 20, 30, 40], "val_nll": [4.0, 3.0, 2.0, 1.0]}
    early = made.record(line, curves=curve, stop={"step": 40, "of": 400, "why": "patience"})
    (cell,) = section_of(tmp_path / "a", ([line], [early])).cells
    assert cell.late_gain == 0.0 and not cell.is_improving
    (cell,) = section_of(tmp_path / "b", ([line], [made.record(line, curves=None)])).cells
    assert cell.late_gain is None and not cell.is_improving


def test_of_several_floors_the_one_that_is_easiest_to_beat_is_named(tmp_path):
    section = section_of(
        tmp_path, made.pair(300.0), made.pair(100.0, tying="soft"), made.pair(50.0, tying="sandwich")
    )
    named = {cell.tying: section.floor_above(cell) for cell in section.cells}
    assert named == {"none": "unigram", "soft": "trigram", "sandwich": None}


# Ties against controls of their size, and the choice among settings.


def test_a_tie_is_compared_with_its_control_at_the_same_setting(tmp_path):
    pairs = [made.pair(100.0, 101.0, 102.0)]
    pairs += [made.pair(108.0, 112.0, 111.0, tying="cross_layer")]
    pairs += [made.pair(101.0, 102.0, 104.0, tying="cross_layer, control=params")]
    pairs += [made.pair(90.0, 91.0, 95.0, tying="cross_layer, control=respend")]
    pairs += [made.pair(90.0, 91.0, 95.0, tying="cross_layer, control=params", dropout=0.2)]
    section = section_of(tmp_path, *pairs)
    (row,) = vs_controls(section)
    assert (row.cell.tying, row.reference.tying) == ("cross_layer", "cross_layer, control=params")
    assert (
        row.difference.mean == pytest.approx(math.log(108 * 112 * 111 / (101 * 102 * 104)) / 3)
        and row.reference.dropout == 0.0
        and row.p_holm is not None
    )
    (line,) = controls(section).rows
    assert line[:4] == ["cross_layer", "0", "0", "3"] and line[4].startswith("+7.8 % [")
    assert controls(section_of(tmp_path / "none", *pairs[:2])) is None


def test_settings_that_are_as_good_as_the_chosen_one_are_counted(tmp_path):
    lines = [made.entry(dropout=dropout, seed=seed) for dropout in (0.0, 0.1, 0.2) for seed in range(4)]
    shift = {0.0: 0.0, 0.1: 0.5, 0.2: 0.8}
    # Seeds at 0, 1, 2, 3: their standard error is 0.645.
    records = [made.record(line, 90.0 + line["seed"] + shift[line["dropout"]]) for line in lines]
    section = section_of(tmp_path, (lines, records))
    assert section.n_as_good("none") == 2
    one_seed = section_of(tmp_path / "one", (lines[::4], records[::4]))
    assert one_seed.n_as_good("none") is None


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


def test_what_is_compared_best_against_best_is_chosen_on_validation(tmp_path):
    lines, records = [], []
    for tying, dropout, test, val in (
        ("none", 0.0, 100.0, 90.0), ("none", 0.2, 90.0, 95.0),
        ("cross_layer", 0.0, 80.0, 99.0), ("cross_layer", 0.2, 101.0, 85.0), ("soft", 0.0, 110.0, 99.0),
    ):  # fmt: skip
        for seed in (1, 2):
            lines.append(made.entry(tying, dropout, seed=seed))
            noise = seed * (0.3 if tying == "soft" else 0.5)
            records.append(made.record(lines[-1], test + noise, val=val))
    section = section_of(tmp_path, (lines, records))
    found = chosen_vs_untied(section)
    assert {tying: a.cell.dropout for tying, a in found.items()} == {"none": 0, "cross_layer": 0.2, "soft": 0}
    assert (
        found["cross_layer"].difference.mean == pytest.approx(math.log(1.01), rel=0.01)
        and found["cross_layer"].rank == 2
    )
    assert found["soft"].reference is found["cross_layer"].reference is section.tyings["none"][0]


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


@pytest.mark.parametrize("note", ["b", "optimizer.shared_lr=sqrt"])
def test_a_rate_of_shared_tensors_has_the_untied_network_of_no_such_rate_and_of_its_other_keys(
    tmp_path, note
):
    lines, records = [], []
    for tying, rate, of in [
        *[(tying, None, text) for tying in ("none", "cross_layer") for text in ("a", note)],
        *[("cross_layer", "sqrt", text) for text in ("a", note)],
    ]:
        name = f"{tying}-{rate}-{of}"
        line = made.entry(tying, id=name, cell=name)
        config = {"optimizer": {"lr": 0.001, "shared_lr": rate}, "model": {"depth": 4, "note": of}}
        lines.append(line)
        records.append(made.record(line, config=config))
    made.write_sweep(tmp_path / "runs", lines, records)
    found = sections(read_sweep(tmp_path / "runs", "quick")[0])
    cells = {s.variant: [cell.runs[0].id for cell in s.cells] for s in found}
    assert cells == {
        f"model.note={of}, optimizer.shared_lr={shown}": [f"none-None-{of}", f"cross_layer-{rate}-{of}"]
        for of in ("a", note)
        for rate, shown in ((None, "null"), ("sqrt", "sqrt"))
    }
