"""The training loop's parts that are ours: loss, decay groups, clipping, soft tying, exact evaluation."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import metrics, ranks
from bench.adamw import decay_groups, schedule
from bench.cross_entropy import linear_cross_entropy, score, tallied
from bench.errors import BadInput
from bench.tying import TyingPlan
from bench.worker import Diverged

CHECK_EVERY = 20
"""Steps between looks at the loss: a look waits for the device, and for the other ranks."""


class Training(L.LightningModule):
    """Trains `model`, tied by `plan` already, with AdamW; evaluates by exact sums over a split.

    optimizer: lr, beta1, beta2, warmup_share, clip (gradient norm or None). form: how a soft tie acts, "penalty"
    in the gradient after clipping, or "decoupled" after the optimizer's step (None where nothing is soft).
    output_precision: bf16 multiplies in a language model's output layer in bfloat16 while training, None in the
    precision of the layers below; scores are in full precision always.
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
        self.weights = list(model.parameters())  # once: clipping would walk all modules at every step
        # All that training carries from step to step, besides weights and optimizer.
        self.dose, self.seen = 0.0, 0
        self.clipped, self.first_loss = torch.zeros(()), None
        self.losses, self.losses_n = torch.zeros(()), 0
        self.states: dict[bool, Any] = {}
        self.sums: dict[str, Tensor] = {}
        self.scores: dict[str, Any] = {}

    unit: str
    """What `seen` counts, a second."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Mean nll of a batch, in nats."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """Images or tokens in a training batch."""

    @abstractmethod
    def tally(self, batch: Any) -> dict[str, Tensor]:
        """Sums over a batch: nll (float64), correct, count."""

    @abstractmethod
    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        """Metrics of a whole split from its sums."""

    def adamw(self) -> torch.optim.AdamW:
        s = self.settings
        return torch.optim.AdamW(self.groups, lr=s["lr"], betas=(s["beta1"], s["beta2"]), fused=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer, warmup_share = self.adamw(), self.settings["warmup_share"]
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: schedule(step, steps, warmup_share)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        self.losses = self.losses.to(self.device)
        self.clipped = self.clipped.to(self.device)

    def mean_loss(self) -> float:
        """Mean training nll since this was last asked, over all ranks, in nats (dropout on)."""
        sums = ranks.total(losses=self.losses, steps=self.losses_n)
        self.losses, self.losses_n = torch.zeros_like(self.losses), 0
        return sums["losses"] / max(1, sums["steps"])

    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = self.loss(batch)
        self.losses += loss.detach()
        self.losses_n += 1
        self.seen += self.size(batch)
        if index % CHECK_EVERY == 0:
            self._stop_if_diverged("loss", ranks.total(nll=loss.detach())["nll"] / ranks.count())
        return loss

    def _stop_if_diverged(self, what: str, nll: float) -> None:
        self.first_loss = nll if self.first_loss is None else self.first_loss
        if not math.isfinite(nll) or nll > 2 * self.first_loss + 1:
            first = f"the loss was {self.first_loss:.4g} at the first"
            raise Diverged(f"{what} is {nll:.4g} at step {self.global_step}, {first}")

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
        """The decoupled form of soft tying, at the learning rate of the step that was just taken."""
        if self.form == "decoupled":
            self.soft.pull(optimizer.param_groups[0]["lr"])

    def on_validation_epoch_start(self) -> None:
        self.sums = {}
        ranks.share_buffers(self.model)  # each rank counted its own rows' statistics

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Any, index: int) -> None:
        for name, value in self.tally(batch).items():
            self.sums[name] = self.sums.get(name, 0) + value

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.scores = self._scored("val")
        self._stop_if_diverged("validation nll", self.scores["nll"])

    def evaluate(self, trainer: L.Trainer, batches: Any, split: str) -> dict[str, Any]:
        """Metrics of one split, every example or token of it counted once."""
        trainer.test(self, dataloaders=batches, verbose=False)
        return self._scored(split)

    def _scored(self, split: str) -> dict[str, Any]:
        return self.score(ranks.total(**self.sums), split)


class Classification(Training):
    """Batches are (inputs [B, ...], labels [B])."""

    unit = "images/s"

    def size(self, batch: Any) -> int:
        return len(batch[1])

    def loss(self, batch: Any) -> Tensor:
        inputs, labels = batch
        return F.cross_entropy(self.model(inputs), labels)

    def tally(self, batch: Any) -> dict[str, Tensor]:
        inputs, labels = batch
        return tallied(self.model(inputs), labels)

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        return {
            "nll": sums["nll"] / sums["count"],
            "accuracy": metrics.accuracy(sums["correct"], sums["count"]),
            "examples": int(sums["count"]),
        }


class LanguageModeling(Training):
    """Batches are (inputs [B, T], targets [B, S <= T] of the last S, -100 where not scored, fresh: no state).

    BadInput for output_precision=bf16 where the output layer is not linear.
    """

    unit = "tokens/s"

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if self.in_bf16 and model.output_layer is None:
            raise BadInput(
                "trainer.output_precision=bf16: this architecture does more than multiply at its output: "
                "set trainer.output_precision=null"
            )

    def size(self, batch: Any) -> int:
        return batch[1].numel()

    def _read(self, batch: Any) -> tuple[Tensor, Tensor]:
        """What the output layer reads [B * S, W], or logits where it is not linear, and targets [B * S].

        The state is carried from the batch before (truncated BPTT).
        """
        inputs, targets, fresh = batch
        shorter = {} if targets.shape == inputs.shape else {"last": targets.shape[1]}
        read = self.model if self.model.output_layer is None else self.model.hidden
        outputs, state = read(inputs, None if fresh else self.states[self.training], **shorter)
        # Evaluation in the middle of an epoch must not touch the state that training carries.
        self.states[self.training] = None if state is None else state.detach()
        return outputs.flatten(0, 1), targets.flatten()

    def loss(self, batch: Any) -> Tensor:
        outputs, targets = self._read(batch)
        layer = self.model.output_layer
        if layer is None:
            return F.cross_entropy(outputs, targets)
        rounds = self.in_bf16 or torch.is_autocast_enabled(outputs.device.type)
        dtype = torch.bfloat16 if rounds else layer.weight.dtype
        return linear_cross_entropy(outputs, layer.weight, layer.bias, targets, dtype)

    def tally(self, batch: Any) -> dict[str, Tensor]:
        outputs, targets = self._read(batch)
        layer = self.model.output_layer
        if layer is not None:
            return score(outputs, layer.weight, layer.bias, targets)
        return tallied(outputs, targets)

    def score(self, sums: Mapping[str, float], split: str) -> dict[str, Any]:
        tokens = int(sums["count"])
        whole = tokens == self.meta["sizes"].get(split)
        oov = self.meta["oov"][split] if whole else None
        return {
            "nll": sums["nll"] / tokens,
            "perplexity": metrics.perplexity(sums["nll"], tokens),
            "next_token_accuracy": metrics.accuracy(sums["correct"], tokens),
            "tokens": tokens,
            "oov": oov,
            "bits_per_byte": metrics.bits_per_byte(sums["nll"], self.meta["bytes"][split])
            if oov == 0
            else None,
        }
