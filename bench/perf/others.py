"""The trainers that people would use instead, fed with the same batches and the same loss."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import transformers
from torch import Tensor, nn

from bench.perf.loops import Loss, Losses, Watched, adamw, scheduler
from bench.perf.subjects import Subject


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
