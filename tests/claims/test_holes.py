"""Each claim on records with holes: what is not known hangs or decides nothing, and never breaks its rule."""

import pytest

from bench.analysis.archive import archived_names
from bench.claims.claim import read
from bench.claims.evaluate import row
from bench.claims.records import Evidence
from bench.runs.machine import CONF, ROOT

COMMITTED = Evidence(ROOT / "no runs", ROOT / "results")
RECORDED = set(archived_names(ROOT / "results"))
FILES = [path for path in sorted((CONF / "claims").glob("*.yaml")) if RECORDED & {*read(path).sweeps}]


class Holed:
    """Evidence whose frames are changed by a function."""

    def __init__(self, change):
        self.change = change

    def frame(self, sweeps, in_each):
        return self.change(COMMITTED.frame(sweeps, in_each).copy())


def without_costs(frame):
    """As of runs whose cost was not measured."""
    numbers = [name for name in frame if any(word in name for word in ("latency", "train_step", "largest"))]
    frame[numbers] = float("nan")
    return frame


def failed(tying):
    """As of a tying all of whose runs failed."""

    def change(frame):
        scores = [name for name in frame if name.startswith(("test_", "val_", "train_", "last_", "curve_"))]
        frame[scores] = frame[scores].astype(object)
        frame.loc[frame.tying == tying, scores] = None
        frame.loc[frame.tying == tying, "status"] = "failed"
        return frame

    return change


HOLES = [without_costs] + [failed(tying) for tying in ("none", "cross_layer", "top_k", "soft", "embedding")]


@pytest.mark.parametrize("change", HOLES)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_hole_in_the_records_breaks_no_rule(path, change):
    found = row(path, Holed(change))
    assert not found.is_bad, found.why
    for part, said in found.judged:
        assert part.is_measured or said is None or said.word == "not yet run"


def test_there_are_claims_to_test_on():
    assert len(FILES) >= 6
