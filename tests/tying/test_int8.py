"""Weights go to int8 once per tensor, whatever its uses: ties, outputs and files survive it, and storage shrinks."""

import copy
import io
import json
import pickle
import warnings

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrained import KNOWN, made, read
from torch import nn

from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.models.transformer import CausalLM
from bench.tying import Tie, TyingPlan, cross_layer, embedding, relaxed
from bench.tying.checkpoint import digest, load, save
from bench.tying.errors import BadInput
from bench.tying.int8 import is_quantised, num_bytes, quantize, rounded, stored_plan

TOKENS = torch.arange(12).reshape(2, 6)
NETWORKS = {
    "gru": (lambda: GRULanguageModel(40, depth=3, width=16), TOKENS),
    "gpt2": (lambda: CausalLM(40, window=6, depth=3, width=16, heads=2), TOKENS),
    "cnn": (lambda: ResNet(3, 10, depth=6, width=4), torch.linspace(-1, 1, 2 * 3 * 64).reshape(2, 3, 8, 8)),
}


def tied(name):
    torch.manual_seed(1)
    model = NETWORKS[name][0]().eval()
    plan = cross_layer(model) if name == "cnn" else cross_layer(model) + embedding(model)
    return plan.apply(model), plan


@torch.no_grad()
def answer(name, model):
    out = model(NETWORKS[name][1])
    return out[0] if isinstance(out, tuple) else out


every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rounding_is_within_half_a_scale_and_keeps_the_largest(axis, dtype):
    weight = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight.movedim(axis, 0)[1] = 0
    values, scale = rounded(weight, axis)
    assert values.dtype == torch.int8 and scale.dtype == dtype and scale.numel() == weight.shape[axis]
    exact = weight.double()
    slack = 2 * torch.finfo(dtype).eps * exact.abs().amax()
    assert ((values * scale.double() - exact).abs() <= scale.double() / 2 + slack).all()
    largest = values.abs().movedim(axis, 0).flatten(1).amax(1)
    assert largest.tolist() == [127, 0] + [127] * (weight.shape[axis] - 2)
    negative, same = rounded(-weight, axis)
    assert negative.equal(-values) and same.equal(scale)


def test_rounding_by_hand():
    values, scale = rounded(torch.tensor([[1.27, -0.635], [0.0, 254.0]]), 0)
    assert values.tolist() == [[127, -64], [0, 127]] and scale.flatten().tolist() == pytest.approx([0.01, 2])


@every_network
def test_a_model_answers_as_one_whose_weights_were_rounded(name):
    """The int8 module against the plain one that holds int8 * scale: the same bits, wherever a weight is read."""
    model, plan = tied(name)
    plain, before = copy.deepcopy(model), answer(name, model)
    quantize(model, plan)
    with torch.no_grad():
        for path, module in plain.named_modules():
            for leaf, weight in module.named_parameters(recurse=False):
                weight.copy_(getattr(model.get_submodule(path), leaf))
    assert answer(name, model).equal(answer(name, plain))
    moved = (answer(name, model) - before).norm() / before.norm()
    assert 0 < moved < 0.03
    if name != "cnn":
        layer = model.output_layer
        assert layer.weight.equal(plain.output_layer.weight) and not layer.weight.requires_grad


@every_network
def test_a_shared_tensor_is_stored_once_and_a_model_shrinks_to_its_arithmetic(name):
    model, plan = tied(name)
    weights = {id(p): p for p in model.parameters() if p.ndim >= 2}.values()
    floats, channels = num_bytes(model), sum(p.shape[0] for p in weights)
    if name == "gpt2":  # the output channels of its Conv1D come second; positions and words are embeddings
        channels += sum(
            p.shape[1] - p.shape[0] for n, p in model.named_parameters() if ".c_" in n and p.ndim > 1
        )
    quantize(model, plan)
    assert num_bytes(model) == floats - 3 * sum(p.numel() for p in weights) + 4 * channels
    names = dict(model.named_parameters(remove_duplicate=False))
    for tie in stored_plan(plan, names).ties:
        assert len({names[n].data_ptr() for n in tie.names}) == 1 < len(tie.names)
    assert not any(p.requires_grad for p in names.values())
    assert {n for n, p in names.items() if p.dtype == torch.int8} == {n for n in names if n.endswith("_int8")}


@every_network
def test_copies_moves_and_states_keep_ties_and_outputs(name):
    model, plan = tied(name)
    quantize(model, plan)
    said, size, kept = answer(name, model), num_bytes(model), stored_plan(plan, model.state_dict())
    twin = copy.deepcopy(model)
    twin.to("cpu").double().float().train().eval()
    kept.verify(twin)
    assert answer(name, twin).equal(said) and num_bytes(twin) == size

    other = quantize(plan.apply(NETWORKS[name][0]().eval()))
    assert not answer(name, other).equal(said)
    other.load_state_dict(model.state_dict())
    kept.verify(other)
    assert answer(name, other).equal(said) and num_bytes(other) == size
    assert type(other.get_submodule(model.parts.stack[0])) is type(model.get_submodule(model.parts.stack[0]))


def test_a_module_moved_to_a_device_keeps_one_tensor():
    """As to a GPU: `.to` makes a new tensor at each call; a shared buffer would become one per use."""
    model, plan = tied("gru")
    quantize(model, plan)
    size = num_bytes(model)
    model._apply(torch.clone)
    stored_plan(plan, model.state_dict()).verify(model)
    assert num_bytes(model) == size


def test_lstm_of_both_directions():
    torch.manual_seed(0)
    lstm, x = nn.LSTM(5, 8, num_layers=2, bidirectional=True), torch.randn(4, 2, 5)
    before = lstm(x)[0]
    quantize(lstm)
    assert torch.allclose(lstm(x)[0], before, atol=0.02) and not lstm(x)[0].equal(before)
    weights = [p for n, p in lstm.named_parameters() if n.endswith("_int8")]
    assert len(weights) == 8 and "_flat_weights" not in lstm.__dict__


def test_transposed_convolutions_have_their_channels_second():
    conv = nn.ConvTranspose2d(4, 6, 3)
    quantize(conv)
    assert conv.weight_scale.shape == (1, 6, 1, 1)


class Square(nn.Module):
    """A tensor that a Linear and a Conv1D of transformers use: its output channels lie along both axes."""

    def __init__(self):
        super().__init__()
        from transformers.pytorch_utils import Conv1D

        self.a, self.b = nn.Linear(4, 4), Conv1D(4, 4)


def refused(model, *words, plan=None):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BadInput) as error:
        quantize(model, plan)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), error.value
    assert list(model.state_dict()) == list(before)
    assert all(
        torch.equal(value, before[key]) for key, value in model.state_dict().items() if "norm" not in key
    )


def test_two_channel_axes_of_one_tensor_are_refused():
    model = Square()
    quantize(copy.deepcopy(model))
    model.b.weight = model.a.weight
    refused(model, "a.weight and b.weight", "axis 0", "untie")


def test_what_cannot_be_quantised_is_refused():
    model, plan = tied("gru")
    loose = NETWORKS["gru"][0]()
    refused(relaxed(loose, rank=1).apply(loose), "is parametrised (as relaxed weights are)")
    refused(nn.LayerNorm(4), "no weight to quantise")
    refused(copy.deepcopy(NETWORKS["gru"][0]()), "tie is broken", "apply the plan", plan=plan)
    with pytest.raises(BadInput, match="tie first, quantise after"):
        plan.apply(quantize(copy.deepcopy(model)))
    refused(quantize(copy.deepcopy(model)), "quantised already")
    bad = nn.Sequential(nn.Linear(2, 2))
    bad[0].weight.data[0, 0] = float("inf")
    with pytest.raises(BadInput, match=r"0\.weight holds a value that is not finite"):
        quantize(bad)
    assert not is_quantised(bad)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x):
        return self.b(self.a(x))


PAIR = TyingPlan((Tie(("a.weight", "b.weight")),))


def test_the_stock_way_stores_a_shared_weight_once_per_use_and_ours_once():
    model = PAIR.apply(Pair())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stock = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        one, two = stock.a.weight().int_repr(), stock.b.weight().int_repr()
    assert any(issubclass(w.category, DeprecationWarning) for w in said)
    assert (
        one.equal(two) and stock.a._packed_params._packed_params is not stock.b._packed_params._packed_params
    )
    state = {name: value for name, value in stock.state_dict().items() if name.endswith("_packed_params")}
    assert [value[0].nbytes for value in state.values()] == [
        64 * 64
    ] * 2  # two matrices where the model had one
    quantize(model, PAIR)
    assert model.a.weight_int8 is model.b.weight_int8 and model.a.weight_scale is model.b.weight_scale
    assert num_bytes(model) == 64 * 64 + 4 * 64 + 2 * 4 * 64


every_architecture = pytest.mark.parametrize("name", KNOWN)


@every_architecture
@pytest.mark.parametrize("given", [False, True])
def test_a_quantised_file_comes_back_quantised_and_tied(tmp_path, name, given):
    path = tmp_path / "model.safetensors"
    model = made(name)
    plan = cross_layer(model)
    quantize(plan.apply(model), plan)
    save(model, plan, path, KNOWN[name].reads)
    back, same = load(path, made(name) if given else None)
    stored_plan(plan, back.state_dict()).verify(back)
    assert same == plan and is_quantised(back) and num_bytes(back) == num_bytes(model)
    assert read(name, back).equal(read(name, model))
    with safetensors.safe_open(path, framework="pt") as file:
        held = sum(file.get_tensor(key).nbytes for key in file.keys() if "/" not in key)  # noqa: SIM118
    # Buffers that are made at need, as of positions, are in the model alone.
    assert held == sum(v.nbytes for v in {v.data_ptr(): v for v in model.state_dict().values()}.values())


def test_a_quantised_file_keeps_its_precision(tmp_path):
    path, model = tmp_path / "model.safetensors", made("llama").to(torch.bfloat16)
    plan = cross_layer(model)
    save(quantize(plan.apply(model)), plan, path)
    back, _ = load(path)
    assert read("llama", back).dtype == torch.bfloat16 and read("llama", back).equal(read("llama", model))


def rewritten(path, tensors=None, drop=(), **metadata):
    """The file with other content and a digest that fits, as one who knows the format would make it."""
    with safetensors.safe_open(path, framework="pt") as file:
        said = {**file.metadata(), **metadata}
        kept = {name: file.get_tensor(name) for name in file.keys()} | (tensors or {})  # noqa: SIM118
    said = {key: value for key, value in said.items() if key not in (*drop, "sha256")}
    safetensors.torch.save_file(kept, path, said | {"sha256": digest(kept, said)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantised": "int4"}, ("'int4'", "only int8")),
        ({"drop": ["quantised"]}, ("lacks a.weight", "the model has")),
        ({"tensors": {"a.weight_scale": torch.ones(64)}}, ("a.weight_scale", "shape", "(64,)", "(64, 1)")),
        ({"tensors": {"a.weight_int8": torch.ones(64, 64)}}, ("a.weight_int8", "dtype", "int8")),
        ({"tensors": {"b.weight_int8": torch.ones(64, 64).to(torch.int8)}, "shared": "{}"}, ("two tensors",)),
    ],
)
def test_a_changed_file_is_refused_in_one_line(tmp_path, changes, words):
    path = tmp_path / "model.safetensors"
    save(quantize(PAIR.apply(Pair())), PAIR, path)
    if changes.get("shared"):
        scale = {"a.weight_scale", "b.weight_scale"}
        changes = changes | {"shared": json.dumps(dict([sorted(scale, reverse=True)]))}
    rewritten(path, **changes)
    model = Pair()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BadInput) as error:
        load(path, model)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), error.value
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_a_quantised_model_takes_no_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save(quantize(PAIR.apply(Pair())), PAIR, path)
    with pytest.raises(BadInput, match="tie first, quantise after"):
        load(path, quantize(PAIR.apply(Pair())))


class Heads(nn.Module):
    """Weights of modules that no list of classes has: bare parameters, a stack of matrices, a list of them."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.bare = nn.Parameter(torch.randn(6, 8))
        self.experts = nn.Parameter(torch.randn(3, 8, 6))
        self.listed = nn.ParameterList(torch.randn(8, 8) for _ in range(2))
        self.named = nn.ParameterDict({"a": torch.randn(8, 8)})
        self.bilinear = nn.Bilinear(8, 8, 6)
        self.norm = nn.LayerNorm((8, 8))
        self.column = nn.Parameter(torch.randn(8, 1))

    def forward(self, x):
        x = self.attention(x, x, x, need_weights=False)[0]
        for weight in (*self.listed, self.named["a"]):
            x = x @ weight
        x = self.bilinear(x, x) + x @ self.bare.t()
        return torch.einsum("bi,eoi->bo", x, self.experts) + self.column.sum()


def test_every_weight_is_rounded_whatever_it_belongs_to():
    torch.manual_seed(0)
    model, x = Heads().eval(), torch.randn(5, 8)
    plain, before = copy.deepcopy(model), dict(model.named_parameters())
    quantize(model)
    left = {name for name, p in model.named_parameters() if p.is_floating_point() and p.ndim > 1}
    assert {name for name in left if not name.endswith("_scale")} == {"norm.weight", "norm.bias", "column"}
    # A scale for each row of each expert's matrix.
    assert model.experts_scale.shape == (3, 8, 1)
    with torch.no_grad():
        for path, module in plain.named_modules():
            for leaf, weight in module.named_parameters(recurse=False):
                owner = model.get_submodule(path)
                apart = (weight - getattr(owner, leaf)).abs()
                scale = getattr(owner, f"{leaf}_scale", torch.zeros(()))
                assert (apart <= scale / 2 * (1 + 1e-5)).all(), leaf
                weight.copy_(getattr(owner, leaf))
        assert model(x).equal(plain(x)) and len(before) == len(dict(plain.named_parameters()))


def test_a_transformer_encoder_is_rounded_and_answers():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval(), torch.randn(2, 5, 16)
    before = model(x)
    quantize(model)
    assert {p.dtype for n, p in model.named_parameters() if p.ndim > 1 and "scale" not in n} == {torch.int8}
    with torch.no_grad():
        assert torch.allclose(model(x), before, atol=0.1) and not model(x).equal(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@given(exponent=st.integers(-330, 38), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_the_promise_of_half_a_scale_holds_at_every_size(dtype, exponent, seed):
    """Down to where the dtype has hardly a digit left."""
    generator = torch.Generator().manual_seed(seed)
    weight = (torch.randn(4, 9, generator=generator, dtype=torch.float64) * 10.0**exponent).to(dtype)
    weight = weight.nan_to_num(0, posinf=torch.finfo(dtype).max, neginf=torch.finfo(dtype).min)
    values, scale = rounded(weight, 0)
    # Compared with a scale as the unit: half of the smallest number is none.
    apart = (weight.double() / scale.double() - values).abs()
    assert (apart <= 0.5 + 1e-6).all() and (scale > 0).all() and scale.isfinite().all()
    zero = weight.eq(0).all(1)
    assert (values[~zero].abs().amax(1) > 0).all()


@every_network
def test_a_quantised_model_is_pickled(name):
    model, plan = tied(name)
    quantize(model, plan)
    for back in (pickle.loads(pickle.dumps(model)), torch_saved(model)):
        plan.verify(back)
        assert answer(name, back).equal(answer(name, model)) and num_bytes(back) == num_bytes(model)
        assert [type(module) for module in back.modules()] == [type(module) for module in model.modules()]


def torch_saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_a_plan_keeps_its_names_for_a_quantised_model(tmp_path):
    model, plan = tied("gru")
    saved = plan.num_params(model)
    quantize(model, plan)
    plan.verify(model)
    assert plan.num_params(model) == sum(p.numel() for p in model.parameters()) > saved
    assert "_int8" in str(plan.summary(model)) and plan.num_tensors(model) == len(list(model.parameters()))
    assert plan.spread(model) == 0
    loose = quantize(NETWORKS["gru"][0]())
    with pytest.raises(RuntimeError, match="weight_hh_l0_int8 are no longer one tensor|_int8 are no longer"):
        plan.verify(loose)
    path = tmp_path / "model.safetensors"
    save(model, plan, path)
    back, again = load(path, NETWORKS["gru"][0]())
    again.verify(back)
    save(back, again, path)  # and so once more
    load(path, NETWORKS["gru"][0]())
