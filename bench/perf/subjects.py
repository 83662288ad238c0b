"""What is stepped: the networks of the tasks before their first step, each with the same batches for all."""

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from lightning import LightningDataModule
from torch import nn

from bench.config.run_config import RunConfig, from_hydra
from bench.runs import machine
from bench.training import build
from bench.training.module import Training
from bench.tying import TyingPlan

CONF = str(machine.CONF)

WIKITEXT = 33_278
"""WikiText-2's vocabulary, as published at word level."""

TASKS = ("image_cnn", "text_gru", "text_transformer")
TINY = {
    "image_cnn": ("model.depth=3", "model.width=4"),
    "text_gru": ("model.depth=2", "model.width=8"),
    "text_transformer": ("model.depth=2", "model.width=8"),
}
SMALLEST = "model.depth=1 model.width=4 model.heads=1 task.batches.batch_size=1 task.batches.window=2"


@dataclass(frozen=True)
class Subject:
    """A task's untied network. `model` is never trained: `fresh` and `module` are about copies of it."""

    name: str
    config: Mapping[str, Any]
    data: LightningDataModule
    model: nn.Module
    plan: TyingPlan

    @property
    def speaks(self) -> bool:
        """Whether it is a language model."""
        return "window" in self.config["task"]["batches"]

    def fresh(self) -> nn.Module:
        return copy.deepcopy(self.model)

    def module(self, model: nn.Module) -> Training:
        """Return `model` as a run of ours trains it."""
        return build.training(self.config, model, self.plan, self.data.meta)

    def batches(self, count: int) -> list[Any]:
        """Return the first `count` training batches, those of an epoch again where it has fewer."""
        batches = list(itertools.islice(self.data.train_dataloader(), count))
        return list(itertools.islice(itertools.cycle(batches), count))


def subject_of(run: RunConfig, name: str, vocabulary: int | None = None) -> Subject:
    """Build the subject of a run.

    Args:
        vocabulary: words of the network, of which the text then uses the first; None: those of the text.
    """
    trainer = {**run.config["trainer"], "val_check_interval": 1.0, "max_epochs": 1}
    config = {**run.config, "trainer": trainer}
    data = build.data_module(config)
    shapes = data.shapes if vocabulary is None else {**data.shapes, "vocab_size": vocabulary}
    model = build.network(config, shapes, config["dropout"])
    return Subject(name, config, data, model, build.plan_for(config, model))


def composed(*overrides: str, accelerator: str = "cpu") -> RunConfig:
    """Return the run of `python -m bench *overrides`, logging nothing."""
    with initialize_config_dir(CONF, version_base="1.3"):
        fixed = ("logger=none", f"trainer.accelerator={accelerator}")
        return from_hydra(compose("config", [*overrides, *fixed]))


def of_tasks(tiny: bool) -> list[Subject]:
    """Return each task at its default sizes, and the language models once more at WikiText-2's vocabulary."""
    subjects = []
    for task in TASKS:
        run = composed(f"task={task}", *(TINY[task] if tiny else ()))
        subjects.append(subject_of(run, task))
        if subjects[-1].speaks and not tiny:
            subjects.append(subject_of(run, f"{task}, {WIKITEXT:,} words", WIKITEXT))
    return subjects


def smallest() -> Subject:
    """Return a network of next to no operations: a step of it is what its loop costs, whatever the processor does."""
    return subject_of(
        composed("task=text_transformer", *SMALLEST.split()), "next to nothing (a transformer of width 4)"
    )
