"""A network that breaks on demand."""

import os
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.models.cnn import ResNet
from chaos.sweeps import BREAK

BREAK_AT = 40
"""Calls that it lives through: by then a run has a checkpoint."""


class Fragile(ResNet):
    """Raises at a call in the middle of its training, as long as there is the file that BREAK names."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.calls = 0

    def forward(self, *inputs: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > BREAK_AT and Path(os.environ.get(BREAK, "")).is_file():
            raise RuntimeError("broken on purpose")
        return super().forward(*inputs)
