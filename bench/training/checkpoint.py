"""Write a run's two files of weights: best.ckpt, and last.ckpt, from which an interrupted run goes on."""

import contextlib
import hashlib
import io
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.plugins.io import CheckpointIO

from bench.runs.store import write_bytes_atomic
from bench.runs.worker import Stopped
from bench.training import distributed
from bench.training.module import Training
from bench.tying.errors import BadInput

LOOK_EVERY = 100
"""Steps at most between the looks of several ranks at the first one's clock: they must save together."""

CARRIED = ("dose", "seen", "clipped", "first_loss", "losses", "losses_n", "states")
"""What a training module counts and carries from step to step."""

DIGEST = hashlib.sha256().digest_size

LAYOUT = 3
"""Raised whenever the content of last.ckpt changes: a run does not go on from a file of another layout."""


class Best(L.Callback):
    """Keeps the weights of the best validation at `path` as {"state_dict", "global_step"}; of equals the first.

    metric: {"name", "mode": "max" or "min"}. patience: training stops after so many validations in a row that were
    not the best; None never stops it.
    """

    def __init__(self, path: Path, metric: Mapping[str, str], patience: int | None = None) -> None:
        self.path, self.name, self.sign = path, metric["name"], 1 if metric["mode"] == "max" else -1
        self.patience, self.score, self.since_best = patience, None, 0

    def on_validation_end(self, trainer: L.Trainer, module: Training) -> None:
        score = module.scores.get(self.name)
        if score is None:
            names = ", ".join(name for name, value in module.scores.items() if isinstance(value, int | float))
            raise BadInput(f"task.metric.name={self.name} is no score of this task: allowed are {names}")
        if self.score is not None and self.sign * score <= self.sign * self.score:
            self.since_best += 1
            if self.patience is not None and self.since_best >= self.patience:
                trainer.should_stop = True
            return
        self.score, self.since_best = score, 0
        if trainer.is_global_zero:
            content = {"state_dict": module.state_dict(), "global_step": trainer.global_step}
            write_bytes_atomic(self.path, _packed(content))

    def state_dict(self) -> dict[str, Any]:
        """Include the file: what lies at `path` when a run goes on may be of a later step than its checkpoint."""
        saved = self.score is not None and distributed.rank() == 0
        file = torch.frombuffer(bytearray(self.path.read_bytes()), dtype=torch.uint8) if saved else None
        return {"score": self.score, "since_best": self.since_best, "file": file}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.score, self.since_best = state["score"], state["since_best"]
        if state["file"] is not None and distributed.rank() == 0:
            write_bytes_atomic(self.path, state["file"].numpy().tobytes())


class Resume(L.Callback):
    """Saves all that a run consists of to `path` now and then, so that going on from it changes no number.

    Saved besides Lightning's own: the position in the epoch and, of each rank, the random numbers, the carried state
    and the sums. No save falls on a step that ends with a validation, nor on an epoch's last. A save that fails is one
    line in the log, and the run goes on.

    On SIGTERM a run of one process saves after its present step, or the next that allows it, and raises Stopped; in
    its last evaluation it ends as always. Ranks end at once: there is no step at which all have heard the signal.

    A run of two ranks gives the same bits too. With more, the order in which gradients are summed can differ in the
    first step after going on.

    Args:
        every_s: Seconds of training between two saves; None saves never.
        stamp: A file with another stamp is not gone on from.
        paused: Makes the context that each save happens in.
    """

    def __init__(
        self,
        path: Path,
        every_s: float | None,
        stamp: Mapping[str, Any],
        paused: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self.path, self.every_s, self.stamp, self.paused = path, every_s, dict(stamp), paused
        self.resumed_from: list[int] = []
        self._alone = distributed.count() == 1
        self._asked_to_stop, self._agreed = False, False
        self._due, self._began, self._steps, self._looks_at = 0.0, 0.0, 0, 0
        self._loaded: dict[str, Any] | None = None

    def usable_path(self) -> Path | None:
        """Return `path` where this run can go on from it, on all ranks alike. Removes one of no use."""
        content = read(self.path) if distributed.rank() == 0 else None
        usable = content is not None and content["bench"]["stamp"] == self.stamp
        if distributed.rank() == 0 and not usable:
            self.path.unlink(missing_ok=True)
        return self.path if distributed.broadcast(int(usable)) else None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGTERM inside as the class says."""
        before = signal.signal(signal.SIGTERM, self._ask_to_stop if self._alone else signal.SIG_DFL)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _ask_to_stop(self, *_: Any) -> None:
        self._asked_to_stop = True

    def on_train_start(self, trainer: L.Trainer, module: Training) -> None:
        if min(trainer.num_training_batches, trainer.val_check_batch) == 1:
            self.every_s = None  # no step allows a save
        self._rest()
        if self._asked_to_stop:
            raise Stopped("before the first step")
        if self._loaded is not None:
            self.resumed_from = [*self._loaded["resumed_from"], trainer.global_step]
            trainer.train_dataloader.load_state_dict({"position": self._loaded["position"]})
            _restore(module, self._loaded["ranks"][distributed.rank()])
            self._loaded = None

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Training, outputs: Any, batch: Any, index: int
    ) -> None:
        if not (self._wanted() if self._alone else self._wanted_by_all()):
            return
        position = index + 1
        if self.every_s is not None:
            # Lightning counts a budget in steps across epochs, and one in epochs within each.
            counted = trainer.global_step if trainer.check_val_every_n_epoch is None else position
            if position == trainer.num_training_batches or counted % trainer.val_check_batch == 0:
                return  # the next step does
            with self.paused():
                trainer.save_checkpoint(self.path, weights_only=False)
            self._rest()
        if self._asked_to_stop:
            raise Stopped(f"at step {trainer.global_step}")

    def _wanted(self) -> bool:
        return self._asked_to_stop or time.perf_counter() >= self._due

    def _wanted_by_all(self) -> bool:
        """Tell whether the first rank's clock says so. The ranks ask it only as often as needed."""
        self._steps += 1
        if self.every_s is not None and not self._agreed and self._steps >= self._looks_at:
            ahead = distributed.broadcast(self._steps_ahead())
            self._agreed, self._looks_at = ahead == 0, self._steps + ahead
        return self._agreed

    def _steps_ahead(self) -> int:
        now = time.perf_counter()
        pace = (now - self._began) / self._steps
        return min(LOOK_EVERY, max(1, int((self._due - now) / pace))) if now < self._due else 0

    def _rest(self) -> None:
        self._began, self._agreed, self._steps, self._looks_at = time.perf_counter(), False, 0, 0
        self._due = self._began + (float("inf") if self.every_s is None else self.every_s)

    def on_save_checkpoint(self, trainer: L.Trainer, module: Training, checkpoint: dict[str, Any]) -> None:
        checkpoint["bench"] = {
            "stamp": self.stamp,
            "position": trainer.fit_loop.batch_idx + 1,
            "resumed_from": self.resumed_from,
            "ranks": distributed.gather(_state(module)),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, module: Training, checkpoint: dict[str, Any]) -> None:
        self._loaded = checkpoint["bench"]


def _state(module: Training) -> dict[str, Any]:
    """Return what one rank carries, on the CPU: another rank will write it."""
    on_gpu = module.device.type == "cuda"
    carried = {name: getattr(module, name) for name in CARRIED}
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(module.device) if on_gpu else None,
        "module": move_data_to_device(carried, torch.device("cpu")),
    }


def _restore(module: Training, state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], module.device)
    for name, value in state["module"].items():
        setattr(module, name, move_data_to_device(value, module.device))


class Checked(CheckpointIO):
    """Writes files that are whole or not there, with a digest before the content, and reads only what was written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = _packed(checkpoint)
        try:
            write_bytes_atomic(Path(path), hashlib.sha256(content).digest() + content)
        except BadInput as error:  # the run can do without; the one before is still there
            print(f"no checkpoint: {error}", flush=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        content = read(Path(path))
        if content is None:
            raise RuntimeError(f"{path} is damaged")
        return content

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any] | None:
    """Read what `Checked` wrote to `path`, onto the CPU. Returns None where it is not there or damaged."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        return None
    return torch.load(io.BytesIO(content[DIGEST:]), map_location="cpu", weights_only=True)


def _packed(content: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
