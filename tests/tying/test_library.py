"""Plans for networks that name no parts: those of `transformers`, and whatever else is a module."""

import copy
import functools
import re
import warnings
from collections import Counter

import pytest
import torch
from pretrained import KNOWN, made, read
from torch import nn

from bench.tying import (
    HARD,
    NotApplicable,
    Tie,
    TyingPlan,
    cross_layer,
    embedding,
    relaxed,
    sequence,
    soft,
    top_k,
)
from bench.tying.errors import BadInput
from bench.tying.structure import expand, parts_of

every_architecture = pytest.mark.parametrize("name", KNOWN)
UNTIED = {"tie_word_embeddings": False}


def num_params(model):
    return sum(p.numel() for p in model.parameters())


@every_architecture
def test_the_stack_is_found(name):
    model, known = made(name), KNOWN[name]
    found = parts_of(model).stack
    assert found == expand(model, known.stack) and len(found) == known.blocks


@every_architecture
def test_roles_cover_the_weights_of_the_blocks(name):
    model = made(name)
    parts = parts_of(model)
    roles = {
        parts.role(f"{block}.{leaf}")
        for block in parts.stack
        for leaf, _ in model.get_submodule(block).named_parameters()
    }
    expected = {
        "resnet": {"conv", "norm"},
        "llama": {"attention", "feed_forward", "norm"},
        "t5": {"attention", "feed_forward", "norm"},
    }
    assert roles == expected.get(name, {"attention", "feed_forward", "norm", "bias"})


@every_architecture
@pytest.mark.parametrize("way", ["found", "named"])
def test_a_plan_ties_what_it_predicts_and_outputs_stay_the_right_shape(name, way):
    model, known = made(name), KNOWN[name]
    plan = cross_layer(model, **({} if way == "found" else {"stack": known.stack}))
    predicted, shape = plan.num_params(model), read(name, model).shape
    summary = plan.summary(model)
    assert summary.num_params == (num_params(model), predicted)
    plan.apply(model)
    plan.verify(model)
    assert num_params(model) == predicted < summary.num_params[0]
    assert summary.bytes_saved == 4 * (summary.num_params[0] - predicted)
    assert read(name, model).shape == shape


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in ("resnet",)])
def test_scope_is_a_role(name):
    model = made(name)
    attention = cross_layer(model, scope="attention")
    names = {one for tie in attention.ties for one in tie.names}
    assert names and all(re.search("attn|attention", one.lower()) for one in names)
    both = cross_layer(model, scope=["attention", "feed_forward"])
    assert attention + cross_layer(model, scope="feed_forward") == both


def test_an_encoder_decoder_has_two_stacks():
    model = made("t5")
    plan = cross_layer(model, stack="encoder.block") + cross_layer(model, stack="decoder.block")
    assert {tie.names[0].split(".")[0] for tie in plan.ties} == {"encoder", "decoder"}
    plan.apply(model)
    assert num_params(model) == plan.num_params(model)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "t5"])
def test_an_embedding_that_is_tied_already_is_respected_and_reported(name):
    own = made(name, tie_word_embeddings=True)
    plan = embedding(own)
    assert plan.num_params(own) == num_params(own)
    own_ties = cross_layer(own).summary(own).shared_before
    ends = parts_of(own)
    assert any({ends.embedding, ends.unembedding} <= set(names) for names in own_ties)
    cross_layer(own).apply(own)
    plan.verify(own)
    if name == "t5":  # ties whatever its config says
        return
    untied = made(name, **UNTIED)
    assert embedding(untied).num_params(untied) < num_params(untied)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_network_without_embeddings_says_so(name):
    with pytest.raises(NotApplicable, match="no input embedding"):
        embedding(made(name))


def deep(name, plan, model):
    return copy.deepcopy(model)


def moved(name, plan, model):
    return model.to(torch.float64).to(torch.float32)


def reloaded(name, plan, model):
    other = plan.apply(made(name))
    other.load_state_dict(model.state_dict())
    return other


def compiled(name, plan, model):
    return torch.compile(model, backend="aot_eager")  # the default backend wants a C++ compiler


PLANS = {"hard": cross_layer, "relaxed": functools.partial(relaxed, rank=1)}
TRIPS = [(trip, "hard") for trip in (deep, moved, reloaded, compiled)]
TRIPS += [(trip, "relaxed") for trip in (deep, moved, reloaded)]


@every_architecture
@pytest.mark.parametrize(("trip", "kind"), TRIPS)
def test_ties_and_outputs_survive(name, trip, kind):
    survives(name, trip, kind)


def test_a_relaxed_network_is_compiled_too():
    survives("gpt2", compiled, "relaxed")


def survives(name, trip, kind):
    model = made(name)
    plan = PLANS[kind](model)
    plan.apply(model)
    before = read(name, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of itself
        after = trip(name, plan, model)
        torch.testing.assert_close(read(name, after), before)
    plan.verify(getattr(after, "_orig_mod", after))


class Logits(nn.Module):
    """A network as a function of one tensor: what an exporter likes."""

    def __init__(self, name, model):
        super().__init__()
        (self.argument,) = KNOWN[name].reads
        self.model = model

    def forward(self, x):
        return self.model(**{self.argument: x}).logits


@pytest.mark.parametrize("name", ["gpt2", "vit", "resnet"])
def test_an_exported_network_holds_a_tied_weight_once(name, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip's [onnx])")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (pip's [onnx])")
    model = made(name)
    model.config.use_cache = False
    plan = cross_layer(model)
    plan.apply(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reads = tuple(KNOWN[name].reads.values())
        torch.onnx.export(Logits(name, model), reads, dynamo=True, verbose=False).save(tmp_path / "x.onnx")
    # The exporter transposes some, and renames those: they are known by their shape.
    graph = onnx.load(tmp_path / "x.onnx").graph
    held = Counter(tuple(sorted(weight.dims)) for weight in graph.initializer)
    distinct = Counter(tuple(sorted(p.shape)) for p in model.parameters())
    shapes = {tuple(sorted(model.get_parameter(tie.names[0]).shape)) for tie in plan.ties}
    assert {shape: held[shape] for shape in shapes} == {shape: distinct[shape] for shape in shapes}


def test_two_models_are_tied_through_one_plan():
    pair = nn.ModuleDict({"a": made("gpt2"), "b": made("gpt2")})
    names = [name for name, _ in pair["a"].transformer.h.named_parameters()]
    plan = TyingPlan(tuple(Tie((f"a.transformer.h.{name}", f"b.transformer.h.{name}")) for name in names))
    assert plan.num_params(pair) == num_params(pair) - sum(
        p.numel() for p in pair["a"].transformer.h.parameters()
    )
    close = plan.soften(0.5)
    with torch.no_grad():
        pair["b"].transformer.h[0].ln_1.bias += 1
    assert close.penalty(pair).item() == pytest.approx(0.5 * 16)
    plan.apply(pair)
    assert pair["a"].transformer.h[0].ln_1.bias is pair["b"].transformer.h[0].ln_1.bias


def test_a_summary_reads_as_a_table():
    model = made("gpt2", **UNTIED)
    lines = str((sequence(model, groups=2) + embedding(model)).summary(model)).splitlines()
    assert lines[0].split() == ["weights", "groups", "shape", "uses", "tensors", "parameters", "saved"]
    assert lines[2].split("  ")[0] == "lm_head.weight = transformer.wte.weight"
    (row,) = [line for line in lines if "attn.c_attn.weight" in line]
    # 16 x 48 = 768 numbers of 4 bytes, of which two tensors are spared
    assert re.split("  +", row) == [
        *("transformer.h.*.attn.c_attn.weight", "{0-1} {2-3}", "16 x 48", "4 of 4", "4 -> 2"),
        *("3,072 -> 1,536", "6 KiB"),
    ]
    half = str(top_k(model, k=2).soften(0.1).summary(model))
    assert "soft 0.1 {2-3}" in half and "2 of 4" in half
    assert "the model shares by itself" not in half
    own = made("gpt2")
    assert "shares by itself: transformer.wte.weight = lm_head.weight" in str(top_k(own, k=2).summary(own))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 3))
        self.register_buffer("mean", torch.zeros(4))


def test_a_plain_module_has_a_stack_too():
    assert [tie.names for tie in cross_layer(Net()).ties] == [("body.0.weight", "body.2.weight")]


def refused(model, plan, *words):
    before = {name: (id(p), p.detach().clone()) for name, p in model.named_parameters(remove_duplicate=False)}
    with pytest.raises(BadInput) as error:
        plan.apply(model)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)
    after = dict(model.named_parameters(remove_duplicate=False))
    assert all(id(after[name]) == old and after[name].equal(value) for name, (old, value) in before.items())


def tied(*names, strength=HARD):
    return TyingPlan((Tie(names, strength),))


def test_a_wrong_name_is_answered_with_the_nearest():
    refused(Net(), tied("body.0.weigth", "body.2.weight"), "body.0.weigth", "did you mean body.0.weight?")


def test_two_shapes_are_both_shown():
    refused(Net(), tied("body.0.weight", "body.3.weight"), "(4, 4)", "(3, 4)")


def test_a_buffer_is_refused():
    refused(Net(), tied("mean", "body.0.bias"), "mean", "is a buffer")


def test_a_module_is_no_parameter():
    refused(Net(), tied("body.0", "body.2.weight"), "body.0", "no parameter of that name")


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_a_hook_on_a_gradient_is_not_lost_without_a_word(register):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    getattr(model[0].weight, register)(lambda given: None)
    cross_layer(model).apply(model)  # the first is the tensor that all share
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    getattr(model[1].weight, register)(lambda given: None)
    refused(model, cross_layer(model), "1.weight, whose hook on its gradient")


def test_a_frozen_weight_is_refused():
    model = Net()
    model.body[2].weight.requires_grad_(False)
    refused(model, tied("body.0.weight", "body.2.weight"), "body.2.weight", "frozen")


def test_quantised_weights_are_refused():
    model = Net()
    for at in (0, 2):
        model.body[at].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    refused(model, tied("body.0.weight", "body.2.weight"), "int8", "tie first, quantise after")


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_made_before_is_refused(make):
    model, plan = Net(), tied("body.0.weight", "body.2.weight")
    optimizer = make(model.parameters(), lr=0.1)
    refused(model, plan, "body.2.weight", "an optimizer holds", "then make the optimizer")
    assert optimizer.param_groups
    del optimizer
    plan.apply(model)
    plan.verify(model)
    later = make(model.parameters(), lr=0.1)
    plan.apply(model)  # once more changes nothing, and takes nothing from the optimizer
    assert later.param_groups


@pytest.mark.parametrize("kind", ["linear", "gru", "gpt2"])
def test_a_model_that_nobody_else_holds_is_not_searched_for(monkeypatch, kind):
    """Asking for all objects takes a tenth of a second, of every run."""

    def fail():
        raise AssertionError("all objects were asked for")

    if kind == "gpt2":
        model = made("gpt2")
    else:
        block = {"linear": nn.Linear, "gru": nn.GRU}[kind]
        model = nn.Sequential(*(block(4, 4) for _ in range(3)))
    plan = cross_layer(model)
    monkeypatch.setattr("bench.tying.apply.gc.get_objects", fail)
    plan.apply(model)
    plan.apply(model)


def test_an_optimizer_that_is_garbage_is_not_blamed():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.itself = optimizer
    del optimizer
    tied("body.0.weight", "body.2.weight").apply(model)


def test_soft_ties_do_not_mind_an_optimizer():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    soft(model, strength=0.1).apply(model)
    assert optimizer.param_groups


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ("layers", ["'layers'", "body"]),
        ("boody.*", ["unknown", "body"]),
        (["body.0", "body.0"], ["each once"]),
        (["body.0", "body.9"], ["body.9"]),
    ],
)
def test_a_wrong_stack_is_answered_with_the_module_lists(stack, words):
    with pytest.raises(BadInput) as error:
        cross_layer(Net(), stack=stack)
    assert all(word in str(error.value) for word in words), error.value
