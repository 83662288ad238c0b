"""A model inside torch's wrappers is tied, counted and saved under the names that it has by itself."""

import copy
import os

import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from bench.tying import cross_layer, cycle, relaxed, untied
from bench.tying.checkpoint import load, save
from bench.tying.errors import BadInput
from bench.tying.int8 import num_bytes, quantize
from bench.tying.similarity import cosine
from bench.tying.structure import modules_by_name, named_parameters


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x):
        return x + self.fc2(self.fc1(x).tanh())


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x * self.scale


def net():
    torch.manual_seed(0)
    return Net()


def each_block(wrap):
    def wrapped(model):
        model.blocks = nn.ModuleList(wrap(block) for block in model.blocks)
        return model

    return wrapped


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "none": lambda model: model,
    "compiled": compiled,
    "data parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "checkpointed blocks": each_block(checkpoint_wrapper),
    "compiled blocks": each_block(compiled),
    "compiled data parallel": lambda model: compiled(nn.DataParallel(model)),
    "data parallel blocks": each_block(nn.DataParallel),
    "checkpointed, compiled": lambda model: compiled(each_block(checkpoint_wrapper)(model)),
}
every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)
X = torch.linspace(-1, 1, 12).view(2, 6)


@every_wrapper
@pytest.mark.parametrize(
    "strategy", [cross_layer, lambda m: cycle(m, groups=2), lambda m: relaxed(m, rank=2)]
)
def test_plans_names_and_counts_are_those_of_the_model(wrapper, strategy):
    plain, wrapped = net(), WRAPPERS[wrapper](net())
    plan = strategy(plain)
    assert strategy(wrapped) == plan
    assert [name for name, _ in named_parameters(wrapped)] == [name for name, _ in named_parameters(plain)]
    assert list(modules_by_name(wrapped)) == list(modules_by_name(plain))
    assert plan.num_params(wrapped) == plan.num_params(plain)
    assert str(plan.summary(wrapped)) == str(plan.summary(plain))
    assert cosine(wrapped) == cosine(plain)
    plan.apply(plain)
    plan.apply(wrapped, example=X)
    plan.verify(wrapped)
    plan.prove(wrapped, X)
    with torch.no_grad():
        assert wrapped(X).equal(plain(X))


@every_wrapper
@pytest.mark.parametrize("int8", [False, True])
def test_a_file_fits_the_model_whatever_either_is_wrapped_in(wrapper, int8, tmp_path):
    path, wrapped = tmp_path / "model.safetensors", WRAPPERS[wrapper](net())
    plan = cross_layer(wrapped)
    plan.apply(wrapped)
    if int8:
        quantize(wrapped, plan)
    save(wrapped, plan, path)
    with torch.no_grad():
        expected = wrapped(X)
        for other in WRAPPERS:
            if other.startswith("none") or not int8:
                torch.manual_seed(1)
                back, same = load(path, WRAPPERS[other](Net()))
                assert same == plan and back(X).equal(expected), other
                same.verify(back)
    assert num_bytes(wrapped) >= num_bytes(load(path, Net())[0])


@every_wrapper
def test_a_stack_is_named_as_in_the_model(wrapper):
    wrapped = WRAPPERS[wrapper](net())
    assert cross_layer(wrapped, stack="blocks") == cross_layer(net())
    assert cross_layer(wrapped, stack=["blocks.0", "blocks.3"]).ties[0].names == (
        "blocks.0.fc1.weight",
        "blocks.3.fc1.weight",
    )


@pytest.fixture
def one_rank(tmp_path):
    distributed.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/meeting")
    yield
    distributed.destroy_process_group()


def test_ddp_that_holds_the_parameters_already_is_refused(one_rank):
    model = net()
    plan = cross_layer(model)
    parallel = nn.parallel.DistributedDataParallel(model)
    for tied in (model, parallel):
        before = [id(p) for p in model.parameters()]
        with pytest.raises(
            BadInput, match="DistributedDataParallel holds already; apply the plan, then wrap"
        ):
            plan.apply(tied)
        assert [id(p) for p in model.parameters()] == before
    assert plan.num_params(parallel) == plan.num_params(model)
    free = copy.deepcopy(model)
    plan.apply(free)
    held = nn.parallel.DistributedDataParallel(free)
    plan.apply(held)  # once more changes nothing
    plan.verify(held)
    for _ in range(2):
        held(X).sum().backward()
    assert "WORLD_SIZE" not in os.environ


@every_wrapper
@pytest.mark.parametrize("strategy", [cross_layer, lambda m: relaxed(m, rank=2, scope="all")])
def test_untied_is_a_plain_network_that_answers_the_same(wrapper, strategy):
    model = WRAPPERS[wrapper](net())
    strategy(model).apply(model)
    free = untied(model)
    assert {name: p.shape for name, p in named_parameters(free)} == {
        n: p.shape for n, p in net().named_parameters()
    }
    assert len(list(free.parameters())) == len(list(net().parameters()))
    assert not any("arametrized" in type(module).__name__ for module in free.modules())
    with torch.no_grad():
        torch.testing.assert_close(free(X), model(X))
    strategy(net()).verify(model)


@pytest.mark.parametrize("kind", [nn.Linear, nn.GRU, nn.LSTM])
def test_a_folded_network_is_of_the_classes_that_it_was_and_the_relaxed_one_stays(kind):
    model = nn.ModuleDict({"layers": nn.ModuleList(kind(4, 4) for _ in range(2))})
    plan = relaxed(model, rank=1)
    plan.apply(model)
    twin, free = copy.deepcopy(model), untied(model)
    x = torch.ones(3, 2, 4)
    for at in range(2):
        said = [net["layers"][at](x) for net in (model, twin, free)]
        first = [each[0] if isinstance(each, tuple) else each for each in said]
        torch.testing.assert_close(first[0], first[1])
        torch.testing.assert_close(first[0], first[2])
        assert type(free["layers"][at]) is kind
    plan.verify(model)
    free.load_state_dict(nn.ModuleDict({"layers": nn.ModuleList(kind(4, 4) for _ in range(2))}).state_dict())


@pytest.mark.parametrize("computed", ["weight_norm", "pruned", "kept in a list"])
def test_a_module_that_keeps_what_it_computed_is_untied(computed):
    """torch itself does not copy such a module."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    for layer in model:
        if computed == "weight_norm":
            with pytest.warns(FutureWarning):
                nn.utils.weight_norm(layer)
        elif computed == "pruned":
            prune.random_unstructured(layer, "weight", 0.5)
        else:
            layer.cache = [layer.weight * 2]
    cross_layer(model, scope="all").apply(model)
    answered = model(torch.ones(2, 4))
    free = untied(model)
    torch.testing.assert_close(free(torch.ones(2, 4)), answered)
    assert len({*map(id, free.parameters())}) > len({*map(id, model.parameters())})
