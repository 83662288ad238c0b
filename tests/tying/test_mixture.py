"""`experts`: one bank of experts for layers in a row."""

import pytest

from bench.models.transformer import CausalLM
from bench.tying import NotApplicable, TyingPlan, cross_layer, experts
from bench.tying.errors import BadInput

EXPERT = 8 * 32 * 2 + 32 * 8  # of Mixtral: gate, up and down, between widths of 8 and 32
BANK = 4 * EXPERT


def network(architecture="mixtral", **config):
    return CausalLM(50, architecture=architecture, depth=4, width=8, heads=2, window=8, config=config)


@pytest.fixture
def mixture():
    return network(num_local_experts=4, num_experts_per_tok=2, intermediate_size=32)


@pytest.mark.parametrize(("repeats", "banks"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_as_many_banks_are_left_as_groups_of_layers(mixture, repeats, banks):
    own = TyingPlan().num_params(mixture)
    plan = experts(mixture, repeats=repeats)
    assert plan.num_params(mixture) == own - (4 - banks) * BANK
    plan.apply(mixture)
    assert sum(parameter.numel() for parameter in mixture.parameters()) == own - (4 - banks) * BANK


def test_routers_and_attention_stay_each_layers_own(mixture):
    names = {name for tie in experts(mixture, repeats=4).ties for name in tie.names}
    assert len(names) == 2 * 4  # two fused matrices of each layer
    assert all(".experts." in name for name in names)
    routers = {
        tie for tie in cross_layer(mixture, scope="feed_forward").ties if "gate.weight" in tie.names[0]
    }
    assert experts(mixture, repeats=4) == TyingPlan(
        tuple(tie for tie in cross_layer(mixture, scope="feed_forward").ties if tie not in routers)
    )


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_network_without_experts_is_told(architecture):
    with pytest.raises(NotApplicable, match="no experts in this network"):
        experts(network(architecture), repeats=2)


@pytest.mark.parametrize("repeats", [0, 5, 1.5, True])
def test_a_number_that_is_no_number_of_layers_is_refused(mixture, repeats):
    with pytest.raises(BadInput, match="repeats"):
        experts(mixture, repeats=repeats)
