"""What a reader sees first: the question, the verdicts in a line, and a narrow table of what validation chose."""

import gzip
import json
import re
from pathlib import Path

import pytest
import record_maker as made
import yaml

from bench.analysis import archive
from bench.analysis.comparison import chosen_vs_untied
from bench.analysis.groups import sections
from bench.analysis.runs import read_sweep, rows
from bench.config import schema
from bench.report.answer import Judgement, _in_words, answer, line, over_settings
from bench.report.index import shipped
from bench.report.pages import judged, said_of
from bench.report.plots.pictures import PICTURES
from bench.report.tables import build
from bench.runs.store import manifest_path
from bench.runs.tying_spec import Part, TyingSpec

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
PRESETS = sorted((ROOT / "conf" / "sweep").glob("*.yaml"))
COMMITTED = archive.archived_names(RESULTS)
NONE = made.pair(100.0, 101.0, 102.0, 101.0, 100.0)
CLEAR = made.pair(90.1, 91.0, 92.0, 90.9, 90.0, tying="cross_layer")
NOISE = made.pair(95.0, 106.0, 97.0, 107.0, 99.0, tying="soft")


def sections_of(folder, *cells):
    lines, records = ([item for cell in cells for item in cell[at]] for at in (0, 1))
    made.write_sweep(folder / "runs", lines, records)
    return sections(read_sweep(folder / "runs", "quick")[0])


@pytest.mark.parametrize("path", PRESETS, ids=[path.stem for path in PRESETS])
def test_every_named_sweep_asks_a_question(path):
    assert yaml.safe_load(path.read_text())["sweep"]["question"].endswith("?")


@pytest.mark.parametrize("name", COMMITTED)
def test_a_committed_summary_begins_with_its_question_and_its_answer(name):
    sweep = archive.read(archive.path_of(RESULTS, name))
    _, heading, _, said, *rest = (RESULTS / name / "summary.md").read_text().splitlines()
    assert heading == f"# {said_of(sweep)['question']}" and heading.endswith("?")
    claims = (claim.short for claim in judged(RESULTS, name))
    assert said == " ".join([*claims, line(sections(rows(sweep)))])
    index = (RESULTS / "README.md").read_text()
    assert (f"- [{heading[2:]}]({name}/summary.md)" in index) == (
        name in shipped(RESULTS)
    )  # none of one's own
    tables = [text for text in rest if text.startswith("| method |")]
    assert all(text.count("|") == 5 for text in tables)


@pytest.mark.parametrize("name", COMMITTED)
def test_the_narrow_table_has_every_method_with_its_verdict(name):
    for section in sections(rows(archive.read(archive.path_of(RESULTS, name)))):
        answered, chosen = answer(section), chosen_vs_untied(section)
        outside = [t for t, cells in section.tyings.items() if all(c.is_not_applicable for c in cells)]
        methods = [tying for tying in section.tyings if tying not in ("none", *outside)]
        assert [row[0] for row in answered.table.rows] == methods if methods else answered.table is None
        assert (f"Does not apply here (n/a): {', '.join(outside)}." in answered.below) == bool(outside)
        for method, _, _, verdict in answered.table.rows if methods else ():
            assert method not in chosen or verdict.startswith(str(chosen[method].verdict.word))


def test_the_line_above_has_none_and_that_below_the_settings(tmp_path):
    (section,) = sections_of(tmp_path, NONE, CLEAR, NOISE)
    answered = answer(section)
    assert answered.reference.startswith("none: test perplexity 101 [") and "n = 5." in answered.reference
    assert answered.below.startswith("Dropout / weight decay: all at 0 / 0. Runs of each: 5.")
    assert "Worse than the trigram floor: all." in answered.below
    (clear, noise) = answered.table.rows
    assert clear[1].startswith("−9.9 % [") and clear[3] == "better at this rate, a hint"
    assert noise[3].startswith("not enough to tell (±1 % needs about ")


@pytest.mark.parametrize(
    ("limit", "told"),
    [(42_000, " (counted on all 420,000 training tokens, of which the rows read 42,000)"), (None, "")],
)
def test_a_floor_that_saw_more_text_than_the_rows_says_so(tmp_path, limit, told):
    lines, records = ([item for cell in (NONE, CLEAR) for item in cell[at]] for at in (0, 1))
    records = [record | {"config": {"data": {"train_limit": limit}}} for record in records]
    made.write_sweep(tmp_path / "runs", lines, records)
    (section,) = sections(read_sweep(tmp_path / "runs", "quick")[0])
    assert f"Worse than the trigram floor: all{told}." in answer(section).below


def test_rows_without_none_are_shown_as_they_are(tmp_path):
    (section,) = shown = sections_of(tmp_path, CLEAR, NOISE)
    answered = answer(section)
    assert answered.reference == "Test perplexity (lower is better). No run of `none` was asked for."
    assert [row[1].partition(" ")[0] for row in answered.table.rows] == ["90.8", "100.8"]
    assert line(shown) == "No run of `none` was asked for: the rows are compared with each other."


def test_the_line_names_methods_and_where_there_are_many_counts_verdicts(tmp_path):
    assert line(sections_of(tmp_path / "a", NONE, CLEAR)) == "`cross_layer`: better at this rate, a hint."
    several = line(sections_of(tmp_path / "b", NONE, CLEAR, NOISE))
    assert several == "`cross_layer`: better at this rate, a hint. `soft`: not enough to tell."
    more = [made.pair(95.0, 106.0, 97.0, 107.0, 99.0, tying=f"top_k(k={k})") for k in range(1, 5)]
    many = line(sections_of(tmp_path / "c", NONE, CLEAR, *more))
    assert (
        many.startswith("Of 5 comparisons with `none`: 4 not enough to tell (")
        and "1 better at this rate, a hint (`cross_layer`)" in many
    )
    assert line(sections_of(tmp_path / "d", NONE)) == "Nothing is tied here."


def test_many_places_of_a_verdict_are_counted_and_few_are_named():
    worse = [Judgement("soft", f"task {number}", "worse") for number in range(5)]
    better = [Judgement("soft", f"other {number}", "better") for number in range(2)]
    assert _in_words([*worse, *better]) == "`soft`: worse in 5 of 7; better for other 0 and other 1"
    assert _in_words(worse) == "`soft`: worse in all 5 comparisons"
    assert (
        _in_words([*worse[:2], *better])
        == "`soft`: worse for task 0 and task 1; better for other 0 and other 1"
    )


def test_a_table_over_settings_says_where_there_is_no_none(tmp_path):
    alone = sections_of(tmp_path / "a", CLEAR)
    assert over_settings(alone).rows == [["cross_layer", "1", "", "1 no pair with none"]]
    both = [*alone, *sections_of(tmp_path / "b", NONE, CLEAR)]
    assert over_settings(both).rows[0][3] == "1 no pair with none, 1 better at this rate, a hint"


def test_committed_pages_write_settings_as_the_command_line_takes_them():
    pages = [*RESULTS.glob("*.md"), *RESULTS.glob("*/summary.md")]
    assert pages and not [page.name for page in pages if "=None" in page.read_text()]


@pytest.mark.parametrize("name", COMMITTED)
def test_no_committed_table_is_empty(name):
    text = (RESULTS / name / "summary.md").read_text()
    assert not re.search(r"\n\|[ :|-]+\|\n\n", text)


@pytest.mark.parametrize(
    ("with_dropout", "said"),
    [(90.0, "0.2 / 0, −10.0 %"), (110.0, "0 / 0, which is the least")],
)
def test_where_nothing_is_tied_the_line_says_what_the_chosen_regularisation_changes(
    tmp_path, with_dropout, said
):
    plain = made.pair(100.0, 100.0, 100.0)
    dropped = made.pair(*[with_dropout] * 3, dropout=0.2)
    text = line(sections_of(tmp_path, plain, dropped))
    assert (
        text
        == f"Nothing is tied here; dropout / weight decay as validation chose it, against the least: {said}."
    )


def test_a_page_may_begin_with_each_picture_that_is_drawn():
    assert set(schema.PICTURES) == set(PICTURES)


def test_a_question_and_a_picture_go_from_the_manifest_into_the_archive(tmp_path):
    made.write_sweep(tmp_path / "runs", *NONE)
    path = manifest_path(tmp_path / "runs", "quick")
    asked = {"question": "Is it so?", "picture": "curves"}
    path.write_text(json.dumps(json.loads(path.read_text()) | asked))
    (folder,) = build(tmp_path / "runs", tmp_path / "results", out=lambda text: None)
    head = json.loads(gzip.decompress((folder / archive.FILE).read_bytes()).splitlines()[0])
    sweep = archive.read(folder / archive.FILE)
    assert {key: head[key] for key in asked} == asked == {key: getattr(sweep, key) for key in asked}
    assert "\n# Is it so?\n" in (folder / "summary.md").read_text()
    page = (folder / "index.html").read_text()
    assert "<h1>Is it so?</h1>" in page and "<title>Is it so? · tying bench</title>" in page


def test_random_groups_are_called_random_and_recorded_as_before():
    drawn = TyingSpec((Part("embedding"), Part("learned", (("groups", 3), ("shuffle", 2)))))
    assert drawn.called == "embedding+random(groups=3, shuffle=2)"
    assert drawn.label == "embedding+learned(groups=3, shuffle=2)"
    learned = TyingSpec((Part("learned", (("groups", 3),)),))
    assert learned.called == learned.label == "learned(groups=3)"
