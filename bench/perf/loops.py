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
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from bench.perf.subjects import Subject
from bench.runs.store import BEST
from bench.runs.worker import RESUME
from bench.tasks.cross_entropy import linear_cross_entropy
from bench.training import train
from bench.training.callbacks import MetricsCallback
from bench.training.checkpoint import Best, Resume
from bench.training.optimizer import decay_groups, schedule
from bench.tying import TyingPlan

Loss = Callable[[Any], Tensor]
Losses = Callable[[Subject, nn.Module], Loss]

AHEAD = 3
"""Batches taken before time counts: of a step without optimizer state, and one that a loop holds in advance."""


class Watched:
    """Give batches in their order, and note when each was taken: a clock outside of whatever loop takes them."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches
        self.taken_at: list[float] = []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()  # or it would be the time of asking, not of doing
            self.taken_at.append(time.perf_counter())
            yield batch

    def seconds(self) -> float:
        """Return the seconds of a step, from batch to batch, so with all that a loop does around it.

        The first AHEAD batches do not count.
        """
        return (self.taken_at[-1] - self.taken_at[AHEAD - 1]) / (len(self.taken_at) - AHEAD)


def same_loss(subject: Subject, model: nn.Module) -> Loss:
    """Return the loss of our runs as a plain function: the output layer at our precision."""
    layer = getattr(model, "output_layer", None)
    if layer is None:
        return plain_loss(subject, model)
    dtype = torch.bfloat16 if subject.config["trainer"]["output_precision"] == "bf16" else torch.float32

    def nll(hidden: Tensor, targets: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, layer.weight, layer.bias, targets, dtype)

    return _carrying(model.hidden, nll)


def plain_loss(subject: Subject, model: nn.Module) -> Loss:
    """Return F.cross_entropy of float32 logits, as everybody writes it."""
    if subject.speaks:
        return _carrying(model, F.cross_entropy)
    return lambda batch: F.cross_entropy(model(batch[0]), batch[1])


def _carrying(read: Callable[..., Any], nll: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return a language model's loss that carries its state from batch to batch."""
    state = None

    def loss(batch: Any) -> Tensor:
        nonlocal state
        inputs, targets, fresh = batch
        outputs, state = read(inputs, None if fresh else state)
        state = None if state is None else state.detach()
        return nll(outputs.flatten(0, 1), targets.flatten())

    return loss


def adamw(subject: Subject, model: nn.Module) -> AdamW:
    """Return the optimizer of our runs."""
    settings = subject.config["optimizer"]
    groups, _ = decay_groups(model, subject.config["weight_decay"])
    betas = (settings["beta1"], settings["beta2"])
    return AdamW(groups, lr=settings["lr"], betas=betas, fused=True)


def scheduler(subject: Subject, optimizer: AdamW, steps: int) -> LambdaLR:
    """Return the learning rates of our runs over `steps`."""
    share = subject.config["optimizer"]["warmup_share"]
    return LambdaLR(optimizer, lambda step: schedule(step, steps, share))


def bare_step(
    subject: Subject, model: nn.Module, losses: Losses = same_loss, optimizer: AdamW | None = None
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
    """Train with the loop that one would write without us."""
    model.train()
    optimizer = adamw(subject, model)
    rates = scheduler(subject, optimizer, len(batches))
    step = bare_step(subject, model, losses, optimizer)
    for batch in batches:
        step(batch)
        rates.step()


def ours(subject: Subject, model: nn.Module, batches: Watched, folder: Path) -> None:
    """Train as `bench.training.train` does, with its callbacks; without a logger, and without validations."""
    metric = subject.config["task"]["metric"]
    journal = MetricsCallback(folder, metric["name"], TyingPlan(), time.time())
    resume = Resume(folder / RESUME, subject.config["trainer"]["checkpoint_every_s"], {}, journal.paused)
    trainer = train.trainer_of(subject.config, folder, False, [Best(folder / BEST, metric), journal, resume])
    trainer.fit(subject.module(model), batches)


def hugging_face(
    subject: Subject, model: nn.Module, batches: Watched, folder: Path, losses: Losses, logs: bool
) -> None:
    """Train with `transformers.Trainer`, which writes no files here.

    Batches come as they are, without its own loader and collator, which would only slow it down.

    Args:
        logs: log and show progress as by default.
    """
    optimizer = adamw(subject, model)
    quiet = {} if logs else {"logging_strategy": "no", "disable_tqdm": True}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        max_grad_norm=subject.config["optimizer"]["clip"],
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        **quiet,
    )
    optimizers = (optimizer, scheduler(subject, optimizer, len(batches)))
    _Trainer(model, arguments, optimizers=optimizers, loss=losses(subject, model), batches=batches).train()


class _Trainer(transformers.Trainer):
    def __init__(self, *args: Any, loss: Loss, batches: Watched, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss, self.batches = loss, batches

    def get_train_dataloader(self) -> "_AsMappings":
        return _AsMappings(self.batches)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        return self.loss(inputs["batch"])


class _AsMappings:
    """Batches as `transformers.Trainer` takes them."""

    def __init__(self, batches: Watched) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"batch": batch} for batch in self.batches)


def lightning_default(
    subject: Subject, model: nn.Module, batches: Watched, folder: Path, losses: Losses, logs: bool
) -> None:
    """Train a plain LightningModule in a Trainer with default flags, clipping aside.

    Args:
        logs: keep the default logger, progress bar, summary and checkpoint, and log the loss.
    """
    switches = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        gradient_clip_val=subject.config["optimizer"]["clip"],
        default_root_dir=folder,
        **({} if logs else dict.fromkeys(switches, False)),
    )
    trainer.fit(_Plain(subject, model, losses(subject, model), len(batches), logs), batches)


class _Plain(L.LightningModule):
    def __init__(self, subject: Subject, model: nn.Module, loss: Loss, steps: int, logs: bool) -> None:
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
