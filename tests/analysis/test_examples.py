"""The error over test examples: that of others, clusters count as one, seeds are held, files are checked."""

import numpy as np
import pytest
from statsmodels.api import OLS

from bench.analysis.examples import ExampleScores, load, over_examples, score_of
from bench.analysis.runs import Metric
from bench.tying.errors import BadInput


def scored(values, cluster=None, name="nll"):
    values = np.asarray(values)
    return ExampleScores({name: values}, np.arange(len(values)) if cluster is None else np.asarray(cluster))


def test_alone_in_their_clusters_examples_give_the_paired_t_interval():
    from scipy.stats import ttest_rel

    rng = np.random.Generator(np.random.PCG64(0))
    ours, theirs = rng.normal(0.1, 1, 40), rng.normal(0, 1, 40)
    found, other = over_examples([scored(ours)], [scored(theirs)], "nll"), ttest_rel(ours, theirs)
    assert (found.mean, found.p, found.n) == pytest.approx(((ours - theirs).mean(), other.pvalue, 40))
    assert (found.low, found.high) == pytest.approx(tuple(other.confidence_interval()))
    assert found.sd == pytest.approx((ours - theirs).std(ddof=1))


def test_clusters_of_unlike_size_are_those_of_statsmodels():
    rng = np.random.Generator(np.random.PCG64(1))
    cluster = rng.integers(12, size=200)
    ours = rng.normal(size=200) + rng.normal(size=12)[cluster]
    found = over_examples([scored(ours, cluster)], [scored(np.zeros(200), cluster)], "nll")
    fit = OLS(ours, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True)
    assert (found.n, found.mean, found.p) == pytest.approx((12, fit.params[0], fit.pvalues[0]))
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int()[0]))


def test_examples_that_are_alike_say_no_more_than_one_and_seeds_are_averaged_first():
    values = [0.1, 0.4, -0.2, 0.3, 0.6]
    once = over_examples([scored(values)], [scored(np.zeros(5))], "nll")
    cluster = np.repeat(range(5), 7)
    assert over_examples([scored(np.repeat(values, 7), cluster)], [scored(np.zeros(35), cluster)], "nll") == (
        pytest.approx(once)
    )
    seeds = [scored(np.asarray(values) + shift) for shift in (-1.0, 1.0)]
    assert over_examples(seeds, [scored(np.zeros(5))] * 2, "nll") == pytest.approx(once)


def test_answers_right_and_wrong_are_compared_as_shares():
    ours, theirs = (
        scored([True, True, False, True], name="correct"),
        scored([True, False, False, False], name="correct"),
    )
    assert over_examples([ours], [theirs], "correct").mean == 0.5


def test_what_does_not_pair_is_none():
    one, two = scored([0.1, 0.2]), scored([0.1, 0.2, 0.3])
    assert over_examples([], [], "nll") is None
    assert over_examples([one], [two], "nll") is None
    assert over_examples([one, one], [one], "nll") is None
    assert over_examples([one], [one], "correct") is None
    assert over_examples([one], [one], "nll")[:2] == (0.0, 0.0)
    assert over_examples([scored([0.1, 0.2], [0, 0])], [scored([0.0, 0.0], [0, 0])], "nll").low is None


def test_the_intervals_cover():
    rng, covered = np.random.Generator(np.random.PCG64(2)), 0
    cluster = np.repeat(range(30), 5)
    zero = [scored(np.zeros(150), cluster)]
    for _ in range(2_000):
        values = rng.standard_normal(30)[cluster] + rng.standard_normal(150)
        found = over_examples([scored(values, cluster)], zero, "nll")
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / 2_000 <= 0.97


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04torn", b"nothing"])
def test_a_damaged_file_is_bad_input(tmp_path, content):
    assert load(tmp_path, "abc") is None
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "examples.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"examples.npz is damaged .*delete its run's folder"):
        load(tmp_path, "abc")


def test_a_metric_that_no_example_has_is_none():
    assert score_of(Metric("mae", "min")) is None and score_of(Metric("perplexity", "min")) == "nll"
