"""Predictions before the run: of the next points of the design, once, with the dummies that will judge them."""

import json
from dataclasses import replace

import point_maker
import pytest

from bench.analysis import points
from bench.analysis.points import Point
from bench.analysis.prediction import DUMMIES, query
from bench.audit import foretell
from bench.audit.foretell import main
from bench.report.foretold import FILE, predictions_page
from bench.sweep import design


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A map, and a design whose points are of the words that other tests have prepared."""

    def designed(count):
        return [
            design.Point(
                n, n + 1, "text_gru", "pydocs", 32 + 16 * n, 3, 30_000, 120 + 12 * n, vocab_size=4000
            )
            for n in range(count)
        ]

    monkeypatch.setattr(foretell.design, "points", designed)
    (tmp_path / "map").mkdir()
    (tmp_path / "map" / points.FILE).write_text(points.as_csv(point_maker.measurements(30)))
    return tmp_path


def test_the_next_points_are_predicted_and_no_more_until_they_are_run(results, capsys):
    assert main(["--results", str(results), "--after", "2", "--count", "3"]) == 0
    (made,) = json.loads((results / "map" / FILE).read_text())
    assert [(one["method"], one["point"]["width"]) for one in made["predictions"]] == [
        *(("embedding", 64), ("cross_layer", 64), ("embedding", 80))
    ]
    command = "python -m bench -m sweep=map sweep.points=4"
    assert made["command"] == command and command in capsys.readouterr().out
    for one in made["predictions"]:
        mean, low, high = one["predicted"]
        assert low <= mean <= high and set(one["dummies"]) == set(DUMMIES)
        assert 0.95 * 30_000 < Point(**one["point"]).tokens <= 30_000  # whole windows
    before = (results / "map" / FILE).read_bytes()
    assert main(["--results", str(results), "--after", "9"]) == 2
    assert (
        f"are not run yet: run `{command}`" in capsys.readouterr().err
        and (results / "map" / FILE).read_bytes() == before
    )
    found = points.from_csv(results / "map" / points.FILE)
    assert "Made from 60 measurements; 3 of 3 have no number yet" in predictions_page(found, results / "map")


def test_once_they_are_run_the_next_batch_stands_beside_them(results):
    options = ["--results", str(results), "--count", "2"]
    assert main([*options, "--after", "2"]) == 0
    (first,) = json.loads((results / "map" / FILE).read_text())
    places = [query(Point(**one["point"]), one["method"], one["distinct"], 1) for one in first["predictions"]]
    found = points.from_csv(results / "map" / points.FILE)
    measured = [
        replace(place, difference=one["predicted"][0], n=1)
        for place, one in zip(places, first["predictions"], strict=True)
    ]
    (results / "map" / points.FILE).write_text(points.as_csv([*found, *measured]))
    assert main([*options, "--after", "3"]) == 0
    text = predictions_page([*found, *measured], results / "map")
    assert json.loads((results / "map" / FILE).read_text())[0] == first
    assert "batch 1: no sign" in text or "batch 1: 100 %" in text
    assert "### Batch 2" in text and "all 2 are run" in text and "2 of 2 have no number yet" in text


@pytest.mark.parametrize("words", [["--count", "0"], ["--after", "0"], ["--count", "many"]])
def test_counts_that_cannot_be_meant_are_refused(results, words, capsys):
    assert main(["--results", str(results), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (results / "map" / FILE).exists()
