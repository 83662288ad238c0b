import functools
import json
from dataclasses import replace

import pytest
import record_maker
from cell_maker import made

from bench.analysis import archive
from bench.runs import machine
from bench.runs.store import cost_folder, write_json
from bench.sweep.dry_run import report
from bench.sweep.prerequisites import candidates

TYING = {"none": "none", "soft": "soft(strength=0.01)"}


composed = functools.cache(made)


def grid(runs, *more, tyings=("none", "soft"), seeds=(1, 2)):
    """Cells of image_cnn as a launcher composes them."""
    kinds = [composed(f"tying={tying}", "sweep.name=mine", *more) for tying in tyings]
    options = {"runs": str(runs)}
    return [replace(c.altered(seed=s), options=c.options | options) for c in kinds for s in seeds]


def put(cell, status="done", seconds=60.0, value=0.9):
    """A record of the cell."""
    record = {**cell.header(), "status": status, "reason": None, "config": cell.config}
    record |= {"val": {"accuracy": value}, "seconds": {"total": seconds}}
    write_json(cell.folder / "record.json", record)


def measured(cell, seconds=7.0):
    cost = record_maker.cost(
        {"cost": cell.cost, "tying": cell.label, "task": cell.config["task"]["name"]}, seconds=seconds
    )
    write_json(cost_folder(cell.runs, cell.cost) / "cost.json", cost)


def interrupted(cell, step, steps):
    write_json(cell.folder / "attempts.json", {"attempts": [{"host": "alpha"}]})
    status = {"step": step, "steps": steps, "metric": "accuracy", "value": None}
    write_json(cell.folder / "status.json", status)
    (cell.folder / "last.ckpt").touch()


def rows(text):
    """Name of a row -> its counts."""
    lines = text.partition("\n\n")[2].partition("\n\n")[0].splitlines()[2:]
    return {" ".join(line.split()[:-9]): line.split()[-9:] for line in lines}


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine, "gpus", lambda: [])


def test_of_nothing_recorded(tmp_path):
    text = report(grid(tmp_path))
    assert text.splitlines()[:2] == [f"dry run of sweep mine, records in {tmp_path}/", "4 cells, 4 runs"]
    assert rows(text)["image_cnn on digits"] == ["4", "4", *"------", "4"]
    assert rows(text)[TYING["soft"]] == ["2", "2", *"------", "2"]
    assert "costs: 2 measurements, each alone on the machine, 2 to make" in text
    assert "first to run:\n  image_cnn none dropout=0 wd=0 seed=1\n" in text
    assert text.endswith(f"time: unknown, no run of these configs has finished in {tmp_path}/")
    assert not list(tmp_path.iterdir())


def test_of_everything_recorded(tmp_path):
    cells = grid(tmp_path)
    for cell in cells:
        put(cell)
        measured(cell)
    text = report(cells)
    assert rows(text)["image_cnn on digits"] == ["4", "4", "4", *"------"]
    assert text.endswith("\nnothing to run: all is recorded") and "first to run" not in text


def test_each_state_in_its_column(tmp_path):
    cells = grid(tmp_path, seeds=range(1, 6), tyings=["none"])
    for cell, status in zip(cells, ("done", "failed", "diverged", "not_applicable"), strict=False):
        put(cell, status)
    interrupted(cells[4], 1, 2)
    assert rows(report(cells))["none"] == ["5", "5", "1", "1", "1", "1", "-", "1", "-"]
    retried = grid(tmp_path, "retry=true", seeds=range(1, 6), tyings=["none"])
    assert rows(report(retried))["none"] == ["5", "5", "1", "1", "1", "1", "-", "1", "1"]


def test_cells_that_differ_in_what_nothing_uses_are_one_run(tmp_path):
    cells = grid(tmp_path, "tying.k=1") + grid(tmp_path, "tying.k=2")
    text = report(cells)
    assert "\n8 cells, 4 runs: cells that differ in nothing but keys" in text
    assert rows(text)["none"] == ["4", "2", *"------", "2"]


def test_the_time_is_that_of_the_same_config_at_another_seed_and_regularisation(tmp_path):
    cells = grid(tmp_path)
    for cell in cells:
        measured(cell)
    # Not of the grid: 60 s for `none` and 100 s for `soft`; one of another budget says nothing.
    for tying, seconds in (("none", 60.0), ("soft", 100.0)):
        put(grid(tmp_path, "dropout=0.3", "optimizer.lr=1", tyings=[tying], seeds=[9])[0], seconds=seconds)
    put(grid(tmp_path, "trainer.max_epochs=1", seeds=[8])[0], seconds=1.0)
    assert "time: about 2 min 40 s with 2 runs at once" in report(cells)  # 320 s on two


def test_the_time_falls_back_to_another_tying_of_the_same_config(tmp_path):
    cells = grid(tmp_path)
    for cell in cells:
        measured(cell)
    put(cells[0], seconds=60.0)
    assert "time: about 1 min 30 s with 2 runs at once" in report(cells)  # three left of 60 s


def test_costs_come_first_and_one_after_the_other(tmp_path):
    cells = grid(tmp_path)
    for cell in cells:
        put(cell)
    measured(cells[0], seconds=7.0)
    text = report(cells)
    assert "costs: 2 measurements, each alone on the machine, 1 to make" in text
    assert "time: about 7 s with 2 runs at once" in text


def test_what_is_interrupted_has_its_rest_to_go(tmp_path):
    cells = grid(tmp_path, tyings=["none"])
    measured(cells[0])
    put(cells[0], seconds=100.0)
    interrupted(cells[1], 3, 4)
    assert "time: about 25 s" in report(cells)


def test_unknown_ones_count_as_the_others(tmp_path):
    cells = [
        made(f"task={task}", "sweep.name=mine", f"runs={tmp_path}") for task in ("image_cnn", "text_gru")
    ]
    cells.append(made("seed=2", "sweep.name=mine", f"runs={tmp_path}"))
    put(cells[0], seconds=10.0)
    text = report(cells)
    # Of two runs to come one is known; costs are not.
    assert "time: at least about 10 s with 2 runs at once" in text
    assert "3 without such count as long as the others on average" in text


def test_more_threads_and_processes_a_run_are_fewer_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 8)
    cells = grid(tmp_path, "trainer.threads=2", seeds=range(1, 10))
    for cell in cells:
        measured(cell)
    put(cells[0], seconds=4.0)
    assert "time: about 17 s with 4 runs at once" in report(cells)  # 17 of 4 s
    monkeypatch.setattr(machine, "gpus", lambda: ["0", "1"])
    assert "with 2 runs at once" in report(cells)


SEARCH = ("lr_search.factors=[0.5,1]", "lr_search.widen=0")


def test_learning_rates_that_are_still_to_be_chosen(tmp_path):
    cells = grid(tmp_path, *SEARCH)
    put(cells[0])  # at a rate that may not be chosen
    put(candidates(cells[0])[0])
    text = report(cells)
    assert "learning rates: 4 runs to choose from, 3 to run\n  4 runs wait for their rate" in text
    assert rows(text)["image_cnn on digits"][-1] == "4"
    assert "  image_cnn none dropout=0 wd=0 seed=0 lr=0.003\n" in text


def test_learning_rates_that_are_chosen(tmp_path):
    cells = grid(tmp_path, *SEARCH, tyings=["none"])
    low, high = candidates(cells[0])
    put(low, value=0.95)
    put(high, value=0.90)
    put(cells[0].altered(optimizer={"lr": low.config["optimizer"]["lr"]}))
    put(cells[1])  # at the other rate
    text = report(cells)
    assert "learning rates: 2 runs to choose from, 0 to run" in text and "wait" not in text
    assert rows(text)["none"] == ["2", "2", "1", *"-----", "1"]


def test_a_search_whose_best_is_at_an_end_waits_for_the_rate_beyond(tmp_path):
    cells = grid(tmp_path, *SEARCH, "lr_search.widen=1", tyings=["none"])
    for run, value in zip(candidates(cells[0]), (0.90, 0.95), strict=True):
        put(run, value=value)
    text = report(cells)
    assert "learning rates: 3 runs to choose from, 1 to run, and up to 1 more rate where the best" in text
    assert "2 runs wait for their rate" in text and "seed=0 lr=0.006\n" in text
    put(candidates(cells[0])[1].altered(optimizer={"lr": 0.006}), value=0.93)
    assert "3 runs to choose from, 0 to run" in report(cells) and "wait" not in report(cells)


def test_a_learning_rate_search_of_which_a_run_failed_is_over(tmp_path):
    cells = grid(tmp_path, *SEARCH, tyings=["none"])
    low, high = candidates(cells[0])
    put(low, "failed")
    put(high, "diverged")
    assert rows(report(cells))["none"][-1] == "2" and "wait" not in report(cells)


def test_a_sweep_that_measures_no_costs_says_so(tmp_path):
    cells = [cell.altered(measure={"max_seconds": 0}) for cell in grid(tmp_path)]
    assert "costs: 0 measurements, each alone on the machine, 0 to make" in report(cells)
    assert {cell.header()["cost"] for cell in cells} == {None}
    assert [cell.id for cell in cells] == [cell.id for cell in grid(tmp_path)]


def test_where_nothing_has_run_the_recorded_sweep_tells_else_its_preset(tmp_path):
    results = tmp_path / "results"
    cells = grid(tmp_path / "new", f"results={results}", "sweep.takes='an hour'")
    assert report(cells).endswith("/; whole and on two cores the sweep takes an hour")
    done = grid(tmp_path / "old", tyings=["none"], seeds=[9])
    put(done[0], seconds=60.0)
    record = json.loads((done[0].folder / "record.json").read_text())
    sweep = archive.Recorded("mine", None, {done[0].id: done[0].header()}, {done[0].id: record}, {})
    archive.path_of(results, "mine").parent.mkdir(parents=True)
    archive.path_of(results, "mine").write_bytes(archive.content(sweep))
    text = report(cells)
    assert "about 2 min" in text and "by those recorded in results/" in text
