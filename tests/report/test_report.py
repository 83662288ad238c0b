import math
import re

import pytest
import record_maker as made

from bench.analysis.groups import SeedGroup, place, sections
from bench.analysis.runs import Metric, read_sweep
from bench.report.comparison import comparison, headline
from bench.report.html import counted
from bench.report.markup import Table, best_of, folded, latex, markdown, plain
from bench.report.notes import budgets, footer
from bench.report.pages import sweep_report, texts
from bench.tying.errors import BadInput


def sections_of(folder, lines, records, costs=()):
    made.write_sweep(folder / "runs", lines, records, costs)
    return sections(read_sweep(folder / "runs", "quick")[0])


def test_one_seed_shows_no_spread(tmp_path):
    (section,) = sections_of(tmp_path, *made.pair(100.0))
    (row,) = comparison(section).rows
    assert row[5] == "100.0" and row[-1] == "1"


def test_accuracy_is_printed_in_percent_and_the_highest_is_best(tmp_path):
    low, high = made.pair(0.5, task="image_cnn"), made.pair(0.75, task="image_cnn", tying="cross_layer")
    (section,) = sections_of(tmp_path, low[0] + high[0], low[1] + high[1])
    table = comparison(section)
    assert [row[5] for row in table.rows] == ["50.00", "75.00"] and (1, 5) in table.best
    assert table.rows[1][6:8] == ["+25.00 points", "too few seeds"] and table.header[5] == "test accuracy ↑ %"


def test_a_failed_seed_is_seen_and_a_failed_cell_is_a_hole(tmp_path):
    lines = [made.entry(seed=seed) for seed in (1, 2, 3)] + [made.entry("soft", seed=seed) for seed in (1, 2)]
    records = [made.record(lines[0], 100.0), made.record(lines[1], 102.0)]
    records += [made.unfinished(lines[2], "failed", "out of memory")]
    records += [made.unfinished(line, "diverged", "loss is nan at step 40") for line in lines[3:]]
    (section,) = sections_of(tmp_path, lines, records)
    none, soft = comparison(section).rows
    assert none[5] == "101.0 [88.3, 113.7]" and none[-2] == "2 (1 failed)"
    assert none[-1] == "failed: out of memory (1 of 3 seeds)"
    assert soft[5] == "hole" and soft[-1] == "diverged: loss is nan at step 40"


def test_a_run_without_a_record_is_not_run_yet(tmp_path):
    lines, records = made.pair(100.0)
    (section,) = sections_of(tmp_path, [*lines, made.entry("soft")], records)
    (none, soft), header = comparison(section).rows, comparison(section).header
    assert soft[5:] == ["hole", *[""] * (len(header) - 8), "0", "not run yet"]
    assert none[header.index("verdict")] == "worse than the trigram floor"  # of the row with a number alone


def test_a_metric_that_is_no_number_is_never_dropped_in_silence(tmp_path):
    lines, records = made.pair(100.0, 102.0)
    records[1]["test"]["perplexity"] = math.nan
    (section,) = sections_of(tmp_path, lines, records)
    (row,) = comparison(section).rows
    assert row[5] == "100.0" and row[-2] == "1 (1 not a number)"
    assert row[-1] == "not a number: test perplexity is nan (1 of 2 seeds)"


def test_a_tying_that_applies_nowhere_is_one_row_with_the_reason(tmp_path):
    lines, records, costs = made.grid({"image_cnn": "digits"}, seeds=(1,))
    (section,) = sections_of(tmp_path, lines, records, costs)
    table = comparison(section)
    (row,) = [row for row in table.rows if row[0] == "embedding"]
    assert row[1:3] == ["all", "all"] and row[table.header.index("test accuracy ↑ %")] == "n/a"
    assert row[-1] == "n/a: no input embedding in this network"


def test_two_data_fingerprints_are_never_compared(tmp_path):
    untied, tied = made.pair(100.0), made.pair(90.0, tying="cross_layer")
    tied[1][0]["data_meta"]["fingerprint"] = "0ther"
    first, second = sections_of(tmp_path, untied[0] + tied[0], untied[1] + tied[1])
    assert {first.fingerprint, second.fingerprint} == {"0ther", "f1a2b3c4d5e6"}
    assert [section.title for section in (first, second)] == [
        "text_gru on pydocs, 0ther",
        "text_gru on pydocs, f1a2b3c4d5e6",
    ]
    (cell,) = first.cells
    assert first.untied(cell) is None and comparison(first).rows[0][6] == "—"


def test_what_else_a_sweep_varied_is_a_section_of_its_own(tmp_path):
    lines, records = [], []
    for depth, value in ((4, 100.0), (6, 90.0)):
        for tying in ("none", "cross_layer"):
            line = made.entry(tying) | {"id": f"{tying}{depth}", "cell": f"{tying}{depth}"}
            lines.append(line)
            spelled = {"dropout": 0 if depth == 4 else 0.0}  # one number, of two sweeps that share runs
            around = {"measure": {"min_calls": depth}, "trainer": {"threads": depth}}  # no part of a run
            config = {"model": {"depth": depth}, **spelled, **around}
            records.append(made.record(line, value, config=config))
    found = sections_of(tmp_path, lines, records)
    assert [section.variant for section in found] == ["model.depth=4", "model.depth=6"]
    assert [section.difference(section.cells[1], section.cells[0]).mean for section in found] == [0, 0]


def test_a_rate_chosen_per_tying_does_not_split_the_table(tmp_path):
    untied, tied = made.pair(100.0), made.pair(90.0, tying="cross_layer")
    tied[1][0]["config"] = {"optimizer": {"lr": 0.5}}
    (section,) = sections_of(tmp_path, untied[0] + tied[0], untied[1] + tied[1])
    assert budgets(section) == ["The rows differ in learning rates: 0.001 (none); 0.5 (cross_layer)."]
    assert not any("earning rate" in line for line in footer(section, None))


@pytest.mark.parametrize("rate, end", [(0.5, "highest"), (0.1, "lowest"), (0.2, None)])
def test_a_rate_that_was_chosen_at_an_end_of_those_tried_is_named(tmp_path, rate, end):
    lines, records = made.pair(100.0, 90.0, tying="cross_layer")
    for record in records:
        record["config"] = {"optimizer": {"lr": rate}}
        record["lr_search"] = {"0.1": 90.0, "0.2": 80.0, "0.5": 70.0}
    (section,) = sections_of(tmp_path, lines, records)
    line = f"cross_layer: at the {end} learning rate that was tried, {rate:g}; one beyond it may be better."
    assert budgets(section) == ([line] if end else [])


def test_one_rate_for_all_that_no_search_chose_is_told_above_the_table(tmp_path):
    untied, tied = made.pair(100.0), made.pair(90.0, tying="cross_layer")
    lines, records = untied[0] + tied[0], untied[1] + tied[1]
    (section,) = sections_of(tmp_path, lines, records)
    (line,) = budgets(section)
    assert line.startswith("All rows have one learning rate, 0.001, which no search chose")
    above, _ = texts(sweep_report("quick", [section]))["summary.md"].split("| method |", maxsplit=1)
    assert line in above
    (alone,) = sections_of(tmp_path / "alone", *untied)  # there is nothing to compare
    several = sections_of(
        tmp_path / "rates",
        [
            entry | {"id": f"{entry['id']}{rate}", "cell": f"{entry['cell']}{rate}"}
            for rate in (1, 2)
            for entry in lines
        ],
        [
            record
            | {
                "id": f"{record['id']}{rate}",
                "cell": f"{record['cell']}{rate}",
                "config": {"optimizer": {"lr": rate}},
            }
            for rate in (1, 2)
            for record in records
        ],
    )
    assert len(several) == 2 and [budgets(found) for found in (alone, *several)] == [[], [], []]


def test_a_rate_chosen_per_regularisation_does_not_split_the_table_and_an_end_names_its_row(tmp_path):
    lines, records = [], []
    for tying in ("none", "cross_layer"):
        for dropout, rate in ((0, 0.1), (0.2, 0.5)):
            line = made.entry(tying, dropout)
            config = {"optimizer": {"lr": rate}, "dropout": dropout}
            lines.append(line)
            searched = {"lr_search": {"0.05": 90.0, "0.1": 70.0, "0.5": 80.0 - 100 * dropout}}
            records.append(made.record(line, 100.0, config=config) | searched)
    (section,) = sections_of(tmp_path, lines, records)
    (line,) = budgets(section)
    assert line == (
        "none (dropout 0.2, weight decay 0), cross_layer (dropout 0.2, weight decay 0): at the highest learning rate "
        "that was tried, 0.5; one beyond it may be better."
    )


def test_the_rates_that_count_are_those_of_this_sweep_and_not_of_the_one_that_made_the_record(tmp_path):
    """The search was widened, and chose the same rate again: its runs are taken over as they are."""
    lines, records = made.pair(100.0, 90.0, tying="cross_layer")
    for line, record in zip(lines, records, strict=True):
        record["config"] = {"optimizer": {"lr": 0.5}}
        record["lr_search"] = {"0.1": 90.0, "0.5": 70.0}
        line["lr_search"] = record["lr_search"] | {"1.0": 80.0}
    (section,) = sections_of(tmp_path, lines, records)
    assert budgets(section) == []


def test_unequal_budgets_are_told_above_the_table(tmp_path):
    """Two commands of one sweep: the ties had another number of steps."""
    untied, tied = made.pair(100.0, 101.0), made.pair(90.0, 92.0, tying="cross_layer")
    for record, steps in zip(untied[1] + tied[1], (450, 450, 900, 880), strict=True):
        record["steps"] = steps
    found = sections_of(tmp_path, untied[0] + tied[0], untied[1] + tied[1])
    line = "The rows differ in steps: 450 (none); 880 and 900 (cross_layer)."
    page = texts(sweep_report("quick", found))["summary.md"]
    for text in (page, made.every_setting(page)):
        above, _ = re.split(r"\| (?:tying|method) \|", text, maxsplit=1)
        assert line in above
    alike = sections_of(tmp_path / "alike", *made.pair(100.0, 101.0))
    assert (
        budgets(alike[0]) == [] and "The rows differ" not in texts(sweep_report("quick", alike))["summary.md"]
    )


def test_below_the_summary_stands_how_sure_the_choice_is_and_which_rules_played_a_part(tmp_path):
    lines = [made.entry(t, d, seed=s) for t in ("none", "soft") for d in (0.0, 0.2) for s in (1, 2, 3)]
    records = [
        made.record(line, 40.0 + line["seed"] * (1.5 if line["tying"] == "soft" else 1)) for line in lines
    ]
    page = texts(sweep_report("quick", sections_of(tmp_path / "a", lines, records)))["summary.md"]
    text = page.removesuffix(made.every_setting(page))
    assert "within one standard error of the best are none 2 of 2, soft 2 of 2" in text
    assert "Tested together: 2 comparisons, so" in text
    assert "At this budget" not in text and "diverged" not in text
    assert "Trained out: 4 of 4 rows." in text
    one = [made.entry(dropout=d) for d in (0.0, 0.2)]
    text = texts(
        sweep_report("quick", sections_of(tmp_path / "b", one, [made.record(line, 40.0) for line in one]))
    )
    assert "from one seed" in text["summary.md"] and "Nothing was tested" in text["summary.md"]


def test_points_of_a_design_are_sections_that_hold_all_arms(tmp_path):
    """They differ in what a table has rows for, too, and each arm has a rate of its own by the point."""
    lines, records = [], []
    for width, dropout in ((32, 0.1), (64, 0.3)):
        for tying, share in (("none", 1), ("cross_layer", 0.5)):
            line = made.entry(tying, dropout) | {"id": f"{tying}{width}", "cell": f"{tying}{width}"}
            lines.append(line)
            config = {"model": {"width": width}, "dropout": dropout, "optimizer": {"lr": share / width}}
            records.append(made.record(line, 100.0, config=config))
    found = sections_of(tmp_path, lines, records)
    assert [section.variant for section in found] == ["model.width=32", "model.width=64"]
    assert all([cell.tying for cell in section.cells] == ["none", "cross_layer"] for section in found)


def test_rates_that_a_sweep_varies_are_sections(tmp_path):
    lines, records = [], []
    for rate in (0.001, 0.004):
        for tying in ("none", "cross_layer"):
            line = made.entry(tying) | {"id": f"{tying}{rate}", "cell": f"{tying}{rate}"}
            lines.append(line)
            records.append(made.record(line, 100.0, config={"optimizer": {"lr": rate}}))
    found = sections_of(tmp_path, lines, records)
    assert [section.variant for section in found] == ["optimizer.lr=0.001", "optimizer.lr=0.004"]


def test_the_untied_network_is_that_of_each_rate_of_shared_tensors(tmp_path):
    lines, records = [], []
    for tying, shared in (("none", None), ("cross_layer", None), ("cross_layer", "sqrt")):
        line = made.entry(tying) | {"id": f"{tying}{shared}", "cell": f"{tying}{shared}"}
        lines.append(line)
        value = {None: 90.0, "sqrt": 80.0}[shared] if tying != "none" else 100.0
        records.append(made.record(line, value, config={"optimizer": {"lr": 0.1, "shared_lr": shared}}))
    found = sections_of(tmp_path, lines, records)
    assert [section.variant for section in found] == [
        f"optimizer.shared_lr={text}" for text in ("null", "sqrt")
    ]
    for section, ratio in zip(found, (0.9, 0.8), strict=True):
        assert [cell.tying for cell in section.cells] == ["none", "cross_layer"]
        assert section.difference(section.cells[1], section.cells[0]).mean == pytest.approx(math.log(ratio))
    assert counted([run for section in found for run in section.runs]) == "3 runs: 3 done"


def test_the_summary_chooses_on_validation_and_reports_test(tmp_path):
    lines = [made.entry(dropout=0.0), made.entry(dropout=0.2)]
    records = [made.record(lines[0], 50.0, val=90.0), made.record(lines[1], 70.0, val=80.0)]
    found = sections_of(tmp_path, lines, records)
    assert headline(found).rows == [["none", "70.00", "1.2M 100%"]]


def test_tyings_stand_in_the_order_of_the_algebra():
    labels = ["embedding+top_k(k=2)", "soft(strength=1, decoupled)", "soft(strength=0.1)", "top_k(k=10)"]
    labels += ["cycle(groups=2)", "sequence(groups=2)", "bottom_k(k=2)", "sandwich"]
    labels += ["top_k(k=2)", "other", "soft(strength=1e-05)", "cross_layer", "embedding", "none"]
    assert sorted(labels, key=lambda label: place(made.spec_of(label))) == [
        "none", "embedding", "cross_layer", "top_k(k=2)", "top_k(k=10)",
        "bottom_k(k=2)", "sandwich", "sequence(groups=2)", "cycle(groups=2)",
        "soft(strength=1e-05)", "soft(strength=0.1)",
        "soft(strength=1, decoupled)", "other", "embedding+top_k(k=2)",
    ]  # fmt: skip
    assert made.spec_of("embedding+cross_layer(scope=a+b)").family == "composition"
    assert made.spec_of("cross_layer(scope=a+b)").family == "cross_layer"


def test_a_metric_says_which_way_is_better_and_no_third():
    assert Metric("mine", "max").higher_is_better and not Metric("accuracy", "min").higher_is_better
    assert Metric("accuracy", "min").best([0.1, 0.2]) == 0.1
    with pytest.raises(BadInput, match="metric mine has mode 'least': it must be min or max"):
        Metric("mine", "least")


def test_the_best_is_marked_in_every_spelling():
    table = Table(
        ["a_b", "x\ny"],
        "lr",
        [["p|q", "1"], ["50 %", "2"]],
        best_of([[None, 1.0], [None, 2.0]], [None, "max"]),
    )
    assert markdown(table) == "| a_b | x<br>y |\n| :--- | ---: |\n| p\\|q | 1 |\n| 50 % | **2** |\n"
    assert "a\\_b & x y \\\\" in latex(table) and "50 \\% & \\textbf{2} \\\\" in latex(table)
    assert plain(table).splitlines() == ["a_b   x", "      y", "----  --", "p|q   1", "50 %  2*"]


def test_a_wide_table_is_folded_and_each_part_has_the_first_column():
    table = Table(["name", "one", "two", "three"], "lrrr", [["a", "1", "2", "3"]], frozenset({(0, 2)}))
    first, second = folded(table, 15)
    assert first.rows == [["a", "1", "2"]] and first.best == {(0, 2)}
    assert second.rows == [["a", "3"]] and second.header == ["name", "three"] and not second.best


def test_equal_values_have_no_best():
    assert best_of([[1.0], [1.0]], ["min"]) == frozenset()
    assert best_of([[2.0], [1.0], [None], [1.0]], ["min"]) == {(1, 0), (3, 0)}


def test_a_cell_knows_its_seeds(tmp_path):
    (section,) = sections_of(tmp_path, *made.pair(100.0, 102.0, first_seed=5))
    (cell,) = section.cells
    assert isinstance(cell, SeedGroup) and cell.metric() == {5: 100.0, 6: 102.0}
