"""What a GPU makes of larger language models: tokens per second, share of its peak, tied against untied."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.measure.flops import flops_of
from bench.measure.rates import datasheet_rate
from bench.measure.turns import in_turns, other_processes
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM
from bench.perf.pace import Pace
from bench.perf.subjects import WIKITEXT
from bench.perf.words import WordStep
from bench.tying import TyingPlan, strategies


@dataclass(frozen=True)
class Subject:
    """A network with the batch and the tie that it is measured at; bf16 autocast around all of it, or float32."""

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

SUBJECTS = (
    Subject(
        "GPT-2 small",
        lambda: CausalLM(GPT2_WORDS, GPT2_WINDOW, depth=12, width=768, heads=12),
        strategies.embedding,
        "embedding",
        GPT2_WORDS,
        batch=16,
        window=GPT2_WINDOW,
        autocast=True,
    ),
    Subject(
        "GRU, 4 layers of 512",
        lambda: GRULanguageModel(WIKITEXT, depth=4, width=512),
        strategies.cross_layer,
        "cross_layer",
        WIKITEXT,
        batch=64,
        window=64,
        autocast=False,
    ),
)
"""GPT-2 small has 124M parameters with its embedding tied, as it was published, and 163M without."""


def measure(pace: Pace, device: torch.device, subjects: Sequence[Subject] = SUBJECTS) -> dict[str, Any]:
    """The tied step over the untied one, in turns; what either does a second, as tokens and as a share of the peak."""
    return {"rows": [_row(subject, pace, device) for subject in subjects]}


def holes(reason: str) -> dict[str, Any]:
    """The same rows with the reason why they are empty."""
    return {"rows": [{"subject": one.name, "tying": one.tying, "reason": reason} for one in SUBJECTS]}


def _row(subject: Subject, pace: Pace, device: torch.device) -> dict[str, Any]:
    tied, untied = _step(subject, device, tied=True), _step(subject, device, tied=False)
    pair = in_turns(
        tied,
        untied,
        warmup=5,
        min_turns=pace.turns,
        min_seconds=pace.least_s,
        max_seconds=pace.most_s,
        device=device,
    )
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


def _step(subject: Subject, device: torch.device, *, tied: bool) -> WordStep:
    torch.manual_seed(0)
    model = subject.make()
    if tied:
        subject.tie(model).apply(model)
    return WordStep(model, subject.vocabulary, subject.batch, subject.window, device, subject.autocast)
