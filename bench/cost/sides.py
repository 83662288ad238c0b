"""One side of a comparison of costs: a network with its optimizer, and the calls that are measured of it."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from bench import assembly
from bench.fitting import Training


@dataclass(frozen=True)
class Side:
    """predicted: by the plan, before it was applied: unique parameters, their tensors, bytes of an element."""

    module: Training
    optimizer: torch.optim.Optimizer
    predicted: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype
    is_compiled: bool

    @property
    def num_params(self) -> int:
        return self.predicted[0]

    def fresh(self) -> "Side":
        """A copy that shares no tensor with this one, its optimizer without state.

        A compiled network stays the one it is: a copy would be compiled anew, or call the code of the original.
        """
        if self.is_compiled:
            return self
        module = copy.deepcopy(self.module)
        return replace(self, module=module, optimizer=module.adamw())

    def placed(self, batch: Any) -> list[Any]:
        """A batch of the data module where this side can read it."""
        return [
            item.to(self.device, self.dtype if item.is_floating_point() else None)
            if isinstance(item, Tensor)
            else item
            for item in batch
        ]

    def step(self, batch: list[Any]) -> Callable[[], None]:
        """One whole training step, as the trainer takes it."""
        module, optimizer = self.module, self.optimizer

        def step() -> None:
            module.train()
            optimizer.zero_grad(set_to_none=True)
            with parametrize.cached():
                loss = module.loss(batch)
            loss.backward()
            module.configure_gradient_clipping(optimizer)
            optimizer.step()
            module.after_step(optimizer)

        return step

    def infer(self, batch: list[Any]) -> Callable[[], None]:
        """One forward pass over a batch's inputs, in eval mode, no gradients."""
        model = self.module.model

        @torch.no_grad()
        def infer() -> None:
            model.eval()
            with parametrize.cached():
                model(batch[0])

        return infer


def built(config: Mapping[str, Any], data: L.LightningDataModule, device: torch.device) -> Side:
    """The network as the config asks for it, tied, and its optimizer."""
    dtype = torch.float64 if config["trainer"]["precision"] == "64-true" else torch.float32
    model = assembly.network(config, data.shapes, dropout=0.0)
    plan = assembly.plan_for(config, model)
    element = torch.empty((), dtype=dtype).element_size()
    predicted = (plan.num_params(model), plan.num_tensors(model), element)
    assembly.tie(config, model, plan)
    module = assembly.training({**config, "weight_decay": 0.0}, model, plan, data.meta).to(device, dtype)
    mode = config["trainer"]["compile"]
    assembly.compile_in_place(model, mode)
    return Side(module, module.adamw(), predicted, device, dtype, is_compiled=mode is not None)


def resized(batch: list[Any], examples: int) -> list[Any]:
    """A batch of so many examples: the first ones of `batch`, which is gone through again where it is too short."""
    rows = torch.arange(examples) % len(batch[0])
    return [item[rows.to(item.device)] if isinstance(item, Tensor) else item for item in batch]


def tensors(batch: list[Any]) -> list[Tensor]:
    return [item for item in batch if isinstance(item, Tensor)]
