"""The map's page: a question, its answer, and what they rest on, of ten points as of a hundred."""

import functools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import point_maker
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from bench.analysis import archive, laws, points
from bench.analysis.beside import method_of, near, percent_of, place_of
from bench.analysis.points import FOLDER
from bench.analysis.prediction import DEPTH, PASSES, SHARE, TOKENS_PER_ROW, WIDTH
from bench.analysis.published import complete, read
from bench.analysis.runs import rows
from bench.analysis.zero_line import plane_of
from bench.report import map as pages
from bench.report.foretold import FILE, predictions_page
from bench.report.map import build, page, the_map
from bench.report.plots.map import _apart, picture
from bench.report.plots.style import STYLE
from bench.tying.errors import BadInput

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(autouse=True, scope="module")
def few_resamples():
    """The laws' intervals have their own tests, and are two thirds of the time of a map."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laws, "fit", functools.partial(laws.fit, resamples=10))
        yield


@pytest.fixture(scope="module")
def few():
    return the_map(point_maker.measurements(10))


def test_the_page_begins_with_its_question_and_answer(few):
    first = [line for line in page(few, {}).splitlines() if line and not line.startswith("<!--")]
    assert first[0] == "# When does tying pay?"
    assert first[1].startswith("- **embedding** was better")
    assert first[2].startswith("- **cross_layer** was better")


def test_counts_of_the_answer_add_up(few):
    for kind in few.kinds:
        assert sum(kind.counts) == len(kind.measurements) == kind.places == 10


def test_what_predictions_are_made_with_counts_the_points_of_both_kinds(few):
    """They are fitted to language models and classifiers at once."""
    text = next(kind for kind in few.kinds if kind.method == "cross_layer")
    of_classifiers = replace(text, is_text=False, measurements=text.measurements[:4])
    lines = page(replace(few, kinds=(*few.kinds, of_classifiers)), {}).splitlines()
    for method, count in (("embedding", 10), ("cross_layer", 14)):
        assert any(line.startswith(f"| {method} | at new places | {count} | 10 |") for line in lines)


def with_roles(count, network, **phis):
    """Points of the map, and at `count` places of a network those that share one role alone."""
    places = sorted(point_maker.point(np.random.default_rng(seed), network=network) for seed in range(count))
    generator = np.random.default_rng(1)
    alone = [
        point_maker.measurement(place, role, generator, 0.002, phi)
        for role, phi in phis.items()
        for place in places
    ]
    return tuple(point_maker.measurements(10) + alone)


def test_the_worth_of_each_role_is_told_where_points_tell_it(few):
    assert "By role" not in page(few, {})
    text = page(replace(few, by_role=with_roles(12, "gru", input=0.8, recurrent=-0.8)), {})
    worth = dict(re.findall(r"\| gru \| (\w+) \| 12 \| 12 \|.*\| ([^|]+) \|", text))
    assert worth.keys() == {"input", "recurrent"} and worth["recurrent"] == "less than one"
    assert "| gru | whole blocks |" in text and "| transformer | whole blocks |" not in text
    assert "Shared input weights keep more of their worth than shared recurrent weights." in text


def test_a_phi_of_few_places_is_no_number_of_the_page(few):
    """What was believed before any point would stand there as what was measured."""
    one = few.measurements[-1]
    found = (*few.measurements, replace(one, point=replace(one.point, network="encoder")))
    text = page(replace(few, laws={"language models": laws.fit(found, resamples=3)}), {})
    assert "| phi gru, depth |" in text and "| phi encoder, depth |" not in text
    assert "No phi encoder, depth: it is told by fewer than 4 places." in text
    assert "No phi" not in page(few, {})


def test_roles_of_few_places_are_not_told(few):
    text = page(replace(few, by_role=with_roles(2, "transformer", attention=0.5, feed_forward=0.5)), {})
    assert len(re.findall(r"\| (?:attention|feed_forward) \| 2 \| 2 \|.*\| not enough to tell \|", text)) == 2
    assert "Which of the two keeps more of its worth is not told." in text


def test_a_few_points_have_no_zero_line_and_say_so(few):
    assert page(few, {}).count("10 points at 10 places; not enough to draw the zero line") >= 2
    assert all(kind.plane.surface is None for kind in few.kinds)


def test_a_picture_of_classifiers_speaks_of_their_loss_and_of_no_perplexity(few):
    kind = few.kinds[0]
    classifiers = [replace(m, point=replace(m.point, vocabulary=0)) for m in kind.measurements]
    for found, said in (
        (kind.measurements, "test perplexity"),
        (classifiers, "the exponential of the test loss"),
    ):
        figure = picture("", found, kind.plane, ())
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert f"Change of {said}, tied" in " ".join(words.split()) and f"change of {said} (%)" in words
        assert ("perplexity" in words) == (found is kind.measurements)


def test_every_mark_of_a_picture_is_seen_and_every_kind_of_network_has_its_own(few):
    kind = few.kinds[0]
    names = ("gru", "gru, injection", "transformer", "transformer, injection")
    found = [
        replace(kind.measurements[0], point=replace(kind.measurements[0].point, network=name))
        for name in names
    ]
    with rc_context(STYLE):
        figure = picture("", [*found * 4, *kind.measurements], kind.plane, ())
        FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    marks = np.concatenate([axes.transData.transform(drawn.get_offsets()) for drawn in axes.collections])
    apart = np.hypot(*(marks[:, None] - marks[None]).T)[~np.eye(len(marks), dtype=bool)]
    assert len(marks) == len(kind.measurements) + 16 and apart.min() > 3
    legend = axes.get_legend()
    assert len({handle.get_marker() for handle in legend.legend_handles}) == len(names)
    assert legend.get_tightbbox().x1 <= figure.bbox.x1


def test_marks_of_one_spot_stay_at_it():
    places = np.array([[0.0, 0.0], [1.0, 2.0], *[[0.5, 1.0]] * 9])
    moved = _apart(places)
    assert np.array_equal(moved[:3], places[:3])  # the first of a spot is where it was measured
    assert np.abs((moved - places) / (1.0, 2.0)).max() < 0.05


def test_the_zero_line_lies_where_the_sign_turns():
    found = point_maker.by_passes(80, lambda passes: 0.1 * (math.log10(passes) - 0.6), noise=0.01)
    plane = plane_of(found, "embedding")
    assert PASSES in plane.variables and plane.chosen and not plane.too_few
    surface = plane.surface
    passes = np.broadcast_to(
        *(surface.x, surface.mean.shape)
        if plane.variables[0] is PASSES
        else (surface.y[:, None], surface.mean.shape)
    )
    assert abs(np.median(passes[np.abs(surface.mean) < 0.004]) - 0.6) < 0.12
    along = plane.variables.index(PASSES)
    other = plane.variables[1 - along]
    middle = np.median([other.value(one) for one in found])
    at, low, high = surface.crossing(along, middle)
    assert low < at < high and abs(at - 0.6) < 0.12 and not surface.falls(along, middle)
    open_sign = (surface.low <= 0) & (surface.high >= 0)
    inside = np.isfinite(surface.mean)
    assert 0 < open_sign[inside].mean() < 0.5  # a band, neither nothing nor everything


def test_points_on_one_line_have_no_surface():
    alike = {"width": 64, "depth": 4, "vocabulary": 1000, "parameters": 400_000}
    found = [
        replace(one, saved=64_000, point=replace(one.point, passes=one.point.tokens / 10_000, **alike))
        for one in point_maker.measurements(30)
    ]
    assert "all on one line; not enough" in plane_of(found, "embedding").too_few


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    results, lines = tmp_path_factory.mktemp("results"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "measurements", lambda recorded: point_maker.measurements(40))
        patch.setattr(pages, "read_runs", lambda runs, results: [])
        build(results, results, out=lines.append)
    return results / FOLDER, "\n".join(lines)


def test_the_folder_has_page_picture_points_and_judgement(built):
    folder, said = built
    names = {path.name for path in folder.iterdir()}
    assert {"map.md", "map.html", "points.csv", "predictions.md", "embedding.png"} <= names
    assert "embedding" in said and str(folder / "map.md") in said
    text = (folder / "map.md").read_text()
    for name in re.findall(r"\]\((\w+\.png)\)", text):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "Press & Wolf 2017" in text and "phi gru, embedding" in text
    html = (folder / "map.html").read_text()
    assert "data:image/png;base64" in html and 'src="embedding.png"' not in html and "<table>" in html


def test_the_same_points_give_the_same_page(few):
    assert page(few, {}) == page(the_map(point_maker.measurements(10)), {})


def test_published_rows_with_a_missing_number_are_skipped_by_name(few):
    rows, lines = complete(read())
    assert lines and all(line in page(few, {}) for line in lines)
    assert not {row.id for row in few.published} & {line.split()[0] for line in lines}


def test_published_results_stand_where_their_source_puts_them():
    rows = {row.id: row for row in read()}
    small = rows["press_small"]
    assert method_of(small) == "embedding" and percent_of(small) == pytest.approx(100 * (112.4 / 114.5 - 1))
    assert place_of(small, TOKENS_PER_ROW) == pytest.approx(np.log10(929_589 / 10_000))
    assert place_of(small, SHARE) == pytest.approx(10_000 * 200 / 4.65e6)
    assert (place_of(small, WIDTH), place_of(small, DEPTH)) == pytest.approx((np.log10(200), np.log10(2)))
    assert place_of(small, PASSES) is None
    assert place_of(rows["word_language_model"], PASSES) == pytest.approx(np.log10(40))
    assert percent_of(rows["press_large_train"]) is None
    assert method_of(rows["takase_cycle_reversed"]) is None and method_of(rows["takase_all"]) == "cross_layer"


def test_the_nearest_published_result_is_of_a_like_network_and_size():
    generator = np.random.default_rng(0)
    asked = replace(
        point_maker.point(generator, network="gru"), vocabulary=10_000, tokens=900_000, parameters=4_600_000
    )
    rows, _ = complete(read())
    assert near(rows, asked, "embedding", 2)[0].id == "press_small"
    assert near(rows, asked, "top_k", 2) == []


def foretold(folder, found, errors):
    predictions = [
        {
            "method": one.method,
            "distinct": one.distinct,
            "point": vars(one.point),
            "predicted": [one.difference + error, one.difference - 0.05, one.difference + 0.05],
            "model": "law",
            "outside": [],
            "dummies": {"zero": 0.0},
        }
        for one, error in zip(found, errors, strict=True)
    ]
    (folder / FILE).write_text(
        json.dumps([{"command": "make sweep", "points": 9, "predictions": predictions}])
    )


def test_predictions_that_were_made_beforehand_are_scored(tmp_path):
    found = point_maker.measurements(6)
    extra = point_maker.measurements(1, seed=77)[:1]
    foretold(tmp_path, [*found, *extra], [0.0] * 13)
    text = predictions_page(found, tmp_path)
    assert "1 of 13 have no number yet" in text
    assert re.search(
        r"Predicted beforehand, batch 1: 100 % of \d+ signs right, 90 % intervals hold 100 % of 12; .* 0 of 2",
        text,
    )


def test_a_dummy_that_wins_is_named_as_winning(tmp_path):
    found = [replace(one, difference=0.0) for one in point_maker.measurements(3)]
    foretold(tmp_path, found, [0.2] * len(found))
    assert "zero on embedding, batch 1" in predictions_page(found, tmp_path)


def test_torn_predictions_are_refused(tmp_path):
    (tmp_path / FILE).write_text("{")
    with pytest.raises(BadInput, match="holds no predictions"):
        predictions_page(point_maker.measurements(3), tmp_path)


def test_the_points_alone_take_no_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "measurements", lambda recorded: point_maker.measurements(3))
    monkeypatch.setattr(pages, "read_runs", lambda runs, results: [])
    folder = build(tmp_path, tmp_path, only_points=True, out=lambda line: None)
    assert [path.name for path in folder.iterdir()] == [points.FILE]


def test_a_second_rate_of_some_arms_alone_changes_no_point_of_the_map(tmp_path, monkeypatch):
    quick = [run for run in rows(archive.read(RESULTS / "quick" / archive.FILE)) if run.is_done]
    untied = next(run for run in quick if run.tying == "none" and run.task == "text_gru")
    record = json.loads(json.dumps(untied.record))
    record["config"]["optimizer"]["lr"], record["val"]["nll"], record["test"]["nll"] = 0.1, 0.5, 0.5
    better = replace(untied, id="better", record=record)
    written = []
    for sweep in (None, "map_roles", "other"):
        recorded = [("quick", run) for run in quick] + ([(sweep, better)] if sweep else [])
        monkeypatch.setattr(pages, "read_runs", lambda runs, results, recorded=recorded: recorded)
        folder = build(tmp_path, tmp_path, only_points=True, out=lambda line: None)
        written.append((folder / points.FILE).read_text())
    assert written[0] == written[1] != written[2]
