"""Every committed record is of code that the history holds, or its file states that it is not."""

import pytest
import record_maker as made

from bench.analysis import archive
from bench.runs import sources
from bench.runs.machine import ROOT

RESULTS = ROOT / "results"
COMMITTED = archive.archived_names(RESULTS)


@pytest.fixture(scope="module")
def history():
    held = sources.history()
    if held is None:
        pytest.skip("the history of the project is not here: installed, or a shallow clone")
    return held


@pytest.mark.parametrize("name", COMMITTED)
def test_every_committed_record_is_traced_or_stated(name, history):
    sweep = archive.read(archive.path_of(RESULTS, name))
    said = f"python -m bench.tables --sweep {name} --state-untraced"
    assert archive.stated(sweep, history).untraced == sweep.untraced, f"run `{said}` and commit"


@pytest.mark.parametrize("name", COMMITTED)
def test_what_a_file_states_is_counted_on_its_page(name):
    sweep = archive.read(archive.path_of(RESULTS, name))
    page = (RESULTS / name / "summary.md").read_text()
    said = archive.sentence(sweep)
    assert (said in page) if said else "no longer in the history" not in page


def recorded(**changes):
    asked, records = made.pair(100.0, 104.0)
    for record in records:
        record["provenance"] = made.provenance(**changes)
    return archive.Recorded("quick", None, {}, dict(enumerate(records)), {})


@pytest.mark.parametrize(
    ("changes", "held", "is_traced"),
    [
        ({"commit": "a" * 40}, {"a" * 40}, True),
        ({"commit": "a" * 10}, {"a" * 40}, True),
        ({"commit": "a" * 3}, {"a" * 40}, False),
        ({"commit": "b" * 40}, {"a" * 40}, False),
        ({"commit": "a" * 40, "dirty": True}, {"a" * 40}, False),
        ({"commit": None}, {"a" * 40}, False),
        ({"commit": "b" * 40, "dirty": True, "trees": {"bench": "1", "conf": "2"}}, {"1 2"}, True),
        ({"commit": "a" * 40, "trees": {"bench": "1", "conf": "3"}}, {"a" * 40, "1 2"}, False),
    ],
)
def test_a_record_is_traced_by_its_trees_else_by_its_commit(changes, held, is_traced):
    sweep = recorded(**changes)
    stated = archive.stated(sweep, held)
    assert (stated.untraced == ()) is is_traced
    assert (archive.sentence(stated) is None) is is_traced
    again = archive.parse(archive.content(stated), "here")
    assert again.untraced == stated.untraced


def test_the_sentence_counts_and_tells_of_fingerprints():
    sweep = archive.stated(recorded(commit="b" * 40), set())
    assert archive.sentence(sweep).startswith("2 of 2 runs were made at commits")
    assert archive.sentence(sweep).endswith("and no fingerprint of it was recorded.")
    sweep.records[0]["code"] = {"model": {"modules": {"m": "1"}}}
    assert "1 of them hold a fingerprint of their code" in archive.sentence(sweep)
