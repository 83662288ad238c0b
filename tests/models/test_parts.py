"""What holds for all networks: names that resolve, roles, dropout that acts, weights that are the seed's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bench.models.checks import dropout_sites
from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM, TextClassifier

IMAGES = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)
TOKENS = torch.arange(16).reshape(2, 8)

NETWORKS: dict[str, Callable[[float], nn.Module]] = {
    "cnn": lambda dropout: ResNet(1, 10, depth=6, width=8, dropout=dropout),
    "gru": lambda dropout: GRULanguageModel(20, depth=3, width=16, dropout=dropout),
    "bert": lambda dropout: TextClassifier(20, 4, 8, depth=3, width=16, heads=2, dropout=dropout),
    "gpt2": lambda dropout: CausalLM(20, 8, "gpt2", depth=3, width=16, heads=2, dropout=dropout),
    "llama": lambda dropout: CausalLM(20, 8, "llama", depth=3, width=16, heads=2, dropout=dropout),
}
ROLES = {
    "cnn": {"conv", "norm"},
    "gru": {"input", "recurrent", "norm", "bias"},
    "bert": {"attention", "feed_forward", "norm", "bias"},
    "gpt2": {"attention", "feed_forward", "norm", "bias"},
    "llama": {"attention", "feed_forward", "norm"},
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def output(name: str, model: nn.Module) -> Tensor:
    out = model(IMAGES if name == "cnn" else TOKENS)
    return out if name in ("cnn", "bert") else out[0]


@every_network
def test_every_named_part_exists_and_the_stack_is_in_order(name: str) -> None:
    model = NETWORKS[name](0.0)
    parts = model.parts
    order = [module for module, _ in model.named_modules() if module in parts.stack]
    assert list(parts.stack) == order
    assert len(order) == (6 if name == "cnn" else 3)
    for matrix, without in ((parts.embedding, ("cnn",)), (parts.unembedding, ("cnn", "bert"))):
        assert (matrix is None) == (name in without)
        assert matrix is None or model.get_parameter(matrix).ndim == 2


@every_network
def test_every_parameter_of_a_block_has_a_role_and_the_others_are_outside(name: str) -> None:
    model = NETWORKS[name](0.0)
    roles = {
        parameter: model.parts.role(parameter)
        for parameter, _ in model.named_parameters()
        if any(parameter.startswith(f"{block}.") for block in model.parts.stack)
    }
    assert set(roles.values()) == ROLES[name]
    for parameter, role in roles.items():
        assert (model.get_parameter(parameter).ndim < 2) == (role in ("norm", "bias"))
    assert name == "cnn" or model.parts.role(model.parts.embedding) == "other"


@every_network
def test_dropout_changes_the_output_in_training_and_only_there(name: str) -> None:
    torch.manual_seed(0)
    with_dropout, without = NETWORKS[name](0.5), NETWORKS[name](0.0)
    assert set(dropout_sites(with_dropout).values()) == {0.5}
    assert dropout_sites(without) == {}
    assert not torch.equal(output(name, with_dropout), output(name, with_dropout))
    assert torch.equal(output(name, without), output(name, without))
    with_dropout.eval()
    assert torch.equal(output(name, with_dropout), output(name, with_dropout))


@every_network
def test_each_listed_site_drops_something_by_itself(name: str) -> None:
    torch.manual_seed(0)
    for site in dropout_sites(NETWORKS[name](0.5)):
        model = NETWORKS[name](0.5)
        for other in set(dropout_sites(model)) - {site}:
            _silence(model, other)
        assert dropout_sites(model) == {site: 0.5}
        assert not torch.equal(output(name, model), output(name, model)), site


def _silence(model: nn.Module, site: str) -> None:
    owner, _, attribute = site.rpartition(".")
    module = model.get_submodule(owner)
    if isinstance(getattr(module, attribute), nn.Dropout):
        getattr(module, attribute).p = 0.0
    else:
        setattr(module, attribute, 0.0)


@every_network
def test_the_seed_alone_makes_the_weights(name: str) -> None:
    def weights(seed: int, dropout: float = 0.0) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.detach().flatten() for parameter in NETWORKS[name](dropout).parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert torch.equal(first, weights(1, dropout=0.5))
    assert not torch.equal(first, weights(2))
