"""Predictions of differences: their intervals hold what they say, and where nothing was measured there is none."""

import math
from dataclasses import replace

import numpy as np
import point_maker
import pytest

from bench.analysis import prediction
from bench.analysis.judgement import judged, scored
from bench.analysis.prediction import (
    DUMMIES,
    MODELS,
    dummy,
    held_out_errors,
    hull_of,
    importances,
    predictor,
    query,
)
from bench.analysis.statistics import Interval


@pytest.mark.parametrize("model", MODELS)
def test_intervals_hold_nine_of_ten_new_points(model):
    held, count = 0, 0
    for seed in range(4):
        train = point_maker.measurements(40, seed=seed, noise=0.02)
        new = point_maker.measurements(100, seed=100 + seed, noise=0.02)
        for method in ("embedding", "cross_layer"):
            ours = [one for one in new if one.method == method]
            intervals = predictor(train, method, model)(ours)
            held += sum(
                given.low <= one.difference <= given.high for one, given in zip(ours, intervals, strict=True)
            )
            count += len(ours)
    assert 0.85 <= held / count <= 0.95


@pytest.mark.parametrize("model", MODELS)
def test_every_model_knows_more_than_the_mean(model):
    train, new = point_maker.measurements(60), point_maker.measurements(60, seed=1)
    for method in ("embedding", "cross_layer"):
        ours = [one for one in new if one.method == method]
        wanted = np.array([one.difference for one in ours])
        error = np.abs(predictor(train, method, model).whole(ours) - wanted).mean()
        assert error < np.abs(dummy("mean", train, method)(ours) - wanted).mean()


def test_a_prediction_is_the_average_of_three_fits_and_the_mean():
    train, new = point_maker.measurements(40), point_maker.measurements(10, seed=1)
    ours = [row for row in new if row.method == "embedding"]
    fits = [predictor(train, "embedding", model).whole(ours) for model in ("regression", "trees")]
    fits.append(dummy("mean", train, "embedding")(ours))
    found = predictor(train, "embedding")
    assert found.model == "average"
    process = 4 * found.whole(ours) - sum(fits)  # its lengths are those of the first fold
    alone = predictor(train, "embedding", "gaussian process").whole(ours)
    assert process == pytest.approx(alone, rel=1e-6)
    errors = held_out_errors(train, "embedding")
    assert set(errors) == set(MODELS)
    for model, error in errors.items():
        folds = predictor(train, "embedding", model).folds
        assert error == pytest.approx(np.mean(np.concatenate([sizes for _, sizes in folds])), rel=1e-5)


@pytest.mark.parametrize(
    ("new", "corpora", "networks", "left_out"),
    [
        ("place", "ab", "xy", "place"),
        ("corpus", "ab", "xy", "corpus"),
        ("corpus", "a", "xy", "network"),
        ("corpus", "a", "x", "place"),
        ("network", "ab", "xy", "network"),
        ("network", "ab", "x", "corpus"),
    ],
)
def test_errors_are_seen_at_places_as_new_as_those_that_are_asked_for(new, corpora, networks, left_out):
    row = point_maker.measurements(1)[0]
    rows = [
        replace(row, point=replace(row.point, corpus=corpus, network=network))
        for corpus in corpora
        for network in networks
    ]
    assert prediction._folds_for(new, rows) == left_out


def test_few_places_have_no_interval_and_one_has_no_prediction():
    few = point_maker.measurements(prediction.LEAST_PLACES - 1)
    (given,) = predictor(few, "embedding", "regression")(few[:1])
    assert math.isfinite(given.mean) and given.low is None and given.high is None
    assert predictor(point_maker.measurements(1), "embedding", "regression") is None
    assert held_out_errors(point_maker.measurements(1), "embedding") == {}


def test_points_that_differ_in_regularisation_are_held_out_together():
    train = point_maker.measurements(12)
    train += [replace(one, point=replace(one.point, dropout=0.2)) for one in train]
    for rest, inside in prediction._held_out(train, "embedding"):
        assert not {one.point.group for one in rest} & {one.point.group for one in inside}
    held = [one for _, inside in prediction._held_out(train, "embedding") for one in inside]
    assert sorted(held, key=repr) == sorted((one for one in train if one.method == "embedding"), key=repr)


def test_what_matters_is_found():
    found = point_maker.by_passes(60, lambda passes: 0.2 - 0.3 * math.log10(passes), noise=0.005)
    growth = importances(found, "embedding")
    assert next(iter(growth)) == "passes" and growth["passes"] > 2
    assert importances(found[:5], "embedding") == {}


def test_a_place_that_was_measured_is_inside():
    found = point_maker.measurements(80)
    hull = hull_of(found, "embedding")
    inside = [one for one in hull.measured if not hull.outside(one)]
    assert len(inside) >= 0.9 * len(hull.measured)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"network": "cnn"}, "no cnn was measured"),
        ({"width": 768}, "width 768"),
        ({"passes": 100.0}, "passes 100"),
        ({"tokens": 10**9}, "tokens per vocabulary row"),
        ({"dropout": 0.5}, "dropout 0.5"),
    ],
)
def test_a_place_outside_is_named(change, named):
    found = point_maker.measurements(80)
    one = found[0]
    asked = query(replace(one.point, **change), "embedding", one.distinct, one.saved)
    reasons = hull_of(found, "embedding").outside(asked)
    assert any(reason.startswith(named) for reason in reasons), reasons
    assert hull_of(found, "cycle").outside(replace(asked, method="cycle")) == ["cycle was measured nowhere"]


def test_a_gap_between_points_is_outside():
    generator = np.random.default_rng(0)
    corners = [
        point_maker.point(
            generator, network="gru", tokens=tokens, passes=passes, width=64, depth=4, vocabulary=1024
        )
        for tokens, passes in [(20_000, 1.0), (21_000, 1.1), (200_000, 16.0), (190_000, 15.0)]
    ]
    found = [point_maker.measurement(place, "embedding") for place in corners]
    middle = query(replace(corners[0], tokens=60_000, passes=4.0), "embedding", 4, found[0].saved)
    assert "gap" in hull_of(found, "embedding").outside(middle)[0]


def test_the_nearest_points_are_of_the_same_kind_of_network():
    found = point_maker.measurements(60)
    one = found[0]
    nearest = hull_of(found, one.method).nearest(one)
    assert nearest[0] == one and all(each.point.network == one.point.network for each in nearest)


def made(differences):
    generator = np.random.default_rng(0)
    places = [point_maker.point(generator) for _ in differences]
    return [
        replace(point_maker.measurement(place, "embedding"), difference=value)
        for place, value in zip(places, differences, strict=True)
    ]


def test_signs_count_only_where_they_matter():
    held = made([0.05, -0.05, 0.002, 0.05])
    given = [Interval(mean, mean - 0.03, mean + 0.03, 9) for mean in (0.03, 0.03, -0.01, 0.2)]
    score = scored("a part", held, given, "regression", {"zero": [0.0] * 4})
    assert (score.n, score.signed, score.right, score.covered) == (4, 3, 2, 2)
    assert score.errors["zero"] == pytest.approx(np.mean([0.05, 0.05, 0.002, 0.05]))


def test_a_dummy_that_wins_is_said_to_win():
    held = made([0.0, 0.001])
    given = [Interval(0.1, 0.0, 0.2, 9)] * 2
    assert scored("a part", held, given, "law", {"zero": [0.0, 0.0]}).winner == "zero"
    exact = [Interval(one.difference, None, None, 9) for one in held]
    score = scored("a part", held, exact, "law", {"zero": [0.0, 0.0]})
    assert score.winner == "law" and score.covered is None


def test_each_part_is_left_out_in_turn():
    scores = judged(point_maker.measurements(24), ("embedding", "cross_layer"))
    assert {score.held_out for score in scores} == {
        *("corpus pydocs", "corpus wikitext2", "network gru", "network transformer", "the largest fifth")
    }
    for score in scores:
        assert set(score.errors) == {score.model, *DUMMIES}
        assert score.errors["phi = 1"] == score.errors["zero"]
    assert sum(score.right for score in scores) > 0.7 * sum(score.signed for score in scores)
