"""What a student trains on and is scored by whose network holds a teacher: the labels. A tie draws it there."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.batches import ImageData
from bench.tasks.classification import Classification
from bench.tying.errors import BadInput

EPOCHS, RATE, ORDER_SEED = 20, 0.003, 0
"""Of the teacher's training, by AdamW without weight decay; the order of its examples is the same in every run."""


class Distillation(Classification):
    """Classification by a network whose child `teacher` is trained before it, and frozen.

    Args:
        turns: Quarter turns of the pictures that the teacher learns from: it then knows another task.
    """

    has_teacher = True

    def __init__(self, *args, turns: int = 0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.turns = turns

    def teach(self, data: ImageData) -> float:
        """Train the teacher on all training pictures of `data`, by a short procedure that draws no random number.

        Returns its accuracy on the test split, turned as what it learned from. BadInput where there is no teacher.
        """
        if not isinstance(frozen := getattr(self.model, "teacher", None), nn.Module):
            raise BadInput("this task trains a teacher, and the network holds none: set model=teacher")
        teacher = copy.deepcopy(frozen).requires_grad_(True)
        optimizer = torch.optim.AdamW(teacher.parameters(), lr=RATE, weight_decay=0)
        generator = torch.Generator().manual_seed(ORDER_SEED)
        for _ in range(EPOCHS):
            order = torch.randperm(len(data.labels["train"]), generator=generator)
            for rows in order.split(data.batch_size):
                pictures, labels = data.batch("train", rows)[:2]
                optimizer.zero_grad()
                F.cross_entropy(self._answers(teacher, pictures), labels).backward()
                optimizer.step()
        frozen.load_state_dict(teacher.state_dict())
        pictures, labels = data.batch("test", torch.arange(len(data.labels["test"])))[:2]
        return float((self._answers(frozen, pictures).argmax(-1) == labels).double().mean())

    def _answers(self, teacher: nn.Module, pictures: Tensor) -> Tensor:
        return teacher(pictures.rot90(self.turns, (2, 3)).flatten(1))
