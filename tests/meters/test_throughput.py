"""A whole run whose steps take a known time, and the throughput that it records."""

import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from quiet import quiet
from torch import Tensor, nn

from bench.config.run_config import RunConfig, from_hydra
from bench.runs import machine
from bench.training import train
from bench.tying.structure import Parts

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


@quiet
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore:::lightning")  # what Lightning says to a run of a few steps
def test_the_throughput_of_steps_that_sleep(tmp_path: Path) -> None:
    """On top of the sleep is what the trainer adds to a step: a tenth leaves it room."""
    cell = sleeping(tmp_path)
    request = {**cell.header(), "logger": cell.options["logger"], "sweep": "meters"}
    throughput = train.train(request, cell.config, tmp_path, time.time())["throughput"]
    assert throughput["unit"] == "images/s"
    assert throughput["value"] == pytest.approx(BATCH / STEP_S, rel=0.1)


def sleeping(folder: Path) -> RunConfig:
    """The run on digits, with a network that sleeps."""
    overrides = ["task=image_cnn", "logger=none", "trainer.accelerator=cpu", f"runs={folder}"]
    overrides += [f"cache={machine.ROOT / '.cache'}", f"task.batches.batch_size={BATCH}"]
    overrides += ["trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS}"]
    with initialize_config_dir(str(machine.CONF), version_base="1.3"):
        cell = from_hydra(compose("config", overrides))
    cell.config["model"] = {"_target_": f"{__name__}.Sleeping", "seconds": STEP_S}
    return cell
