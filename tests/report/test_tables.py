import csv
import json
import math
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

import pytest
import record_maker as made

from bench.analysis import archive
from bench.analysis.frame import rows
from bench.analysis.runs import read_sweep
from bench.report.index import RATES
from bench.report.notes import UNSEARCHED
from bench.report.pages import MARK
from bench.report.plots.pictures import PICTURES
from bench.report.tables import build, main
from bench.runs.store import run_folder
from bench.tying.errors import BadInput

TASKS = {"image_cnn": "digits", "text_gru": "pydocs"}


def sweep(folder: Path, lines, records, costs=(), **given) -> Path:
    made.write_sweep(folder / "runs", lines, records, costs, **given)
    return folder / "runs"


def built(folder: Path, lines, records, costs=(), **given) -> Path:
    """Tables of a sweep without a word on the terminal; returns its folder."""
    runs = sweep(folder, lines, records, costs, **given)
    return build(runs, folder / "results", out=lambda text: None)[0]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_torch_and_no_matplotlib_before_a_picture_is_drawn():
    code = "import sys, bench.tables; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_mean_spread_and_paired_difference(tmp_path):
    untied, tied = made.pair(100.0, 104.0), made.pair(97.0, 103.0, 500.0, tying="cross_layer")
    folder = built(tmp_path, untied[0] + tied[0], untied[1] + tied[1])
    none, cross = rows_of(folder / "text_gru.csv")
    assert float(none["test_perplexity_mean"]) == 102 and none["difference_to_none_mean"] == ""
    assert float(none["test_perplexity_sd"]) == pytest.approx(math.sqrt(8))
    # Seed 3 has no untied twin: it counts in the mean, not in the difference.
    assert float(cross["test_perplexity_mean"]) == pytest.approx(700 / 3)
    expected = (math.log(0.97) + math.log(103 / 104)) / 2
    assert float(cross["difference_to_none_mean"]) == pytest.approx(expected)
    assert cross["difference_to_none_n"] == "2"
    text = made.every_setting((folder / "summary.md").read_text())
    # The t interval of two values reaches 12.7 times half their distance.
    assert "−2.0 % [−14.1, +11.9] (n=2)" in text and "| 102.0 [76.6, 127.4] |" in text.replace("**", "")


def test_what_a_difference_is_worth_stands_below_and_in_the_csv_unrounded(tmp_path):
    untied, tied = made.pair(*[100.0, 104.0] * 3), made.pair(*[97.0, 103.0] * 3, tying="cross_layer")
    folder = built(tmp_path, untied[0] + tied[0], untied[1] + tied[1])
    none, cross = rows_of(folder / "text_gru.csv")
    assert (none["rank"], cross["rank"], none["verdict_kind"], none["p"]) == ("2", "1", "nothing", "")
    # Six logarithms of 0.97 or 103 / 104.
    pairs = [math.log(0.97), math.log(103 / 104)] * 3
    mean, sd = fmean(pairs), stdev(pairs)
    low, high = float(cross["difference_low"]), float(cross["difference_high"])
    assert (low + high) / 2 == pytest.approx(mean) and 2 * mean < low < high < 0
    assert 0.001 < float(cross["p"]) == float(cross["p_holm"]) < 0.01
    assert float(cross["margin"]) == pytest.approx(math.log(1.01)) and cross["verdict_kind"] == "better"
    # 5 degrees of freedom, 80 % power: 1.435 standard deviations of a pair.
    assert float(cross["could_show"]) == pytest.approx(1.435 * sd, rel=0.001)
    assert int(cross["seeds_for_margin"]) > 6 and cross["difference_unit"] == "nats"
    spreads = [stdev([math.log(value) for value in values] * 3) for values in ((100, 104), (97, 103))]
    assert float(cross["effect"]) == pytest.approx(mean / math.hypot(*spreads) * math.sqrt(2))
    text, tex = made.every_setting((folder / "summary.md").read_text()), (folder / "text_gru.tex").read_text()
    assert text.count("Differences to none:") == 1 and "±1 % of the mean of `none`" in text
    assert (
        "text_gru on pydocs: Differences to none" in tex
        and "| 6 | −2.0 % [−3.2, −0.8] | −0.72 | 0.008 | 0.008 | "
        "better at this rate, a hint; worse than the trigram floor | 1.6 % | "
        in text
    )
    assert [row["verdict_kind"] for row in rows_of(folder / "summary.csv")] == ["nothing", "better"]


def test_one_seed_has_no_table_of_differences(tmp_path):
    untied, tied = made.pair(100.0), made.pair(97.0, tying="cross_layer")
    text = made.every_setting(
        (built(tmp_path, untied[0] + tied[0], untied[1] + tied[1]) / "summary.md").read_text()
    )
    assert "Differences" not in text and "| −3.0" in text.replace("**", "") and "too few seeds" in text


def test_across_tasks_there_is_a_table_where_there_are_two(tmp_path):
    lines, records, costs = made.grid(TASKS)
    folder = built(tmp_path / "two", lines, records, costs)
    rows = {row["tying"]: row for row in rows_of(folder / "across.csv") if not row["task"]}
    assert rows["none"]["mean_score"] == "1.0" and rows["cross_layer"]["n_runs"] == "16"
    assert (
        rows["embedding"]["not_applicable"] == "image_cnn on digits" and rows["embedding"]["n_tasks"] == "1"
    )
    assert "Across tasks:" in (folder / "summary.md").read_text()
    tex = (folder / "summary.tex").read_text()
    assert "Across tasks" in tex and "\\% of runs $\\geq$ 1.02" in tex
    one = built(tmp_path / "one", lines[-4:], records[-4:])
    assert not (one / "across.csv").exists() and "Across" not in (one / "summary.md").read_text()


def test_a_torn_record_is_a_hole_that_says_so(tmp_path):
    lines, records = made.pair(100.0, 102.0)
    runs = sweep(tmp_path, lines, records)
    (run_folder(runs, lines[1]["id"]) / "record.json").write_bytes(b'{"status": "do')
    folder = build(runs, tmp_path / "results", out=lambda text: None)[0]
    text = made.every_setting((folder / "summary.md").read_text())
    assert "record is damaged" in text and "1 (1 failed)" in text and str(tmp_path) not in text


def test_a_torn_cost_leaves_its_columns_empty_and_says_so(tmp_path):
    lines, records = made.pair(100.0)
    runs = sweep(tmp_path, lines, records, [made.cost(lines[0])])
    (runs / "costs" / lines[0]["cost"] / "cost.json").write_bytes(b"{")
    folder = build(runs, tmp_path / "results", out=lambda text: None)[0]
    assert "No cost of none: its record is damaged." in made.every_setting(
        (folder / "summary.md").read_text()
    )


def test_two_data_sets_of_one_task_have_a_part_of_the_page_and_a_csv_each(tmp_path):
    first, second = made.pair(100.0), made.pair(90.0, data="wikitext2")
    folder = built(tmp_path, first[0] + second[0], first[1] + second[1])
    assert {"text_gru_pydocs.csv", "text_gru_wikitext2.csv"} <= set(tree(folder))
    text = (folder / "summary.md").read_text()
    parts = re.findall(r"^## (.+)$", made.every_setting(text), re.MULTILINE)
    assert parts == ["text_gru_pydocs", "text_gru_wikitext2"]
    linked = re.findall(r"\(#(\w+)\)", text)
    assert linked == parts


def test_flat_rows_are_one_per_run_holes_included(tmp_path):
    lines, records = made.pair(100.0, 102.0)
    runs = sweep(tmp_path, [*lines, made.entry("soft")], records)
    found = rows(read_sweep(runs, "quick")[0])
    assert [row["status"] for row in found] == ["done", "done", "not_run"]
    assert found[0]["config.optimizer.lr"] == 0.001 and "/somewhere" not in str(found)


def test_below_a_table_stand_floors_provenance_and_note(tmp_path):
    lines, records = made.pair(27.4, 27.4)
    records[1]["provenance"] = made.provenance(commit="fedcba9876543210", dirty=True)
    text = made.every_setting(
        (built(tmp_path, lines, records, note="one rate per task") / "summary.md").read_text()
    )
    assert "best row 27.40 is 0.10x unigram perplexity 274.0, 0.51x trigram perplexity 54.00" in text
    assert "commit abcdef0123 (1 of 2), fedcba9876 (dirty) (1 of 2)" in text
    assert "Runs come from more than one commit." in text
    assert "Note: one rate per task" in text and "fingerprint f1a2b3c4d5e6 (train 420,000" in text


@pytest.mark.parametrize("status", ["failed", "diverged", "not_applicable"])
def test_a_sweep_in_which_nothing_ended_well_still_has_tables(tmp_path, status):
    lines = [made.entry(tying) for tying in made.TYINGS]
    folder = built(tmp_path, lines, [made.unfinished(line, status, "a reason") for line in lines])
    assert "a reason" in made.every_setting((folder / "summary.md").read_text()) and not list(
        folder.glob("*.png")
    )


def test_a_sweep_without_records_and_one_without_runs_have_tables(tmp_path):
    assert "not run yet" in made.every_setting(
        (built(tmp_path / "a", [made.entry()], []) / "summary.md").read_text()
    )
    assert "asked for no run" in (built(tmp_path / "b", [], []) / "summary.md").read_text()


def test_same_records_same_bytes_in_another_folder_and_again(tmp_path):
    lines, records, costs = made.grid(TASKS)
    one = built(tmp_path / "one", lines, records, costs)
    two = built(tmp_path / "two" / "deeper", lines[::-1], records, costs)
    before = tree(one)
    assert before == tree(two)
    texts = {f"{stem}{kind}" for stem in (*TASKS, "summary") for kind in (".csv", ".tex")}
    assert texts | {"summary.md", "across.csv", "records.jsonl.gz"} < before.keys()
    build(tmp_path / "one" / "runs", tmp_path / "one" / "results", out=lambda text: None)
    assert tree(one) == before


def test_stale_files_of_ours_go_and_others_stay(tmp_path):
    lines, records, costs = made.grid(TASKS, seeds=(1,))
    folder = built(tmp_path, lines, records, costs)
    for name in ("notes.md", "notes.csv", "text_gru_extra.png"):
        (folder / name).write_text("mine")
    (folder / "records.csv").write_text("what an older version wrote")
    (folder / "image_cnn.md").write_text(f"{MARK}# what an older version wrote\n")
    archive.path_of(tmp_path / "results", "quick").unlink()
    kept = [line for line in lines if line["task"] == "image_cnn"]
    shutil.rmtree(tmp_path / "runs")
    built(tmp_path, kept, [])
    left = {path.name for path in folder.iterdir()} - {"index.html"}
    assert left == {
        "image_cnn.csv", "image_cnn.tex", "summary.md", "summary.csv", "summary.tex",
        "records.jsonl.gz", "notes.md", "notes.csv", "text_gru_extra.png",
    }  # fmt: skip


def test_the_index_lists_what_is_there(tmp_path):
    lines, records = made.pair(100.0)
    built(tmp_path, lines, records, name="quick")
    built(tmp_path, lines, records, name="main")
    text = (tmp_path / "results" / "README.md").read_text()
    # A sweep by its question, which its preset has, and by its answer.
    main, quick = text.splitlines()[-2:]
    assert main.startswith("- [What do ") and "](main/summary.md) (main): Nothing is tied here" in main
    assert quick.startswith("- [What do ") and "](quick/summary.md) (quick): Nothing is tied here" in quick
    (tmp_path / "results" / "performance.md").write_text("what `make perf` wrote")
    built(tmp_path, lines, records, name="main")
    text = (tmp_path / "results" / "README.md").read_text()
    assert re.search(
        r"# Results\n\n- \[performance\]\(performance.md\): .*\n\n## .*\n\n- \[What do .*\(main\)", text
    )


def test_sweeps_whose_learning_rate_was_given_come_last(tmp_path):
    """Their differences are hints, and a reader goes from the top."""
    for name, seeds, searched in (("main", (1, 2), None), ("quick", (3, 4), {"0.001": 5.0})):
        lines, records, _ = made.grid({"text_gru": "pydocs"}, seeds, (0.0,), (0.0,))
        built(tmp_path, lines, [record | {"lr_search": searched} for record in records], name=name)
    for folder, is_said in (("main", True), ("quick", False)):
        assert (UNSEARCHED in (tmp_path / "results" / folder / "summary.md").read_text()) == is_said
    text = (tmp_path / "results" / "README.md").read_text()
    order = [RATES[False], "(quick/summary.md)", RATES[True], "(main/summary.md)"]
    assert sorted(order, key=text.index) == order


def test_the_headline_fits_the_terminal_and_says_where_the_rest_is(tmp_path, capsys):
    lines, records, costs = made.grid(TASKS | {"text_transformer": "pydocs"}, seeds=(1,))
    runs = sweep(tmp_path, lines, records, costs)
    assert main(["--runs", str(runs), "--results", str(tmp_path / "out"), "--sweep", "quick"]) == 0
    said = capsys.readouterr().out
    table = said[: said.index("floors, ")]
    assert max(len(line) for line in table.splitlines()) <= 120 and table.count("cross_layer") == 1
    assert said.rstrip().endswith(f"{tmp_path / 'out' / 'quick'}/")


def refusal(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    return said


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    lines, records = made.pair(100.0)
    runs, results = str(sweep(tmp_path, lines, records)), str(tmp_path / "results")
    (tmp_path / "file").write_text("")
    assert "did you mean quick?" in refusal(capsys, "--runs", runs, "--results", results, "--sweep", "quikc")
    assert "there is quick" in refusal(capsys, "--runs", runs, "--results", results, "--sweep", "other")
    assert "make sweep" in refusal(capsys, "--runs", str(tmp_path / "nowhere"), "--results", results)
    assert "cannot write" in refusal(capsys, "--runs", runs, "--results", str(tmp_path / "file"))
    (tmp_path / "runs" / "sweeps" / "quick.json").write_text('{"runs": [{"id"')
    assert "damaged" in refusal(capsys, "--runs", runs, "--results", results)
    (tmp_path / "runs" / "sweeps" / "quick.json").write_text('{"runs": [{"id": "1"}]}')
    assert "'tying'" in refusal(capsys, "--runs", runs, "--results", results)


def test_a_record_of_a_newer_schema_is_refused_and_unknown_keys_are_not(tmp_path):
    lines, records = made.pair(100.0)
    built(tmp_path, lines, [records[0] | {"later": {"more": 1}}])
    path = run_folder(tmp_path / "runs", lines[0]["id"]) / "record.json"
    path.write_text(json.dumps(records[0] | {"schema": 2}))
    with pytest.raises(BadInput, match="schema 2"):
        build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)


@pytest.mark.parametrize("picture", ("pareto", "forest", "pairs"))
def test_a_picture_that_fails_costs_neither_tables_nor_other_pictures(tmp_path, monkeypatch, picture):
    made.write_sweep(tmp_path / "runs", *made.grid({"text_gru": "pydocs"}, seeds=(1, 2), dropouts=(0.0, 0.2)))
    monkeypatch.setitem(PICTURES, picture, "math:nothing_of_that_name")
    said = []
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=said.append)
    files = {path.name for path in folder.iterdir()}
    assert {"summary.md", "text_gru.csv", "index.html", archive.FILE} <= files
    drawn = {"pareto", "forest", "curves"} - {picture}
    assert {f"text_gru_{name}.png" for name in drawn} <= files and f"text_gru_{picture}.png" not in files
    page = (folder / "index.html").read_text()
    place = re.search(r"<figure>\s*<p[^>]*>([^<]*)</p>\s*<figcaption>(.*?)</figcaption>", page)
    assert "no attribute &#39;nothing_of_that_name&#39;" in place[1] and place[2] == picture.replace("_", " ")
    assert len([line for line in said if line.startswith(f"no picture text_gru_{picture}: ")]) == 1


def test_two_model_classes_in_one_sweep_have_tables(tmp_path):
    models = (
        {"_target_": "bench.models.gru.CausalGRU", "width": 8, "depth": 4},
        {"_target_": "bench.models.transformer.CausalLM", "architecture": "gpt2", "config": {"n_embd": 16}},
    )
    lines, records = [], []
    for model, tying, seed in product(models, ("none", "cross_layer"), (1, 2)):
        line = made.entry(tying, seed=seed)
        line |= {"id": f"run{len(lines)}", "cell": f"{line['cell']}-{model['_target_']}"}
        lines.append(line)
        records.append(made.record(line, 100.0 + len(lines), config={"model": model, "data": {}}))
    made.write_sweep(tmp_path / "runs", lines, records)
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    table = made.every_setting((folder / "summary.md").read_text())
    assert table.count("\n### text_gru on pydocs, model._target_=") == 2
