"""What a tie changes for frequent and for rare tokens: bin by bin, over places whose records have every bin."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis import archive
from bench.analysis.frequency import BINS, ByFrequency, by_frequency, middle
from bench.analysis.runs import rows
from bench.report.map import page, the_map
from bench.tasks.language_modeling import FREQUENCY_BINS

TRAINED_OUT = Path(__file__).parents[2] / "results" / "trained_out" / archive.FILE


@pytest.fixture(scope="module")
def plain():
    """Tying -> a run of the GRU at seed 1."""
    runs = [run for run in rows(archive.read(TRAINED_OUT)) if run.is_done and run.task == "text_gru"]
    return {run.tying: run for run in runs if run.seed == 1}


def at(run, nlls, seed=1):
    record = copy.deepcopy(dict(run.record))
    record["seed"], record["test_by_frequency"] = seed, nlls and [{"nll": nll} for nll in nlls]
    return replace(run, id=f"{run.tying} {seed}", seed=seed, record=record)


def test_each_bin_is_the_mean_over_seeds_of_tied_less_untied(plain):
    untied, tied = plain["none"], plain["embedding"]
    runs = [at(untied, [1, 2, 3, 4, 5]), at(tied, [1, 2, 3, 5, 7])]
    assert by_frequency(runs) == [ByFrequency("gru", "embedding", (0, 0, 0, 1, 2))]
    runs += [at(untied, [1, 1, 1, 1, 1], 2), at(tied, [3, 1, 1, 1, 1], 2)]
    (both,) = by_frequency(runs)
    assert both.changes == (1, 0, 0, 0.5, 1) and both.lean == 0


@pytest.mark.parametrize("nlls", [None, [1, 2, 3, 4, None]])
def test_a_record_without_a_number_in_every_bin_counts_for_nothing(plain, nlls):
    assert by_frequency([at(plain["none"], [1, 2, 3, 4, 5]), at(plain["embedding"], nlls)]) == []


def test_records_have_as_many_bins_as_are_read():
    assert BINS == FREQUENCY_BINS
    assert {len(run.record["test_by_frequency"]) for run in rows(archive.read(TRAINED_OUT))} == {BINS}


@pytest.mark.parametrize("n", [1, 5, 6, 30])
def test_a_middle_has_bounds_where_the_values_are_enough_and_lies_between_them(n):
    found = middle([float(value) for value in range(n)])
    assert found.mean == (n - 1) / 2 and (found.low is None) == (n < 6)
    assert n < 6 or found.low <= found.mean <= found.high


@pytest.mark.parametrize(
    ("lean", "said"),
    [
        (-0.1, "worse for frequent tokens than for rare"),
        (0.1, "worse for rare tokens than for frequent"),
    ],
)
def test_the_map_says_for_which_tokens_a_tie_is_worse(lean, said):
    ties = (ByFrequency("gru", "embedding", (0.0, 0.0, 0.0, 0.0, lean)),) * 6
    text = page(replace(the_map([]), by_frequency=ties), {})
    assert f"- gru, embedding: it is {said} ones." in text
    assert f"| gru | embedding | 6 | 0.0 | 0.0 | 0.0 | 0.0 | {'−9.5' if lean < 0 else '+10.5'} |" in text
    few = page(replace(the_map([]), by_frequency=ties[:5]), {})
    assert "for which tokens it is worse is not told" in few and "rare ones?" not in page(the_map([]), {})
