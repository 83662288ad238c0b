"""The law of shared parameters: it finds again what points were made of, and says how sure it is."""

import numpy as np
import point_maker
import pytest

from bench.analysis import laws
from bench.analysis.points import group_sizes


@pytest.fixture(scope="module")
def fitted():
    return laws.fit(point_maker.measurements(60, noise=0.005), resamples=60)


def test_the_parameters_that_points_were_made_of_lie_in_their_intervals(fitted):
    true = {
        f"phi {network}, {laws.role_of(method)}": phi for (network, method), phi in point_maker.PHI.items()
    }
    true |= {"alpha": point_maker.ALPHA, "beta": point_maker.BETA, "R untied": point_maker.REPEAT}
    held, widths = 0, []
    others = (laws.fit(point_maker.measurements(60, seed, noise=0.005), resamples=60) for seed in (1, 2, 3))
    for intervals in (law.intervals for law in (fitted, *others)):
        held += sum(intervals[name].low <= value <= intervals[name].high for name, value in true.items())
        widths += [intervals[name].high - intervals[name].low for name in true if "phi" in name]
    assert held >= 0.85 * 4 * len(true)  # of intervals at 95 %
    assert max(widths) < 0.5  # an interval that holds everything says nothing


def test_repetition_keeps_its_worth_longer_where_it_does(fitted):
    for kind, method in (("embedding", "embedding"), ("depth", "cross_layer")):
        _, low, high, _ = fitted.intervals[f"R tied / R untied, {kind}"]
        assert low - 0.1 <= point_maker.RATIO[method] <= high + 0.1
    assert fitted.intervals["R tied / R untied, embedding"].low > 1


def test_predicted_differences_are_those_of_the_law(fitted):
    new = point_maker.measurements(30, seed=5, noise=0.0)
    errors = fitted.differences(new) - [one.difference for one in new]
    assert np.abs(errors).mean() < 0.02 < np.mean([abs(one.difference) for one in new])


@pytest.mark.parametrize("phi", [-0.5, 0.0, 1.0])
def test_phi_may_be_anything(phi):
    generator = np.random.default_rng(3)
    places = sorted(point_maker.point(generator, network="gru", passes=1.0) for _ in range(40))
    found = [point_maker.measurement(place, "cross_layer", generator, 0.002, phi) for place in places]
    known = laws.fit(found, resamples=40)
    _, low, high, _ = known.intervals["phi gru, depth"]
    assert low - 0.02 <= phi <= high + 0.02 and high - low < 0.6
    assert not known.repeats and not any(name.startswith("R ") for name in known.intervals)


@pytest.mark.parametrize(
    ("network", "phis"),
    [("gru", {"input": 0.9, "recurrent": -0.4}), ("transformer", {"attention": 0.1, "feed_forward": 0.8})],
)
def test_each_role_that_is_shared_alone_has_its_own_phi(network, phis):
    generator = np.random.default_rng(4)
    every = point_maker.measurements(40, noise=0.002, network=network)
    places = sorted({one.point for one in every})[::2]
    by_role = [
        point_maker.measurement(p, role, generator, 0.002, phis[role]) for role in phis for p in places
    ]
    known = laws.fit([*every, *by_role], resamples=40)
    for role, phi in phis.items():
        _, low, high, _ = known.intervals[laws.phi_of(network, role)]
        assert low - 0.05 <= phi <= high + 0.05 and high - low < 0.6
    one, other = sorted(phis)
    between = known.intervals[f"{laws.phi_of(network, one)} - {laws.phi_of(network, other)}"]
    assert between.low - 0.05 <= phis[one] - phis[other] <= between.high + 0.05
    assert (between.low > 0) == (phis[one] > phis[other]) and between.low * between.high > 0


def test_phi_that_is_held_is_not_fitted():
    found = point_maker.measurements(30)
    assert not any("phi" in name for name in laws.fit(found, phi=0.0, resamples=3).intervals)
    assert laws.fit(found, phi=1.0, resamples=0).differences(found) == pytest.approx(0, abs=1e-9)


def test_one_wild_point_moves_little():
    found = point_maker.measurements(40, noise=0.005)
    spoiled = [*found[1:], point_maker.measurement(found[0].point, "embedding", None, phi=-6.0)]
    one, other = (laws.fit(sorted(each, key=repr), resamples=0) for each in (found, spoiled))
    changes = [abs(a - b) for a, b in zip(one.theta, other.theta, strict=True)]
    at = [index for index, name in enumerate(one.names) if name.startswith("phi")]
    assert max(changes[index] for index in at) < 0.1


def test_few_places_have_no_law():
    assert laws.fit(point_maker.measurements(laws.LEAST_GROUPS - 1)) is None
    assert laws.fit(point_maker.measurements(laws.LEAST_GROUPS), resamples=0) is not None


def test_the_same_points_give_the_same_law():
    found = point_maker.measurements(12)
    assert laws.fit(found, resamples=5) == laws.fit(found, resamples=5)


def test_an_unseen_network_is_predicted_between_those_that_are_known(fitted):
    new = point_maker.measurements(10, seed=9, noise=0.0, network="gru", methods=("cross_layer",))
    unseen = [laws.replace(one, point=laws.replace(one.point, network="rwkv")) for one in new]
    as_gru = fitted.differences(new)
    as_transformer = fitted.differences(
        [laws.replace(one, point=laws.replace(one.point, network="transformer")) for one in new]
    )
    between = fitted.differences(unseen)
    assert np.isfinite(between).all()
    assert (between > np.minimum(as_gru, as_transformer) - 0.02).all()


@pytest.mark.parametrize(
    ("method", "distinct", "depth"), [("cross_layer", 1, 6), ("cycle", 4, 6), ("top_k", 3, 8)]
)
def test_every_block_is_a_use_of_one_set_of_weights(method, distinct, depth):
    sizes = group_sizes(method, distinct, depth)
    assert len(sizes) == distinct and sum(sizes) == depth and min(sizes) >= 1
