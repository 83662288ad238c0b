"""A whole run whose steps take a known time, and the throughput that it records."""

import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from bench import machine, run
from bench.anatomy import Parts
from bench.cell import Cell, from_hydra
from bench.selftest.check import Check, about

STEP_S, BATCH, STEPS = 0.1, 32, 15


class Sleeping(nn.Module):
    """(images [B, C, H, W]) -> logits [B, num_classes] after `seconds` of sleep, which evaluation is spared."""

    parts = Parts(stack=(), embedding=None, unembedding=None, role=lambda name: "other")

    def __init__(self, in_channels: int, num_classes: int, dropout: float, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.output = nn.Linear(in_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            time.sleep(self.seconds)
        return self.output(images.mean((2, 3)))


def checks() -> Iterator[Check]:
    """Measured on top of the sleep is what the trainer adds to a step: the tolerance leaves it room."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        # What Lightning says to a run of a few steps.
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        cell = _cell(Path(folder))
        request = {**cell.header(), "logger": cell.options["logger"], "sweep": "selftest"}
        record = run.train(request, cell.config, Path(folder), time.time())
    found = record["throughput"]
    what = f"{BATCH} images a step that sleeps {STEP_S * 1e3:g} ms"
    yield about("throughput", what, found["unit"], BATCH / STEP_S, found["value"], tolerance=0.1)


def _cell(folder: Path) -> Cell:
    """The run on digits, with a network that sleeps."""
    overrides = ["task=image_cnn", "logger=none", "trainer.accelerator=cpu", f"runs={folder}"]
    overrides += [f"cache={machine.REPOSITORY / '.cache'}", f"task.batches.batch_size={BATCH}"]
    overrides += ["trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS}"]
    with initialize_config_dir(str(machine.REPOSITORY / "conf"), version_base="1.3"):
        cell = from_hydra(compose("config", overrides))
    cell.config["model"] = {"_target_": f"{__name__}.Sleeping", "seconds": STEP_S}
    return cell
