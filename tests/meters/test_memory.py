"""The memory meter, against models whose bytes can be counted by hand, and on every network."""

from collections.abc import Callable

import pytest
import torch
from grid import CELLS, applies, build, step
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional as F

from bench.meters.memory import (
    device_peak_bytes,
    peak_bytes,
    peak_rss_bytes,
    predicted_bytes,
    state_bytes,
    timeline,
)
from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM
from bench.training import build as assembly

FLOAT = 4
CPU = torch.device("cpu")


class Chain(nn.Module):
    """Three square matrices of 100 x 100, no bias: 40,000 bytes each."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(100, 100, bias=False) for _ in range(3))
        if shared:
            for layer in self.layers:
                layer.weight = self.layers[0].weight

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]
) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"foreach": False}])
@pytest.mark.parametrize(("shared", "matrices"), [(False, 3), (True, 1)])
def test_parameters_gradients_and_state_are_exact(options: dict, shared: bool, matrices: int) -> None:
    model, x = Chain(shared), torch.randn(1, 100)
    optimizer = torch.optim.AdamW(model.parameters(), **options)
    peak = peak_bytes(model, optimizer, training_step(model, optimizer, lambda: model(x).sum()), [x])
    assert peak["parameters"] == matrices * 100 * 100 * FLOAT
    assert peak["optimizer_state"] == matrices * (2 * 100 * 100 + 1) * FLOAT  # two moments, and a step count
    assert peak["inputs"] == 100 * FLOAT
    if "fused" in options or shared:  # the peak is when the last gradient, still in flight, is a temporary
        assert peak["gradients"] + peak["temporaries"] >= matrices * 100 * 100 * FLOAT
    else:  # the optimizer's own temporaries come on top of all gradients
        assert peak["gradients"] == matrices * 100 * 100 * FLOAT
        assert peak["temporaries"] >= 100 * 100 * FLOAT
    assert peak["total"] == sum(peak.values()) - peak["total"]


def test_inference_holds_two_neighbouring_activations() -> None:
    model, x = Chain(shared=False), torch.randn(50, 100)

    @torch.no_grad()
    def step() -> None:
        model(x)

    peak = peak_bytes(model, None, step, [x])
    assert peak["activations"] == 2 * 50 * 100 * FLOAT
    assert peak["total"] == (3 * 100 * 100 + 3 * 50 * 100) * FLOAT
    assert peak["gradients"] == peak["optimizer_state"] == peak["temporaries"] == 0


def test_training_keeps_what_the_backward_pass_needs() -> None:
    model, x = Chain(shared=False), torch.randn(50, 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    small = peak_bytes(model, optimizer, training_step(model, optimizer, lambda: model(x).sum()), [x])
    large = peak_bytes(
        model, optimizer, training_step(model, optimizer, lambda: model(x.repeat(4, 1)).sum()), [x]
    )
    assert large["total"] - small["total"] > 3 * (200 - 50) * 100 * FLOAT


TOKENS = torch.arange(64).reshape(4, 16)


def language_model_loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(TOKENS)[0].flatten(0, 1), TOKENS.flatten())


def image_loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(torch.ones(4, 1, 8, 8)), torch.arange(4))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor]]] = {
    "cnn": (lambda: ResNet(1, 10, depth=6, width=8, dropout=0.1), image_loss),
    "gru": (lambda: GRULanguageModel(64, depth=3, width=16, dropout=0.1), language_model_loss),
    "gpt2": (lambda: CausalLM(64, 16, "gpt2", depth=3, width=16, heads=2, dropout=0.1), language_model_loss),
    "llama": (
        lambda: CausalLM(64, 16, "llama", depth=3, width=16, heads=2, dropout=0.1),
        language_model_loss,
    ),
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_measured_tied_and_untied(name: str, tied: bool) -> None:
    make, loss = NETWORKS[name]
    model = make()
    if tied:
        share_last_two_blocks(model)
    optimizer = torch.optim.AdamW(model.parameters())
    train = peak_bytes(model, optimizer, training_step(model, optimizer, lambda: loss(model)), [TOKENS])
    unique = sum(parameter.numel() for parameter in model.parameters()) * FLOAT
    assert train["parameters"] == unique
    assert train["optimizer_state"] == 2 * unique + FLOAT * len(list(model.parameters()))
    assert min(train.values()) >= 0
    model.eval()
    with torch.no_grad():
        inference = peak_bytes(model, None, lambda: loss(model), [TOKENS])
    assert inference["parameters"] == unique
    assert 0 < inference["activations"] < train["activations"]


def share_last_two_blocks(model: nn.Module) -> None:
    one, other = (model.get_submodule(block) for block in model.parts.stack[-2:])
    before = sum(parameter.numel() for parameter in model.parameters())
    for name, parameter in list(one.named_parameters()):
        owner, _, attribute = name.rpartition(".")
        if parameter.ndim >= 2 and parameter.shape == other.get_parameter(name).shape:
            setattr(other.get_submodule(owner), attribute, parameter)
    assert sum(parameter.numel() for parameter in model.parameters()) < before


@pytest.mark.parametrize(("shared", "matrices"), [(False, 3), (True, 1)])
def test_what_is_held_between_steps_is_predicted_in_the_head(shared: bool, matrices: int) -> None:
    model, x = Chain(shared), torch.randn(1, 100)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    held = state_bytes(model, optimizer, training_step(model, optimizer, lambda: model(x).sum()))
    one = matrices * 40_000
    assert held == {"parameters": one, "gradients": one, "optimizer_state": 2 * one + 4 * matrices}
    assert held == predicted_bytes(matrices * 100 * 100, matrices, FLOAT)


@pytest.mark.parametrize(("task", "tying"), [pair for pair in CELLS if applies(*pair)])
def test_every_cell_holds_what_its_plan_predicts_to_the_byte(cell: Callable, task: str, tying: str) -> None:
    config = cell(task, tying).config
    plain = assembly.network(config, assembly.data_module(config).shapes, 0.0)
    plan = assembly.plan_for(config, plain)
    predicted = predicted_bytes(plan.num_params(plain), plan.num_tensors(plain), FLOAT)
    built = build(cell(task, tying))
    model, optimizer, batch = built.model, built.module.adamw(), built.batches[0]
    assert state_bytes(model, optimizer, lambda: step(built.module, optimizer, batch)) == predicted
    tracker = MemTracker()  # torch's own: storages, where ours are tensors
    tracker.track_external(model, optimizer)
    counted = {getattr(kind, "value", kind): b for kind, b in tracker.get_tracker_snapshot()[CPU].items()}
    assert [counted[kind] for kind in ("Parameter", "Gradient", "Optstate")] == list(predicted.values())


def test_a_gradient_counts_as_one_wherever_its_parameter_is_used() -> None:
    model, x = Chain(shared=False), torch.randn(400, 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss() -> Tensor:
        apart = x @ model.layers[0].weight.t()  # outside the module that owns it, which then is never called
        return (model.layers[2](model.layers[1](apart)) @ x.t()).sum()

    def backward() -> None:
        loss().backward()
        x.repeat(100, 1)  # the peak, after all gradients

    peak = peak_bytes(model, optimizer, backward, [x])
    assert peak["gradients"] == 3 * 40_000


def test_a_timeline_passes_the_peak() -> None:
    model, x = Chain(shared=False), torch.randn(50, 100)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    train = training_step(model, optimizer, lambda: model(x).sum())
    moments = timeline(model, optimizer, train, [x])
    assert max(moment.held for moment in moments) == peak_bytes(model, optimizer, train, [x])["total"]
    names = [moment.operation for moment in moments]
    assert names.count("aten.mm.default") == 3 + 5  # the first layer's input needs no gradient
    places = [moment.place for moment in moments if moment.operation == "aten.mm.default"]
    assert len(set(places)) == 6  # three layers, forward and backward


def test_without_a_gpu_its_figures_are_absent() -> None:
    assert device_peak_bytes(lambda: None, CPU) == {}


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        peak_bytes(nn.ReLU(), None, lambda: None)


def test_resident_memory_grows_by_what_is_touched() -> None:
    before = peak_rss_bytes()
    block = bytearray(before + 2**28)  # larger than everything so far
    assert 2**20 < before < len(block) <= peak_rss_bytes() < 3 * len(block)
