"""What a run tells while it trains: curves, status, and the same figures to the tracker."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L

from bench.fitting import Training
from bench.records import Status, write_bytes_atomic, write_json
from bench.tying import TyingPlan

COLUMNS = ("epoch", "step", "train_nll", "val_nll", "val_metric", "lr", "spread")

TELL_EVERY_S = 2.0
"""Seconds between two of status.json at least, validations aside."""

KEPT = ("curves", "scores", "training_s", "first_step_s", "start_s", "seen_at_start")


class Journal(L.Callback):
    """Writes status.json now and then, curves.csv at every validation, and logs the same figures; times the training.

    `metric`: the task's headline metric. `depth`: the plan of all namesakes along depth, whose spread is logged
    for every tying, so that `none` is the floor that `soft` is read against. Of several ranks the first writes.

    The first training step of a process is cold, and compiles where that was asked for: its time, `start_s`, and what
    it saw, `seen_at_start`, are kept apart from `training_s`.

    A run that goes on from a checkpoint goes on with its curves and its clocks: `training_s` and `total_s` are
    then sums over its attempts, of each what led to the checkpoint and of the last one all.
    """

    def __init__(self, folder: Path, metric: str, depth: TyingPlan, launched: float) -> None:
        self.folder, self.metric, self.depth, self.launched = folder, metric, depth, launched
        self.curves: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.scores: dict[int, dict[str, Any]] = {}
        self.first_step_s: float | None = None
        self.training_s, self._running_since, self._tell_at = 0.0, 0.0, 0.0
        self.start_s, self.seen_at_start, self._is_cold = 0.0, 0, True
        self._total_before_s = 0.0

    def total_s(self) -> float:
        """Seconds from the launch of the run's process until now."""
        return self._total_before_s + time.time() - self.launched

    def state_dict(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in KEPT}, "total_s": self.total_s()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in KEPT:
            setattr(self, name, state[name])
        self._total_before_s = state["total_s"]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is no training."""
        self.training_s += time.perf_counter() - self._running_since
        yield
        self._running_since = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, module: Training) -> None:
        self._running_since = time.perf_counter()
        self._tell(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, module: Training) -> None:
        self._running_since = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, module: Training, batch: Any, index: int) -> None:
        if self.first_step_s is None:
            self.first_step_s = time.time() - self.launched

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Training, outputs: Any, batch: Any, index: int
    ) -> None:
        if self._is_cold:
            self._is_cold, now = False, time.perf_counter()
            self.start_s += now - self._running_since
            self.seen_at_start += module.size(batch)
            self._running_since = now
        if time.perf_counter() >= self._tell_at:
            self._tell(trainer)

    def on_validation_start(self, trainer: L.Trainer, module: Training) -> None:
        self.training_s += time.perf_counter() - self._running_since

    def on_validation_end(self, trainer: L.Trainer, module: Training) -> None:
        row = {
            "epoch": trainer.global_step / trainer.num_training_batches,
            "step": trainer.global_step,
            "train_nll": module.mean_loss(),
            "val_nll": module.scores["nll"],
            "val_metric": module.scores[self.metric],
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "spread": self.depth.spread(module.model),
        }
        for name, value in row.items():
            self.curves[name].append(value)
        self.scores[trainer.global_step] = module.scores
        if trainer.is_global_zero:
            lines = [COLUMNS, *zip(*self.curves.values(), strict=True)]
            table = "".join(",".join("" if v is None else str(v) for v in line) + "\n" for line in lines)
            write_bytes_atomic(self.folder / "curves.csv", table.encode())
            self._log(trainer, row, module)
        self._tell(trainer)
        self._running_since = time.perf_counter()

    def _log(self, trainer: L.Trainer, row: dict[str, Any], module: Training) -> None:
        if trainer.logger is None:
            return
        penalty = float(module.soft.penalty()) if module.form else None
        figures = {
            "epoch": row["epoch"],
            "lr": row["lr"],
            "train/nll": row["train_nll"],
            "train/penalty": penalty,
            "train/clipped_share": float(module.clipped) / max(1, trainer.global_step),
            "spread/depth": row["spread"],
            **{f"val/{name}": value for name, value in module.scores.items()},
        }
        trainer.logger.log_metrics({k: v for k, v in figures.items() if v is not None}, trainer.global_step)

    def _tell(self, trainer: L.Trainer) -> None:
        self._tell_at = time.perf_counter() + TELL_EVERY_S
        if not trainer.is_global_zero:
            return
        known = self.curves["val_metric"]
        status = {
            "status": Status.RUNNING,
            "step": trainer.global_step,
            "steps": int(trainer.estimated_stepping_batches),
            "metric": self.metric,
            "value": known[-1] if known else None,
        }
        write_json(self.folder / "status.json", status)
