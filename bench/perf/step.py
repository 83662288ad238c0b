"""A training step through the harness against the loop that one would write without it."""

import logging
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from torch.nn import functional as F

from bench import assembly, machine
from bench.cell import Cell, from_hydra
from bench.training import Training, decay_groups, schedule

CONF = str(machine.REPOSITORY / "conf")

STEPS = (
    ("small step", ("task=image_cnn", "logger=none"), 60),
    ("large step", ("task=text_gru", "logger=none", "model.width=128"), 20),
)
"""What is stepped: a name, its overrides, and the steps of one turn."""


def report(turns: int) -> None:
    """Print the ratios, measured in turns in this process."""
    # What Lightning says to each of the trainers here.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    for name, overrides, steps in STEPS:
        _print_step(name, overrides, steps, turns)


def _print_step(name: str, overrides: Sequence[str], steps: int, turns: int) -> None:
    """Time of a training step, ours over a hand-written loop on the same model and the same batches."""
    cell = _cell(overrides)
    ours, by_hand = [], []
    for _ in range(turns):
        ours.append(_through_trainer(cell, steps))
        by_hand.append(_by_hand(cell, steps))
    ratio = statistics.median(a / b for a, b in zip(ours, by_hand, strict=True))
    over = statistics.median(a - b for a, b in zip(ours, by_hand, strict=True))
    print(
        f"training step, {name} ({' '.join(overrides)}): ours {_ms(ours)}, by hand {_ms(by_hand)}: "
        f"ratio {ratio:.3f}, {over * 1e3:+.2f} ms a step ({turns} turns of {steps} steps, medians)"
    )


def _cell(overrides: Sequence[str]) -> Cell:
    with initialize_config_dir(CONF, version_base="1.3"):
        return from_hydra(compose("config", list(overrides)))


def _parts(cell: Cell) -> tuple[Training, L.LightningDataModule]:
    data = assembly.data_module(cell.config)
    model = assembly.network(cell.config, data.shapes, 0.0)
    plan = assembly.plan_for(cell.config, model)
    return assembly.training(cell.config, model, plan, data.meta), data


class _Stopwatch(L.Callback):
    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 1:
            self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.ended = time.perf_counter()


def _through_trainer(cell: Cell, steps: int) -> float:
    """Seconds of a step through our trainer, the first of `steps` aside."""
    module, data = _parts(cell)
    watch = _Stopwatch()
    trainer = L.Trainer(
        logger=False,
        callbacks=[watch],
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return (watch.ended - watch.began) / (steps - 1)


def _by_hand(cell: Cell, steps: int) -> float:
    """Seconds of a step of the loop that one would write without us: same model, batches and optimizer."""
    module, data = _parts(cell)
    model, s = module.model.train(), cell.config["optimizer"]
    groups, _ = decay_groups(model, cell.config["weight_decay"])
    optimizer = torch.optim.AdamW(groups, lr=s["lr"], betas=(s["beta1"], s["beta2"]), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: schedule(i, steps, s["warmup_share"]))
    state, began = None, 0.0
    for index, batch in enumerate(data.train_dataloader()):
        if index == steps:
            break
        if index == 1:
            began = time.perf_counter()
        if len(batch) == 2:
            loss = F.cross_entropy(model(batch[0]), batch[1])
        else:
            logits, state = model(batch[0], state)
            state = None if state is None else state.detach()
            loss = F.cross_entropy(logits.flatten(0, 1), batch[1].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), s["clip"])
        optimizer.step()
        scheduler.step()
    return (time.perf_counter() - began) / (steps - 1)


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:.2f} ms"
