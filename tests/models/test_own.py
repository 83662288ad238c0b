"""A language model that somebody else wrote is trained, tied and scored as those of the suite, or refused in a line."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command import Bench, refused
from torch import nn

from bench.models.own import OwnLanguageModel, taken
from bench.training import build
from bench.tying import cross_layer, embedding
from bench.tying.errors import BadInput
from bench.tying.recurrent import layers_apart

WORDS, WIDTH = 11, 4


class Recurrent(nn.Module):
    """Each option is a way in which people write it."""

    def __init__(self, kind=nn.LSTM, depth=2, answer="pair", **options):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Embedding(WORDS, WIDTH)
        self.rnn = kind(WIDTH, WIDTH, num_layers=depth, **{"batch_first": True, **options})
        self.decoder = nn.Linear(WIDTH * (2 if options.get("bidirectional") else 1), WORDS)
        self.answer = answer

    def forward(self, tokens, state=None):
        hidden, state = self.rnn(self.encoder(tokens), state)
        logits = self.decoder(hidden)
        answers = {
            "pair": (logits, state),
            "last": logits[:, -1:],
            "flat": logits.flatten(0, 1),
            "none": None,
        }
        return answers[self.answer]


class Stateless(Recurrent):
    def __init__(self, answer="logits"):
        super().__init__()
        self.returns = answer

    def forward(self, tokens):
        logits, state = super().forward(tokens)
        return {"logits": logits, "pair": (logits, state), "output": SimpleNamespace(logits=logits)}[
            self.returns
        ]


TOKENS = torch.randint(0, WORDS, (2, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("apart", [False, True])
def test_two_windows_read_one_after_the_other_are_one_long_window(kind, apart):
    model = Recurrent(kind)
    own = OwnLanguageModel(layers_apart(model) if apart else model, WORDS)
    whole, _ = own(TOKENS)
    first, state = own(TOKENS[:, :4])
    second, end = own(TOKENS[:, 4:], state.detach())
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert end.shape == state.shape
    torch.testing.assert_close(own(TOKENS, last=2)[0], whole[:, -2:])


@pytest.mark.parametrize("answer", ["logits", "pair", "output"])
def test_without_an_argument_for_it_no_state_is_carried(answer):
    logits, state = OwnLanguageModel(Stateless(answer), WORDS)(TOKENS)
    assert logits.shape == (2, 6, WORDS) and state is None


def test_a_model_of_the_suite_and_of_another_task_stays_itself():
    class Suited(nn.Module):
        output_layer = None

    for model, shapes in (
        (Suited(), {"vocab_size": 5}),
        (nn.Linear(2, 2), {"in_channels": 1, "num_classes": 2}),
    ):
        assert taken(model, shapes) is model


class Broken(Recurrent):
    def forward(self, tokens):
        raise ValueError("no\nsuch thing")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: Recurrent(batch_first=False), "another row holds.*batch_first=True"),
        (lambda: Recurrent(bidirectional=True), "sees later tokens"),
        (lambda: Recurrent(answer="last"), r"gives \[2, 1, 11\] for tokens \[2, 3\].*here \[2, 3, 11\]"),
        (lambda: Recurrent(answer="flat"), r"gives \[6, 11\] for tokens"),
        (lambda: Recurrent(answer="none"), r"gives \[\] for tokens"),
        (Broken, "Broken cannot read tokens .*: ValueError: no such thing"),
    ],
)
def test_what_would_be_scored_as_something_else_is_refused(model, reason):
    with pytest.raises(BadInput, match=reason) as refusal:
        OwnLanguageModel(model(), WORDS)
    assert "\n" not in str(refusal.value)


def test_its_parts_are_found_and_shared():
    own = OwnLanguageModel(layers_apart(Recurrent()), WORDS)
    assert own.parts.stack == ("model.rnn.layers.0", "model.rnn.layers.1")
    assert (own.parts.embedding, own.parts.unembedding) == ("model.encoder.weight", "model.decoder.weight")
    before = sum(parameter.numel() for parameter in own.parameters())
    (cross_layer(own) + embedding(own)).apply(own, example=TOKENS)
    saved = 2 * 4 * WIDTH * WIDTH + WORDS * WIDTH
    assert before - sum(parameter.numel() for parameter in own.parameters()) == saved


class Undropped(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()


def test_a_class_that_takes_too_little_hears_what_it_must_take():
    config = {"seed": 0, "model": {"_target_": f"{__name__}.Undropped"}}
    with pytest.raises(BadInput, match="must take vocab_size, dropout: .*'dropout'"):
        build.network(config, {"vocab_size": 5}, 0.0)


@pytest.mark.parametrize("key", ["depth", "width"])
def test_a_control_needs_the_sizes_that_it_changes(key):
    model = {"depth": 2, "width": 4}
    del model[key]
    with pytest.raises(BadInput, match=f"control=params changes .*: this model has no model.{key}$"):
        build.controlled({"control": "params", "model": model}, {"vocab_size": 5})


PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


@pytest.fixture
def folder(tmp_path):
    """What the page says to write."""
    for name in ("mine.py", "conf/model/mine.yaml"):
        (text,) = re.findall(rf"```\w+\n# DIR/{re.escape(name)}\n(.*?)```", PAGE, re.S)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_model_of_the_page_is_swept_over_the_tyings(bench: Bench, folder):
    (command,) = re.findall(r"`PYTHONPATH=DIR python -m bench (-m .*?)`", PAGE, re.S)
    words = command.replace("DIR", str(folder)).split()
    done = bench(*words[:-1], "measure.max_seconds=0", words[-1], PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    records = {record["tying"]: record for record in bench.records().values()}
    assert {record["status"] for record in records.values()} == {"done"}
    untied = records["none"]["num_params"]
    vocabulary, width, depth = 4000, 4, 6  # those of `TINY`
    assert untied - records["embedding"]["num_params"] == vocabulary * width
    assert untied - records["cross_layer"]["num_params"] == (depth - 1) * 2 * 4 * width * width
    assert records["cross_layer"]["code"]["model"]["modules"].keys() == {"mine"}


def test_what_cannot_be_trained_is_refused_before_anything_runs(bench: Bench, folder):
    words = ("task=text_gru", "model=mine", f"--config-dir={folder / 'conf'}")
    refused(bench(*words, PYTHONPATH=str(folder)), "trainer.output_precision=bf16")
    text = (folder / "mine.py").read_text()
    (folder / "mine.py").write_text(text.replace("batch_first=True", "batch_first=False"))
    words = (*words[:2], "trainer.output_precision=null", words[2])
    refused(bench(*words, PYTHONPATH=str(folder)), "LanguageModel answers a row by what another row holds")
    assert bench.records() == {}
