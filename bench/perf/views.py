"""What a view costs in a training step, and what the lowered network takes, each against the untied twin."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import LlamaConfig, LlamaForCausalLM

from bench.meters.timing import in_turns
from bench.models.autoencoder import Autoencoder
from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.models.local import LocalNet
from bench.perf.timing import Pace, in_record
from bench.tying import TyingPlan, attention, lowering, methods, symmetry

WINDOW, WORDS = 64, 1_000


class Network(NamedTuple):
    """A network and a batch for it, how it is tied, and how it is lowered then, None where it is not."""

    make: Callable[[int], nn.Module]
    batch: Callable[[], Tensor]
    tie: Callable[[nn.Module], TyingPlan]
    lower: Callable[[nn.Module], nn.Module] | None = None


def words() -> Tensor:
    return torch.randint(WORDS, (8, WINDOW), generator=torch.Generator().manual_seed(0))


def pictures() -> Tensor:
    return torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def llama(width: int) -> nn.Module:
    sizes = {"hidden_size": 2 * width, "intermediate_size": 8 * width, "num_attention_heads": 8}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=4, vocab_size=WORDS, **sizes))


NETWORKS = {
    "heads (mqa), Llama": Network(
        llama,
        words,
        attention.mqa,
        attention.grouped_query,
    ),
    "keys and values (k_equals_v), Llama": Network(
        llama,
        words,
        attention.k_equals_v,
    ),
    "gates, GRU": Network(lambda width: GRULanguageModel(WORDS, 4, width), words, methods.gates),
    "positions, locally connected": Network(
        lambda width: LocalNet(1, 10, (8, 8), (3, 3), width=width // 4),
        pictures,
        symmetry.over_positions,
        lowering.convolutional,
    ),
    "a matrix and its transpose, autoencoder": Network(
        lambda width: Autoencoder(1, 10, (8, 8), depth=2, width=width), pictures, symmetry.transpose
    ),
    "entries (hashed, 1/8), CNN": Network(
        lambda width: ResNet(1, 10, depth=6, width=width // 4),
        pictures,
        lambda model: methods.hashed(model, fraction=0.125),
    ),
    "whole blocks (cross_layer), GRU": Network(
        lambda width: GRULanguageModel(WORDS, 4, width), words, methods.cross_layer
    ),
}


class Step:
    """Take the same training step again at each call; a weight that a view makes is made once a step."""

    def __init__(self, model: nn.Module, batch: Tensor) -> None:
        self.model, self.batch = model.train(), batch
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with parametrize.cached():
            outputs = self.model(self.batch)
            outputs = outputs if isinstance(outputs, Tensor) else outputs[0]
            outputs.square().mean().backward()
        self.optimizer.step()


def measure(pace: Pace) -> dict[str, Any]:
    """Measure a step of each tied network, and of the lowered one, over its untied twin's, in turns."""
    return {"rows": [row for name, network in NETWORKS.items() for row in _rows(name, network, pace)]}


def _rows(name: str, network: Network, pace: Pace) -> list[dict[str, Any]]:
    untied = network.make(16 if pace.tiny else 64)
    tied = network.tie(untied).apply(network.make(16 if pace.tiny else 64))
    sides = {"as a view": tied}
    if network.lower is not None:
        sides["lowered"] = network.lower(tied)
    batch, rows = network.batch(), []
    for form, model in sides.items():
        pair = in_turns(Step(model, batch), Step(untied, batch), **pace.limits(1 / 2))
        row = {"subject": name, "form": form, "num_params": sum(p.numel() for p in model.parameters())}
        rows.append(
            row | {"num_params_untied": sum(p.numel() for p in untied.parameters())} | in_record(pair)
        )
    return rows
