"""The records of a sweep in results/: what goes in comes out, and the committed tables are made of it."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
import record_maker as made

from bench.analysis import archive
from bench.analysis.runs import read_sweep, rows
from bench.report.pages import recorded_report, texts
from bench.report.tables import build, main
from bench.runs.store import manifest_path, run_folder
from bench.tying.errors import BadInput

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
TASKS = {"image_cnn": "digits", "text_gru": "pydocs"}
COMMITTED = archive.archived_names(RESULTS)


def built(folder: Path, *swept, **given) -> Path:
    made.write_sweep(folder / "runs", *swept, **given)
    return build(folder / "runs", folder / "results", out=lambda text: None)[0]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def rewritten(path: Path, changed: list) -> None:
    text = "".join(line if isinstance(line, str) else f"{json.dumps(line)}\n" for line in changed)
    path.write_bytes(gzip.compress(text.encode()))


def test_a_fresh_clone_makes_every_file_again_from_the_records_alone(tmp_path):
    folder = built(tmp_path, *made.grid(TASKS, seeds=(1,), tyings=made.TYINGS[:3]), note="one of\ntwo")
    before = tree(folder)
    shutil.rmtree(tmp_path / "runs")
    kept = before[archive.FILE]
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / archive.FILE).write_bytes(kept)
    assert build(tmp_path / "runs", tmp_path / "results", out=lambda text: None) == [folder]
    assert tree(folder) == before and {"index.html", "text_gru_pareto.png"} < before.keys()


def test_what_goes_in_comes_out_in_any_order_as_the_same_bytes(tmp_path):
    asked, records, costs = made.grid(TASKS)
    records[0]["val"]["nll"] = float("nan")
    made.write_sweep(tmp_path / "a", asked, records[1:], costs)
    made.write_sweep(tmp_path / "b", asked[::-1], records[:0:-1], costs[::-1])
    one, other = (archive.load(tmp_path / name, None, "quick") for name in ("a", "b"))
    packed = archive.content(one)
    assert packed == archive.content(other)
    again = archive.parse(packed, "here")
    assert archive.content(again) == packed
    assert again.records.keys() == one.records.keys() and again.costs == one.costs
    assert {run.id: run for run in rows(again)} == {run.id: run for run in rows(one)}


def test_neither_folders_nor_hosts_go_in_and_the_config_is_whole(tmp_path):
    (line,), (record,) = made.pair(100.0)
    record["config"]["data"] |= {
        "files": ["/home/me/a.txt", "b.txt"],
        "meta": record["data_meta"],
        "train_limit": 5,
    }
    record["provenance"] |= {"host": "my-laptop"}
    folder = built(tmp_path, [line], [record], [made.cost(line)])
    text = gzip.decompress((folder / archive.FILE).read_bytes()).decode()
    assert "/home/me" not in text and "/somewhere" not in text and "my-laptop" not in text
    (run,) = [line["record"] for line in lines(folder / archive.FILE) if line["kind"] == "run"]
    assert run["config"]["data"] == {
        "folder": "/path/to/else", "files": ["/path/to/a.txt", "b.txt"], "train_limit": 5
    }  # fmt: skip
    kept = {"config", "provenance"}
    assert {k: v for k, v in run.items() if k not in kept} == {
        k: v for k, v in record.items() if k not in kept
    }


def test_a_record_in_runs_counts_before_an_archived_one_which_fills_the_holes(tmp_path):
    asked, records = made.pair(100.0, 104.0, 108.0)
    built(tmp_path, asked, records, [made.cost(asked[0])])
    shutil.rmtree(tmp_path / "runs")
    made.write_sweep(tmp_path / "runs", asked, [made.record(asked[0], 90.0)])
    runs, _ = read_sweep(tmp_path / "runs", "quick", tmp_path / "results")
    assert [run.number("test", "perplexity") for run in runs] == [90.0, 104.0, 108.0]
    assert runs[0].cost.is_measured
    (run_folder(tmp_path / "runs", asked[0]["id"]) / "record.json").write_text('{"torn')
    assert (
        read_sweep(tmp_path / "runs", "quick", tmp_path / "results")[0][0].number("test", "perplexity")
        == 100.0
    )
    assert not any(run.is_done for run in read_sweep(tmp_path / "runs", "quick")[0])


def test_runs_that_the_sweep_no_longer_asks_for_go_with_a_word(tmp_path, capsys):
    asked, records = made.pair(100.0, 104.0, 108.0)
    folder = built(tmp_path, asked, records)
    shutil.rmtree(tmp_path / "runs")
    made.write_sweep(tmp_path / "runs", asked[:1], records[:1])
    assert main([f"--{name}={tmp_path / name}" for name in ("runs", "results")]) == 0
    assert f"2 runs of the {archive.FILE} that was in {folder}" in capsys.readouterr().out
    assert len(archive.read(folder / archive.FILE).entries) == 1


def test_records_of_an_older_form_say_what_they_lack(tmp_path):
    folder = built(tmp_path, *made.pair(100.0))
    path = folder / archive.FILE
    head, *rest = lines(path)
    rewritten(path, [head | {"lacks": "they have no curves."}, *rest])
    shutil.rmtree(tmp_path / "runs")
    build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    assert "- Records: they have no curves.\n" in (folder / "summary.md").read_text()
    assert "they have no curves." in (folder / "index.html").read_text()


def test_what_an_archive_gave_to_runs_is_published_again_as_it_was(tmp_path):
    """`reuse=true` takes records over: no host is hashed twice, and what they lack is said as long as one is left."""
    asked, records = made.pair(100.0, 104.0)
    for record in records:
        record["provenance"] |= {"host": "my-laptop"}
    path = built(tmp_path, asked, records) / archive.FILE
    rewritten(path, [lines(path)[0] | {"lacks": "they have no curves."}, *lines(path)[1:]])
    published = archive.read(path)
    taken = [published.records[entry["id"]] for entry in asked]
    made.write_sweep(tmp_path / "runs", asked, taken)
    assert archive.load(tmp_path / "runs", tmp_path / "results", "quick") == published
    made.write_sweep(tmp_path / "runs", asked, [taken[0], made.record(asked[1], 90.0)])
    assert archive.load(tmp_path / "runs", tmp_path / "results", "quick").lacks == published.lacks
    made.write_sweep(tmp_path / "runs", asked, [made.record(entry, 90.0) for entry in asked])
    assert archive.load(tmp_path / "runs", tmp_path / "results", "quick").lacks is None


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_are_as_they_are_published(name):
    sweep = archive.read(archive.path_of(RESULTS, name))
    records = [*sweep.records.values(), *sweep.costs.values()]
    assert [record for record in records if archive.portable(record, RESULTS) != record] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: [found[0] | {"schema": archive.SCHEMA + 1}, *found[1:]], "has schema 2"),
        (lambda found: found[1:], "line 1: not the first line"),
        (lambda found: [], "line 1: not the first line"),
        (lambda found: [*found, {"kind": "other"}], "line 4: neither a run nor a cost"),
        (lambda found: [*found, {"kind": "run", "record": {}}], "line 4: neither a run nor a cost"),
        (lambda found: [*found, "[1]\n"], "line 4: no JSON object"),
        (lambda found: [*found, '{"kind": \n'], "line 4: no JSON ("),
        (lambda found: found[:2], "lines are missing"),
        (lambda found: [*found[:2], found[2] | {"record": {"schema": 99}}], "line 3: a record of schema 99"),
        (lambda found: [found[0], found[1] | {"entry": {"id": "x"}}, found[2]], "lacks or has an odd 'tying'"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_ours_is_refused_by_name_in_one_line(tmp_path, capsys, change, said):
    folder = built(tmp_path, *made.pair(100.0), [made.cost(made.entry())])
    shutil.rmtree(tmp_path / "runs")
    rewritten(folder / archive.FILE, change(lines(folder / archive.FILE)))
    refused(tmp_path, capsys, said)


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_a_torn_one_too(tmp_path, capsys, cut):
    folder = built(tmp_path, *made.pair(100.0))
    shutil.rmtree(tmp_path / "runs")
    path = folder / archive.FILE
    path.write_bytes(path.read_bytes()[:cut])
    refused(tmp_path, capsys, "records.jsonl.gz")


def refused(folder: Path, capsys, said: str) -> None:
    before = tree(folder / "results" / "quick")
    assert main([f"--{name}={folder / name}" for name in ("runs", "results")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error and "quick" in error
    assert tree(folder / "results" / "quick") == before


def test_a_sweep_that_is_nowhere_is_no_sweep(tmp_path):
    with pytest.raises(BadInput, match="cannot read"):
        archive.load(tmp_path, tmp_path, "quick")
    assert not manifest_path(tmp_path, "quick").exists()


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_tables_are_made_from_the_committed_records(name):
    """What is committed as text is made anew from the records beside it, byte by byte."""
    sweep = archive.read(archive.path_of(RESULTS, name))
    made_again = texts(recorded_report(sweep, RESULTS))
    there = {
        file: (RESULTS / name / file).read_text() for file in made_again if (RESULTS / name / file).exists()
    }
    is_apart = name.startswith("map")  # of hundreds of settings, in a file that git does not keep
    assert ("settings.md" in made_again) == is_apart
    assert ("\n# Every setting of " in there["summary.md"]) != is_apart
    assert [file for file in there if there[file] != made_again[file]] == []


def test_there_are_committed_sweeps_and_they_are_small():
    assert len(COMMITTED) >= 20
    assert sum(os.path.getsize(archive.path_of(RESULTS, name)) for name in COMMITTED) < 3.5 * 2**20
