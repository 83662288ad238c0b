"""The bench's own networks at their default sizes, tied and untied, and batches for them: no data is needed."""

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from bench.runs import machine
from bench.tying import NotApplicable, TyingPlan, methods

SHAPES: Mapping[str, Mapping[str, int]] = {
    "image_cnn": {"in_channels": 1, "num_classes": 10},
    "text_gru": {"vocab_size": 4000},
    "text_transformer": {"vocab_size": 4000},
}
"""Of digits, and of the words of pydocs."""
PIXELS, WINDOW, BATCH = 8, 32, 8


@functools.cache
def config(task: str, tying: str = "none") -> Mapping[str, Any]:
    """`model` and `tying` as `python -m bench task=... tying=...` has them."""
    with initialize_config_dir(str(machine.CONF), version_base="1.3"):
        cfg = compose("config", [f"task={task}", f"tying={tying}"])
    whole = OmegaConf.to_container(cfg, resolve=True)
    return {key: whole[key] for key in ("model", "tying")}


def network(task: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Untied, without dropout, its weights by the seed alone."""
    torch.manual_seed(seed)
    return instantiate(dict(config(task)["model"]), **SHAPES[task], dropout=0.0).to(dtype)


@functools.cache
def plan(task: str, tying: str) -> TyingPlan | None:
    """None where this network cannot be tied so."""
    parts = instantiate(config(task, tying)["tying"]["parts"])
    try:
        return methods.compose(network(task), parts=list(parts.values()))
    except NotApplicable:
        return None


def tied(model: nn.Module, task: str, tying: str) -> nn.Module:
    """A tied copy. Raises BadInput as `TyingPlan.apply` does."""
    return (plan(task, tying) or TyingPlan()).apply(copy.deepcopy(model))


def twin(tied_model: nn.Module, untied: nn.Module) -> nn.Module:
    """A copy of `untied` in which each use of a shared tensor has a tensor of its own, of the same values."""
    model = copy.deepcopy(untied)
    model.load_state_dict(tied_model.state_dict())
    return model


def batch(task: str, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Random inputs and targets of the task's kind."""
    generator = torch.Generator().manual_seed(seed)
    if task == "image_cnn":
        images = torch.randn(BATCH, 1, PIXELS, PIXELS, generator=generator, dtype=torch.float64)
        return images.to(dtype), torch.randint(SHAPES[task]["num_classes"], (BATCH,), generator=generator)
    tokens = torch.randint(SHAPES[task]["vocab_size"], (BATCH, WINDOW + 1), generator=generator)
    return tokens[:, :-1], tokens[:, 1:]


def loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy."""
    out = model(inputs)
    logits = out[0] if isinstance(out, tuple) else out
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
