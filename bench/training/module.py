"""Train a tied network, whatever the task: decay groups, clipping, soft tying, exact evaluation."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.runs.worker import Diverged
from bench.training import distributed
from bench.training.optimizer import decay_groups, divided_by_uses, schedule
from bench.tying import TyingPlan
from bench.tying.growl import penalise

CHECK_EVERY = 20
"""Steps between looks at the loss: a look waits for the device, and for the other ranks."""


class Training(L.LightningModule):
    """Trains `model`, tied by `plan` already, with AdamW; evaluates by exact sums over a split.

    Args:
        optimizer: lr, beta1, beta2, warmup_share, clip (gradient norm or None), shared_lr ("sqrt": a tensor of g uses
            learns at lr / sqrt(g); None: all at lr), group_owl (strength of the penalty on rows, or None).
        form: How a soft tie acts: "penalty" in the gradient after clipping, "decoupled" after the optimizer's step,
            None where nothing is soft.
        output_precision: "bf16" multiplies in a language model's output layer in bfloat16 while training, None in the
            precision of the layers below. Scores are always in full precision.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: TyingPlan,
        *,
        optimizer: Mapping[str, Any],
        weight_decay: float,
        form: str | None,
        output_precision: str | None,
        meta: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.soft = plan.bind(model)
        self.settings, self.weight_decay, self.form, self.meta = optimizer, weight_decay, form, meta
        self.in_bf16 = output_precision == "bf16"
        self.groups, self.decay = decay_groups(model, weight_decay)
        if optimizer.get("shared_lr") == "sqrt":
            self.groups = divided_by_uses(self.groups, model, optimizer["lr"])
        self.penalised: str | None = None
        self.weights = list(model.parameters())  # once: clipping would walk all modules at every step
        # All that training carries from step to step, besides weights and optimizer.
        self.dose, self.seen, self.budget = 0.0, 0, 0
        self.clipped, self.first_loss, self.last_loss = torch.zeros(()), None, torch.zeros(())
        self.losses, self.losses_n = torch.zeros(()), 0
        self.states: dict[bool, Any] = {}
        self.sums: dict[str, Tensor] = {}
        self.scores: dict[str, Any] = {}
        self.examples: list[dict[str, Tensor]] | None = None

    unit: str
    """Unit of the throughput: what `seen` counts, a second."""

    learns_from_original = False
    """Whether its targets are what the untied network answers that training begins from; then it has `learn_from`."""

    has_teacher = False
    """Whether its network holds a teacher that is trained before it; then it has `teach`."""

    slack = 1.0
    """Nats above twice the first training loss beyond which a run has diverged."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Return the mean nll of a batch, in nats."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """Count the images or tokens of a training batch."""

    @abstractmethod
    def tally(self, batch: Any) -> dict[str, Tensor]:
        """Return sums over a batch: nll (float64), correct, count."""

    @abstractmethod
    def each(self, batch: Any) -> dict[str, Tensor]:
        """Return, of everything in a batch that is scored, nll [N], and correct [N] where there is a right answer.

        cluster [N], int: what is not independent has the same one, numbered from 0 in each batch; data in groups give
        `group` in its place, numbered as in all batches.
        """

    @abstractmethod
    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        """Return the metrics of a whole split from its sums."""

    def adamw(self) -> torch.optim.AdamW:
        s = self.settings
        return torch.optim.AdamW(self.groups, lr=s["lr"], betas=(s["beta1"], s["beta2"]), fused=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer, warmup_share = self.adamw(), self.settings["warmup_share"]
        self.budget = steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule(step, steps, warmup_share)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        self.losses = self.losses.to(self.device)
        self.clipped = self.clipped.to(self.device)

    def mean_loss(self) -> float:
        """Return the mean training nll since this was last asked, over all ranks, in nats (dropout on)."""
        sums = distributed.total(losses=self.losses, steps=self.losses_n)
        self.losses, self.losses_n = torch.zeros_like(self.losses), 0
        return sums["losses"] / max(1, sums["steps"])

    def training_step(self, batch: Any, index: int) -> Tensor:
        with parametrize.cached():  # a relaxed weight is summed once a step, however often it is read
            loss = self.loss(batch)
        self.losses += loss.detach()
        self.losses_n += 1
        self.seen += self.size(batch)
        self.last_loss = loss.detach()
        if index % CHECK_EVERY == 0:
            self._stop_if_diverged()
        return loss

    def _stop_if_diverged(self) -> None:
        """Raise Diverged by the training loss: validation's is also high where a network overfits."""
        nll = distributed.total(nll=self.last_loss)["nll"] / distributed.count()
        self.first_loss = nll if self.first_loss is None else self.first_loss
        if not math.isfinite(nll) or nll > 2 * max(self.first_loss, 0.0) + self.slack:
            first = f"the loss was {self.first_loss:.4g} at the first"
            raise Diverged(f"loss is {nll:.4g} at step {self.global_step}, {first}")

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Clip and count; then the penalty's gradient, which must not be clipped away."""
        clip = self.settings["clip"]
        if clip is not None:
            norm = nn.utils.clip_grad_norm_(self.weights, clip)
            self.clipped = self.clipped + (norm > clip)
        if self.form == "penalty":
            self.soft.add_gradient()
        self.dose += optimizer.param_groups[0]["lr"] * self.weight_decay

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.after_step(optimizer)

    def after_step(self, optimizer: Any) -> None:
        """Apply what acts on weights and not on gradients, at the learning rate of the step that was just taken.

        That is the decoupled form of soft tying, and the penalty on the rows of the matrix `penalised`.
        """
        lr = optimizer.param_groups[0]["lr"]
        if self.form == "decoupled":
            self.soft.pull(lr)
        if self.penalised:
            penalise(self.model, self.penalised, lr * self.settings["group_owl"])

    def on_validation_epoch_start(self) -> None:
        self.sums = {}
        distributed.share_buffers(self.model)  # each rank counted its own rows' statistics

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Any, index: int) -> None:
        with parametrize.cached():
            if self.examples is not None:
                self.examples.append(self.each(batch))
                return
            sums = self.tally(batch)
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.scores = self._scored("val")
        self._stop_if_diverged()
        if not math.isfinite(self.scores["nll"]):
            raise Diverged(f"validation nll is {self.scores['nll']} at step {self.global_step}")

    def evaluate(self, trainer: L.Trainer, batches: Any, split: str) -> dict[str, Any]:
        """Return the metrics of one split, every example or token of it counted once."""
        trainer.test(self, dataloaders=batches, verbose=False)
        return self._scored(split)

    def score_examples(self, trainer: L.Trainer, batches: Any) -> dict[str, Tensor]:
        """Return `each` of all batches of a split, in their order. Touches nothing that a later number depends on."""
        self.examples = []
        try:
            trainer.test(self, dataloaders=batches, verbose=False)
            parts = self.examples
        finally:
            self.examples = None
        scores = {key: torch.cat([part[key] for part in parts]) for key in parts[0] if key != "cluster"}
        if "group" in scores:
            return {**scores, "cluster": scores.pop("group")}
        sizes = torch.tensor([int(part["cluster"].max()) + 1 for part in parts])
        first = sizes.cumsum(0) - sizes
        shifted = [part["cluster"].cpu() + start for part, start in zip(parts, first, strict=True)]
        return {**scores, "cluster": torch.cat(shifted)}

    def _scored(self, split: str) -> dict[str, Any]:
        return self.score(distributed.total(**self.sums), split)
