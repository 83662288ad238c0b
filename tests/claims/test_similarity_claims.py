"""C12 and C13 on made-up pairs, of which all is known."""

import itertools
import math

import pytest
from record_maker import PAIRS, write_pairs

from bench.analysis.frame import frame
from bench.analysis.runs import read_sweep
from bench.claims.checks.paired import alike, rank
from bench.claims.claim import FOLDER, read
from bench.claims.evaluate import row
from bench.claims.records import Evidence

ASKED = {
    "ours": "tying != 'none, start=untied'",
    "none": "tying == 'none, start=untied'",
    "by": ["task", "data"],
}


OF_FIVE = list(itertools.combinations(range(5), 2))
"""Pairs of five blocks: without one block there are enough left to be ranked."""


def made(runs, **more):
    write_pairs(runs, **more)
    return frame(read_sweep(runs, "pairs")[0])


def number(part, name):
    return next(measure for measure in part.measures if measure.name == name)


def test_a_measure_that_orders_all_pairs_has_rank_1_and_decides_alone(tmp_path):
    parts = rank(made(tmp_path), **ASKED, measure="distance")
    (decided,) = [part for part in parts if part.decides]
    assert decided.name == "text_gru, pydocs, distance of raw weights"
    assert number(decided, "rank")[1:] == pytest.approx((1, "rank correlation", 1, 1, 3, False))
    least = sum(100 * math.log((91 + at) / 91) for at in range(6)) / 6
    assert number(decided, "choice").value == pytest.approx(-least, rel=0.02)
    assert {part.name.rpartition(", ")[2] for part in parts} == {
        "cosine of raw weights",
        "distance of raw weights",
        "CKA of outputs",
        "influence of the two blocks",
        "blocks apart",
    }


def test_neighbours_above_the_threshold_are_candidates(tmp_path):
    """Cosines are 0.9, 0.8 ... 0.4; the neighbours are the first, the fourth and the sixth pair, and one is above."""
    (part,) = alike(made(tmp_path), **ASKED, measure="cosine", threshold=0.8)
    assert number(part, "candidates").value == 3 and number(part, "highest").value == pytest.approx(0.9)
    assert number(part, "cost").value == pytest.approx(0)
    (none,) = alike(made(tmp_path / "more"), **ASKED, measure="cosine", threshold=0.95)
    assert number(none, "candidates").value == 0 and number(none, "cost").value is None


def test_too_few_pairs_are_not_yet_run(tmp_path):
    few = made(tmp_path, pairs=PAIRS[:3])
    assert not any(part.is_measured for part in rank(few, **ASKED, measure="distance"))
    (part,) = alike(few, **ASKED, measure="cosine", threshold=0.8)
    assert number(part, "candidates").value is None and part.note == "too few pairs"


@pytest.mark.parametrize(
    ("file", "cost", "verdict"),
    [
        ("c12", lambda at, seed: float(at), "supported"),
        ("c12", lambda at, seed: 5.0 - at, "refuted"),
        ("c12", lambda at, seed: float((at * 7 + seed * 3) % 6), "inconclusive"),
        ("c13", lambda at, seed: 3.0 + 0.01 * seed, "refuted"),
    ],
)
def test_the_verdicts(tmp_path, file, cost, verdict):
    write_pairs(tmp_path, seeds=(1, 2, 3, 4, 5), cost=cost, pairs=OF_FIVE)
    found = row(FOLDER / f"{file}.yaml", Evidence(tmp_path, tmp_path))
    assert str(found.verdict.word) == verdict, found


def test_a_run_of_two_sweeps_is_one_run_but_in_each_where_sweeps_are_compared(tmp_path):
    write_pairs(tmp_path, seeds=(1,), cost=lambda at, seed: float(at), pairs=OF_FIVE)
    here = Evidence(tmp_path, tmp_path)
    rows = here.frame(["pairs"])
    here.frames["again"] = rows.assign(sweep="again")
    assert here.frame(["pairs", "again"]).sweep.unique().tolist() == ["pairs"]
    assert len(here.frame(["pairs", "again"], in_each=True)) == 2 * len(rows)


def test_the_claims_are_read():
    assert [read(FOLDER / f"{name}.yaml").sweeps for name in ("c12", "c13")] == [
        ("pairs", "pretrained"),
        ("pairs", "pretrained"),
    ]
