"""A recurrent module of several layers, taken apart: the same answers and gradients, and layers that can share."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.tying import NotApplicable, cross_layer, cycle, embedding
from bench.tying.checkpoint import load, save
from bench.tying.recurrent import RecurrentLayers, layers_apart

IN, WIDTH, DEPTH, BATCH, STEPS = 3, 4, 3, 2, 5
KINDS = {
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "lstm, projected": lambda *sizes, **options: nn.LSTM(*sizes, proj_size=2, **options),
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}


def made(kind, **options):
    torch.manual_seed(0)
    return KINDS[kind](IN, WIDTH, DEPTH, **options)


def flat(answer):
    output, state = answer
    return [output, *(state if isinstance(state, tuple) else (state,))]


def answered(module, *arguments):
    """The output and the state, and the gradient of each parameter."""
    parts = flat(module(*arguments))
    outputs = [part.data if hasattr(part, "batch_sizes") else part for part in parts]
    gradients = torch.autograd.grad(sum(part.square().sum() for part in outputs), list(module.parameters()))
    return outputs, dict(zip(module.parameters(), gradients, strict=True))


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # torch's own, of oneDNN
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch_first", "bidirectional", "bias"), list(itertools.product([False, True], repeat=3))
)
def test_it_answers_as_the_one_module_did(kind, batch_first, bidirectional, bias):
    fused = made(kind, batch_first=batch_first, bidirectional=bidirectional, bias=bias)
    shape = (BATCH, STEPS, IN) if batch_first else (STEPS, BATCH, IN)
    inputs = torch.randn(shape)
    state = flat(fused(inputs))[1:]
    given = [torch.randn_like(part) for part in state]
    given = tuple(given) if len(given) > 1 else given[0]
    packed = pack_padded_sequence(inputs, [STEPS, 2], batch_first=batch_first)
    unbatched = inputs[0] if batch_first else inputs[:, 0]
    asked = [(inputs,), (inputs, given), (packed,), (packed, given), (unbatched,)]
    before = [answered(fused, *arguments) for arguments in asked]
    apart = layers_apart(fused)
    assert isinstance(apart, RecurrentLayers) and set(apart.parameters()) == set(fused.parameters())
    for arguments, (outputs, gradients) in zip(asked, before, strict=True):
        now, gradients_now = answered(apart, *arguments)
        for one, other in zip(outputs, now, strict=True):
            torch.testing.assert_close(one, other)
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(gradient, gradients_now[parameter])


@pytest.mark.parametrize("is_packed", [False, True])
def test_dropout_is_between_the_layers_and_in_training_alone(is_packed):
    fused = made("gru", dropout=0.5)
    inputs = torch.randn(STEPS, BATCH, IN)
    asked = pack_padded_sequence(inputs, [STEPS, 2]) if is_packed else inputs
    fused.eval()
    apart = layers_apart(fused)
    assert not apart.training and not apart.layers[0].training
    for one, other in zip(answered(fused, asked)[0], answered(apart, asked)[0], strict=True):
        torch.testing.assert_close(one, other)
    apart.train()
    seen = []
    apart.layers[0].register_forward_hook(lambda layer, arguments, answer: seen.append(answer[0]))
    apart.layers[1].register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0]))
    last = flat(apart(asked))[0]
    made_by, read = (part.data for part in seen)
    kept = read != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(read[kept], 2 * made_by[kept])  # one half is left, twice as large
    assert (pad_packed_sequence(last)[0][:2] if is_packed else last).ne(0).all()


class Model(nn.Module):
    """A language model as people write it: nothing in it knows of tying."""

    def __init__(self, depth=2, width=8):
        super().__init__()
        self.encoder = nn.Embedding(20, width)
        self.rnn = nn.LSTM(width, width, num_layers=depth, batch_first=True, dropout=0.2 if depth > 1 else 0)
        self.decoder = nn.Linear(width, 20)

    def forward(self, tokens):
        self.rnn.flatten_parameters()
        return self.decoder(self.rnn(self.encoder(tokens))[0])


TOKENS = torch.arange(6)[None]


def test_layers_share_once_they_are_apart(tmp_path):
    torch.manual_seed(0)
    model = Model()
    with pytest.raises(NotApplicable, match="no stack of blocks"):
        cross_layer(model)
    before = model.eval()(TOKENS)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert layers_apart(model) is model
    torch.testing.assert_close(before, model(TOKENS))
    plan = cross_layer(model) + embedding(model)
    plan.apply(model, example=TOKENS)
    assert sum(parameter.numel() for parameter in model.parameters()) == count - 2 * 32 * 8 - 20 * 8
    model(TOKENS).sum().backward()
    assert model.rnn.layers[0].weight_hh_l0.grad is model.rnn.layers[1].weight_hh_l0.grad is not None
    save(model, plan, tmp_path / "tied.safetensors")
    again, _ = load(tmp_path / "tied.safetensors", layers_apart(Model()))
    assert torch.equal(again.eval()(TOKENS), model.eval()(TOKENS))


def test_one_module_in_two_places_stays_one():
    shared = nn.GRU(4, 4, 4)
    model = layers_apart(nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)}))
    assert model["a"] is model["b"][0] and isinstance(model["a"], RecurrentLayers)
    cycle(model["a"], groups=2).apply(model["a"])


def test_what_wraps_a_module_stays_around_it():
    wrapped = torch.optim.swa_utils.AveragedModel(nn.GRU(4, 4, 2))
    assert layers_apart(wrapped) is wrapped and isinstance(wrapped.module, RecurrentLayers)


class Own(nn.GRU):
    pass


def dropped():
    """As AWD-LSTM has it (Merity et al. 2018): a weight that is made of another at each step."""
    module = nn.GRU(4, 4, 2)
    raw = module._parameters.pop("weight_hh_l1")
    module.weight_hh_l1_raw, module.weight_hh_l1 = raw, nn.functional.dropout(raw, 0.5)
    return module


@pytest.mark.parametrize(
    "module",
    [nn.GRU(4, 4), Own(4, 4, 2), weight_norm(nn.GRU(4, 4, 2), "weight_hh_l1"), dropped(), nn.Linear(4, 4)],
)
def test_one_layer_and_subclasses_and_weights_made_of_others_are_left(module):
    assert layers_apart(module) is module
