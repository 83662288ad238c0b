"""The memory meter, against models whose bytes can be counted by hand, and on every network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.measure.memory import peak_bytes, peak_rss_bytes
from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM

FLOAT = 4


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


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        peak_bytes(nn.ReLU(), None, lambda: None)


def test_resident_memory_grows_by_what_is_touched() -> None:
    before = peak_rss_bytes()
    block = bytearray(before + 2**28)  # larger than everything so far
    assert 2**20 < before < len(block) <= peak_rss_bytes() < 3 * len(block)
