"""Whether similarity predicts the cost of tying: what is measured before a tie, and what is made of it."""

import pytest
from grid import build
from hypothesis import given
from hypothesis import strategies as st
from record_maker import PAIRS, every_setting, grid, write_pairs, write_sweep
from scipy.stats import spearmanr

from bench.analysis.block_pairs import ELSEWHERE, predictions, tied_pairs
from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.analysis.statistics import spearman
from bench.report.block_pairs import csv_rows, pairs_lines, pairs_table
from bench.report.markup import plain
from bench.report.pages import sweep_report, texts
from bench.report.plots import block_pairs
from bench.report.plots.pictures import pictures
from bench.training import build as assembly
from bench.training.init_from_run import pair_similarity
from bench.tying import Tie, TyingPlan
from bench.tying.similarity import joined_pairs


def write(runs, **given):
    write_pairs(runs, **given)
    return sections(read_sweep(runs, "pairs")[0])


def test_what_orders_the_pairs_by_their_cost_has_rank_1_and_its_contrary_minus_1(tmp_path):
    (section,) = write(tmp_path)
    said = {each.label: each for each in predictions(tied_pairs(section))}
    for label in (
        "cosine of raw weights",
        "distance of raw weights",
        "influence of the two blocks",
        ELSEWHERE,
    ):
        assert said[label].rank == pytest.approx((1, 1, 1, 3)), label
        assert said[label].choice.mean == pytest.approx(
            0 - 2.5
        )  # the cheapest of costs 0 to 5, against their mean
    assert said["CKA of outputs"].rank.mean == pytest.approx(-1)
    assert said["CKA of outputs"].choice.mean == pytest.approx(5 - 2.5)
    assert "cosine, hidden units matched" not in said
    assert all(each.pairs == 6 for each in said.values())


def test_of_an_accuracy_a_loss_is_a_cost(tmp_path):
    (section,) = write(tmp_path, task="image_cnn")
    assert [each.cost for each in tied_pairs(section)[1]] == pytest.approx([at / 100 for at in range(6)])
    assert "−2.50" in plain(pairs_table(section))  # in points, as the metric is printed


def test_the_page_has_the_table_the_lines_the_rows_and_the_picture(tmp_path):
    found = write(tmp_path)
    page = texts(sweep_report("quick", found))
    settings = every_setting(page["summary.md"])
    assert "Does similarity predict the cost of tying" in settings
    assert "least 0.000 for blocks 1 and 2, most +5.000 for blocks 3 and 4" in settings
    assert len(page["text_gru_pairs.csv"].splitlines()) == 1 + 3 * 6
    assert csv_rows(found[0])[0] | {"cost": 0.0, "cosine": 0.9} == csv_rows(found[0])[0]
    assert set(pictures(found)["pairs"]) == {".png", ".svg"}


def test_one_seed_has_no_interval_and_no_others(tmp_path):
    (section,) = write(tmp_path, seeds=(1,))
    said = predictions(tied_pairs(section))
    assert all(each.rank.low is None for each in said) and ELSEWHERE not in {each.label for each in said}
    axes = block_pairs.pairs([section]).axes
    titles = [title.replace("\n", " ") for each in axes if (title := each.get_title("left"))]
    assert titles and all(" has no interval: " in title for title in titles)


def test_few_pairs_and_other_sweeps_have_no_such_table(tmp_path):
    (section,) = write(tmp_path / "few", pairs=PAIRS[:3])
    assert pairs_table(section) is None and pairs_lines(section) == [] and csv_rows(section) == []
    lines, records, costs = grid({"text_gru": "pydocs"})
    write_sweep(tmp_path, lines, records, costs)
    assert all(pairs_table(each) is None for each in sections(read_sweep(tmp_path, "quick")[0]))


def test_a_pair_that_failed_at_one_seed_is_left_out_at_all(tmp_path):
    write(tmp_path)
    lines = read_sweep(tmp_path, "pairs")[0]
    lost = next(run for run in lines if "grouping" in run.tying and run.seed == 2)
    (tmp_path / lost.id / "record.json").unlink()
    (section,) = sections(read_sweep(tmp_path, "pairs")[0])
    assert [len(pairs) for pairs in tied_pairs(section).values()] == [5, 5, 5]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1e6, 1e6)), min_size=2, max_size=12))
def test_spearman_is_that_of_scipy(values):
    one, other = zip(*values, strict=True)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert spearman(one, other) is None
    else:
        assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)


def test_the_pairs_that_a_plan_joins():
    three = Tie(("a", "b", "c"), blocks=(-3, -2, -1))
    assert joined_pairs(TyingPlan((three,))) == [(-3, -2), (-3, -1), (-2, -1)]
    assert joined_pairs(TyingPlan((three,)).soften(1)) == joined_pairs(TyingPlan((Tie(("a", "z")),))) == []


@pytest.mark.parametrize("task", ["text_transformer", "text_classifier", "image_cnn", "series_gru"])
def test_likeness_is_known_before_a_tie(cell, task):
    asked = cell(task, "cross_layer")
    free = build(cell(task))
    plan = assembly.plan_for(asked.config, free.model)
    found = pair_similarity(free.model, plan, asked.config, free.data)
    assert found["blocks"] and all(one < other for one, other in found["blocks"])
    assert 0 <= found["cka"] <= 1 and abs(found["cosine"]) < 0.5 and 1 < found["distance"] < 2
    assert (found["aligned"] is None) == (task == "series_gru")
    assert pair_similarity(free.model, TyingPlan(), asked.config, free.data) is None


def test_blocks_that_are_equal_are_alike_by_every_measure(cell):
    asked = cell("text_transformer", "cross_layer")
    built = build(asked)
    free = build(cell("text_transformer"))
    found = pair_similarity(built.model, built.plan, asked.config, free.data)
    assert found["cosine"] == pytest.approx(1) == found["aligned"]
    assert found["distance"] == pytest.approx(0, abs=1e-6)
