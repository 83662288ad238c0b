"""The output layer alone: from what it reads to its loss, and back."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.meters.memory import peak_bytes
from bench.meters.timing import seconds_of, turns_of
from bench.perf.subjects import WIKITEXT
from bench.perf.timing import CPU, Pace, in_record
from bench.tasks.cross_entropy import linear_cross_entropy


class Shape(NamedTuple):
    """`positions` are read from `width` numbers each, and scored over `vocabulary` words."""

    positions: int
    width: int
    vocabulary: int


SHAPES = (*(Shape(512, 96, words) for words in (4_000, 10_000, WIKITEXT)), Shape(2_048, 256, WIKITEXT))
"""A batch of text_gru at its defaults (16 x 32 tokens), and one of a larger network at WikiText-2's vocabulary."""

TINY = (Shape(64, 8, 100),)

PLAIN, CHUNKED = "F.linear + F.cross_entropy", "F.linear_cross_entropy, chunked"
FLOAT32, BFLOAT16 = "ours, float32", "ours, bfloat16"

Form = Callable[[nn.Linear, Tensor, Tensor], Tensor]


def measure(pace: Pace) -> dict[str, Any]:
    """Measure each form's time over the plain one, in turns, and its exact peak of memory."""
    return {"rows": [row for shape in (TINY if pace.tiny else SHAPES) for row in _rows(shape, pace)]}


def forms() -> dict[str, Form | None]:
    """Return each way to the same loss; None where this torch lacks it."""
    return {
        PLAIN: lambda layer, hidden, targets: F.cross_entropy(layer(hidden), targets),
        CHUNKED: _chunked if hasattr(F, "linear_cross_entropy") else None,
        FLOAT32: functools.partial(_ours, torch.float32),
        BFLOAT16: functools.partial(_ours, torch.bfloat16),
    }


def _ours(dtype: torch.dtype, layer: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    return linear_cross_entropy(hidden, layer.weight, layer.bias, targets, dtype)


def _chunked(layer: nn.Linear, hidden: Tensor, targets: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(hidden, layer.weight, targets, linear_bias=layer.bias, options=options)


class Output(nn.Module):
    """An output layer and what it reads, with the step that a backward pass makes of them."""

    def __init__(self, shape: Shape, form: Form) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layer, self.form = nn.Linear(shape.width, shape.vocabulary), form
        with torch.no_grad():
            self.layer.weight.normal_(std=0.02, generator=generator)
            self.layer.bias.zero_()
        self.hidden = nn.Parameter(torch.randn(shape.positions, shape.width, generator=generator))
        self.targets = torch.randint(shape.vocabulary, (shape.positions,), generator=generator)

    def forward(self) -> Tensor:
        return self.form(self.layer, self.hidden, self.targets)

    def step(self) -> None:
        self.zero_grad(set_to_none=True)
        self().backward()


def _rows(shape: Shape, pace: Pace) -> Sequence[dict[str, Any]]:
    rows = []
    for name, form in forms().items():
        row: dict[str, Any] = {**shape._asdict(), "form": name}
        if form is None:
            row["reason"] = f"torch {torch.__version__} has it not"
        else:
            (pair,) = turns_of(
                lambda form=form: _seconds(shape, form),
                lambda: _seconds(shape, forms()[PLAIN]),
                **pace.limits(1 / 2),
            )
            row |= in_record(pair)
            layer = Output(shape, form)
            row["peak_bytes"] = peak_bytes(layer, None, layer.step, [layer.targets])["total"]
        rows.append(row)
    return rows


def _seconds(shape: Shape, form: Form) -> tuple[float]:
    """Time the second step of a copy made for it: two copies that stay differ by up to a tenth, for good."""
    layer = Output(shape, form)
    layer.step()
    return (seconds_of(layer.step, CPU),)
