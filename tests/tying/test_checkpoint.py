"""A tied model goes into one file and comes back tied, with the same outputs; any other file is refused."""

import copy
import json
import os
import pickle
import random
import warnings

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from pretrained import KNOWN, made, read
from torch import nn

from bench.tying import Tie, TyingPlan, cross_layer, embedding, relaxed, soft, top_k
from bench.tying.checkpoint import digest, load, save
from bench.tying.errors import BadInput
from bench.tying.int8 import quantize
from bench.tying.structure import parts_of

every_architecture = pytest.mark.parametrize("name", KNOWN)
UNTIED = {"tie_word_embeddings": False}


def num_params(model):
    return sum(p.numel() for p in model.parameters())


def tied(name="gpt2", **more):
    """A network whose weights no seed gives, and its plan."""
    model = made(name, **more)
    plan = cross_layer(model)
    plan.apply(model)
    with torch.no_grad():
        for at, parameter in enumerate(model.parameters()):
            parameter.add_(0.001 * at)
    return model, plan


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@every_architecture
@pytest.mark.parametrize("given", [False, True])
def test_the_way_there_and_back(path, name, given):
    model, plan = tied(name)
    save(model, plan, path, example=KNOWN[name].reads)
    state = torch.get_rng_state()
    back, same = load(path, made(name) if given else None)
    assert given or torch.get_rng_state().equal(state)
    assert same == plan and type(back) is type(model)
    plan.verify(back)
    assert num_params(back) == num_params(model)
    assert read(name, back).equal(read(name, model))
    assert {n: p.dtype for n, p in back.named_parameters()} == {
        n: p.dtype for n, p in model.named_parameters()
    }


def test_each_shared_tensor_is_stored_once(path):
    model, plan = tied(**UNTIED)
    save(model, plan, path)
    with safetensors.safe_open(path, framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert sum(tensor.numel() for tensor in stored.values()) == num_params(model)
    header = path.stat().st_size - 4 * num_params(model)
    assert 0 < header < 16_384


def test_a_soft_plan_and_what_the_model_shares_itself_come_back_too(path):
    model = made("gpt2", tie_word_embeddings=True)
    plan = top_k(model, k=2) + soft(model, strength=0.25, scope="norm")
    plan.apply(model)
    save(model, plan, path)
    back, same = load(path)
    assert same == plan and back.lm_head.weight is back.transformer.wte.weight
    assert same.penalty(back).item() == plan.penalty(model).item()


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x):
        return self.norm(self.b(self.a(x)))


PLAN = TyingPlan((Tie(("a.weight", "b.weight")),))
EXAMPLE = {"x": torch.linspace(-1, 1, 12).reshape(3, 4)}


def net():
    torch.manual_seed(3)
    return PLAN.apply(Net())


def test_any_module_is_kept_with_its_buffers_and_in_its_mode(path):
    model = net()
    model(EXAMPLE["x"])  # moves the batch norm
    model.a.eval()
    save(model, PLAN, path, EXAMPLE)
    assert model.training and not model.a.training
    back, _ = load(path, Net())
    assert back.training and back.a.weight is back.b.weight
    assert back.norm.running_mean.equal(model.norm.running_mean)
    assert back.norm.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_numbers_keep_their_precision(path, dtype):
    model, plan = tied("llama")
    model.to(dtype)
    save(model, plan, path, KNOWN["llama"].reads)
    back, _ = load(path)
    assert {p.dtype for p in back.parameters()} == {dtype}
    assert read("llama", back).equal(read("llama", model))


def refused(path, *words, model=None):
    before = copy.deepcopy(model.state_dict()) if model is not None else {}
    with pytest.raises(BadInput) as error:
        load(path, model)
    line = str(error.value)
    assert all(word in line for word in words), line
    assert "\n" not in line and len(line) < 400
    for name, value in before.items():
        assert model.state_dict()[name].equal(value)


def rewritten(path, tensors=None, drop=(), again=False, **metadata):
    """The file with other content; `again`: and a digest that fits, as one who knows the format would make it."""
    with safetensors.safe_open(path, framework="pt") as file:
        said = {**file.metadata(), **metadata}
        kept = {name: file.get_tensor(name) for name in file.keys() if name not in drop}  # noqa: SIM118
    kept |= tensors or {}
    if again:
        said["sha256"] = digest(kept, {k: v for k, v in said.items() if k != "sha256"})
    safetensors.torch.save_file(kept, path, said)


@pytest.fixture
def saved(path):
    save(net(), PLAN, path, EXAMPLE)
    return path


@pytest.mark.parametrize("given", [False, True])
def test_a_relaxed_model_comes_back_with_its_differences(path, given):
    model = made("gpt2")
    plan = relaxed(model, rank=2) + embedding(model)
    plan.apply(model, merge="least_squares")
    save(model, plan, path, example=KNOWN["gpt2"].reads)
    back, same = load(path, made("gpt2") if given else None)
    assert same == plan and num_params(back) == num_params(model) == plan.num_params(made("gpt2"))
    assert read("gpt2", back).equal(read("gpt2", model))
    other = made("gpt2")
    cross_layer(other).apply(other)
    with pytest.raises(BadInput, match="has no difference of rank 2 beside it: apply the plan before"):
        save(other, plan, path)


@pytest.mark.parametrize("cut", [1, 100, 0.5])
def test_a_truncated_file_is_refused(saved, cut):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * cut) if cut < 1 else -cut])
    refused(saved, "no whole safetensors file", model=Net())


def test_a_flipped_bit_is_refused(saved):
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    refused(saved, "changed or damaged", model=Net())


def test_another_plan_in_the_metadata_is_refused(saved):
    rewritten(saved, plan="[]")
    refused(saved, "changed or damaged", model=Net())


def test_a_tie_that_is_stored_as_two_tensors_is_refused(saved):
    rewritten(saved, {"b.weight": torch.zeros(4, 4)}, again=True, shared="{}")
    refused(saved, "a.weight", "b.weight", "two tensors", "saved untied", model=Net())


def test_a_lost_tensor_is_refused(saved):
    rewritten(saved, drop=["a.weight"], again=True)
    refused(saved, "lacks the tensor a.weight", model=Net())


def test_metadata_that_cannot_be_read_is_refused(saved):
    rewritten(saved, again=True, plan='[{"names": 3}]')
    refused(saved, "metadata that cannot be read", model=Net())


def test_a_file_without_a_plan_is_refused(path):
    safetensors.torch.save_file(Net().state_dict(), path)
    refused(path, "format 'none'", "tying-bench", model=Net())


def test_a_pickle_is_refused_and_not_run(path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path.write_bytes(pickle.dumps(Trap()))
    refused(path, "no whole safetensors file", model=Net())


@pytest.mark.parametrize("where", ["missing.safetensors", "."])
def test_what_is_no_file_is_refused(tmp_path, where):
    refused(tmp_path / where, "cannot read", model=Net())


def test_a_model_of_other_sizes_is_refused_with_both_shapes(saved):
    refused(saved, "a.bias", "(4,)", "(5,)", model=Net(5))


def test_a_model_of_other_names_is_refused(saved):
    more = Net()
    more.c = nn.Linear(4, 4)
    refused(saved, "lacks c.bias", "2 such names", model=more)
    less = Net()
    del less.norm
    refused(saved, "has norm.bias", model=less)


def test_a_model_of_another_precision_is_refused(saved):
    refused(saved, "float32", "float64", model=Net().double())


def test_a_model_that_shares_what_the_file_has_twice_is_refused(saved):
    model = Net()
    model.b.bias = model.a.bias
    refused(saved, "a.bias", "b.bias", "shares them by itself", model=model)


def test_a_model_that_lacks_what_the_file_shares_is_refused(path):
    model = net()
    model.b.bias = model.a.bias
    save(model, PLAN, path)
    refused(path, "b.bias", "a.bias", "does not share them", model=Net())


def test_a_model_that_must_be_given_is_asked_for(saved):
    refused(saved, "load(path, model)")


def test_only_classes_of_transformers_are_built(path):
    model, plan = tied()
    save(model, plan, path)
    for name in ("os", "AutoConfig", "NoSuchModel"):
        rewritten(path, again=True, model=json.dumps({"transformers": name, "config": {}}))
        refused(path, name, "transformers lacks")


def test_a_model_that_answers_otherwise_is_refused(saved):
    class Other(Net):
        def forward(self, x):
            return super().forward(x) + 1

    with pytest.raises(BadInput, match=r"answers its example otherwise .*largest difference 1"):
        load(saved, Other())


def test_an_untied_model_is_not_saved(path):
    with pytest.raises(BadInput, match="apply the plan before the model is saved"):
        save(Net(), PLAN, path)
    assert not path.exists()


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(BadInput, match="No space left"):
        save(net(), PLAN, saved)
    assert saved.read_bytes() == before and [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_link_is_followed_and_what_is_no_file_stays(saved):
    link, pipe = saved.with_name("link"), saved.with_name("pipe")
    link.symlink_to(saved.name)
    saved.write_bytes(b"old")
    save(net(), PLAN, link, EXAMPLE)
    assert link.is_symlink() and load(saved, Net())[1] == PLAN
    os.mkfifo(pipe)
    for path in (pipe, saved.parent):
        with pytest.raises(BadInput, match="is there and is no file"):
            save(net(), PLAN, path, EXAMPLE)
    assert pipe.is_fifo() and {path.name for path in saved.parent.iterdir()} == {saved.name, "link", "pipe"}


def test_the_stock_ways_lose_ties(tmp_path):
    """What this module is for. Where one of these passes, `transformers` has learned it."""
    model, _ = tied(**UNTIED)
    with pytest.raises(RuntimeError, match="shared"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(tmp_path / "stock")
    model = made("gpt2", **UNTIED)
    plan = embedding(model)
    plan.apply(model)
    model.save_pretrained(tmp_path / "ends")
    with pytest.raises(RuntimeError, match="no longer one tensor"):
        plan.verify(type(model).from_pretrained(tmp_path / "ends"))
    save(model, plan, tmp_path / "ours.safetensors", KNOWN["gpt2"].reads)
    plan.verify(load(tmp_path / "ours.safetensors")[0])


class Sampling(nn.Module):
    """It draws at every call, from each stream there is."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x) + torch.randn_like(x) * random.random() + float(np.random.rand())
        return x


def streams():
    return torch.get_rng_state().tolist(), random.getstate(), [*map(str, np.random.get_state())]


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_samples_is_answered_alike_and_draws_none_of_the_callers_numbers(path, training):
    model = Sampling().train(training)
    plan = cross_layer(model)
    plan.apply(model, example={"x": torch.ones(2, 4)})
    before = streams()
    save(model, plan, path, {"x": torch.ones(2, 4)})
    assert streams() == before and all(module.training == training for module in model.modules())
    torch.manual_seed(7)
    random.seed(7)
    other = Sampling().train(training)
    before = streams()
    back, _ = load(path, other)
    assert streams() == before and back.training == training


class Counting(nn.Linear):
    calls = 0

    def forward(self, x):
        Counting.calls += 1
        return super().forward(x) * Counting.calls


class Sparse(nn.Linear):
    def forward(self, x):
        return super().forward(x).to_sparse()


class Silent(nn.Linear):
    def forward(self, x):
        return {"loss": None}


@pytest.mark.parametrize(
    ("make", "example", "words"),
    [
        (lambda: Counting(4, 4), {"x": torch.ones(2, 4)}, "answers the example in two ways"),
        (lambda: Sparse(4, 4), {"x": torch.ones(2, 4)}, "the answer to the example is sparse"),
        (lambda: nn.Linear(4, 4), {0: torch.ones(2, 4)}, "has 0 for a name"),
        (lambda: Silent(4, 4), {"x": torch.ones(2, 4)}, "answers the example with no tensor"),
        (lambda: nn.Linear(4, 4), {"x": torch.ones(2, 4)}, "does not run through the model"),
        (lambda: nn.Linear(4, 4), {"input": torch.ones(2, 5)}, "does not run through the model"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_load_would_refuse_is_not_saved(path, make, example, words, training):
    model = nn.Sequential(make())[0].train(training)
    with pytest.raises(BadInput, match=words) as error:
        save(model, TyingPlan(), path, example)
    assert "\n" not in str(error.value) and not list(path.parent.iterdir())
    assert model.training == training


class ExtraTensor(nn.Linear):
    def get_extra_state(self):
        return torch.ones(3)

    def set_extra_state(self, state):
        pass


class ExtraData(ExtraTensor):
    def get_extra_state(self):
        return {"scale": 3}


def over_one_storage():
    model = nn.ModuleDict({"emb": nn.Embedding(9, 4), "out": nn.Linear(4, 9, bias=False)})
    model["out"].weight.data = model["emb"].weight.data
    return model


def over_a_part():
    model = nn.ModuleDict({"whole": nn.Linear(4, 8), "part": nn.Linear(4, 4)})
    model["part"].weight.data = model["whole"].weight.data[2:6]
    return model


def over_a_transposed():
    model = nn.ModuleDict({"one": nn.Linear(4, 8, bias=False), "other": nn.Linear(8, 4, bias=False)})
    model["other"].weight.data = model["one"].weight.data.t()
    return model


KEPT_OUT = {
    "extra tensor": (lambda: nn.Sequential(ExtraTensor(4, 4)), "0._extra_state"),
    "extra data": (lambda: nn.Sequential(ExtraData(4, 4)), "0._extra_state"),
    "one storage": (over_one_storage, "emb.weight and out.weight are two parameters"),
    "a part": (over_a_part, "whole.weight and part.weight are two parameters"),
    "transposed": (over_a_transposed, "one.weight and other.weight are two parameters"),
    "complex128": (lambda: nn.Linear(4, 4, dtype=torch.complex128), "holds complex128"),
}


@pytest.mark.parametrize("kind", KEPT_OUT)
def test_a_state_that_a_file_cannot_hold_is_refused_in_one_line(path, kind):
    make, words = KEPT_OUT[kind]
    with pytest.raises(BadInput, match=words) as error:
        save(make(), TyingPlan(), path)
    assert "\n" not in str(error.value) and not list(path.parent.iterdir())


class Views(nn.Module):
    """Parameters side by side in one memory, as cuDNN lays them, and buffers that are views of each other."""

    def __init__(self):
        super().__init__()
        memory = torch.randn(32)
        self.one, self.two = nn.Parameter(memory[:16].view(4, 4)), nn.Parameter(memory[16:].view(4, 4))
        woven = torch.randn(4, 8)
        self.left, self.right = nn.Parameter(woven[:, :4]), nn.Parameter(woven[:, 4:])
        self.spread_out = nn.Parameter(torch.ones(1).expand(3, 3))
        mask = torch.ones(4, 4).tril()
        self.register_buffer("mask", mask)
        self.register_buffer("again", mask.view(16))
        self.register_buffer("row", mask[1])
        self.register_buffer("phase", torch.randn(3, dtype=torch.complex64).conj())

    def forward(self, x):
        return x


def test_memory_that_is_shared_without_an_element_in_common_is_kept(path):
    model = Views()
    save(model, TyingPlan(), path)
    with safetensors.safe_open(path, framework="pt") as file:
        for name, tensor in model.state_dict().items():
            assert file.get_tensor(name).equal(tensor.resolve_conj()), name


def test_two_parameters_over_one_memory_are_made_one_by_a_plan_and_saved(path):
    model = over_one_storage()
    plan = TyingPlan((Tie(("emb.weight", "out.weight")),))
    save(plan.apply(model), plan, path)
    plan.verify(load(path, over_one_storage())[0])


@pytest.mark.parametrize("int8", [False, True])
def test_a_file_loads_into_a_frozen_model(path, int8):
    model, plan = tied("llama")
    if int8:
        quantize(model, plan)
    save(model, plan, path)
    frozen = made("llama").requires_grad_(False)
    back, _ = load(path, frozen)
    assert read("llama", back).equal(read("llama", model))
    assert not any(p.requires_grad for p in back.parameters())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("by_hand", [True, False])
def test_ends_that_differ_from_the_config_are_built_as_they_were(path, name, config, by_hand):
    """Tied or untied by hand, against what the config says: the file alone makes the model again."""
    model = made(name, tie_word_embeddings=config)
    ends = parts_of(model)
    if by_hand:
        module = model.get_submodule(ends.unembedding.removesuffix(".weight"))
        module.weight = model.get_parameter(ends.embedding)
    else:
        module = model.get_submodule(ends.unembedding.removesuffix(".weight"))
        module.weight = nn.Parameter(module.weight.detach() + 1)
    save(model, TyingPlan(), path, KNOWN[name].reads)
    back, _ = load(path)
    assert (back.get_parameter(ends.unembedding) is back.get_parameter(ends.embedding)) == by_hand
    assert read(name, back).equal(read(name, model))


def shortened():
    model = made("llama")
    del model.model.layers[2]
    return model


PIECES = {
    "a stack": lambda: made("t5").encoder,
    "a block": lambda: made("gpt2").transformer.h[0],
    "another depth": shortened,
}


@pytest.mark.parametrize("piece", PIECES)
def test_save_says_where_the_file_alone_does_not_make_the_model(path, piece):
    model = PIECES[piece]()
    with pytest.warns(UserWarning, match=r"must be read as load\(path, model\)") as told:
        save(model, TyingPlan(), path)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    refused(path, "give it, as load(path, model)")
    back, _ = load(path, PIECES[piece]())
    assert all(value.equal(back.state_dict()[key]) for key, value in model.state_dict().items())


def test_a_subclass_of_ones_own_is_no_class_of_transformers(path):
    class Mine(type(made("llama"))):
        pass

    model = Mine(made("llama").config)
    save(model, TyingPlan(), path)
    refused(path, "give it, as load(path, model)")
