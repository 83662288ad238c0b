"""A tied model goes into one file and comes back tied, with the same outputs; any other file is refused."""

import copy
import json
import pickle
import warnings

import pytest
import safetensors
import safetensors.torch
import torch
from pretrained import KNOWN, made, read
from torch import nn

from bench.tying import Tie, TyingPlan, cross_layer, embedding, relaxed, soft, top_k
from bench.tying.checkpoint import digest, load, save
from bench.tying.errors import BadInput

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
