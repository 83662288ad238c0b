"""Every task x every tying of conf/, at sizes for a test: composed as the command line does, and built."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from cell_maker import CONF, composer
from torch import Tensor, nn

from bench.config.run_config import LEARNING, RunConfig, from_hydra
from bench.sweep.prerequisites import with_grouping
from bench.training import build as assembly
from bench.training.module import Training
from bench.tying import TyingPlan
from bench.tying.apply import parameters_by_name


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


TASKS, TYINGS = choices("task"), choices("tying")
TASKS.remove("sentence_embedding")  # a text_classifier's network: test_sentence_embedding has the rest
TASKS.remove("two_tasks_alike")  # the network of two_tasks
TASKS.remove("image_teacher")  # half of its weights are frozen: test_teacher
TASKS.remove("image_teacher_turned")
ROWS = [("image_positions", "over_positions"), ("image_rotations", "rotations"), ("dna", "over_positions")]
ROWS += [("image_autoencoder", "transpose"), ("image_pairs", "cross_layer"), ("text_experts", "experts")]
ROWS += [("image_rows", "growl")]
ROWS += [(task, "cross_layer") for task in ("two_tasks", "image_slots", "image_implicit")]
ROWS += [(task, "cross_layer") for task in ("text_unrolled", "text_trellis")]
"""Tasks whose networks are for one method alone, with it: the laws of tying hold there too, without the whole grid."""
TASKS = [task for task in TASKS if task not in dict(ROWS)]
HOME = {"mqa": "text_transformer", "gqa": "text_classifier", "k_equals_v": "text_transformer"}
HOME |= {"joint_embedding": "text_gru"}
HOME |= {"kv_across_layers": "text_classifier", "gates": "series_gru", "hashed": "image_cnn"}
HOME |= {tying: task for task, tying in ROWS if tying != "cross_layer"}
"""Of the methods by views one task that has what they share: tests of whole networks take time."""
CELLS = [(task, tying) for task in TASKS for tying in TYINGS if HOME.get(tying, task) == task]

# Two stages: some namesakes along the stack then differ in shape. Learning takes few steps at these rates.
SIZES = {
    "image": ("model.depth=6", "model.stages=2", "model.width=4", "data.train_limit=512"),
    "text": ("model.depth=4", "model.width=16", "task.batches.window=8", "task.batches.batch_size=16"),
    "series": ("model.depth=4", "model.width=16", "task.batches.window=8", "optimizer.lr=0.01"),
    "labelled_text": ("model.depth=4", "model.width=16", "task.batches.window=12", "optimizer.lr=0.01"),
}
SMALL = {"image": ("model.width=4", "data.train_limit=512"), "text": ("model.depth=8", *SIZES["text"][1:])}
"""In the place of SIZES: of the tasks of ROWS, whose networks have no stages, or a block for each token of a window."""
UNIFORM = {"image": ("model.stages=1",), "text": ("model.depth=6",), "series": ("model.depth=6",)}
UNIFORM["labelled_text"] = ("model.depth=6",)
"""Overrides that make a stack of six blocks of one shape."""
GROUPING = {4: [0, 1, 1, 0], 6: [0, 1, 1, 2, 0, 2]}
"""What `grouped` cannot do without, and `learned` once it has learned, by depth."""
ROW_LABELS = [0, *(row % 5 for row in range(62)), -1]
"""What `growl` ties once it has found it, of pictures of 8 x 8."""
NEEDED = {"relaxed": ("tying.rank=1",)}
"""What a tying needs at these sizes."""
COUNTS = {"text": "tokens", "series": "steps"}
"""What scores count; of the other kinds of data examples."""


class Grid:
    def __init__(self, corpus: Path, labelled: Path, cache: Path, runs: Path) -> None:
        torch.set_num_threads(1)  # as a run of the default config: sums in another order are other numbers
        # Not the docstrings of the Python that runs: numbers would be its own.
        self.data = {
            "text": ("data=text_files", f"data.files={corpus}"),
            "labelled_text": ("data=sst2", f"data.root={labelled}", "data.holdout=151"),
        }
        self.common = (f"cache={cache}", f"runs={runs}", "logger=none", "trainer.accelerator=cpu")

    @functools.cache  # noqa: B019  one grid a session
    def cell(self, task: str, tying: str = "none", *overrides: str) -> RunConfig:
        tiny = (*self.data.get(kind(task), ()), *(SMALL if task in dict(ROWS) else SIZES)[kind(task)])
        labels = GROUPING[6 if {*UNIFORM[kind(task)]} & {*overrides} or kind(task) == "image" else 4]
        tiny += NEEDED.get(tying, ())
        if tying == "grouped":
            tiny = (*tiny, f"tying.grouping={labels}".replace(" ", ""))
        made = from_hydra(_composer()((f"task={task}", f"tying={tying}", *tiny, *self.common, *overrides)))
        labels = ROW_LABELS if tying == "growl" else labels
        return with_grouping(made, labels) if tying in LEARNING else made


@functools.cache
def kind(task: str) -> str:
    """The kind of a task's own data: image, text, series or labelled_text."""
    return _choice("task", task)["task"]["kind"]


def applies(task: str, tying: str) -> bool:
    """Whether a tying of CELLS can be applied: only a language model has an embedding at either end."""
    return kind(task) == "text" or "embedding" not in _parts(tying)


@functools.cache
def _parts(tying: str) -> set[str]:
    """The words in the names of a tying's parts, those of its defaults too."""
    chosen = _choice("tying", tying)
    words = {word for part in chosen.get("parts", {}) for word in part.split("_")}
    return words.union(*(_parts(other) for other in chosen.get("defaults", []) if other != "_self_"))


def _choice(group: str, name: str) -> dict[str, Any]:
    """A choice of conf/ as it is written: parameters of tests are made of it, and composing takes long."""
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


_composer = functools.cache(composer)
"""Reads the files of a task and a tying once, whatever values are then set."""


@dataclass(frozen=True)
class Built:
    """What a run consists of before it trains."""

    config: Mapping[str, Any]
    data: L.LightningDataModule
    model: nn.Module
    plan: TyingPlan
    module: Training
    untied: int

    @property
    def batches(self) -> list[Any]:
        return list(self.data.train_dataloader())

    def named(self) -> dict[str, nn.Parameter]:
        """Parameters under each of their names."""
        return parameters_by_name(self.model)


_proven: set[str] = set()
"""Costs, an identity each of a task x model x tying, whose ties were proven: a proof takes longer than all the rest."""


def build(cell: RunConfig) -> Built:
    """As a run does, up to the trainer. The ties of one network are proven once."""
    config = cell.config
    data = assembly.data_module(config)
    model = assembly.network(config, data.shapes, config["dropout"])
    plan = assembly.plan_for(config, model)
    untied = assembly.tie(config, model, plan, None if cell.cost in _proven else data)
    _proven.add(cell.cost)
    return Built(config, data, model, plan, assembly.training(config, model, plan, data.meta), untied)


def steps(built: Built, count: int, optimizer: torch.optim.Optimizer | None = None) -> list[float]:
    """Take training steps as the trainer does, at a constant rate; the losses before each."""
    optimizer = optimizer or built.module.adamw()
    built.module.train()
    losses = []
    while len(losses) < count:
        for batch in built.batches[: count - len(losses)]:
            losses.append(step(built.module, optimizer, batch))
    return losses


def step(module: Training, optimizer: torch.optim.Optimizer, batch: Any) -> float:
    optimizer.zero_grad()
    loss = module.loss(batch)
    loss.backward()
    module.configure_gradient_clipping(optimizer)
    optimizer.step()
    module.after_step(optimizer)
    return loss.item()


@torch.no_grad()
def score(module: Training, batches: Any, split: str = "test") -> dict[str, Any]:
    """Metrics of a split in eval mode, without a trainer."""
    module.eval()
    module.on_validation_epoch_start()
    for index, batch in enumerate(batches):
        module.validation_step(batch, index)
    return module._scored(split)


@torch.no_grad()
def outputs(built: Built) -> Tensor:
    """Logits of the first training batch, in eval mode."""
    built.model.eval()
    logits = built.model(built.batches[0][0])
    return logits[0] if isinstance(logits, tuple) else logits


def doubled(built: Built) -> tuple[Training, Any]:
    """The module in float64 and a batch for it."""
    batch = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in built.batches[0]]
    return built.module.double(), batch


def guess(built: Built) -> float:
    """Loss, in nats, of a uniform guess; of a series, that of no change, a Gaussian of variance 1."""
    if "channels" in built.data.shapes:
        return 0.5 * (math.log(2 * math.pi) + built.batches[0][1].square().mean().item())
    return math.log(built.data.shapes.get("num_classes") or built.data.shapes["vocab_size"])
