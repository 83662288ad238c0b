"""The default engine: which runs go on at once on this machine, and on which of its GPUs."""

import threading

import pytest
from cell_maker import made

from bench.runs import machine
from bench.runs.process import Interrupted
from bench.sweep.launchers import local
from bench.sweep.launchers.local import Joblib
from bench.tying.errors import BadInput


class Recorded:
    """Stands for `RunOrLoad`: notes what it is asked for, and how many at once."""

    def __init__(self, act=lambda cell: {"status": "done"}) -> None:
        self.act, self.lock, self.now, self.most, self.asked = act, threading.Lock(), 0, 0, []

    def __call__(self, cell, runner):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.asked.append((cell.config["seed"], cell.options["gpus"]))
        try:
            return self.act(cell)
        finally:
            with self.lock:
                self.now -= 1


@pytest.fixture
def cells():
    return [made(f"seed={seed}", "runs=/nowhere") for seed in range(1, 9)]


@pytest.fixture
def killed(monkeypatch):
    """How often all runs were killed."""
    times = []
    monkeypatch.setattr(local.Runner, "kill_all", lambda self: times.append(1))
    return times


def gpus(monkeypatch, *names):
    monkeypatch.setattr(machine, "gpus", lambda: list(names))


def carried(engine, cells, ensure):
    started = []
    pairs = list(engine.map(ensure, cells, lambda cell: started.append(cell.id)))
    assert sorted(started) == sorted(cell.id for cell in cells)
    return {cell.id: record for cell, record in pairs}


@pytest.mark.parametrize(("given", "at_once"), [(None, 3), (1, 1), (5, 5)])
def test_as_many_at_once_as_there_are_cores_or_as_was_asked(cells, monkeypatch, given, at_once):
    gpus(monkeypatch)
    monkeypatch.setattr(machine, "cores", lambda: 3)
    meeting = threading.Barrier(at_once)
    first = {cell.id for cell in cells[:at_once]}

    def act(cell):
        if cell.id in first:
            meeting.wait(10)  # only if so many are there at once
        return {"status": "done"}

    ensure = Recorded(act)
    assert set(carried(Joblib(n_jobs=given), cells, ensure)) == {cell.id for cell in cells}
    assert ensure.most == at_once and {place for _, place in ensure.asked} == {None}


def test_each_gpu_has_its_run_and_several_small_ones_share_it(cells, monkeypatch):
    gpus(monkeypatch, "0", "1")
    meeting = threading.Barrier(4)
    seen = []

    def act(cell):
        seen.append(cell.options["gpus"])
        meeting.wait(10)
        return {"status": "done"}

    carried(Joblib(runs_per_gpu=2), cells, Recorded(act))
    assert sorted(seen[:4]) == ["0", "0", "1", "1"] and sorted(seen) == ["0"] * 4 + ["1"] * 4


def test_ranks_get_a_gpu_each(cells, monkeypatch):
    gpus(monkeypatch, "4", "5", "6")
    two = [cell.altered(trainer={"devices": 2}) for cell in cells]
    ensure = Recorded()
    carried(Joblib(), two, ensure)
    assert {place for _, place in ensure.asked} == {"4,5"} and ensure.most == 1


def test_what_asks_for_the_cpu_gets_no_gpu(cells, monkeypatch):
    gpus(monkeypatch, "0")
    ensure = Recorded()
    carried(Joblib(n_jobs=2), [cell.altered(trainer={"accelerator": "cpu"}) for cell in cells], ensure)
    assert {place for _, place in ensure.asked} == {None}


@pytest.mark.parametrize(
    ("trainer", "there", "said"),
    [
        ({"devices": 3}, ["0", "1"], "there are 2 GPUs; ask for at most 2"),
        ({"devices": 3, "accelerator": "cpu"}, ["0"], "there are 2 cores for 1 thread"),
        ({"devices": 1, "threads": 2, "accelerator": "gpu"}, [], "there is no GPU here"),
        ({"devices": 2, "threads": 2}, [], "there are 2 cores for 2 thread"),
    ],
)
def test_more_than_there_is_is_refused(cells, monkeypatch, trainer, there, said):
    gpus(monkeypatch, *there)
    monkeypatch.setattr(machine, "cores", lambda: 2)
    Joblib().check(cells)
    with pytest.raises(BadInput, match=said):
        Joblib().check([cells[0].altered(trainer=trainer)])


@pytest.mark.parametrize(("error", "kills"), [(BadInput("the disk is full"), 1), (Interrupted(), 0)])
def test_a_mistake_ends_the_others_and_an_interruption_lets_them_save(cells, killed, error, kills):
    def act(cell):
        raise error

    with pytest.raises(type(error)):
        carried(Joblib(n_jobs=1), cells, Recorded(act))
    assert len(killed) == kills


def test_gpus_are_those_that_a_run_may_see(monkeypatch):
    for visible, found in (("2,3", ["2", "3"]), ("", []), ("-1", []), ("GPU-abc", ["GPU-abc"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        machine.gpus.cache_clear()
        assert machine.gpus() == found
    machine.gpus.cache_clear()


def test_compiling_without_a_compiler_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    gpus(monkeypatch)
    Joblib().check([made()])
    with pytest.raises(BadInput, match="trainer.compile=default needs a C.. compiler, and none is here"):
        Joblib().check([made("trainer.compile=default")])
