"""Language models on random words: how the cost of a step grows with each size, and what a GPU makes of larger ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import linregress
from torch import nn

from bench.meters.flops import datasheet_rate, flops_of
from bench.meters.memory import peak_bytes
from bench.meters.timing import in_turns, other_processes
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM
from bench.perf.subjects import WIKITEXT
from bench.perf.timing import CPU, Pace, medians
from bench.tasks.cross_entropy import linear_cross_entropy
from bench.tying import TyingPlan, methods


class WordStep:
    """Take the same training step again at each call, on one batch of random words.

    Args:
        autocast: bfloat16 around the layers below the output too.
    """

    def __init__(
        self,
        model: nn.Module,
        vocabulary: int,
        batch: int,
        window: int,
        device: torch.device,
        autocast: bool = False,
    ) -> None:
        self.model = model.train().to(device)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
        words = torch.randint(vocabulary, (batch, window + 1), generator=torch.Generator().manual_seed(0))
        self.inputs, self.targets = words[:, :-1].to(device), words[:, 1:].flatten().to(device)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=autocast)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            hidden = self.model.hidden(self.inputs)[0].flatten(0, 1)
            layer = self.model.output_layer
            loss = linear_cross_entropy(hidden, layer.weight, layer.bias, self.targets, torch.bfloat16)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def num_params(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def peak_bytes(self) -> int:
        return peak_bytes(self.model, self.optimizer, self, [self.inputs, self.targets])["total"]


WINDOW, HEADS = 32, 4
NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "GRU": GRULanguageModel,
    "transformer": lambda vocabulary, depth, width: CausalLM(
        vocabulary, WINDOW, depth=depth, width=width, heads=HEADS
    ),
}


class Sizes(NamedTuple):
    """Sizes of a network and its batch. `tied`: how many of the last blocks share their weights; 1: none."""

    depth: int = 4
    width: int = 64
    vocabulary: int = 2000
    batch: int = 8
    tied: int = 1


AXES: dict[str, tuple[Sizes, ...]] = {
    "depth": tuple(Sizes(depth=n) for n in (2, 4, 8, 16)),
    "width": tuple(Sizes(width=n) for n in (32, 64, 128, 256)),
    "vocabulary": tuple(Sizes(vocabulary=n) for n in (1000, 4000, 16_000, 64_000)),
    "batch": tuple(Sizes(batch=n) for n in (4, 8, 16, 32)),
    "tied": tuple(Sizes(depth=16, width=128, tied=n) for n in (2, 4, 8, 16)),
}
TINY = Sizes(depth=2, width=8, vocabulary=50, batch=2)


def measure(pace: Pace) -> dict[str, Any]:
    """Measure, per network and axis: sizes, seconds, bytes, and the exponent of either with its standard error."""
    rows = []
    for name, make in NETWORKS.items():
        for axis, sizes in AXES.items():
            if pace.tiny:
                sizes = [TINY._replace(**{axis: getattr(TINY, axis) * n}) for n in (1, 2)]
            rows.append({"network": name, "axis": axis, **_along(axis, sizes, make, pace.rounds)})
    return {"base": Sizes()._asdict(), "window": WINDOW, "rounds": pace.rounds, "rows": rows}


def _along(axis: str, sizes: Sequence[Sizes], make: Callable[..., nn.Module], rounds: int) -> dict[str, Any]:
    steps = {getattr(size, axis): _step(make, size) for size in sizes}
    seconds = medians(steps, rounds)
    peaks = {size: step.peak_bytes() for size, step in steps.items()}
    values = {"at": list(steps), "step_s": list(seconds.values()), "peak_bytes": list(peaks.values())}
    fitted = {key: exponent(values["at"], values[key]) for key in ("step_s", "peak_bytes")}
    return {**values, "exponents": fitted}


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float | None]:
    """Fit cost = a x size ** b by least squares of the logarithms.

    Returns:
        b, and its standard error (None below 3 points).
    """
    line = linregress(np.log(sizes), np.log(costs))
    return float(line.slope), None if len(sizes) < 3 else float(line.stderr)


def _step(make: Callable[[int, int, int], nn.Module], sizes: Sizes) -> WordStep:
    torch.manual_seed(0)
    model = make(sizes.vocabulary, sizes.depth, sizes.width)
    methods.top_k(model, k=sizes.tied).apply(model)
    return WordStep(model, sizes.vocabulary, sizes.batch, WINDOW, CPU)


@dataclass(frozen=True)
class Network:
    """A network, and the batch and the tie that it is measured at; bf16 autocast around all of it, or float32."""

    name: str
    make: Callable[[], nn.Module]
    tie: Callable[[nn.Module], TyingPlan]
    tying: str
    vocabulary: int
    batch: int
    window: int
    autocast: bool

    @property
    def tokens(self) -> int:
        return self.batch * self.window


GPT2_WORDS, GPT2_WINDOW = 50_257, 1024

NETWORKS_OF_GPU = (
    Network(
        "GPT-2 small",
        lambda: CausalLM(GPT2_WORDS, GPT2_WINDOW, depth=12, width=768, heads=12),
        methods.embedding,
        "embedding",
        GPT2_WORDS,
        batch=16,
        window=GPT2_WINDOW,
        autocast=True,
    ),
    Network(
        "GRU, 4 layers of 512",
        lambda: GRULanguageModel(WIKITEXT, depth=4, width=512),
        methods.cross_layer,
        "cross_layer",
        WIKITEXT,
        batch=64,
        window=64,
        autocast=False,
    ),
)
"""GPT-2 small has 124M parameters with its embedding tied, as it was published, and 163M without."""


def on_gpu(pace: Pace, device: torch.device, subjects: Sequence[Network] = NETWORKS_OF_GPU) -> dict[str, Any]:
    """Time the tied step over the untied one, in turns, and count its tokens and FLOPs."""
    return {"rows": [_row(subject, pace, device) for subject in subjects]}


def holes(reason: str) -> dict[str, Any]:
    """Return the rows of `on_gpu` with the reason why they are empty."""
    return {"rows": [{"subject": net.name, "tying": net.tying, "reason": reason} for net in NETWORKS_OF_GPU]}


def _row(subject: Network, pace: Pace, device: torch.device) -> dict[str, Any]:
    tied, untied = (_network_step(subject, device, tied=tied) for tied in (True, False))
    pair = in_turns(tied, untied, **pace.limits(warmup=5, device=device))
    return {
        "subject": subject.name,
        "tying": subject.tying,
        "precision": "bf16-mixed" if subject.autocast else "32-true, output bf16",
        "tokens": subject.tokens,
        "num_params": tied.num_params(),
        "num_params_untied": untied.num_params(),
        "pair": pair.as_record(),
        "flops": flops_of(tied),
        "peak_per_s": datasheet_rate(torch.bfloat16, device) if subject.autocast else None,
        "suspect": other_processes(device),
    }


def _network_step(subject: Network, device: torch.device, *, tied: bool) -> WordStep:
    torch.manual_seed(0)
    model = subject.make()
    if tied:
        subject.tie(model).apply(model)
    return WordStep(model, subject.vocabulary, subject.batch, subject.window, device, subject.autocast)
