"""The loss by how often a token was in train: bins, and that they add up to the whole."""

import copy
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.tasks.cross_entropy import score, tallied
from bench.tasks.language_modeling import FREQUENCY_BINS, FrequencyBins
from bench.training import train as run

counted = st.lists(st.integers(0, 30), min_size=2, max_size=40)


@given(counted, st.data())
def test_bins_go_by_falling_count_and_split_no_count(counts, data):
    split = torch.tensor(data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=60)))
    bins = FrequencyBins.of(torch.tensor(counts), split).of_token.tolist()
    assert len(bins) == len(counts) and 0 <= min(bins) <= max(bins) < FREQUENCY_BINS
    of_count = {count: {b for b, c in zip(bins, counts, strict=True) if c == count} for count in counts}
    assert all(len(numbers) == 1 for numbers in of_count.values())
    ordered = [min(of_count[count]) for count in sorted(of_count, reverse=True)]
    assert ordered == sorted(ordered)


def test_bins_in_the_head():
    """Ten test tokens: 4 of count 9, 2 of count 5, 2 of count 3, 2 never seen in train."""
    split = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3, 4, 4])
    bins = FrequencyBins.of(torch.tensor([9, 5, 3, 3, 0]), split)
    assert bins.of_token.tolist() == [1, 2, 3, 3, 4]


@given(st.integers(0, 2**16), st.integers(2, 30))
def test_the_weighted_mean_of_the_bins_is_the_whole(seed, vocabulary):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(200, 4, generator=generator).double()
    weight = torch.randn(vocabulary, 4, generator=generator).double()
    targets = torch.randint(vocabulary, (200,), generator=generator)
    targets[::7] = -100
    counts = torch.randint(50, (vocabulary,), generator=generator)
    bins = FrequencyBins.of(counts, targets[targets >= 0])
    plain, sums = (score(hidden, weight, None, targets, of) for of in (None, bins.of_token))
    assert all(torch.equal(plain[key], sums[key]) for key in plain)
    assert int(sums["bin_count"].sum()) == int(sums["count"]) == int((targets >= 0).sum())
    torch.testing.assert_close(sums["bin_nll"].sum(), sums["nll"], rtol=1e-9, atol=0)
    report = bins.report({key: value.tolist() for key, value in sums.items()})
    mean = sum(part["tokens"] * part["nll"] for part in report if part["tokens"]) / int(sums["count"])
    assert mean == pytest.approx(float(sums["nll"]) / int(sums["count"]), rel=1e-9)


def test_a_bin_has_the_nll_of_its_own_tokens():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    sums = tallied(logits, torch.tensor([0, 1, -100]), torch.tensor([0, 1]))
    expected = -torch.log_softmax(logits.double(), -1)[[0, 1], [0, 1]]
    torch.testing.assert_close(sums["bin_nll"], expected, rtol=1e-6, atol=0)
    assert sums["bin_count"].tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.parametrize("task", ["text_gru", "text_transformer"])
def test_a_record_holds_the_bins_of_its_test_split_alone(cell, tmp_path, task):
    one = cell(task, "embedding", "trainer.max_steps=12", "data.test_limit=500", "trainer.quantize=true")
    request = {**one.header(), "logger": one.options["logger"], "sweep": "test"}
    record = run.train(request, copy.deepcopy(one.config), tmp_path, time.time())
    bins = record["test_by_frequency"]
    assert (
        len(bins) == FREQUENCY_BINS
        and sum(part["tokens"] for part in bins) == record["test"]["tokens"] == 500
    )
    mean = sum(part["tokens"] * part["nll"] for part in bins if part["tokens"]) / 500
    assert mean == pytest.approx(record["test"]["nll"], rel=1e-6)
    assert all("by_frequency" not in record[split] for split in ("test", "val", "train"))
    assert "by_frequency" not in record["int8"]["test"]
    # What is rare is hard.
    told = [part["nll"] for part in bins if part["tokens"]]
    assert told[0] < told[-1]
