import pytest
from cell_maker import made
from command import Bench

from bench.runs.store import read_json
from bench.sweep.prerequisites import candidates, chosen

SEARCH = ["lr_search.factors=[0.5,1,2]", "lr_search.widen=0", "lr_search.seed=0", "optimizer.lr=0.1"]

FAR_TOO_LOW = ["-m", "sweep.name=widened", "task=image_cnn", "model.width=4", "trainer.max_epochs=4"]
FAR_TOO_LOW += ["seed=1", "trainer.limit_train_batches=null", "measure.max_seconds=0", "logger=none"]
FAR_TOO_LOW += ["lr_search.factors=[0.01,0.1]"]
"""A sweep at rates that are far too low: of two the higher is the better one each time."""


def cell_of(task, *more):
    return made(f"task={task}", *SEARCH, "seed=3", "dropout=0.2", "weight_decay=1", *more)


def records(cell, *values):
    """One for each candidate: its metric on validation, or the status that it ended with."""
    name = cell.config["task"]["metric"]["name"]
    ended = [
        {"status": v} if isinstance(v, str) else {"status": "done", "val": {name: v}, "test": {name: -v}}
        for v in values
    ]
    return {c.id: record for c, record in zip(candidates(cell), ended, strict=True)}


def lr_of(cell):
    return cell.config["optimizer"]["lr"]


def lr_of_record(record):
    return record["config"]["optimizer"]["lr"]


@pytest.mark.parametrize(
    ("task", "values", "best"),
    [
        ("image_cnn", (0.7, 0.9, 0.8), 0.1),
        ("image_cnn", (0.7, 0.8, 0.9), 0.2),
        ("text_gru", (70, 90, 80), 0.05),
        ("text_gru", (90, 80, 70), 0.2),
        ("text_gru", ("failed", 90, "diverged"), 0.1),
        ("image_cnn", ("failed", "diverged", 0.1), 0.2),
    ],
)
def test_the_best_on_validation_by_the_metrics_own_direction(task, values, best):
    cell = cell_of(task)
    settled, reached = chosen(cell, records(cell, *values))
    assert lr_of(settled) == best
    assert reached == dict(zip(("0.05", "0.1", "0.2"), values, strict=True))
    assert (settled.config["seed"], settled.config["dropout"], settled.config["weight_decay"]) == (3, 0.2, 1)


def test_of_equal_accuracies_the_one_with_the_least_loss_is_the_best():
    cell = cell_of("image_cnn")
    known = records(cell, 0.9, 0.9, 0.8)
    for record, loss in zip(known.values(), (0.3, 0.2, 0.1), strict=True):
        record["val"]["nll"] = loss
    assert lr_of(chosen(cell, known)[0]) == 0.1


def test_of_several_seeds_the_mean_decides_and_a_rate_that_failed_once_is_no_choice():
    cell = cell_of("text_gru", "lr_search.more_seeds=[6,0]")  # 0 is the seed of the search already
    assert [(lr_of(c), c.config["seed"]) for c in candidates(cell)] == [
        (rate, seed) for rate in (0.05, 0.1, 0.2) for seed in (0, 6)
    ]
    settled, reached = chosen(cell, records(cell, 60, 90, 70, 76, 50, "diverged"))
    assert lr_of(settled) == 0.1 and reached == {"0.05": 75, "0.1": 73, "0.2": "diverged"}
    first_alone = cell_of("text_gru")
    assert lr_of(chosen(first_alone, records(first_alone, 60, 70, 50))[0]) == 0.2


def test_where_none_finished_the_cell_keeps_its_own():
    cell = cell_of("text_gru")
    settled, reached = chosen(cell, records(cell, "failed", "diverged", "not_applicable"))
    assert settled.id == cell.id
    assert list(reached.values()) == ["failed", "diverged", "not_applicable"]


def test_candidates_are_plain_runs_at_the_searchs_seed():
    found = candidates(cell_of("image_cnn", "tying=top_k", "tying.k=3"))
    assert [lr_of(c) for c in found] == [0.05, 0.1, 0.2]
    for c in found:
        assert (c.config["seed"], c.config["dropout"], c.config["weight_decay"]) == (0, 0, 0)
        assert c.label == "top_k(k=3)"


def test_the_cells_of_a_task_and_tying_share_their_candidates():
    plain = {c.id for c in candidates(made(*SEARCH))}
    assert plain == {c.id for c in candidates(made(*SEARCH, "seed=9", "dropout=0.5", "weight_decay=1"))}
    assert plain.isdisjoint(c.id for c in candidates(made(*SEARCH, "tying=cross_layer")))


def test_where_it_is_asked_for_each_regularisation_has_a_search_of_its_own():
    cell = cell_of("image_cnn", "lr_search.regularised=true")
    own = candidates(cell)
    assert {(c.config["seed"], c.config["dropout"], c.config["weight_decay"]) for c in own} == {(0, 0.2, 1)}
    other = candidates(cell_of("image_cnn", "lr_search.regularised=true", "dropout=0.5"))
    assert {c.id for c in own}.isdisjoint(c.id for c in other)


def test_no_search_unless_asked():
    assert candidates(made()) == []


def searched(cell, best_at):
    """What a search asks for, round by round, where accuracy falls with the distance from the rate `best_at`."""
    known, rounds = {}, []
    while beyond := [run for run in candidates(cell, known) if run.id not in known]:
        rounds.append([lr_of(run) for run in beyond])
        known |= {
            run.id: {"status": "done", "val": {"accuracy": 1 / (1 + abs(lr_of(run) - best_at))}}
            for run in beyond
        }
    return known, rounds


@pytest.mark.parametrize(
    ("best_at", "rounds"),
    [
        (0.1, [[0.05, 0.1, 0.2]]),
        (0.4, [[0.05, 0.1, 0.2], [0.4], [0.8]]),
        (3.2, [[0.05, 0.1, 0.2], [0.4], [0.8]]),
        (0.025, [[0.05, 0.1, 0.2], [0.025], [0.0125]]),
        (0.001, [[0.05, 0.1, 0.2], [0.025], [0.0125]]),
    ],
)
def test_where_the_best_is_at_an_end_rates_beyond_it_are_tried_until_one_is_worse(best_at, rounds):
    cell = cell_of("image_cnn", "lr_search.widen=2")
    known, asked = searched(cell, best_at)
    assert asked == rounds
    settled, reached = chosen(cell, known)
    tried = sorted(rate for turn in rounds for rate in turn)
    assert list(reached) == [f"{rate:g}" for rate in tried]
    assert lr_of(settled) == min(tried, key=lambda rate: abs(rate - best_at))


@pytest.mark.parametrize("more", ["lr_search.widen=0", "lr_search.factors=[1]"])
def test_a_search_of_one_rate_or_without_leave_is_not_widened(more):
    assert len(searched(cell_of("image_cnn", "lr_search.widen=2", more), 3.2)[1]) == 1


def test_a_rate_that_fails_is_no_end_to_go_beyond():
    cell = cell_of("image_cnn", "lr_search.widen=2")
    known = records(cell, 0.7, 0.8, "diverged")
    assert [lr_of(run) for run in candidates(cell, known)] == [0.05, 0.1, 0.2]
    assert candidates(cell, records(cell, "failed", "failed", "failed")) == candidates(cell)


def test_a_sweep_tries_the_rates_beyond_an_end_and_finds_them_again(bench: Bench):
    """The search ends where `widen` says."""
    command = [*FAR_TOO_LOW, "lr_search.widen=1"]
    assert bench(*command).returncode == 0
    records = bench.records().values()
    assert sorted(lr_of_record(r) for r in records if r["seed"] == 0) == pytest.approx([3e-5, 3e-4, 3e-3])
    (reported,) = [record for record in records if record["seed"] == 1]
    assert reported["lr_search"].keys() == {"3e-05", "0.0003", "0.003"}
    best = max(reported["lr_search"], key=reported["lr_search"].get)
    assert best == "0.003" == f"{lr_of_record(reported):g}"
    stamps = bench.stamps()
    assert bench(*command).returncode == 0 and bench.stamps() == stamps


def test_a_wider_search_takes_the_place_of_the_rate_that_a_narrow_one_chose(bench: Bench):
    narrow = bench(*FAR_TOO_LOW, "lr_search.widen=0")
    assert narrow.returncode == 0 and "earlier search" not in narrow.stderr
    wide = bench(*FAR_TOO_LOW, "lr_search.widen=1")
    assert wide.returncode == 0
    gone = "no longer in the tables of sweep widened: 1 run at learning rates that an earlier search chose"
    assert gone in wide.stderr and "asked for before" not in wide.stderr
    (entry,) = read_json(bench.runs / "sweeps" / "widened.json")["runs"]
    assert f"{lr_of_record(bench.records()[entry['id']]):g}" == "0.003"
