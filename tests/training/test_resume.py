"""A run that is ended anywhere and started again is, to the bit, the run that was never ended."""

import contextlib
import copy
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from grid import TASKS

from bench.runs.worker import Stopped
from bench.training import callbacks, checkpoint
from bench.training import train as run
from bench.training.checkpoint import Checked
from bench.training.module import Training
from bench.tying.errors import BadInput

Record = Mapping[str, Any]

# A penalty, hard ties and a decoupled pull; dropout, decay and clipping, so that all that is carried matters.
TYING = {
    "image_cnn": ("soft", "tying.strength=10"),
    "text_gru": ("albert",),
    "series_gru": ("cross_layer",),
    "text_classifier": ("cross_layer",),
    "text_transformer": ("soft_decoupled", "tying.strength=10"),
}
EPOCHS, STEPS = 2, 8
SETTINGS = (
    *(f"trainer.max_epochs={EPOCHS}", f"trainer.limit_train_batches={STEPS}"),
    *("dropout=0.1", "weight_decay=0.5", "optimizer.clip=0.3"),
)
EVERY = {
    "image_cnn": 0.25,
    "series_gru": 0.5,
    "text_gru": 0.5,
    "text_transformer": 1.0,
    "text_classifier": 1.0,
}
"""Validations an epoch."""

SAME = (
    "test",
    "val",
    "train",
    "gap",
    "best_epoch",
    "epochs",
    "steps",
    "curves",
    "spread",
    "decay",
    "clipped_share",
)

every_task = pytest.mark.parametrize("task", TASKS)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


class Crash(Exception):
    pass


def train(cell: Any, folder: Path, every_s: float | None = None) -> Record:
    """As in a process of its own, but here; every_s: 0 saves after every step that allows it."""
    config = copy.deepcopy(cell.config)
    config["trainer"]["checkpoint_every_s"] = every_s
    folder.mkdir(exist_ok=True)
    request = {**cell.header(), "logger": cell.options["logger"], "sweep": "test"}
    return run.train(request, config, folder, time.time())


def same(one: Record, other: Record) -> bool:
    return all(one[key] == other[key] for key in SAME)


@pytest.fixture(scope="module")
def cells(cell: Callable[..., Any]) -> dict[str, Any]:
    return {
        task: cell(task, *TYING[task], *SETTINGS, f"trainer.val_check_interval={EVERY[task]}")
        for task in TASKS
    }


@pytest.fixture(scope="module")
def whole(cells: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """Task -> record of the run that was never ended and saved nothing."""
    return {task: train(cell, tmp_path_factory.mktemp(task)) for task, cell in cells.items()}


@pytest.fixture(scope="module")
def saved(
    cells: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Record, list[Path]]]:
    """Task -> record of a run that saved at every step that allows it, and its folder after each save."""
    runs = {}
    for task, cell in cells.items():
        scratch = tmp_path_factory.mktemp(f"{task}-saved")
        copies: list[Path] = []

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checked, "save_checkpoint", _and_copy(Checked.save_checkpoint, copies, scratch))
            runs[task] = train(cell, scratch / "run", every_s=0), copies
    return runs


def _and_copy(save: Callable[..., None], copies: list[Path], scratch: Path) -> Callable[..., None]:
    def save_and_copy(self: Checked, checkpoint: Any, path: Path, **options: Any) -> None:
        save(self, checkpoint, path, **options)
        copies.append(scratch / f"{checkpoint['global_step']:02}")
        shutil.copytree(path.parent, copies[-1])

    return save_and_copy


@every_task
def test_saving_changes_no_number_and_spares_validations_and_ends_of_epochs(whole, saved, task):
    record, copies = saved[task]
    assert same(record, whole[task]) and record["resumed_from"] == []
    between = round(STEPS * EVERY[task])
    expected = [step for step in range(1, EPOCHS * STEPS) if step % STEPS % between]
    assert [int(folder.name) for folder in copies] == expected


@every_task
def test_a_run_goes_on_from_any_step_to_the_same_bits(cells, whole, saved, task):
    for folder in saved[task][1]:
        record = train(cells[task], folder)
        step = int(folder.name)
        differing = [key for key in SAME if record[key] != whole[task][key]]
        assert not differing, f"resumed at step {step}"
        assert record["resumed_from"] == [step]
        assert record["checkpoint_bytes"] == whole[task]["checkpoint_bytes"]


@every_task
def test_attempt_after_attempt_ends_as_one(cells, whole, tmp_path, monkeypatch, task):
    folder, ends = tmp_path / "run", (3, 4, 9, 13)
    for end in ends:
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(Training, "training_step", _then(end, _crash, Training.training_step))
            train(cells[task], folder, every_s=0)
    record = train(cells[task], folder)
    assert same(record, whole[task])
    between = round(STEPS * EVERY[task])
    # Each had saved after the last step before its crash that allows it. The second may have come to none.
    kept = [max(step for step in range(1, end + 1) if step % STEPS % between) for end in ends]
    assert record["resumed_from"] == sorted(set(kept))


def _then(step: int, what: Callable[[], None], original: Callable[..., Any]) -> Callable[..., Any]:
    """A training step that does `what` first, once `step` steps are done."""

    def training_step(module: Training, batch: Any, index: int) -> Any:
        if module.global_step == step:
            what()
        return original(module, batch, index)

    return training_step


def _crash() -> None:
    raise Crash


def _sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@every_task
@pytest.mark.parametrize("step", [4, 7])
def test_sigterm_saves_after_the_step_and_stops(cells, whole, tmp_path, monkeypatch, task, step):
    """Asked within the step after `step`; where that one ends with a validation or the epoch, after the next."""
    folder, before = tmp_path / "run", signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="at step"):
        patch.setattr(Training, "training_step", _then(step, _sigterm, Training.training_step))
        train(cells[task], folder, every_s=1e9)
    assert signal.getsignal(signal.SIGTERM) == before
    record = train(cells[task], folder, every_s=1e9)
    assert record["resumed_from"] == [step + 1 if (step + 1) % STEPS else step + 2]
    assert same(record, whole[task])


def test_sigterm_without_resume_points_just_stops(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "training_step", _then(3, _sigterm, Training.training_step))
    with pytest.raises(Stopped, match="at step 4"):
        train(cells["text_gru"], tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_run_that_validates_after_every_step_saves_nothing_and_stops_all_the_same(
    cell, tmp_path, monkeypatch
):
    monkeypatch.setattr(Training, "training_step", _then(3, _sigterm, Training.training_step))
    with pytest.raises(Stopped, match="at step 4"):
        train(cell("text_gru", "none", *SETTINGS, "trainer.val_check_interval=0.01"), tmp_path, every_s=0)
    assert not (tmp_path / "last.ckpt").exists()


def test_sigterm_before_the_first_step_leaves_what_was_saved(cells, saved, tmp_path, monkeypatch):
    folder, configure = _copied(saved["text_gru"][1][3], tmp_path), Training.configure_optimizers
    before = (folder / "last.ckpt").read_bytes()
    monkeypatch.setattr(Training, "configure_optimizers", lambda self: _sigterm() or configure(self))
    with pytest.raises(Stopped, match="before the first step"):
        train(cells["text_gru"], folder, every_s=0)
    assert (folder / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(("step_s", "saves", "looks"), [(1.0, 10, 10), (30.0, 1, 1), (0.01, 1000, 20)])
def test_ranks_look_at_the_clock_together_no_more_than_needed(tmp_path, monkeypatch, step_s, saves, looks):
    """Steps of one length, a save every 10 s: after how many, and how often the ranks spoke until then at most."""
    clock, spoke = [0.0], []
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(checkpoint.distributed, "broadcast", lambda steps: spoke.append(steps) or steps)
    resume = checkpoint.Resume(tmp_path / "last.ckpt", 10.0, {}, contextlib.nullcontext)
    resume._rest()
    for step in range(1, saves + 1):
        clock[0] = step * step_s
        assert resume._wanted_by_all() == (step == saves)
    assert len(spoke) <= looks


def test_sigterm_in_the_last_evaluation_lets_it_end(cells, whole, tmp_path, monkeypatch):
    evaluate = Training.evaluate

    def asked_to_stop(*given: Any) -> Any:
        _sigterm()
        return evaluate(*given)

    monkeypatch.setattr(Training, "evaluate", asked_to_stop)
    assert same(train(cells["text_gru"], tmp_path, every_s=1e9), whole["text_gru"])


def _truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip_a_bit(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, lambda content: b""])
def test_a_damaged_checkpoint_is_a_start_from_nothing(cells, whole, saved, tmp_path, damage):
    last = _copied(saved["text_gru"][1][3], tmp_path) / "last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    record = train(cells["text_gru"], last.parent)
    assert record["resumed_from"] == [] and same(record, whole["text_gru"]) and not last.exists()


def test_a_checkpoint_of_another_run_is_not_gone_on_from(cell, saved, tmp_path):
    folder = _copied(saved["text_gru"][1][3], tmp_path)
    other = cell("text_gru", *TYING["text_gru"], *SETTINGS, "trainer.val_check_interval=0.5", "seed=2")
    assert train(other, folder)["resumed_from"] == []


def test_weights_of_a_later_step_that_is_taken_again_do_not_count(cells, whole, saved, tmp_path):
    """The best ones are those that were best when the checkpoint was made."""
    folder = _copied(saved["text_gru"][1][-1], tmp_path)
    (folder / "best.ckpt").write_bytes(b"of a later step")
    assert same(train(cells["text_gru"], folder), whole["text_gru"])


def _copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "run"))


def test_a_run_goes_on_where_a_checkpoint_cannot_be_written(cells, whole, tmp_path, monkeypatch, capsys):
    write = checkpoint.write_bytes_atomic

    def no_space(path: Path, content: bytes) -> None:
        if path.name == "last.ckpt":
            raise BadInput(f"cannot write {path}: No space left on device")
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_bytes_atomic", no_space)
    assert same(train(cells["text_gru"], tmp_path, every_s=0), whole["text_gru"])
    assert "no checkpoint: cannot write" in capsys.readouterr().out


def test_clocks_go_on(cells, saved, tmp_path):
    folder = _copied(saved["text_gru"][1][-1], tmp_path)
    state = checkpoint.read(folder / "last.ckpt")["callbacks"]["MetricsCallback"]
    began = time.time()
    record = train(cells["text_gru"], folder)
    took = time.time() - began
    assert record["seconds"]["to_first_step"] == state["first_step_s"]
    assert 0 < record["seconds"]["fit"] - state["training_s"] < took
    assert record["seconds"]["total"] - state["total_s"] == pytest.approx(took, abs=0.2)


@pytest.mark.parametrize(("every_s", "is_written"), [(0, EPOCHS * STEPS), (1e9, 0)])
def test_status_is_told_now_and_then(cells, tmp_path, monkeypatch, every_s, is_written):
    steps = []
    monkeypatch.setattr(callbacks, "STATUS_EVERY_S", every_s)
    monkeypatch.setattr(callbacks, "write_json", lambda path, status: steps.append(status["step"]))
    train(cells["text_gru"], tmp_path)
    validations = [step for step in range(1, EPOCHS * STEPS + 1) if step % 4 == 0]
    between = list(range(1, EPOCHS * STEPS + 1)) if is_written else []
    assert steps == sorted([0, *validations, *between])
