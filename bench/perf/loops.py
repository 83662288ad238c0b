"""Ways to train a network over given batches: ours, a loop by hand, and the trainers that people would use instead."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from bench.perf.subjects import Subject
from bench.tasks.cross_entropy import linear_cross_entropy
from bench.training import train
from bench.training.callbacks import MetricsCallback
from bench.training.checkpoint import Best, Resume
from bench.training.optimizer import schedule
from bench.tying import TyingPlan

Loss = Callable[[Any], Tensor]
Losses = Callable[[Subject, nn.Module], Loss]

AHEAD = 3
"""Askings before the first that counts: a step without optimizer state, and a batch that a loop holds in advance."""


class Watched:
    """Batches in their order, and when each was asked for: a clock outside of whatever loop takes them."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches
        self.asked: list[float] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            self.asked.append(time.perf_counter())
            yield batch

    def seconds(self) -> float:
        """Of a step, from asking to asking, so with all that a loop does around it; the first ones aside."""
        return (self.asked[-1] - self.asked[AHEAD - 1]) / (len(self.asked) - AHEAD)


def same_loss(subject: Subject, model: nn.Module) -> Loss:
    """The loss of our runs as a plain function: the output layer of `bench.tasks.cross_entropy` at our precision."""
    layer = getattr(model, "output_layer", None)
    if layer is None:
        return plain_loss(subject, model)
    dtype = torch.bfloat16 if subject.config["trainer"]["output_precision"] == "bf16" else torch.float32

    def nll(hidden: Tensor, targets: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, layer.weight, layer.bias, targets, dtype)

    return _carrying(model.hidden, nll)


def plain_loss(subject: Subject, model: nn.Module) -> Loss:
    """F.cross_entropy of float32 logits, as everybody writes it."""
    if subject.speaks:
        return _carrying(model, F.cross_entropy)
    return lambda batch: F.cross_entropy(model(batch[0]), batch[1])


def _carrying(read: Callable[..., Any], nll: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    state = None

    def loss(batch: Any) -> Tensor:
        nonlocal state
        inputs, targets, fresh = batch
        outputs, state = read(inputs, None if fresh else state)
        state = None if state is None else state.detach()
        return nll(outputs.flatten(0, 1), targets.flatten())

    return loss


def adamw(subject: Subject, model: nn.Module) -> torch.optim.AdamW:
    s = subject.config["optimizer"]
    groups = [
        {
            "params": [p for p in model.parameters() if p.ndim >= 2],
            "weight_decay": subject.config["weight_decay"],
        },
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=s["lr"], betas=(s["beta1"], s["beta2"]), fused=True)


def scheduler(
    subject: Subject, optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    share = subject.config["optimizer"]["warmup_share"]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps, share))


def bare_step(
    subject: Subject,
    model: nn.Module,
    losses: Losses = same_loss,
    optimizer: torch.optim.Optimizer | None = None,
) -> Callable[[Any], None]:
    """Return a training step of `model` on a batch, without a trainer around it."""
    loss, optimizer = losses(subject, model), optimizer or adamw(subject, model)

    def step(batch: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), subject.config["optimizer"]["clip"])
        optimizer.step()

    return step


def by_hand(subject: Subject, model: nn.Module, batches: Watched, folder: Path, losses: Losses) -> None:
    """The loop that one would write without us."""
    model.train()
    optimizer = adamw(subject, model)
    rates = scheduler(subject, optimizer, len(batches))
    step = bare_step(subject, model, losses, optimizer)
    for batch in batches:
        step(batch)
        rates.step()


def ours(subject: Subject, model: nn.Module, batches: Watched, folder: Path) -> None:
    """As `bench.training.train` trains, with its callbacks; without a logger, and without validations."""
    metric = subject.config["task"]["metric"]
    journal = MetricsCallback(folder, metric["name"], TyingPlan(), time.time())
    resume = Resume(folder / "last.ckpt", subject.config["trainer"]["checkpoint_every_s"], {}, journal.paused)
    trainer = train.trainer_of(
        subject.config, folder, False, [Best(folder / "best.ckpt", metric), journal, resume]
    )
    trainer.fit(subject.module(model), batches)


def hugging_face(
    subject: Subject, model: nn.Module, batches: Watched, folder: Path, losses: Losses, talks: bool
) -> None:
    """`transformers.Trainer`. talks: logs and shows its progress as by default; its files are off either way.

    Batches come as they are, without its own loader and collator, which would only slow it down.
    """
    optimizer = adamw(subject, model)
    loss = losses(subject, model)
    quiet = {} if talks else {"logging_strategy": "no", "disable_tqdm": True}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        max_grad_norm=subject.config["optimizer"]["clip"],
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        **quiet,
    )
    trainer = _Fed(
        model,
        arguments,
        optimizers=(optimizer, scheduler(subject, optimizer, len(batches))),
        loss=loss,
        batches=batches,
    )
    trainer.train()


class _Fed(transformers.Trainer):
    def __init__(self, *args: Any, loss: Loss, batches: Watched, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss, self.batches = loss, batches

    def get_train_dataloader(self) -> "_AsMappings":
        return _AsMappings(self.batches)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        return self.loss(inputs["batch"])


class _AsMappings:
    """What it takes a batch to be."""

    def __init__(self, batches: Watched) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"batch": batch} for batch in self.batches)


def lightning_default(
    subject: Subject, model: nn.Module, batches: Watched, folder: Path, losses: Losses, talks: bool
) -> None:
    """A plain LightningModule in a Trainer with default flags, clipping aside.

    talks: with its default logger, progress bar, summary and checkpoint, and the loss logged; else without.
    """
    module = _Plain(subject, model, losses(subject, model), len(batches), talks)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        gradient_clip_val=subject.config["optimizer"]["clip"],
        default_root_dir=folder,
        **({} if talks else quiet),
    )
    trainer.fit(module, batches)


class _Plain(L.LightningModule):
    def __init__(
        self, subject: Subject, model: nn.Module, loss: Callable[[Any], Tensor], steps: int, logs: bool
    ) -> None:
        super().__init__()
        self.subject, self.model, self.loss, self.steps, self.logs = subject, model, loss, steps, logs

    def training_step(self, batch: Any, index: int) -> Tensor:
        loss = self.loss(batch)
        if self.logs:
            self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = adamw(self.subject, self.model)
        rates = scheduler(self.subject, optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}
