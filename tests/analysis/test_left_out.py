"""A tie along depth beside the network without its copies: paired by all but the tying, over seeds that all have."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from bench.analysis import archive
from bench.analysis.left_out import LeftOut, left_out
from bench.analysis.runs import rows
from bench.report.map import page, the_map

QUICK = Path(__file__).parents[2] / "results" / "quick" / archive.FILE


@pytest.fixture(scope="module")
def plain():
    """Tying -> a run of the GRU without regularisation."""
    runs = [run for run in rows(archive.read(QUICK)) if run.is_done and run.task == "text_gru"]
    return {run.tying: run for run in runs if run.dropout == run.weight_decay == 0 and run.seed == 1}


def at(run, nll, seed=1, control=None):
    record = copy.deepcopy(dict(run.record))
    record["test"]["nll"], record["seed"], record["config"]["control"] = nll, seed, control
    spec = replace(run.spec, control=control)
    return replace(run, id=f"{run.tying} {control} {seed}", seed=seed, spec=spec, record=record)


def test_both_are_changes_to_the_untied_network_over_seeds_that_all_have(plain):
    untied, tied = plain["none"], plain["cross_layer"]
    runs = [at(untied, 2.0), at(tied, 2.5), at(tied, 2.25, control="delete")]
    assert left_out(runs) == [LeftOut("gru", "cross_layer", tied=0.5, without=0.25, n=1)]
    more = [at(untied, 3.0, 2), at(tied, 3.0, 2), at(tied, 3.75, 2, "delete"), at(tied, 9.0, 3)]
    (one,) = left_out([*runs, *more])
    assert (one.tied, one.without, one.n) == (0.25, 0.5, 2)
    assert left_out(runs[:2]) == left_out(runs[1:]) == []


def test_networks_whose_input_is_added_before_each_block_are_a_kind_of_their_own(plain):
    runs = [
        at(plain["none"], 2.0),
        at(plain["cross_layer"], 2.5),
        at(plain["cross_layer"], 2.25, control="delete"),
    ]
    for run in runs:
        run.record["config"]["model"]["injection"] = "add"
    assert [row.network for row in left_out(runs)] == ["gru, injection"]


def test_the_map_shows_them(plain):
    text = page(replace(the_map([]), without=(LeftOut("gru", "cross_layer", 0.5, 0.25, 1),)), {})
    assert "What if the copies were left out?" in text
    assert "| gru | cross_layer | 1 | 0 | +64.9 | +28.4 | +28.4 |" in text
    assert "were left out?" not in page(the_map([]), {})
