"""The command: rows, verdicts, files, and what bad input makes of them."""

import gzip
import json

import pytest
import yaml
from record_maker import ACCURACY, entry, pair, unfinished, write_sweep

from bench.analysis import archive
from bench.claims.__main__ import build, main

TEST = {
    "_target_": "bench.claims.checks.paired.gain",
    "ours": "tying == 'embedding'",
    "theirs": "tying == 'none'",
    "by": ["task", "data"],
}
CLAIM = {
    "id": "C1",
    "statement": "Tying helps.",
    "source": "someone",
    "kind": "empirical",
    "sweep": "quick",
    "test": TEST,
    "rule": {"supported": "gain_low > 0", "refuted": "gain_high < 0"},
    "overall": None,
    "reduced": "Much.",
    "untestable": None,
    "decided_by": None,
    "published": None,
}


class Place:
    """Folders of a test: claims, runs and results."""

    def __init__(self, folder):
        self.claims, self.runs, self.results = (folder / name for name in ("claims", "runs", "results"))
        self.claims.mkdir()

    def claim(self, number=1, **changes):
        content = {**CLAIM, "id": f"C{number}"} | changes
        (self.claims / f"c{number:02}.yaml").write_text(yaml.safe_dump(content))

    def sweep(self, *cells):
        write_sweep(
            self.runs,
            [line for lines, _ in cells for line in lines],
            [record for _, records in cells for record in records],
        )

    def rows(self, **given):
        return build(self.runs, self.results, self.claims, out=lambda text: None, **given)

    def verdict(self):
        return self.rows()[0].verdict.short

    def main(self, *words):
        return main(
            [f"--{name}={getattr(self, name)}" for name in ("runs", "results", "claims")] + list(words)
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def accuracies(tying, values, **given):
    return pair(*values, tying=tying, metric=ACCURACY, **{"task": "image_cnn", "data": "digits"} | given)


BETTER, WORSE = [0.61, 0.62, 0.63, 0.64, 0.65], [0.50, 0.52, 0.51, 0.55, 0.53]


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (BETTER, WORSE, "supported"),
        (WORSE, BETTER, "refuted"),
        (WORSE, WORSE[::-1], "inconclusive"),
        (BETTER[:3], WORSE[:3], "supported (too few seeds)"),
        (BETTER[:1], WORSE[:1], "inconclusive (too few seeds)"),
        ([], WORSE, "not yet run"),
    ],
)
def test_a_verdict_follows_from_the_records_by_the_rule(place, ours, theirs, found):
    place.claim()
    place.sweep(accuracies("embedding", ours), accuracies("none", theirs))
    assert place.verdict() == found


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (BETTER, BETTER, "supported"),
        (BETTER, WORSE, "mixed by condition"),
        (WORSE, WORSE, "refuted"),
    ],
)
def test_a_claim_of_two_parts_is_supported_where_both_are(place, first, second, found):
    place.claim()
    middle = [0.57, 0.56, 0.58, 0.59, 0.57]
    cells = [
        cell
        for data, ours in (("a", first), ("b", second))
        for cell in (accuracies("embedding", ours, data=data), accuracies("none", middle, data=data))
    ]
    place.sweep(*cells)
    (row,) = place.rows()
    assert row.verdict.short == found and len(row.judged) == 2


def test_a_part_that_was_not_run_is_counted_out_loud(place):
    place.claim()
    lines = [entry(t, seed=1, task="image_cnn", data="b", metric=ACCURACY) for t in ("none", "embedding")]
    place.sweep(accuracies("embedding", BETTER), accuracies("none", WORSE), (lines, []))
    (row,) = place.rows()
    assert str(row.verdict) == "supported: supported for image_cnn, digits. not yet run for image_cnn, b"
    assert row.why == "10 of 12 runs done: not run yet 2"


def test_what_cannot_be_run_says_what_is_missing(place):
    place.claim(1, test=None, rule=None, sweep=None, untestable="two GPUs are missing")
    assert str(place.rows()[0].verdict) == "not testable here: two GPUs are missing"


def test_without_records_it_is_not_yet_run(place):
    place.claim()
    (row,) = place.rows()
    assert (str(row.verdict), row.why) == ("not yet run", "no records of quick")
    assert "*Tying helps.*" in (place.results / "claims.md").read_text()


def test_all_runs_failed_is_not_yet_run_and_says_so(place):
    place.claim()
    line = entry("none")
    place.sweep(([line], [unfinished(line, "failed", "no memory")]))
    (row,) = place.rows()
    assert (str(row.verdict), row.why) == ("not yet run", "0 of 1 runs done: failed 1")


def test_one_record_is_no_evidence_and_no_crash(place):
    place.claim()
    place.sweep(accuracies("none", WORSE[:1]))
    assert place.verdict() == "not yet run"


def test_committed_tables_say_what_the_records_said(place):
    """A fresh clone has no runs: the same numbers come from results/quick/records.jsonl.gz, to the last digit."""
    place.claim()
    place.sweep(accuracies("embedding", BETTER), accuracies("none", WORSE))
    packed = archive.content(archive.load(place.runs, None, "quick"))
    place.rows()
    before = {path.name: path.read_bytes() for path in place.results.iterdir()}
    (place.results / "quick").mkdir()
    archive.path_of(place.results, "quick").write_bytes(packed)
    place.runs = place.runs / "elsewhere"
    assert place.verdict() == "supported"
    assert {path.name: path.read_bytes() for path in place.results.glob("claims.*")} == before


def test_four_spellings_say_the_same_and_again_the_same_bytes(place):
    place.claim()
    place.sweep(accuracies("embedding", BETTER), accuracies("none", WORSE))
    place.rows()
    files = {path.name: path.read_bytes() for path in place.results.iterdir()}
    assert set(files) == {f"claims.{suffix}" for suffix in ("md", "csv", "tex", "json")}
    (found,) = json.loads(files["claims.json"])
    assert found["parts"][0]["measures"][0]["n"] == 5 and found["verdict"] == "supported"
    for name in ("claims.md", "claims.tex", "claims.csv"):
        assert b"supported" in files[name] and b"points of accuracy" in files[name]
    assert b"quick: 10 of 10 runs done; data digits f1a2b3c4d5e6; commit abcdef0123;" in files["claims.md"]
    place.rows()
    assert {path.name: path.read_bytes() for path in place.results.iterdir()} == files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test": TEST | {"ours": "tying =="}}, "claim file c01.yaml: bad expression 'tying =='"),
        ({"test": TEST | {"ours": "colour == 1"}}, "claim file c01.yaml: bad expression 'colour == 1'"),
        (
            {"test": TEST | {"_target_": "bench.claims.checks.paired.nothing"}},
            "no function bench.claims.checks.paired.nothing",
        ),
        ({"test": TEST | {"more": 1}}, "unexpected keyword argument 'more'"),
        (
            {"rule": {"supported": "lo > 0", "refuted": "gain_high < 0"}},
            "no number lo; there is gain, gain_high",
        ),
        ({"sweep": "nowhere"}, "no sweep nowhere: neither recorded nor in conf/sweep"),
        ({"kind": "rumour"}, "`kind` is 'rumour'"),
    ],
)
def test_a_bad_claim_is_one_line_and_the_others_go_on(place, capsys, changes, said):
    place.claim(1, **changes)
    place.claim(2)
    place.sweep(accuracies("embedding", BETTER), accuracies("none", WORSE))
    assert place.main() == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: claim file c01.yaml: ") and err.count("\n") == 1 and said in err
    assert "Traceback" not in out + err
    page = (place.results / "claims.md").read_text()
    assert "not evaluated" in page and "C2" in page and "supported: C2 (1)" in page


def test_a_nan_metric_is_said(place):
    place.claim()
    lines, records = accuracies("embedding", BETTER)
    records[0]["test"]["accuracy"] = float("nan")
    place.sweep((lines, records), accuracies("none", WORSE))
    (row,) = place.rows()
    (_, verdict) = row.judged[0]  # the four that are left are not all
    assert verdict.word == "inconclusive" and verdict.detail == "ours: 1 of 5 not a number"


@pytest.mark.parametrize(
    "packed", [b"", b"a,b\n1,2\n", gzip.compress(b"{}", mtime=0)[:-3], gzip.compress(b"{}", mtime=0)]
)
def test_a_damaged_file_of_records_is_a_row_that_says_so(place, packed):
    place.claim()
    (place.results / "quick").mkdir(parents=True)
    archive.path_of(place.results, "quick").write_bytes(packed)
    (row,) = place.rows()
    assert str(row.verdict) == "not evaluated" and "records.jsonl.gz" in row.why


def test_only_some_are_said_and_nothing_is_written(place, capsys):
    place.claim(1)
    place.claim(2)
    assert place.main("--only", "c2") == 0
    assert "C1" not in capsys.readouterr().out and not place.results.exists()
    assert place.main("--only", "C9") == 2
    assert capsys.readouterr().err == "error: no claim C9: there is C1, C2\n"


def test_a_sweep_without_records_beside_one_that_has_them_is_named(place):
    place.claim(sweep=["quick", "main"])
    place.sweep(accuracies("embedding", BETTER), accuracies("none", WORSE))
    (row,) = place.rows()
    assert row.verdict.word == "supported" and row.why == "no records of main"
