"""Per-use gradients of shared tensors as curves over training, where trainer.use_gradients asks for them."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from bench.fitting import Training
from bench.records import write_bytes_atomic
from bench.tying import TyingPlan
from bench.tying.uses import UseGradients, of_uses

COLUMNS = ("step", "name", "norm", "cosine", "agreement")


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
        lines = [COLUMNS, *self.rows]
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
