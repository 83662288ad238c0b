"""Which tensors the library takes, and that it says so in one line where it does not."""

import copy

import pytest
import torch
from torch import nn

from bench.tying import Tie, TyingPlan, cross_layer, cycle, embedding, relaxed, soft
from bench.tying.checkpoint import load, save
from bench.tying.errors import BadInput
from bench.tying.int8 import num_bytes, quantize
from bench.tying.similarity import cosine, distance


class Blocks(nn.Module):
    def __init__(self, dtype=None, depth=3):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(4, 4, dtype=dtype) for _ in range(depth))


COMPLEX = (torch.complex64, torch.complex128)


def twins(dtype):
    """A complex network, and the real one of twice the numbers that it is made of."""
    one, other = Blocks(dtype), Blocks()
    for ours, theirs in zip(one.blocks, other.blocks, strict=True):
        for leaf in ("weight", "bias"):
            value = torch.view_as_real(getattr(ours, leaf).detach()).flatten(-2)
            setattr(theirs, leaf, nn.Parameter(value.clone()))
    return one, other


def reals(model):
    return [torch.view_as_real(p).flatten(-2) if p.is_complex() else p for p in model.parameters()]


@pytest.mark.parametrize("dtype", COMPLEX)
def test_a_complex_weight_is_the_real_ones_it_is_made_of(dtype):
    one, other = twins(dtype)
    assert torch.tensor(cosine(one)).allclose(torch.tensor(cosine(other)))
    assert torch.tensor(distance(one)).allclose(torch.tensor(distance(other)))
    plan = soft(one, strength=0.3, scope="all")
    assert plan == soft(other, strength=0.3, scope="all")
    for way in (plan.penalty, plan.spread, plan.effective_params):
        numel = 2 if way == plan.effective_params else 1  # a complex number is one element, and two real ones
        ours, theirs = (torch.as_tensor(getattr(plan, way.__name__)(each)).detach() for each in (one, other))
        assert not ours.is_complex()
        assert float(ours) * numel == pytest.approx(float(theirs), rel=1e-5)
    plan.penalty(one).backward()
    expected = [p.grad.clone() for p in one.parameters()]
    one.zero_grad()
    plan.add_penalty_gradient(one)
    plan.add_penalty_gradient(other)
    for p, q, gradient in zip(one.parameters(), other.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)
        torch.testing.assert_close(torch.view_as_real(p.grad).flatten(-2), q.grad)
    plan.pull(one, 0.1)
    plan.pull(other, 0.1)
    for p, q in zip(reals(one), reals(other), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("merge", ["first", "mean", "least_squares"])
@pytest.mark.parametrize("rank", [0, 4])
def test_complex_weights_are_tied(dtype, merge, rank):
    model = Blocks(dtype)
    before = [block.weight.detach().clone() for block in model.blocks]
    plan = relaxed(model, rank=rank)
    plan.apply(model, merge=merge)
    plan.verify(model)
    expected = before if rank else [before[0] if merge == "first" else sum(before) / 3] * 3
    for block, value in zip(model.blocks, expected, strict=True):
        # A difference is found in single precision, as of real weights.
        torch.testing.assert_close(block.weight.detach(), value, rtol=1e-4, atol=1e-5)


def sparse():
    model = Blocks()
    model.register_buffer("near", torch.eye(4).to_sparse())
    return model


def lazy():
    return nn.ModuleDict({"blocks": nn.ModuleList(nn.LazyLinear(4) for _ in range(3))})


def meta():
    with torch.device("meta"):
        return Blocks()


def coded():
    model = Blocks()
    for block in model.blocks:
        block.weight = nn.Parameter(block.weight.detach().to(torch.float8_e4m3fn))
    return model


def inferred():
    with torch.inference_mode():
        return Blocks()


def scripted():
    return torch.jit.script(nn.ModuleDict({"blocks": nn.Sequential(*Blocks().blocks)})["blocks"])


BY_HAND = TyingPlan((Tie(("blocks.0.weight", "blocks.1.weight")),))
REFUSED = {
    "meta: save": (meta, lambda m, to: save(m, TyingPlan(), to), "on the meta device"),
    "meta: quantise": (meta, lambda m, to: quantize(m), "on the meta device"),
    "meta: effective": (meta, lambda m, to: soft(m, strength=1).effective_params(m), "on the meta device"),
    "meta: mean": (meta, lambda m, to: BY_HAND.apply(m, merge="mean"), "on the meta device"),
    "meta: relaxed": (meta, lambda m, to: relaxed(m, rank=1).apply(m), "on the meta device"),
    "meta: proof": (meta, lambda m, to: BY_HAND.apply(m, example=torch.ones(1, 4)), "on the meta device"),
    "meta: cosine": (meta, lambda m, to: cosine(m), "on the meta device"),
    "meta: spread": (meta, lambda m, to: soft(m, strength=1).spread(m), "on the meta device"),
    "lazy: plan": (lazy, lambda m, to: cross_layer(m), "has no shape yet"),
    "lazy: by hand": (lazy, lambda m, to: BY_HAND.apply(m), "has no shape yet"),
    "lazy: embedding": (lazy, lambda m, to: embedding(m), "has no shape yet"),
    "lazy: quantise": (lazy, lambda m, to: quantize(m), "has no shape yet"),
    "lazy: bytes": (lazy, lambda m, to: num_bytes(m), "has no shape yet"),
    "lazy: save": (lazy, lambda m, to: save(m, TyingPlan(), to), "has no shape yet"),
    "sparse: save": (sparse, lambda m, to: save(m, TyingPlan(), to), "near is sparse"),
    "float8: mean": (coded, lambda m, to: BY_HAND.apply(m, merge="mean"), "holds float8_e4m3fn"),
    "float8: soft": (coded, lambda m, to: soft(m, strength=1).penalty(m), "holds float8_e4m3fn"),
    "float8: effective": (
        coded,
        lambda m, to: soft(m, strength=1).effective_params(m),
        "holds float8_e4m3fn",
    ),
    "inference: by hand": (inferred, lambda m, to: BY_HAND.apply(m), "outside of it"),
    "inference: proof": (inferred, lambda m, to: BY_HAND.apply(m, example=torch.ones(1, 4)), "outside of it"),
    "no plan: save": (Blocks, lambda m, to: save(m, None, to), "the plan is a NoneType"),
    "script: plan": (scripted, lambda m, to: cross_layer(m), "TorchScript"),
    "script: by hand": (scripted, lambda m, to: BY_HAND.apply(m), "TorchScript"),
    "script: inside": (
        lambda: nn.ModuleDict({"blocks": scripted()}),
        lambda m, to: cycle(m, groups=1),
        "TorchScript",
    ),
    "script: save": (scripted, lambda m, to: save(m, TyingPlan(), to), "TorchScript"),
    "script: quantise": (scripted, lambda m, to: quantize(m), "TorchScript"),
}


@pytest.mark.filterwarnings("ignore:.*jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_one_line_and_the_model_as_it_was(case, tmp_path):
    make, action, words = REFUSED[case]
    model = make()
    before = [id(p) for p in model.parameters()]
    with pytest.raises(BadInput, match=words) as error:
        action(model, tmp_path / "file")
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
    assert [id(p) for p in model.parameters()] == before


def test_what_needs_no_values_is_done_on_the_meta_device():
    model, here = meta(), Blocks()
    plan = cross_layer(model)
    assert plan == cross_layer(here)
    assert plan.num_params(model) == plan.num_params(here) and plan.num_tensors(model) == plan.num_tensors(
        here
    )
    assert str(plan.summary(model)) == str(plan.summary(here))
    plan.apply(model)
    plan.verify(model)
    assert num_bytes(model) == num_bytes(plan.apply(copy.deepcopy(here)))


def test_float8_is_shared_whole():
    model = coded()
    value = model.blocks[0].weight.detach().clone()
    cross_layer(model).apply(model)
    assert model.blocks[2].weight is model.blocks[0].weight
    assert model.blocks[2].weight.view(torch.uint8).equal(value.view(torch.uint8))


def rows(size):
    return torch.arange(size + 1), torch.arange(size)


SPARSE = {  # of four diagonal numbers, or two blocks of four, in float32 and int64
    "coo": (
        lambda: torch.sparse_coo_tensor(torch.arange(4).repeat(2, 1), torch.ones(4), check_invariants=True),
        4 * 4 + 8 * 8,
    ),
    "csr": (lambda: torch.sparse_csr_tensor(*rows(4), torch.ones(4), check_invariants=True), 4 * 4 + 9 * 8),
    "csc": (lambda: torch.sparse_csc_tensor(*rows(4), torch.ones(4), check_invariants=True), 4 * 4 + 9 * 8),
    "bsr": (
        lambda: torch.sparse_bsr_tensor(*rows(2), torch.ones(2, 2, 2), check_invariants=True),
        8 * 4 + 5 * 8,
    ),
    "bsc": (
        lambda: torch.sparse_bsc_tensor(*rows(2), torch.ones(2, 2, 2), check_invariants=True),
        8 * 4 + 5 * 8,
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse (CSR|CSC|BSR|BSC) tensor support:UserWarning")
@pytest.mark.parametrize("layout", SPARSE)
def test_a_sparse_tensor_takes_its_indices_and_values(layout):
    make, expected = SPARSE[layout]
    model = Blocks()
    plain = num_bytes(model)
    model.register_buffer("near", make())
    assert num_bytes(model) == plain + expected


def _holds_itself():
    model = Blocks()
    model.blocks[1].around = model
    return model


def _of_several_shapes():
    model = Blocks()
    for block in model.blocks:
        parts = [torch.zeros(2, 3), torch.zeros(4, 3)]
        block.ragged = nn.Parameter(torch.nested.nested_tensor(parts, layout=torch.jagged))
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [(_holds_itself, "inside itself"), (_of_several_shapes, "ragged is a nested tensor")],
    ids=["a module inside itself", "nested"],
)
@pytest.mark.parametrize("use", [cross_layer, num_bytes, quantize])
def test_a_model_whose_weights_have_no_names_or_shapes_is_refused(make, said, use):
    with pytest.raises(BadInput, match=said):
        use(make())


@pytest.mark.parametrize(
    "use", [lambda plan, m: plan.apply(m, merge="mean"), lambda plan, m: soft(m, strength=1).pull(m, 0.1)]
)
def test_values_that_lie_in_one_place_are_not_written(use):
    model = Blocks()
    for block in model.blocks:
        block.weight = nn.Parameter(torch.randn(1, 4).expand(4, 4))
    before = dict(model.named_parameters())
    with pytest.raises(BadInput, match="clone it"):
        use(cross_layer(model), model)
    assert all(before[name] is parameter for name, parameter in model.named_parameters())


@pytest.mark.parametrize("use", [cross_layer, num_bytes, quantize])
@pytest.mark.parametrize(("model", "said"), [(nn.Linear, "the class Linear"), ([Blocks()], "a list")])
def test_what_is_no_network_is_refused(model, said, use):
    with pytest.raises(BadInput, match=f"the model is {said}, no torch.nn.Module"):
        use(model)


def test_a_file_is_not_read_into_a_model_without_memory(tmp_path):
    model, plan = Blocks(), cross_layer(Blocks())
    save(plan.apply(model), plan, tmp_path / "tied.safetensors")
    with torch.device("meta"):
        empty = Blocks()
    with pytest.raises(BadInput, match="blocks.0.weight is on the meta device"):
        load(tmp_path / "tied.safetensors", empty)
