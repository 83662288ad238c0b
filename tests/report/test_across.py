"""Scores over tasks: what counts as what, and what a tying's one number is made of."""

import math

import pytest
import record_maker as made

from bench.analysis.aggregate import is_across, scores
from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.report.across_tasks import across, csv_rows

NLL = {"metric": {"name": "nll", "mode": "min"}, "task": "series_gru", "data": "vix"}


def found_of(folder, *pairs, records=()):
    """Tying -> its scores, of what `made.pair` gives."""
    lines, found = [line for pair in pairs for line in pair[0]], [r for pair in pairs for r in pair[1]]
    made.write_sweep(folder / "runs", lines, [*found, *records])
    return {each.tying: each for each in scores(sections(read_sweep(folder / "runs", "quick")[0]))}


def one(tying: str, value: float, **given):
    line = made.entry(tying, **given)
    return [line], [made.record(line, value)]


def test_more_is_better_whatever_the_metric(tmp_path):
    images = {"task": "image_cnn", "data": "digits"}
    found = found_of(
        tmp_path,
        made.pair(0.8, **images), made.pair(0.4, tying="cross_layer", **images),
        made.pair(50.0), made.pair(100.0, tying="cross_layer"),
    )  # fmt: skip
    assert set(found["cross_layer"].tasks) == {("image_cnn", "digits"), ("text_gru", "pydocs")}
    assert found["cross_layer"].all == [0.5, 0.5] and found["none"].all == [1.0, 1.0]
    assert found["cross_layer"].mean.mean == pytest.approx(0.5)


def test_an_nll_below_zero_scores_as_the_perplexity_would(tmp_path):
    lines = [made.entry(tying, **NLL) for tying in ("none", "cross_layer")]
    values = (-1.0, -1.0 + math.log(2))
    records = [made.record(line, 1.0) for line in lines]
    for record, value in zip(records, values, strict=True):
        record["test"] = record["val"] = {"nll": value}
    assert found_of(tmp_path, (lines, records))["cross_layer"].all == pytest.approx([0.5])


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_what_diverged_or_failed_is_the_worst_and_not_absent(tmp_path, status):
    line = made.entry("soft", seed=2)
    pairs = [made.pair(100.0, 100.0), (made.pair(100.0, tying="soft")[0] + [line], [])]
    records = [made.pair(100.0, tying="soft")[1][0], made.unfinished(line, status, "why")]
    found = found_of(tmp_path, *pairs, records=records)["soft"]
    assert sorted(found.all) == [0.0, 1.0] and (found.worst, found.mean) == (1, None)
    row = across([found]).rows[0]
    assert row[1] == row[2] == "—" and row[-1] == "1 diverged or failed: score 0"


def test_a_metric_that_is_no_number_is_the_worst_too(tmp_path):
    untied, tied = made.pair(100.0), made.pair(100.0, tying="soft")
    tied[1][0]["test"]["perplexity"] = math.nan
    assert found_of(tmp_path, untied, tied)["soft"].all == [0.0]


def test_not_applicable_and_not_run_yet_are_said_and_are_not_the_worst(tmp_path):
    line, waiting = made.entry("embedding", task="image_cnn", data="digits"), made.entry("embedding", seed=2)
    pairs = [made.pair(100.0, 100.0), made.pair(50.0, tying="embedding"), ([line, waiting], [])]
    foreign = made.unfinished(line, "not_applicable", "no input embedding")
    found = found_of(tmp_path, *pairs, records=[foreign])["embedding"]
    assert found.all == [2.0] and found.worst == 0
    assert across([found]).rows[0][-1] == "1 without a score; n/a: image_cnn on digits"


def test_a_run_whose_none_has_no_number_has_no_score_and_is_counted(tmp_path):
    line = made.entry(seed=1)
    pairs = [([line], []), made.pair(50.0, tying="soft")]
    found = found_of(tmp_path, *pairs, records=[made.unfinished(line, "failed", "why")])
    assert found["none"].all == [0.0] and found["soft"].all == [] and found["soft"].without == 1
    row = across([found["soft"]]).rows[0]
    assert row[:6] == ["soft"] + ["—"] * 5 and row[-1] == "1 without a score"


def test_a_score_is_relative_to_none_at_the_same_setting_and_seed(tmp_path):
    pairs = [one("none", 100.0), one("none", 50.0, dropout=0.2), one("none", 40.0, seed=2)]
    pairs += [one("soft", 100.0), one("soft", 100.0, dropout=0.2), one("soft", 10.0, seed=2)]
    assert found_of(tmp_path, *pairs)["soft"].tasks == {("text_gru", "pydocs"): {1: [1.0, 0.5], 2: [4.0]}}


def test_the_mean_over_tasks_stands_beside_the_tasks(tmp_path):
    pairs = []
    for data, score in (("pydocs", 2.0), ("wikitext2", 4.0), ("text_files", 8.0)):
        pairs += [made.pair(100.0, 100.0, data=data)]
        pairs += [made.pair(100.0 / score / 1.1, 100.0 / score * 1.1, tying="soft", data=data)]
    found = found_of(tmp_path, *pairs)["soft"]
    # ln 2, ln 4, ln 8: mean ln 4, standard error ln 2 / sqrt(3) on two degrees of freedom
    half = 4.302652730 * math.log(2) / math.sqrt(3)
    assert found.mean == pytest.approx((4, 4 * math.exp(-half), 4 * math.exp(half), 3))
    # within a task: ln 1.1 to either side, standard error ln 1.1 on one degree of freedom
    of_task = found.ratios["text_gru", "wikitext2"]
    half = 12.70620474 * math.log(1.1)
    assert of_task == pytest.approx((4, 4 * math.exp(-half), 4 * math.exp(half), 2))
    table = across([found])
    assert [row for row in table.header if "text_gru" in row] == [
        "text_gru on\npydocs [95 %]", "text_gru on\ntext_files [95 %]", "text_gru on\nwikitext2 [95 %]"
    ]  # fmt: skip
    whole, *tasks = csv_rows([found])
    assert (whole["n_runs"], whole["n_tasks"], whole["n_averaged"]) == (6, 3, 3)
    assert [(row["data"], row["n_runs"], row["n_averaged"]) for row in tasks] == [
        ("pydocs", 2, 2), ("text_files", 2, 2), ("wikitext2", 2, 2)
    ]  # fmt: skip
    assert whole["share_of_runs_from_1.02"] == 1.0


def test_one_task_and_equal_ones_have_no_interval_over_tasks(tmp_path):
    alone = [made.pair(100.0, 100.0), made.pair(50.0, 60.0, tying="soft")]
    found = found_of(tmp_path / "one", *alone)
    assert found["soft"].mean.low is None and found["soft"].mean.n == 1
    assert found["none"].ratios["text_gru", "pydocs"] == (1.0, None, None, 2)


def test_settings_count_alike_at_every_seed_that_is_averaged(tmp_path):
    pairs = [one("none", 100.0), one("none", 100.0, dropout=0.2), one("none", 100.0, seed=2)]
    pairs += [one("soft", 100.0), one("soft", 25.0, dropout=0.2), one("soft", 1.0, seed=2)]
    # Seed 2 has no score at dropout 0.2; seed 1 has 1 and 4.
    assert found_of(tmp_path, *pairs)["soft"].ratios["text_gru", "pydocs"] == pytest.approx(
        (2.0, None, None, 1)
    )


def test_two_variants_of_one_task_are_not_two_tasks(tmp_path):
    lines, records, _ = made.grid({"text_gru": "pydocs"}, seeds=(1,))
    made.write_sweep(tmp_path / "runs", lines, records)
    found = sections(read_sweep(tmp_path / "runs", "quick")[0])
    assert not is_across(found + found) and not is_across([])
