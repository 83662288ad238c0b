"""Record a run while it trains: curves, status, and gradients per use."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from bench.runs.store import Status, write_bytes_atomic, write_json
from bench.training.module import Training
from bench.tying import TyingPlan
from bench.tying.gradients import UseGradients, of_uses

COLUMNS = ("epoch", "step", "train_nll", "val_nll", "val_metric", "lr", "spread")

STATUS_EVERY_S = 2.0
"""Seconds between two writings of status.json, but for validations, after which it is written too."""

LOG_EVERY = 10
"""Steps between two points of a tracker's curves. They are sent at the next validation, so that no step waits."""

CARRIED = ("curves", "scores", "training_s", "first_step_s", "start_s", "seen_at_start")
"""Attributes of MetricsCallback that a run takes along when it goes on from a checkpoint."""


class MetricsCallback(L.Callback):
    """Writes status.json now and then and curves.csv at each validation, logs the same figures, and times training.

    Of several ranks only the first writes. The first training step of a process is cold, and compiles where that was
    asked for: its time `start_s`, and the examples that it saw, `seen_at_start`, are not part of `training_s`.

    A run that goes on from a checkpoint takes its curves and times along. `training_s` and `total_s` are then sums
    over attempts: what led to the checkpoint, and all of the last attempt.

    Args:
        metric: Name of the task's headline metric.
        depth: The plan of all namesakes along depth. Its spread is logged for every tying: that of `none` is the
            level that `soft` is compared with.
        launched: Time at which the run's process was started, in seconds since the epoch.
    """

    def __init__(self, folder: Path, metric: str, depth: TyingPlan, launched: float) -> None:
        self.folder, self.metric, self.depth, self.launched = folder, metric, depth, launched
        self.curves: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self.scores: dict[int, dict[str, Any]] = {}
        self.first_step_s: float | None = None
        self.training_s, self._running_since, self._next_status_at = 0.0, 0.0, 0.0
        self.start_s, self.seen_at_start, self._is_cold = 0.0, 0, True
        self._total_before_s = 0.0
        self._points: list[dict[str, Any]] = []
        self._last_point = (0, 0.0)

    def total_s(self) -> float:
        """Return the seconds since the run's process was started, with those of the attempts before."""
        return self._total_before_s + time.time() - self.launched

    def state_dict(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in CARRIED}, "total_s": self.total_s()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in CARRIED:
            setattr(self, name, state[name])
        self._total_before_s = state["total_s"]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave what happens inside out of the time of training."""
        self.training_s += time.perf_counter() - self._running_since
        yield
        self._running_since = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, module: Training) -> None:
        self._running_since = time.perf_counter()
        self._write_status(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, module: Training) -> None:
        self._running_since = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: Training) -> None:
        self.training_s += time.perf_counter() - self._running_since  # since the last validation
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
        if trainer.logger is not None and trainer.global_step % LOG_EVERY == 0:
            self._add_point(trainer, module)
        if time.perf_counter() >= self._next_status_at:
            self._write_status(trainer)

    def _add_point(self, trainer: L.Trainer, module: Training) -> None:
        """Keep the loss of the step, which is still on the device, with its learning rate and the throughput."""
        trained_s = self.training_s + time.perf_counter() - self._running_since
        (seen, before_s), self._last_point = self._last_point, (module.seen, trained_s)
        unit = module.unit.replace("/", "_per_")
        self._points.append(
            {
                "step": trainer.global_step,
                "train/loss": module.last_loss,
                "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
                f"train/{unit}": (module.seen - seen) / (trained_s - before_s) * trainer.world_size,
            }
        )

    def on_train_end(self, trainer: L.Trainer, module: Training) -> None:
        self._log_points(trainer)

    def _log_points(self, trainer: L.Trainer) -> None:
        for point in self._points:
            figures = {name: float(value) for name, value in point.items() if name != "step"}
            trainer.logger.log_metrics(figures, point["step"])
        self._points = []

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
            _write_csv(self.folder / "curves.csv", COLUMNS, zip(*self.curves.values(), strict=True))
            self._log(trainer, row, module)
        self._write_status(trainer)
        self._running_since = time.perf_counter()

    def _log(self, trainer: L.Trainer, row: dict[str, Any], module: Training) -> None:
        if trainer.logger is None:
            return
        self._log_points(trainer)
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

    def _write_status(self, trainer: L.Trainer) -> None:
        self._next_status_at = time.perf_counter() + STATUS_EVERY_S
        if not trainer.is_global_zero:
            return
        values = self.curves["val_metric"]
        status = {
            "status": Status.RUNNING,
            "step": trainer.global_step,
            "steps": int(trainer.estimated_stepping_batches),
            "metric": self.metric,
            "value": values[-1] if values else None,
        }
        write_json(self.folder / "status.json", status)


USE_COLUMNS = ("step", "name", "norm", "cosine", "agreement")


class UseCurves(L.Callback):
    """Measures, at each validation, the gradient of every use of every hard tie: its norm and its cosine to the sum.

    The loss is that of the run's first training batch, without dropout or penalty. uses.csv gets a line for each
    validation and use; the logger gets uses/NAME/norm, uses/NAME/cosine, and uses/agreement, the mean over ties. No
    number of the run changes: the state that training carries is put back.
    """

    def __init__(self, path: Path, plan: TyingPlan) -> None:
        self.path, self.plan = path, plan
        self.rows: list[tuple[Any, ...]] = []
        self.batch: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.batch = state["rows"], state["batch"]

    def on_train_batch_start(self, trainer: L.Trainer, module: Training, batch: Any, index: int) -> None:
        if self.batch is None:
            self.batch = batch

    def on_validation_end(self, trainer: L.Trainer, module: Training) -> None:
        if not trainer.is_global_zero:
            return
        gradients = self._gradients(module)
        for tie in gradients:
            uses = zip(tie.names, tie.norms, tie.cosines, strict=True)
            self.rows += [(trainer.global_step, *use, tie.agreement) for use in uses]
        _write_csv(self.path, USE_COLUMNS, self.rows)
        if trainer.logger is not None:
            trainer.logger.log_metrics(_use_figures(gradients), trainer.global_step)

    def _gradients(self, module: Training) -> tuple[UseGradients, ...]:
        model, states, was_training = module.model, dict(module.states), module.training

        def loss(twin: nn.Module) -> Tensor:
            # cuDNN has no gradient of a recurrent layer in evaluation; one layer alone drops nothing out.
            for part in filter(lambda part: isinstance(part, nn.RNNBase), twin.modules()):
                part.train()
            module.model = twin
            return module.loss(batch)

        # A checkpoint's lies on the CPU.
        batch = module.transfer_batch_to_device(self.batch, module.device, 0)
        try:
            with torch.enable_grad():
                return of_uses(self.plan, module.eval().model, loss)
        finally:
            module.model, module.states = model, states
            module.train(was_training)


def _use_figures(gradients: tuple[UseGradients, ...]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for tie in gradients:
        for name, norm, cosine in zip(tie.names, tie.norms, tie.cosines, strict=True):
            figures[f"uses/{name}/norm"] = norm
            if cosine is not None:
                figures[f"uses/{name}/cosine"] = cosine
    agreements = [tie.agreement for tie in gradients if tie.agreement is not None]
    return figures | ({"uses/agreement": sum(agreements) / len(agreements)} if agreements else {})


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table in which None is an empty cell."""
    lines = (",".join("" if value is None else str(value) for value in row) for row in [columns, *rows])
    write_bytes_atomic(path, "".join(f"{line}\n" for line in lines).encode())
