"""CKA and block influence on outputs whose figures are known."""

import pytest
import torch
from pretrained import KNOWN, made
from torch import nn

from bench.models.cnn import ResNet
from bench.models.gru import GRULanguageModel
from bench.tying import NotApplicable
from bench.tying.similarity import POSITIONS, across, linear_cka, outputs, representations


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Given(nn.Module):
    """A block that puts out what it is given to put out."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


def of(*changes, reads):
    model = nn.Sequential(*map(Given, changes))
    return representations(model, [str(at) for at in range(len(changes))], lambda: model(reads))


def test_a_matrix_is_like_itself_however_turned_scaled_or_moved():
    x = gaussian(200, 6)
    turn = torch.linalg.qr(gaussian(6, 6, seed=1)).Q
    assert linear_cka(x, x) == pytest.approx(1, rel=1e-12)
    assert linear_cka(x, 7 * x @ turn + gaussian(6, seed=2)) == pytest.approx(1, rel=1e-12)
    y = x @ gaussian(6, 9, seed=3)
    assert linear_cka(3 * x @ turn, y) == pytest.approx(linear_cka(x, y), rel=1e-12)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x), rel=1e-12) and 0 < linear_cka(x, y) < 0.999


def test_it_is_the_cosine_of_two_kernels():
    x, y = gaussian(30, 4), gaussian(30, 7, seed=1)
    kernels = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y)]
    cosine = torch.cosine_similarity(*(kernel.flatten() for kernel in kernels), dim=0)
    assert linear_cka(x, y) == pytest.approx(float(cosine), rel=1e-12)


@pytest.mark.parametrize(("n", "p", "q"), [(2000, 5, 5), (1000, 10, 40), (100, 100, 100)])
def test_unrelated_outputs_are_as_alike_as_chance_has_it(n, p, q):
    chance = (p * q / ((n + p) * (n + q))) ** 0.5
    assert linear_cka(gaussian(n, p), gaussian(n, q, seed=1)) == pytest.approx(chance, rel=0.35)


def test_orthogonal_columns_have_nothing_in_common():
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    one, other = x[:, :1], x[:, 1:]
    assert linear_cka(one, other) == 0
    # of x both columns have norm 2, of `one` one of them: 4 / (4 * sqrt(4^2 / 4 + ...)): |x'x| = sqrt(2) * 2
    assert linear_cka(one, x) == pytest.approx(0.5**0.5)


def test_influence_is_how_far_a_block_turns_its_input():
    reads = gaussian(3, 5, 8)
    found = of(lambda x: x, lambda x: 3 * x, lambda x: -x, lambda x: x.flip(-1) * 0 + 1, reads=reads)
    assert found.influence[:3] == pytest.approx([0, 0, 2], abs=1e-12)
    assert found.influence[3] == pytest.approx(
        float(1 - torch.cosine_similarity(-3 * reads, torch.ones(8, dtype=torch.float64), dim=-1).mean())
    )
    assert found.cka[0][:3] == pytest.approx([1, 1, 1]) and found.cka[0][3] is None  # constant
    assert found.positions == [15] * 4


def test_a_quarter_turn_has_influence_one():
    turn = torch.tensor([[0.0, 1], [-1, 0]], dtype=torch.float64)
    found = of(lambda x: x @ turn, reads=gaussian(10, 2))
    assert found.influence == pytest.approx([1])


def test_an_input_that_is_changed_in_place_is_compared_as_it_was():
    assert of(lambda x: x.mul_(-1), reads=gaussian(4, 3)).influence == pytest.approx([2])


def test_pixels_are_positions_and_other_resolutions_are_not_compared():
    torch.manual_seed(0)
    model = ResNet(1, 10, depth=4, stages=2, width=8)
    images = torch.randn(2, 1, 8, 8)
    found = representations(model, model.parts.stack, lambda: model(images))
    assert found.positions == [128, 128, 32, 32]
    assert found.influence[2] is None and all(found.influence[at] is not None for at in (0, 1, 3))
    assert found.cka[0][2] is None and found.cka[1][3] is None
    assert 0 < found.cka[0][1] < 1 and 0 < found.cka[2][3] < 1


def test_other_widths_are_compared():
    wider = torch.cat([torch.eye(4), torch.eye(4)], dim=1).double()
    found = of(lambda x: x, lambda x: x @ wider, reads=gaussian(20, 4))
    assert found.cka[0][1] == pytest.approx(1) and found.influence[1] is None


def test_a_state_beside_the_output_is_left_out():
    torch.manual_seed(0)
    model = GRULanguageModel(10, depth=3, width=8)
    tokens = torch.arange(10).reshape(2, 5)
    found = representations(model, model.parts.stack, lambda: model(tokens))
    assert found.positions == [10, 10, 10] and all(0 < each < 1 for each in found.influence)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit", "resnet"])
def test_blocks_of_transformers_are_read(name):
    from bench.tying.structure import parts_of

    model = made(name).train()
    stack = parts_of(model).stack
    model.get_submodule(stack[0]).eval()
    found = representations(model, stack, lambda: model(**KNOWN[name].reads))
    assert len(found.cka) == len(found.influence) == KNOWN[name].blocks
    assert found.cka[0][0] == pytest.approx(1) and found.influence[1] is not None
    # as it was: no hooks, and every module in the mode that it had
    assert model.training and not model.get_submodule(stack[0]).training
    hooks = [module._forward_hooks or module._forward_pre_hooks for module in model.modules()]
    assert not any(hooks)


def test_dropout_is_off_and_nothing_is_to_be_differentiated():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9)))
    reads, seen = torch.randn(6, 4), []
    found = outputs(model, ["0"], lambda: seen.append(model(reads)))
    assert not seen[0].requires_grad and model.training
    torch.testing.assert_close(found[0].features.sum(0), model[0][0](reads).sum(0))


def test_of_many_positions_a_sample_is_kept_the_same_for_every_block():
    many = 20 * POSITIONS
    counted = torch.arange(many, dtype=torch.float64)[:, None]
    model = nn.Sequential(Given(lambda x: x), Given(lambda x: 2 * x))
    (one, other) = outputs(model, ["0", "1"], lambda: [model(part) for part in counted.split(700)])
    assert len(one.features) == POSITIONS and one.count == many
    torch.testing.assert_close(other.features, 2 * one.features, rtol=0, atol=0)
    kept = one.features[:, 0].sort().values.long()
    assert len(set(kept.tolist())) == POSITIONS
    assert kept.diff().max() < 10 * 20  # one in 20, and no hole
    for period in (7, 35, 64, 89, 144):  # every place in a window is there, about as often as any other
        share = torch.bincount(kept % period, minlength=period) * period / POSITIONS
        assert share.min() > 0.2 and share.max() < 2.2
    # however the positions come
    whole = outputs(model, ["0"], lambda: model(counted))[0]
    assert torch.equal(whole.features[:, 0].sort().values.long(), kept)


def test_two_models_are_compared_on_the_same_data():
    model, other = made("gpt2"), made("gpt2")
    stack, reads = [f"transformer.h.{at}" for at in range(4)], KNOWN["gpt2"].reads
    sides = [outputs(each, stack, lambda each=each: each(**reads)) for each in (model, other)]
    assert across(*sides) == pytest.approx([1, 1, 1, 1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [(lambda x: {"x": x}, "puts out a dict"), (lambda x: x.sum(), "not a tensor of features")],
)
def test_what_cannot_be_read_says_why(change, reason):
    with pytest.raises(NotApplicable, match=reason):
        of(change, reads=gaussian(3, 4))


def test_a_block_that_is_never_reached():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    with pytest.raises(NotApplicable, match="block 1 was not reached"):
        representations(model, ["0", "1"], lambda: model[0](torch.ones(2, 2)))
