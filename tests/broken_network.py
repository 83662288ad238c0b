"""A network that can be built and does not run: what fails in a run by no fault of its input."""

from typing import Any

from torch import Tensor

from bench.models.cnn import ResNet

BROKEN = 9
"""The depth at which it raises."""


class Broken(ResNet):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)

    def forward(self, images: Tensor) -> Tensor:
        if len(self.blocks) == BROKEN:
            raise RuntimeError("broken on purpose")
        return super().forward(images)
