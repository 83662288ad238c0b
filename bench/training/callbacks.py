"""Record a run while it trains: curves, status, gradients per use; score it in int8 at the end."""

import contextlib
import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from bench.runs.store import Status, write_bytes_atomic, write_json
from bench.training.module import Training
from bench.tying import TyingPlan
from bench.tying.gradients import UseGradients, of_uses
from bench.tying.int8 import num_bytes, quantize

COLUMNS = ("epoch", "step", "train_nll", "val_nll", "val_metric", "lr", "spread")

TELL_EVERY_S = 2.0
"""Seconds between two of status.json at least, validations aside."""

KEPT = ("curves", "scores", "training_s", "first_step_s", "start_s", "seen_at_start")


class MetricsCallback(L.Callback):
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


USE_COLUMNS = ("step", "name", "norm", "cosine", "agreement")


class UseCurves(L.Callback):
    """At each validation: of every use of every hard tie the norm of its gradient, and its cosine with the sum.

    The loss is that of the run's first training batch, without dropout or penalty. To uses.csv (a line per validation
    and use), and to the tracker as uses/NAME/norm, uses/NAME/cosine and uses/agreement, the mean over ties. No number
    of the run changes: carried state is put back.
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
        found = self._found(module)
        for tie in found:
            uses = zip(tie.names, tie.norms, tie.cosines, strict=True)
            self.rows += [(trainer.global_step, *use, tie.agreement) for use in uses]
        lines = [USE_COLUMNS, *self.rows]
        table = "".join(",".join("" if v is None else str(v) for v in line) + "\n" for line in lines)
        write_bytes_atomic(self.path, table.encode())
        if trainer.logger is not None:
            trainer.logger.log_metrics(_figures(found), trainer.global_step)

    def _found(self, module: Training) -> tuple[UseGradients, ...]:
        model, states, was_training = module.model, dict(module.states), module.training

        def loss(twin: nn.Module) -> Tensor:
            # cuDNN has no gradient of a recurrent layer in evaluation; one layer alone drops nothing out.
            for part in filter(lambda part: isinstance(part, nn.RNNBase), twin.modules()):
                part.train()
            module.model = twin
            return module.loss(batch)

        # That of a checkpoint lies on the CPU.
        batch = module.transfer_batch_to_device(self.batch, module.device, 0)
        try:
            with torch.enable_grad():
                return of_uses(self.plan, module.eval().model, loss)
        finally:
            module.model, module.states = model, states
            module.train(was_training)


def _figures(found: tuple[UseGradients, ...]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for tie in found:
        for name, norm, cosine in zip(tie.names, tie.norms, tie.cosines, strict=True):
            figures[f"uses/{name}/norm"] = norm
            if cosine is not None:
                figures[f"uses/{name}/cosine"] = cosine
    agreements = [tie.agreement for tie in found if tie.agreement is not None]
    return figures | ({"uses/agreement": sum(agreements) / len(agreements)} if agreements else {})


def scored_in_int8(trainer: L.Trainer, module: Training, plan: TyingPlan) -> dict[str, Any]:
    """`test`: the scores of the module's weights in int8; `bytes` they take, and `bytes_float` as they were.

    Bytes are those of the distinct tensors of the network, its buffers included. The work is done on a copy, by every
    rank alike: no other number of the run changes.
    """
    model = module.model
    module.model = quantize(copy.deepcopy(model), plan)
    try:
        test = module.evaluate(trainer, trainer.datamodule.test_dataloader(), "test")
        size = num_bytes(module.model)
    finally:
        module.model = model
    test.pop("groups", None)  # told of the float weights alone
    return {"test": test, "bytes": size, "bytes_float": num_bytes(model)}
