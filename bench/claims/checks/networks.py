"""The bench's own networks at their default sizes, and batches for them: no data is needed."""

import copy
import functools
from collections.abc import Iterator, Sequence

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from bench.runs import machine
from bench.tying import NotApplicable, TyingPlan, methods

SHAPES = {
    "image_cnn": {"in_channels": 1, "num_classes": 10},
    "text_gru": {"vocab_size": 4000},
    "text_transformer": {"vocab_size": 4000},
}
"""Of digits, and of the words of pydocs."""
PIXELS, WINDOW, BATCH = 8, 32, 8


@functools.cache
def _config(task: str, tying: str = "none") -> DictConfig:
    with initialize_config_dir(str(machine.REPOSITORY / "conf"), version_base="1.3"):
        return compose("config", [f"task={task}", f"tying={tying}"])


def network(task: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return it untied, without dropout, its weights by the seed alone."""
    torch.manual_seed(seed)
    return instantiate(_config(task).model, **SHAPES[task], dropout=0.0).to(dtype)


def plans(tasks: Sequence[str], tyings: Sequence[str]) -> Iterator[tuple[str, str, TyingPlan]]:
    """Yield task, tying and plan, without the networks that cannot be tied so."""
    for task in tasks:
        for tying in tyings:
            parts = instantiate(_config(task, tying).tying.parts)
            try:
                yield task, tying, methods.compose(network(task), parts=list(parts.values()))
            except NotApplicable:
                continue


def tied_copy(model: nn.Module, plan: TyingPlan) -> nn.Module:
    return plan.apply(copy.deepcopy(model))


def batch(task: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return random inputs and targets of the task's kind."""
    generator = torch.Generator().manual_seed(seed)
    if task == "image_cnn":
        images = torch.randn(BATCH, 1, PIXELS, PIXELS, generator=generator, dtype=torch.float64)
        return images.to(dtype), torch.randint(SHAPES[task]["num_classes"], (BATCH,), generator=generator)
    tokens = torch.randint(SHAPES[task]["vocab_size"], (BATCH, WINDOW + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def logits(model: nn.Module, inputs: Tensor) -> Tensor:
    out = model(inputs)
    return out[0] if isinstance(out, tuple) else out


def loss(model: nn.Module, task: str, seed: int = 1) -> Tensor:
    """Return the mean cross entropy of a batch in float64."""
    inputs, targets = batch(task, seed, torch.float64)
    return F.cross_entropy(logits(model, inputs).flatten(0, -2), targets.flatten())


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
