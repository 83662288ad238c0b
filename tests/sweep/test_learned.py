"""Which blocks share, learned from another run: the clustering, the run it is learned from, and what is made of it."""

from dataclasses import replace

import numpy as np
import pytest
from cell_maker import made
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.runs.store import read_json, write_json
from bench.sweep.dry_run import report
from bench.sweep.launchers.local import Joblib
from bench.sweep.prerequisites import Unlearned, clustered, resolved, shuffled, source, with_grouping
from bench.sweep.sweep import measure, run_sweep
from bench.tying.errors import BadInput

depths = st.integers(1, 8)


def partition(labels):
    return {frozenset(np.flatnonzero(np.array(labels) == label)) for label in set(labels)}


def is_numbered(labels):
    """By first appearance: 0, then 1, ..."""
    return list(dict.fromkeys(labels)) == list(range(len(set(labels))))


def alike(seed, depth):
    """A symmetric matrix of cosines without ties."""
    upper = np.triu(np.random.default_rng(seed).uniform(-1, 1, (depth, depth)), 1)
    return upper + upper.T + np.eye(depth)


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_blocks_on_a_diagonal_are_the_groups(labels):
    cosines = np.where(np.equal.outer(labels, labels), 0.9, 0.1)
    np.fill_diagonal(cosines, 1)
    found = clustered(cosines.tolist(), len(set(labels)))
    assert partition(found) == partition(labels) and is_numbered(found)


@settings(deadline=None)  # the first call imports scipy
@given(depths, st.integers(0, 99))
def test_as_many_groups_as_are_asked_for_and_its_two_ends(depth, seed):
    cosines = alike(seed, depth).tolist()
    for groups in range(1, depth + 1):
        found = clustered(cosines, groups)
        assert len(set(found)) == groups and is_numbered(found)
    assert clustered(cosines, 1) == [0] * depth and clustered(cosines, depth) == list(range(depth))


@settings(deadline=None)  # the first call imports scipy
@given(depths, st.integers(0, 99), st.data())
def test_other_names_of_the_blocks_are_other_names_in_the_groups(depth, seed, data):
    cosines, order = alike(seed, depth), data.draw(st.permutations(range(depth)))
    groups = data.draw(st.integers(1, depth))
    moved = clustered(cosines[np.ix_(order, order)].tolist(), groups)
    back = {frozenset(order[block] for block in group) for group in partition(moved)}
    assert back == partition(clustered(cosines.tolist(), groups))


def test_of_equals_the_same_are_joined_each_time():
    same = np.ones((6, 6)).tolist()
    assert clustered(same, 3) == clustered(same, 3)


def test_average_linkage_in_the_head():
    """1 joins 0 at 0.1; then 2 is 0.5 from both, and 0.4 from 3."""
    apart = np.array([[0, 0.1, 0.5, 0.9], [0.1, 0, 0.5, 0.9], [0.5, 0.5, 0, 0.4], [0.9, 0.9, 0.4, 0]])
    assert clustered((1 - apart).tolist(), 2) == [0, 0, 1, 1]


STAGES = [[1, 0.1, None, None], [0.1, 1, None, None], [None, None, 1, 0.2], [None, None, 0.2, 1]]


def test_blocks_of_different_shapes_never_join():
    assert clustered(STAGES, 2) == [0, 0, 1, 1] and clustered(STAGES, 3) == [0, 1, 2, 2]
    with pytest.raises(Unlearned, match="these 4 fall into 2 groups at least, not 1") as end:
        clustered(STAGES, 1)
    assert end.value.status == "not_applicable"


def test_more_groups_than_blocks():
    with pytest.raises(Unlearned, match="groups is 5; the network has 4 blocks: groups must be from 1 to 4"):
        clustered(STAGES, 5)


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.integers(0, 3), min_size=3, max_size=9), st.integers(1, 20))
def test_a_shuffle_keeps_the_sizes_and_moves_the_blocks(labels, number):
    labels = [sorted(set(labels), key=labels.index).index(label) for label in labels]
    if len(set(labels)) in (1, len(labels)):
        with pytest.raises(Unlearned, match="in one way only"):
            shuffled(labels, number)
        return
    found = shuffled(labels, number)
    assert sorted(map(len, partition(found))) == sorted(map(len, partition(labels)))
    assert partition(found) != partition(labels) and is_numbered(found)
    assert found == shuffled(labels, number)


def test_shuffles_differ():
    assert len({tuple(shuffled([0, 0, 1, 1, 2, 2], number)) for number in range(1, 30)}) > 5


GRU = ("task=text_gru", "model.depth=6", "lr_search.seed=7")
LEARNED = (*GRU, "tying=learned")


@pytest.mark.parametrize(
    ("asked", "learned_from"),
    [
        (["tying=learned"], ["tying=soft", "tying.strength=0.001"]),
        (
            ["tying=learned", "tying.strength=1", "tying.scope=all"],
            ["tying=soft", "tying.strength=1", "tying.scope=all"],
        ),
        (["tying=learned", "tying.strength=0"], ["tying=none"]),
        (["tying=learned", "tying.strength=null"], ["tying=none"]),
        (["tying=[embedding,learned]", "tying.strength=0"], ["tying=embedding"]),
        (["tying=[embedding,learned]"], ["tying=[embedding,soft]", "tying.strength=0.001"]),
        (["tying=[top_k,learned]", "tying.k=2", "tying.strength=0"], ["tying=top_k", "tying.k=2"]),
    ],
)
def test_it_is_learned_in_a_run_that_can_be_asked_for(asked, learned_from):
    assert source(made(*GRU, *asked)).id == made(*GRU, *learned_from, "seed=7").id


@pytest.mark.parametrize(
    "more",
    ["seed=3", "dropout=0.2", "weight_decay=1", "tying.shuffle=2", "tying.groups=2", "control=params"]
    + ["start=untied", "trainer.use_gradients=true", "lr_search.factors=[1,2]"],
)
def test_cells_that_differ_in_what_is_not_learned_have_one_source(more):
    assert source(made(*LEARNED, more)).id == source(made(*LEARNED)).id


def done(cell, **given):
    """A record of the source of `cell`, of neighbours that became alike."""
    labels = np.arange(cell.config["model"]["depth"]) // 2
    cosines = np.where(np.equal.outer(labels, labels), 1.0, 0.0).tolist()
    learned_from = source(cell)
    record = {**learned_from.header(), "status": "done", "reason": None, "similarity": cosines, **given}
    return {learned_from.id: record}


def test_the_grouping_is_the_cells_own_from_then_on():
    cell = made(*LEARNED)
    found = resolved(cell, done(cell))
    assert found.config["tying"]["grouping"] == [0, 0, 1, 1, 2, 2]
    assert found.config["tying"]["parts"]["learned"]["grouping"] == [0, 0, 1, 1, 2, 2]
    assert found.options["learned_from"] == source(cell).id and source(found) is None
    assert found.label == cell.label and found.id != cell.id and found.cost != cell.cost
    assert found.id == with_grouping(cell, [0, 0, 1, 1, 2, 2]).id == resolved(found, {}).id
    random = made(*LEARNED, "tying.shuffle=1")
    other = resolved(random, done(random)).config["tying"]["grouping"]
    assert other == shuffled([0, 0, 1, 1, 2, 2], 1)


def test_one_grouping_for_all_seeds():
    cells = [made(*LEARNED, f"seed={seed}") for seed in (1, 2)]
    one, two = (resolved(cell, done(cell)) for cell in cells)
    assert one.group == two.group and one.cost == two.cost and one.id != two.id


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (
            {"status": "failed", "reason": "no memory"},
            "failed",
            r"soft\(strength=0.001\), seed 7\), which is failed: no mem",
        ),
        ({"status": "diverged", "reason": "nan"}, "failed", "which is diverged: nan"),
        ({"status": "interrupted", "reason": "stopped"}, "interrupted", "interrupted: stopped"),
        ({"status": "not_applicable", "reason": "no stack"}, "not_applicable", "which is no stack"),
        ({"similarity": None}, "not_applicable", "no stack of blocks"),
    ],
)
def test_where_nothing_can_be_learned_the_cell_says_from_what(given, status, said):
    cell = made(*LEARNED)
    with pytest.raises(Unlearned, match=said) as end:
        resolved(cell, done(cell, **given))
    assert end.value.status == status


def at(cell, runs):
    return replace(cell, options={**cell.options, "runs": str(runs)})


def put(records, runs):
    for key, record in records.items():
        write_json(runs / key / "record.json", record)


def test_a_failed_source_is_a_failed_row_and_nothing_is_trained_or_measured(tmp_path):
    cells = [at(made(*LEARNED, f"seed={seed}", "sweep.name=mine"), tmp_path) for seed in (1, 2)]
    put(done(cells[0], status="failed", reason="out of memory"), tmp_path)
    found, records = run_sweep(cells, Joblib(n_jobs=1), sweep=True)
    assert [cell.id for cell in found] == [cell.id for cell in cells]
    for cell, record in zip(cells, records, strict=True):
        assert record == read_json(cell.folder / "record.json") and record["status"] == "failed"
        assert source(cell).id in record["reason"] and record["reason"].endswith(
            "which is failed: out of memory"
        )
    assert not (tmp_path / "costs").exists()
    manifest = read_json(tmp_path / "sweeps" / "mine.json")
    assert [row["id"] for row in manifest["sources"]] == [source(cells[0]).id]
    assert {row["id"] for row in manifest["runs"]} == {cell.id for cell in cells}


def test_a_dry_run_knows_what_waits_for_its_groups(tmp_path):
    cells = [at(made(*LEARNED, f"seed={seed}", "sweep.name=mine"), tmp_path) for seed in (1, 2)]
    text = report(cells)
    assert "groups: learned in 1 run, 1 to run\n  2 runs wait for their groups" in text
    assert "  text_gru soft(strength=0.001) dropout=0 wd=0 seed=7\n" in text
    put(done(cells[0], config=cells[0].config), tmp_path)
    settled = resolved(cells[0], done(cells[0]))
    write_json(
        settled.folder / "record.json", {**settled.header(), "status": "done", "config": settled.config}
    )
    text = report(cells)
    assert "groups: learned in 1 run, 0 to run" in text and "runs wait" not in text
    assert [line.split()[-1] for line in text.splitlines() if "learned(groups=3)  " in line] == ["1"]


def test_a_measurement_trains_nothing(tmp_path):
    with pytest.raises(
        BadInput, match="in a run that is not recorded with the present code: train such a cell first"
    ):
        measure([at(made(*LEARNED), tmp_path)])


TINY = ("trainer.max_epochs=1", "trainer.limit_train_batches=3", "measure.cold=false", "measure.min_calls=1")
TINY += ("measure.min_seconds=0", "measure.max_seconds=0.2", "model.depth=4", "tying.groups=2")


def test_a_learned_and_a_random_grouping_from_end_to_end(grid):
    asked = [
        replace(cell, config=made_anew(cell))
        for cell in (grid.cell("text_gru", "learned", *TINY, *more) for more in ((), ("tying.shuffle=1",)))
    ]
    found, records = run_sweep(asked, Joblib(n_jobs=1))
    assert [record["status"] for record in records] == ["done", "done"], records
    learned_from = read_json(asked[0].runs / source(asked[0]).id / "record.json")
    groups = clustered(learned_from["similarity"], 2)
    assert [cell.config["tying"]["grouping"] for cell in found] == [groups, shuffled(groups, 1)]
    for record in records:
        assert record["learned_from"] == learned_from["id"] and record["seed"] != learned_from["seed"]
        labels = record["config"]["tying"]["grouping"]
        alike = np.array(record["similarity"]) > 1 - 1e-9
        assert (alike == np.equal.outer(labels, labels)).all()
    assert records[0]["cost"] != records[1]["cost"]


def made_anew(cell):
    """The config of a cell of the grid, which has a grouping already, without it."""
    return with_grouping(cell, None).config
