"""What a cost record says in the tables: units, holes, marks of the best and of the suspect, notes, flat columns."""

import csv
import math

import pytest
import record_maker as made

from bench.analysis.frame import cost_columns, cost_summary
from bench.analysis.runs import CostRecord
from bench.report import costs
from bench.report.tables import build

LINE = made.entry("cross_layer")
REASON = "another process had the processor for 23 % of the time"


def cost_tables(rows: list) -> dict:
    return costs.cost_tables([(label, CostRecord(fields)) for label, fields in rows])


def cost_notes(rows: list) -> list[str]:
    return costs.cost_notes([(label, CostRecord(fields)) for label, fields in rows])


def rows(*train_steps: dict, **given) -> list:
    """A row for `none`, and `tied0`, `tied1`, ... of those train steps."""
    tied = [made.cost(LINE, train_step=pair, **given) for pair in train_steps]
    return [("none", made.cost(made.entry())), *((f"tied{at}", cost) for at, cost in enumerate(tied))]


def column(table, header: str) -> list[str]:
    at = table.header.index(header)
    return [row[at] for row in table.rows]


def marked(table, header: str) -> list[str]:
    at = table.header.index(header)
    return [table.rows[r][0] for r, c in sorted(table.best) if c == at]


def test_figures_are_in_the_units_of_their_headers():
    cost = made.cost(LINE, train_step=made.turns(0.5, 0.04), flops={"train_step": 2_500_000_000})
    cost["memory"]["state"]["parameters"] = 3 * made.MIB
    cost["memory"]["train_step"]["activations"] = made.MIB // 2
    tables = cost_tables([("cross_layer", cost)])
    assert column(tables["Memory"], "parameters\nMiB") == ["3.000"]
    assert column(tables["Memory"], "activations MiB\n(train step)") == ["0.5000"]
    assert column(tables["Memory"], "largest batch\n(inference)") == ["4,000"]
    assert column(tables["Time"], "train step ms\n(median)") == ["20.00"]
    assert column(tables["Time"], "train step\nratio [95 %]") == ["0.500 [0.490, 0.510]"]
    assert column(tables["Time"], "GFLOP\na train step") == ["2.500"]
    assert column(tables["Time"], "% of peak\nrate") == ["—"]


def test_a_ratio_is_best_only_where_its_interval_lies_below_1():
    header = "train step\nratio [95 %]"
    slow, same, fast = made.turns(1.2, 0.01), made.turns(0.99, 0.01, width=0.04), made.turns(0.9, 0.01)
    assert marked(cost_tables(rows(slow, same))["Time"], header) == []
    assert marked(cost_tables(rows(slow, same, fast))["Time"], header) == ["tied2"]
    few_turns = made.turns(0.5, 0.01, low=None, high=None, turns=3)
    table = cost_tables(rows(few_turns, fast))["Time"]
    assert marked(table, header) == ["tied1"] and column(table, header)[1] == "0.500"


def test_a_copy_against_itself_and_a_time_in_ms_are_never_best():
    lucky = made.cost(made.entry(), train_step=made.turns(0.9, 0.01))
    table = cost_tables([("none", lucky), ("tied", made.cost(LINE, train_step=made.turns(1.0, 0.02)))])[
        "Time"
    ]
    assert marked(table, "train step\nratio [95 %]") == []
    assert marked(table, "train step ms\n(median)") == []


def test_a_suspect_cost_has_its_timings_marked_and_its_reason_below():
    suspect = rows(made.turns(0.5, 0.01), suspect=[REASON])
    tables = cost_tables(suspect)
    assert column(tables["Time"], "train step\nratio [95 %]")[1] == "0.500 [0.490, 0.510] ?"
    assert marked(tables["Time"], "train step\nratio [95 %]") == []
    assert column(tables["Time"], "GFLOP\na train step")[1] == "1.500"
    assert column(tables["Generation"], "per token ms\n(median)")[1].endswith(" ?")
    assert not any("?" in text for row in tables["Memory"].rows for text in row)
    assert f"Timing of tied0 is suspect (?): {REASON}." in cost_notes(suspect)
    several = rows(made.turns(0.5, 0.01), suspect=[REASON, "b", "c"])
    assert f"Timing of tied0 is suspect (?): {REASON}; 2 more in its record." in cost_notes(several)


def test_a_cost_without_a_number_is_a_hole_with_its_reason():
    failed = made.uncosted(LINE, "failed", "out of memory")
    foreign = made.uncosted(LINE, "not_applicable", "no input embedding in this network")
    some = [("none", made.cost(made.entry())), ("a", failed), ("b", foreign), ("c", {}), ("d", {})]
    for table in cost_tables(some).values():
        assert [row[1] for row in table.rows[1:]] == ["hole", "n/a", "hole", "hole"]
        assert {text for row in table.rows[1:] for text in row[2:]} == {""}
    assert cost_notes(some)[-3:] == [
        "No cost of a: out of memory.",
        "No cost of b: no input embedding in this network.",
        "No cost of c, d: not measured yet.",
    ]


def test_nothing_measured_gives_no_table():
    assert cost_tables([("none", {})]) == {}
    assert cost_notes([("none", {})]) == ["No cost of none: not measured yet."]
    assert cost_notes([("none", {}), ("a", {})]) == ["No cost of any of these: not measured yet."]


def test_a_sweep_that_asks_for_no_costs_says_so(tmp_path):
    lines = [made.entry(), made.entry("cross_layer")]
    records = [made.record(line, config={"measure": {"max_seconds": 0}}) for line in lines]
    made.write_sweep(tmp_path / "runs", lines, records)
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    page = made.every_setting((folder / "summary.md").read_text())
    assert "No cost of any of these: measure.max_seconds=0 asks for none." in page


def test_columns_that_only_some_machines_fill_are_there_where_one_row_has_them():
    plain = cost_tables([("none", made.cost(made.entry()))])
    gpu = made.cost(LINE, energy={"train_step_j": 1.5}, compile_s=12.25)
    gpu["memory"] |= {"peak_allocated_bytes": 2 * made.MIB, "peak_reserved_bytes": 4 * made.MIB}
    both = cost_tables([("none", made.cost(made.entry())), ("cross_layer", gpu)])
    for title, header, text in (
        ("Time", "energy J\na train step", "1.500"),
        ("Time", "compilation\ns", "12.25"),
        ("Memory", "device peak MiB\n(allocated)", "2.000"),
        ("Memory", "device peak MiB\n(reserved)", "4.000"),
    ):
        assert header not in plain[title].header and column(both[title], header) == ["—", text]


def test_generation_is_shown_where_a_model_writes_text():
    image = made.entry(task="image_cnn", data="digits")
    assert list(cost_tables([("none", made.cost(image))])) == ["Memory", "Time"]
    assert list(cost_tables([("none", made.cost(made.entry()))])) == ["Memory", "Time", "Generation"]


def test_without_cold_caches_there_is_no_column_but_a_line():
    def warm(line):
        cost = made.cost(line)
        cost["latency"] = {name: pair for name, pair in cost["latency"].items() if not name.endswith("_cold")}
        return cost

    none, tied = made.entry(), LINE
    alone = [("none", warm(none)), ("cross_layer", warm(tied))]
    assert not any("cold" in head for table in cost_tables(alone).values() for head in table.header)
    assert "Cold caches: not measured (measure.cold=false)." in cost_notes(alone)
    assert not any("overwritten" in line for line in cost_notes(alone))
    mixed = [("none", made.cost(none)), ("cross_layer", warm(tied))]
    ratios = column(cost_tables(mixed)["Time"], "batch latency\nratio, cold")
    assert ratios[0] != ratios[1] == "—"
    assert "Cold caches: not measured of cross_layer (measure.cold=false)." in cost_notes(mixed)
    assert any("overwritten" in line for line in cost_notes(mixed))


def test_the_notes_say_how_the_pairs_were_measured():
    cold = made.turns(1.0, 0.01, turns=62)
    more = made.cost(LINE)
    more["latency"]["batch_cold"] = cold
    said = " ".join(cost_notes([("none", made.cost(made.entry())), ("cross_layer", more)]))
    assert (
        "train step: batch 16, window 64, 40 turns; batch latency: batch 16, window 64, 40 to 62 turns"
        in said
    )
    assert "first token: batch 1, window 64" in said and "by the tracker (MemTracker)" in said
    assert "precision 32-true, output layer bf16, threads 1." in said and "within 1 GiB." in said
    assert "the peak rate is 60.0 GFLOP/s (measured matmul, float32)." in said
    assert "`none` is timed against copies of itself" in said and "Costs: 2, on 1 host;" in said
    assert "second copy" not in " ".join(cost_notes([("cross_layer", more)]))


def test_a_largest_batch_that_is_not_known_says_why():
    cost = made.cost(LINE)
    limit = {"limit_bytes": 2**30, "train_step": None, "train_step_reason": "its peak jumps", "inference": 7}
    cost["memory"]["largest_batch"] = limit
    table = cost_tables([("cross_layer", cost)])["Memory"]
    assert column(table, "largest batch\n(train step)") == ["—"]
    assert "within 1 GiB. Not known (—): its peak jumps." in " ".join(cost_notes([("cross_layer", cost)]))


def test_two_labels_of_one_cost_count_it_once():
    cost = made.cost(LINE)
    said = cost_notes([("soft(strength=0.1)", cost), ("soft(strength=1)", cost)])
    assert any(line.startswith("Costs: 1, on 1 host") for line in said)


def test_flat_columns_have_their_units_in_their_names_and_are_unrounded():
    row = cost_columns(CostRecord(made.cost(LINE, train_step=made.turns(1 / 3, 0.03), suspect=["a", "b"])))
    assert row["train_step_ratio"] == 1 / 3 and row["train_step_ratio_low"] == 1 / 3 - 0.01
    assert row["train_step_median_s"] == pytest.approx(0.01) and row["train_step_untied_median_s"] == 0.03
    assert row["train_step_p99_s"] is None and row["train_step_turns"] == 40
    assert row["peak_train_step_activations_bytes"] == 20 * made.MIB
    assert row["weights_on_disk_bytes"] == row["state_parameters_bytes"] + 2000
    assert row["suspect"] == "a; b" and row["energy_unavailable"] == "no GPU"


def test_every_cost_has_the_same_columns_and_a_summary_some_of_them():
    image = cost_columns(CostRecord(made.cost(made.entry(task="image_cnn", data="digits"))))
    full, none = cost_columns(CostRecord(made.cost(LINE))), cost_columns(CostRecord())
    assert list(image) == list(full) == list(none) and not any(none.values())
    summary = cost_summary(CostRecord(made.cost(LINE)))
    assert summary.items() <= full.items()
    for key in ("peak_train_step_total_bytes", "latency_one_cold_ratio_high", "largest_batch_inference"):
        assert key in summary
    for key in (
        "train_step_p90_s",
        "latency_one_untied_median_s",
        "train_step_turns",
        "predicted_gradients_bytes",
    ):
        assert key in full and key not in summary


def test_a_page_shows_each_tying_once_and_the_csv_each_cell(tmp_path):
    lines, records, costs = made.grid({"text_gru": "pydocs"}, seeds=(1,))
    made.write_sweep(tmp_path / "runs", lines, records, costs)
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    reached, cost = made.every_setting((folder / "summary.md").read_text()).split("\n### Cost\n")
    assert reached.count("| cross_layer |") == 4 and cost.count("| cross_layer |") == 3
    assert "MiB" not in reached and " ms" not in reached
    assert "cost: Memory" in (folder / "text_gru.tex").read_text()
    with (folder / "text_gru.csv").open(newline="") as file:
        cells = [row for row in csv.DictReader(file) if row["tying"] == "cross_layer"]
    assert len(cells) == 4 and {float(row["train_step_ratio"]) for row in cells} == {0.7}
    assert math.isclose(float(cells[0]["state_optimizer_state_bytes"]), 8 * 480_000)


def test_a_record_of_an_older_shape_is_a_hole_that_says_so(tmp_path):
    lines, records = made.pair(100.0)
    old = made.uncosted(lines[0], "done", "") | {"train_step": {"median_s": 0.01, "n": 9}}
    made.write_sweep(tmp_path / "runs", lines, records, [old])
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    assert "No cost of none: its record is of an older version." in made.every_setting(
        (folder / "summary.md").read_text()
    )
