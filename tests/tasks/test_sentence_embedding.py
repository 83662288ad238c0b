"""Sentence embedding by self-distillation, and runs that begin from a trained model of transformers."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers
from cell_maker import composed
from grid import build, steps
from scipy.stats import spearmanr
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F

from bench.config.run_config import from_hydra
from bench.data.zoo import folder_of
from bench.sweep.run_or_load import ensure_run
from bench.tasks.sentence_embedding import ranked
from bench.training import build as assembly
from bench.training.init_from_pretrained import init_from_pretrained
from bench.training.train import _original
from bench.tying.errors import BadInput
from bench.tying.similarity import align, align_to_first

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24}
FEW = ("trainer.limit_train_batches=2", "trainer.limit_eval_batches=1", "measure.max_seconds=0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of transformers with its tokenizer: a small BERT whose weights are far from those of a seed."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(7)
    model = transformers.BertModel(transformers.BertConfig(**SIZES, vocab_size=40, hidden_act="relu"))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    words = {word: at for at, word in enumerate(("[PAD]", "[UNK]", *(f"w{n}" for n in range(38))))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def begun(grid, trained):
    """(*overrides) -> a run of the task that begins from the trained model."""

    def cell(*overrides, start=("start=pretrained", f"start.model={trained}")):
        places = (*grid.data["labelled_text"], *grid.common)
        return from_hydra(composed("task=sentence_embedding", *start, *places, *FEW, *overrides))

    return cell


def embedded(cell, tokens, blocks=None):
    """What the run's plain network makes of tokens once the trained weights are in it."""
    shapes = assembly.data_module(cell.config).shapes
    model = assembly.network(assembly.controlled(cell.config, shapes)[0], shapes, 0.0)
    init_from_pretrained(model, cell.config["start"]["model"], blocks)
    return model.eval()(tokens)


def test_a_run_has_the_sizes_and_the_tokenizer_of_what_it_begins_from(begun):
    cell = begun("tying=cross_layer")
    model = cell.config["model"]
    assert (model["architecture"], model["depth"], model["width"], model["heads"]) == ("bert", 4, 16, 2)
    assert cell.config["data"]["meta"]["vocab_size"] == 40 and cell.start is None
    assert cell.label.startswith("cross_layer, start=/") and begun("tying=none").label.startswith(
        "none, start=/"
    )


def test_how_it_is_merged_is_of_a_tie_alone(begun):
    ids = {begun("tying=cross_layer", f"tying.merge={merge}").id for merge in ("first", "mean", "aligned")}
    assert len(ids) == 3
    for plain in (("tying=none",), ("tying=cross_layer", "control=delete")):
        merged = begun(*plain, "tying.merge=first")
        assert merged.id == begun(*plain).id and merged.unused == ("tying.merge",)
    untied = ("tying=cross_layer", "start=untied")
    assert begun(*untied, "tying.merge=first", start=()).id == begun(*untied, start=()).id
    costs = {begun("tying=cross_layer", f"tying.merge={merge}").cost for merge in ("first", "mean")}
    assert len(costs) == 1


@torch.no_grad()
def test_it_embeds_as_the_trained_model_does_with_all_blocks_and_with_some(begun, trained):
    tokens = torch.tensor([[2, 9, 30, 5], [7, 3, 0, 0]])
    model = transformers.BertModel.from_pretrained(trained).eval()
    for overrides, blocks in ((("tying=none",), None), (("tying=sequence", "tying.groups=2"), [0, 2])):
        cell = begun(*overrides, *(("control=delete",) if blocks else ()))
        if blocks:
            assert (
                assembly.controlled(cell.config, {"vocab_size": 40, "num_classes": 2})[1]["blocks"] == blocks
            )
            model.encoder.layer = torch.nn.ModuleList(model.encoder.layer[at] for at in blocks)
        hidden = model(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
        means = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
        torch.testing.assert_close(embedded(cell, tokens, blocks), F.normalize(means, dim=-1))


def test_none_stays_the_original_to_the_bit_and_a_tie_is_healed(begun):
    for tying, is_original in (("none", True), ("cross_layer", False)):
        cell = begun(f"tying={tying}", "dropout=0")
        built = build(cell)
        original = _original(cell.config, built.data.shapes)
        if is_original:
            built.model.load_state_dict(original.state_dict())
        built.module.learn_from(original)
        before = copy.deepcopy(built.model.state_dict())
        losses = steps(built, 12)
        if is_original:
            after = built.model.state_dict()
            assert losses == [0.0] * 12 and all(torch.equal(after[name], before[name]) for name in before)
        else:
            assert losses[-1] < losses[0]
        assert len(list(built.module.parameters())) == len(list(built.model.parameters()))


@torch.no_grad()
def test_losses_and_scores_are_those_of_school(begun):
    built = build(begun("tying=none", start=()))
    built.module.learn_from(_original(begun("tying=none", "seed=5", start=()).config, built.data.shapes))
    batch = next(iter(built.data.val_dataloader()))
    ours, theirs = (side.detach().double() for side in built.module._pair(batch))
    sums = {name: float(value) for name, value in built.module.tally(batch).items()}
    scores = built.module.score(sums, "val")
    assert scores["cosine"] == pytest.approx(float((ours * theirs).sum(-1).mean()))
    assert (
        scores["nll"]
        == pytest.approx(1 - scores["cosine"], abs=1e-6)
        == built.module.each(batch)["nll"].mean()
    )
    one, other = torch.triu_indices(len(ours), len(ours), offset=1)
    sides = [(side[one] * side[other]).sum(-1) for side in (ours, theirs)]
    assert scores["rank_correlation"] == pytest.approx(spearmanr(*sides).statistic)
    assert ranked(ours[:2], theirs[:2]) == {"rank_correlation": 0, "pairs": 0}


def test_equal_similarities_have_the_mean_of_their_ranks():
    ours = torch.eye(4, dtype=torch.float64)
    ours[3] = ours[2]
    theirs = F.normalize(torch.arange(16.0).view(4, 4).double() ** 2, dim=-1)
    one, other = torch.triu_indices(4, 4, offset=1)
    sides = [(side[one] * side[other]).sum(-1) for side in (ours, theirs)]
    sums = ranked(ours, theirs)
    assert float(sums["rank_correlation"] / sums["pairs"]) == pytest.approx(spearmanr(*sides).statistic)


@torch.no_grad()
def test_aligned_blocks_compute_what_they_did_and_are_as_alike_as_they_can_be(trained):
    model = transformers.BertModel.from_pretrained(trained).eval()
    tokens = torch.arange(8)[None]
    before, blocks = model(tokens)[0], [f"encoder.layer.{at}" for at in range(4)]
    best = [align(model, blocks[0], block).cosine for block in blocks[1:3]]
    align_to_first(model, [(-4, -3), (-3, -2), (-4, -2)])
    torch.testing.assert_close(model(tokens)[0], before, rtol=1e-4, atol=1e-5)
    assert [align(model, blocks[0], block).raw for block in blocks[1:3]] == pytest.approx(best)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("start=pretrained",), "start=pretrained needs start.model=FOLDER"),
        (("start=pretrained", "start.model=zoo:nobody"), "there is no zoo:nobody: allowed are zoo:minilm"),
        (
            ("start=pretrained", "start.model=conf"),
            "conf is no folder of transformers, it holds no config.json",
        ),
        (
            ("start=pretrained", "start.model=TRAINED", "control=params", "tying=cross_layer"),
            "of another size",
        ),
        (("data.tokenizer=pretrained",), "go together: set both or neither"),
        (("task.metric.name=accuracy",), "must be cosine, rank_correlation or nll"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(begun, trained, monkeypatch, overrides, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match=words) as refusal:
        begun(*(text.replace("TRAINED", str(trained)) for text in overrides), start=())
    assert "\n" not in str(refusal.value)


def test_weights_that_do_not_fit_are_refused_in_one_line(begun, trained, tmp_path):
    tokens = torch.ones(1, 2, dtype=torch.long)
    for override, words in (
        ("model.width=8", "do not fit the network"),
        (
            "model.config={hidden_act:gelu,intermediate_size:24,type_vocab_size:2,max_position_embeddings:512}",
            "does not compute what",
        ),
    ):
        with pytest.raises(BadInput, match=words):
            embedded(begun("tying=none", override), tokens)
    config = (trained / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(BadInput, match="holds neither model.safetensors nor pytorch_model.bin"):
        folder_of(str(tmp_path))
    with pytest.raises(BadInput, match="needs a network of transformers"):
        init_from_pretrained(torch.nn.Linear(1, 1), str(trained))


def test_a_run_begins_from_it_and_records_what_tying_did_before_training(begun, tmp_path):
    cell = begun("tying=cross_layer", "control=delete")
    record = ensure_run(replace(cell, options={**cell.options, "runs": str(tmp_path)}))
    assert record["status"] == "done" and record["control"]["blocks"] == [0]
    before = record["start"]["test"]["cosine"]
    assert (
        before < 0.999
        and record["test"]["cosine"] != before
        and record["start"]["model"].endswith("trained0")
    )
