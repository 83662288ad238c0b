"""Whatever the records hold, a page says so: no crash, no warning, no mean that grew smaller in silence."""

import csv
import math

import pytest
import record_maker as made

from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep
from bench.report.pages import sweep_report, texts

IMAGES = {"task": "image_cnn", "data": "digits"}


def pages(folder, lines, records) -> dict[str, str]:
    """File name -> text of a whole sweep, without pictures."""
    made.write_sweep(folder / "runs", lines, records)
    found = sections(read_sweep(folder / "runs", "quick")[0])
    return texts(sweep_report("quick", found))


def grid(*values: float, **given) -> tuple[list, list]:
    """`none` and a tying that is 1 below it, a value per seed."""
    untied, tied = made.pair(*values, **given), made.pair(*(v - 1 for v in values), tying="soft", **given)
    return untied[0] + tied[0], untied[1] + tied[1]


def test_no_record_and_no_run(tmp_path):
    lines, _ = grid(100.0, 101.0)
    texts = pages(tmp_path / "a", lines, [])
    assert made.every_setting(texts["summary.md"]).count("not run yet") == 2
    assert "Differences" not in texts["summary.md"]
    assert "asked for no run" in pages(tmp_path / "b", [], [])["summary.md"]


def test_one_record(tmp_path):
    lines, records = grid(100.0)
    text = made.every_setting(pages(tmp_path, lines, records[:1])["summary.md"])
    assert "| 100.0 |" in text and "not run yet" in text and "[" not in text.split("\n- ")[0]


@pytest.mark.parametrize("status", ["failed", "diverged", "not_applicable"])
def test_all_runs_without_a_number_on_two_tasks(tmp_path, status):
    lines = grid(100.0, 101.0)[0] + grid(0.5, 0.6, **IMAGES)[0]
    texts = pages(tmp_path, lines, [made.unfinished(line, status, "a reason") for line in lines])
    assert made.every_setting(texts["summary.md"]).count("a reason") == 2 * 2
    (row,) = [
        row
        for row in csv.DictReader(texts["across.csv"].splitlines())
        if row["tying"] == "soft" and not row["task"]
    ]
    counts = [
        row[key] for key in ("n_runs", "n_worst", "n_tasks", "share_of_runs_from_0.95", "not_applicable")
    ]
    expected = ["0", "0", "0", "", "image_cnn on digits; text_gru on pydocs"]
    assert counts == (expected if status == "not_applicable" else ["4", "4", "2", "0.0", ""])
    assert row["mean_score"] == row["n_averaged"] == "" and row["n_without_score"] == "0"


@pytest.mark.parametrize("odd", [math.nan, math.inf, None, "much"])
def test_a_metric_that_is_no_number(tmp_path, odd):
    lines, records = grid(100.0, 101.0, 102.0)
    records[-1]["test"]["perplexity"] = odd
    text = made.every_setting(pages(tmp_path, lines, records)["summary.md"])
    assert f"not a number: test perplexity is {odd} (1 of 3 seeds)" in text and "2 (1 not a number)" in text
    assert "| soft | 0 | 0 | 2 | −1.0" in text and "1 of 3 not a number" in text


def test_a_finite_perplexity_beyond_any_square(tmp_path):
    lines, records = grid(100.0, 101.0, 102.0)
    records[-1] = made.record(lines[-1], 1e250)
    text = made.every_setting(pages(tmp_path, lines, records)["summary.md"])
    assert "3.333e+249" in text
    assert (
        max(len(entry) for line in text.splitlines() if line.startswith("|") for entry in line.split("|"))
        < 120
    )


def test_runs_of_two_versions_say_so_and_are_compared(tmp_path):
    lines, records = grid(100.0, 101.0, 103.0)
    for record, value in zip(records[3:], (95.0, 97.0, 96.5), strict=True):
        record |= {
            "results_version": 2,
            "test": record["test"] | {"perplexity": value, "nll": math.log(value)},
        }
    text = made.every_setting(pages(tmp_path, lines, records)["summary.md"])
    assert "Runs come from more than one results_version." in text and "| soft | 0 | 0 | 3 | −5.1 % [" in text
    assert "The rows differ in results_version (code that changes numbers): 1 (none); 2 (soft)." in text


@pytest.mark.parametrize("tying", ["soft", "none"])
def test_a_diverged_seed_is_in_the_verdict_of_every_page(tmp_path, tying):
    lines, records = grid(100.0, 101.0, 102.5)
    at = 2 if tying == "none" else 5
    records[at] = made.unfinished(lines[at], "diverged", "loss is nan")
    texts = pages(tmp_path, lines, records)
    word = "1 of 3 diverged" if tying == "soft" else "none: 1 of 3 diverged"
    settings = made.every_setting(texts["summary.md"])
    parts = (
        texts["summary.md"].removesuffix(settings),
        settings,
        texts["text_gru.csv"],
        texts["summary.csv"],
    )
    for part in parts:
        assert word in part
    assert "ranked as the worst" in made.every_setting(texts["summary.md"])


@pytest.mark.parametrize(("status", "word"), [("diverged", "all diverged"), (None, "not run yet")])
def test_a_tying_without_any_number_is_in_the_answer(tmp_path, status, word):
    lines, records = grid(100.0, 101.0, 102.5)
    records[3:] = [made.unfinished(line, status, "loss is nan") for line in lines[3:]] if status else []
    summary = pages(tmp_path, lines, records)["summary.md"]
    assert f"\n`soft`: {word}.\n" in summary and f"| soft |  |  | {word} |" in summary


def test_where_nothing_can_be_compared_the_answer_says_so(tmp_path):
    lines, records = grid(100.0, 101.0)
    records[:2] = [made.unfinished(line, "failed", "killed") for line in lines[:2]]
    summary = pages(tmp_path, lines, records)["summary.md"]
    assert "\nNo verdict: no tying has a number beside one of `none`" in summary
    assert (
        "none: no test perplexity (lower is better): all failed, so that nothing can be compared" in summary
    )


def test_an_ignored_seed_is_asked_about_and_has_no_p(tmp_path):
    lines, records = grid(100.0, 100.0, 100.0)
    text = made.every_setting(pages(tmp_path, lines, records)["summary.md"])
    assert "seeds have no effect (is the seed ignored?)" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| soft | 0 | 0 | 3 | ")]
    assert "| — | — | — | seeds have no effect" in row and "[" not in row


def test_records_of_an_older_schema_beside_new_ones(tmp_path):
    """What an old record lacks is no number of the new columns; its metric counts as every other."""
    lines, records = grid(0.5, 0.6, 0.8, **IMAGES)
    for record in records[1:]:
        record["test_groups"] = {"correct": [1] * 12, "count": [2] * 12}
    for key in ("gap", "spread", "decay", "config", "num_params", "provenance"):
        del records[0][key]
    text = made.every_setting(pages(tmp_path, lines, records)["summary.md"])
    assert text.count("| soft |") == 2 and "| 63.33 [" in text.replace("**", "")
    groups = [line for line in text.splitlines() if "[50.00, 50.00]" in line]
    assert len(groups) == 1 and groups[0].startswith("| soft |")


def test_records_of_two_fingerprints_are_two_tables_and_never_one_difference(tmp_path):
    lines, records = grid(100.0, 101.0)
    for record in records[2:]:
        record["data_meta"]["fingerprint"] = "0ther"
    texts = pages(tmp_path, lines, records)
    assert "### text_gru on pydocs, 0ther" in made.every_setting(texts["summary.md"])
    assert "Differences" not in made.every_setting(texts["summary.md"]) and "across.csv" not in texts
