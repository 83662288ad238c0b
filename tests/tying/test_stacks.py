"""Which modules are blocks: what repeats in structure, whatever stands between the blocks or beside them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.tying import NotApplicable, cross_layer, cycle, relaxed, top_k
from bench.tying.errors import BadInput
from bench.tying.structure import class_name, stack_of, submodule

LAYERS = {
    "linear": lambda: nn.Linear(8, 8),
    "conv": lambda: nn.Conv2d(8, 8, 3),
    "gru": lambda: nn.GRU(8, 8),
    "norm": lambda: nn.LayerNorm(8),
    "embedding": lambda: nn.Embedding(8, 8),
}
EMPTY = {
    "relu": nn.ReLU,
    "dropout": nn.Dropout,
    "pool": lambda: nn.MaxPool2d(2),
    "identity": nn.Identity,
    "flatten": nn.Flatten,
    "list": nn.Sequential,
}


def names(plan):
    return [tie.names for tie in plan.ties]


@given(
    layer=st.sampled_from(["linear", "conv", "gru"]),
    between=st.lists(st.sampled_from(sorted(EMPTY)), max_size=3),
    depth=st.integers(2, 6),
    groups=st.integers(1, 3),
    before=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_holds_no_parameter_is_no_block(layer, between, depth, groups, before):
    """A stack with such modules between its blocks is tied as one without, under other numbers."""
    groups = min(groups, depth)
    bare = nn.Sequential(*(LAYERS[layer]() for _ in range(depth)))
    order, at = [], {}
    for block in range(depth):
        new = [EMPTY[kind]() for kind in between]
        order += new if before else []
        at[str(block)] = str(len(order))
        order += [LAYERS[layer]()] + ([] if before else new)
    full = nn.Sequential(*order)

    def moved(plan):
        renamed = [tuple(f"{at[n.split('.')[0]]}.{n.split('.')[1]}" for n in tie.names) for tie in plan.ties]
        return [
            (n, tie.blocks)
            for n, tie in sorted(zip(renamed, plan.ties, strict=True), key=lambda pair: pair[0])
        ]

    def told(plan):
        return sorted((tie.names, tie.blocks) for tie in plan.ties)

    for strategy, options in (
        (cycle, {"groups": groups}),
        (top_k, {"k": depth}),
        (cross_layer, {"scope": "all"}),
        (top_k, {"k": max(2, depth - 1)}),
    ):
        assert told(strategy(full, **options)) == moved(strategy(bare, **options))


@given(st.lists(st.sampled_from(sorted(LAYERS) + sorted(EMPTY)), min_size=2, max_size=10))
@settings(max_examples=100, deadline=None)
def test_modules_of_unlike_classes_are_never_tied(kinds):
    model = nn.Sequential(*((LAYERS | EMPTY)[kind]() for kind in kinds))
    for stack in (None, [str(at) for at in range(len(kinds))]):
        try:
            plan = cross_layer(model, scope="all", stack=stack)
        except NotApplicable:
            continue
        for tie in plan.ties:
            assert len({class_name(submodule(model, name.rpartition(".")[0])) for name in tie.names}) == 1


def features(kind, depth=4):
    return nn.Sequential(
        *(layer for _ in range(depth) for layer in (LAYERS[kind](), nn.BatchNorm2d(8), nn.ReLU()))
    )


HEADS = {
    "two wide layers": lambda: nn.Sequential(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)),
    "one": lambda: nn.Sequential(nn.Dropout(), nn.Linear(2048, 100)),
    "three unlike": lambda: nn.ModuleList([nn.Linear(64, 640), nn.LayerNorm(640), nn.Embedding(640, 64)]),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("first", [True, False])
def test_a_larger_list_that_shares_nothing_is_not_the_stack(head, kind, first):
    parts = {"features": features(kind), "head": HEADS[head]()}
    model = nn.ModuleDict(parts if first else dict(reversed(parts.items())))
    assert stack_of(model) == tuple(f"features.{at}" for at in (0, 3, 6, 9))
    assert names(cross_layer(model)) == [tuple(f"features.{at}.weight" for at in (0, 3, 6, 9))]
    assert cross_layer(model) == cross_layer(model, stack="features")
    with pytest.raises(NotApplicable, match=r"head"):
        cross_layer(model, stack="head")


class Numbered(nn.Module):
    """Stages as attributes with numbers, as torchvision has them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.layer1 = nn.Sequential(Stage(8), Stage(8))
        self.layer2 = nn.Sequential(Stage(16), Stage(16))
        self.fc = nn.Linear(8, 10)


class Stage(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)


def test_numbered_attributes_are_a_list():
    assert stack_of(Numbered()) == ("layer1.0", "layer1.1", "layer2.0", "layer2.1")


class Mixed(nn.Module):
    """A block that has what its neighbours have, and something of its own."""

    def __init__(self, own):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        setattr(self, "attention" if own else "memory", nn.Linear(8, 8))


def test_blocks_that_differ_in_a_part_are_one_stack_and_share_the_rest():
    model = nn.ModuleList(Mixed(at % 2) for at in range(4))
    assert stack_of(model) == ("0", "1", "2", "3")
    shared = {tie.names[0].partition(".")[2]: len(tie.names) for tie in cross_layer(model).ties}
    assert shared == {"attention.weight": 2, "down.weight": 4, "memory.weight": 2, "up.weight": 4}


def test_a_message_names_the_stack_that_was_looked_at():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    body = nn.ModuleDict({"body": model})
    with pytest.raises(NotApplicable, match=r"no two of 2 blocks \(body\.\*\) share a name and shape"):
        cross_layer(body)
    with pytest.raises(NotApplicable, match=r"it has 1 \(body\.\*\)"):
        cross_layer(nn.ModuleDict({"body": model[:1]}))
    with pytest.raises(NotApplicable, match=r"no attention parameters in the blocks .* \(body\.\*\)"):
        cross_layer(body, scope="attention")


def test_the_last_role_can_be_asked_for():
    model = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(4, 4) for _ in range(3))})
    assert cross_layer(model, scope="other") == cross_layer(model)


class Expert(nn.Module):
    """Matrices of all experts in one tensor, a convolution of few taps, and a small matrix."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(nn.init.normal_(nn.Linear(1, 1).weight.new_empty(3, 6, 8)))
        self.conv = nn.Conv1d(6, 1, 4)
        self.small = nn.Linear(8, 1)


def test_a_rank_is_one_of_each_expert_and_small_matrices_are_shared_whole():
    model = nn.ModuleList(Expert() for _ in range(2))
    plan = relaxed(model, rank=2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    shapes = plan.differences(model)
    assert {shape for name, shape in shapes.items() if "experts" in name} == {(3, 6, 2), (3, 2, 8)}
    assert not [name for name in shapes if "small" in name or "conv" in name]
    predicted = plan.num_params(model)
    plan.apply(model, merge="mean")
    plan.verify(model)
    assert sum(p.numel() for p in model.parameters()) == predicted
    # Each expert's matrix is the nearest of rank 2 to what it was, apart from the mean.
    mean = (before["0.experts"] + before["1.experts"]) / 2
    for at in range(2):
        apart = before[f"{at}.experts"] - mean
        left_over = before[f"{at}.experts"] - model[at].experts
        for expert in range(3):
            values = nn.Parameter(apart[expert]).detach().svd().S
            assert left_over[expert].detach().norm() == pytest.approx(values[2:].norm().item(), rel=1e-4)


@pytest.mark.parametrize("stack", [3, [0, 1], {"layers": 1}])
def test_a_stack_that_names_nothing_is_refused(stack):
    with pytest.raises(BadInput, match="stack is .*; give the name of a module list"):
        cross_layer(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), stack=stack)
