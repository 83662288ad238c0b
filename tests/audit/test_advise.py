"""The advisor: sizes exactly, numbers only inside of what was measured, and bad input in one line."""

import json
import re
from dataclasses import replace
from pathlib import Path
from shlex import split

import point_maker
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from pretrained import made
from torch import nn
from transformers import (
    BertConfig,
    FalconH1Config,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    RwkvConfig,
    T5Config,
)

from bench.analysis import points
from bench.analysis.power import seeds_needed
from bench.analysis.prediction import hull_of
from bench.audit.advice import Option, _experiment, advise, distinct_of
from bench.audit.advise import main
from bench.audit.load import LEAST
from bench.audit.sizes import Given, Sized, sized, untied_params
from bench.models.gru import GRULanguageModel
from bench.tying import cross_layer, cycle, embedding, top_k
from bench.tying.errors import BadInput


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A map of a designed experiment that was made up, without a file that says which model is best."""
    folder = tmp_path_factory.mktemp("results")
    write(folder, point_maker.measurements(60))
    return folder


def write(folder, found):
    (folder / "map").mkdir(exist_ok=True)
    (folder / "map" / points.FILE).write_text(points.as_csv(found))


def inside():
    """A GRU in the middle of what was measured."""
    return GRULanguageModel(vocab_size=2000, width=64, depth=4)


def run(capsys, *arguments, results):
    code = main([*arguments, "--results", str(results)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_sizes_are_read_from_the_model():
    asked = sized(["advised_models:gru"], Given(tokens=5e4, passes=3))
    point = asked.point
    assert (point.network, point.vocabulary, point.width, point.depth) == ("gru", 2000, 64, 4)
    assert (point.tokens, point.passes) == (50_000, 3.0)
    assert point.parameters == sum(p.numel() for p in inside().parameters())


def test_a_plain_model_is_read_like_one_that_names_its_parts(results):
    """Four layers in one nn.GRU count as four blocks; a tie of them saves what it does in a stack of modules."""
    asked = sized(["advised_models:plain"], Given(tokens=5e4, passes=3))
    point = asked.point
    assert (point.network, point.vocabulary, point.width, point.depth) == ("gru", 2000, 64, 4)
    assert point.dropout == 0.25
    saved = {option.method: option.saved for option in advise(asked, results).options}
    weights = 3 * 64 * 64
    assert saved["embedding"] == 2000 * 64 and saved["cross_layer"] == 3 * 2 * weights
    assert sized(["advised_models:plain_of_one_layer"], Given(tokens=5e4)).point.depth == 1
    assert sized(["advised_models:of_sentences"], Given(tokens=5e4, network="gru")).point.vocabulary == 2000


def test_flags_say_what_training_will_be():
    point = sized(["advised_models:gru"], Given(tokens=5e4, dropout=0.3, weight_decay=1.0)).point
    assert (point.dropout, point.weight_decay) == (0.3, 1.0)


def test_a_model_of_transformers_is_sized_from_its_config_alone(tmp_path):
    model = made("gpt2")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # no weight is read
    asked = sized([str(tmp_path)], Given(tokens=1e6))
    config = model.config
    assert (asked.point.vocabulary, asked.point.width) == (config.vocab_size, config.hidden_size)
    assert asked.point.network == "transformer" and asked.ties_itself
    own = sum(p.numel() for p in model.parameters())
    assert asked.point.parameters == own + config.vocab_size * config.hidden_size


SMALL = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "vocab_size": 700}
GROUPED = SMALL | {"intermediate_size": 48, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("config", "network", "words"),
    [
        (GPT2Config(n_embd=32, n_layer=4, n_head=2, vocab_size=700), "transformer", 700),
        (LlamaConfig(**SMALL), "transformer", 700),
        (T5Config(d_model=32, num_layers=4, num_heads=2, vocab_size=700), "encoder-decoder", 700),
        (BertConfig(**SMALL), "encoder", 0),
        (BertConfig(**SMALL, architectures=["BertForMaskedLM"]), "masked-transformer", 700),
        (MixtralConfig(**GROUPED), "mixture-of-experts", 700),
        (FalconH1Config(**GROUPED, mamba_d_ssm=32, mamba_n_heads=2, mamba_d_head=16), "hybrid", 700),
    ],
)
def test_a_config_alone_says_what_kind_of_network_it_makes(tmp_path, config, network, words):
    """A config as people write it names no class; a decoder's is that of a language model."""
    config.save_pretrained(tmp_path)
    point = sized([str(tmp_path)], Given(tokens=1e6)).point
    assert (point.network, point.vocabulary, point.width) == (network, words, 32)


def test_a_network_whose_attention_is_recurrent_in_truth_is_asked_for_its_kind(tmp_path):
    RwkvConfig(**SMALL, eos_token_id=0, bos_token_id=0).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="what kind of network .* cannot be read: give --network gru"):
        sized([str(tmp_path)], Given(tokens=1e6))


def test_a_config_that_makes_no_model_says_why(tmp_path):
    LlamaConfig(vocab_size=100, pad_token_id=100).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="no file named model.safetensors.*Padding_idx"):
        sized([str(tmp_path)], Given(tokens=1e6))


@pytest.mark.parametrize("key", LEAST)
@pytest.mark.parametrize("size", [-5, 0])
def test_a_config_of_an_impossible_size_is_one_line(tmp_path, capfd, key, size):
    """Of some transformers makes an empty model, which would be placed as a classifier, and warns at length."""
    path = tmp_path / "config.json"
    LlamaConfig(**SMALL).save_pretrained(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: size}))
    with pytest.raises(BadInput, match="^the config.json of .* cannot be used: .*; restore it$"):
        sized([str(tmp_path)], Given(tokens=1e6))
    assert capfd.readouterr() == ("", "")


def test_a_task_is_sized_by_its_keys():
    asked = sized(["task=text_gru", "model.width=48", "model.depth=3"], Given(passes=2))
    point = asked.point
    assert (point.network, point.corpus, point.vocabulary) == ("gru", "pydocs", 4000)
    assert (point.width, point.depth, point.passes) == (48, 3, 2)
    assert point.parameters == sum(p.numel() for p in GRULanguageModel(4000, 3, 48).parameters())


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        (["advised_models:gru"], {"tokens": 0.0}, r"--tokens is 0; it must be 1 or more.*2e8"),
        (["advised_models:gru"], {"tokens": float("nan")}, "--tokens is nan"),
        (["advised_models:gru"], {"tokens": float("inf")}, "--tokens is inf"),
        (["advised_models:gru"], {"tokens": 1e5, "passes": 0.5}, "--passes is 0.5; it must be 1 or more"),
        (["advised_models:gru"], {"tokens": 1e5, "dropout": 1.0}, "--dropout is 1; .* below 1"),
        (["advised_models:gru"], {"tokens": 1e5, "network": "mlp"}, "--network is mlp; allowed are gru"),
        (["advised_models:gru"], {}, "cannot be read: give --tokens"),
        (["advised_models:of_one_word"], {"tokens": 1e5}, "embedding .* has 1 words; it must have 2 or more"),
        (
            ["advised_models:headless"],
            {"tokens": 1e5},
            "the vocabulary and the width of .*--vocab and --width",
        ),
        (["advised_models:flat"], {"tokens": 1e5}, "what kind of network .*--network"),
        (["advised_models:of_sentences"], {"tokens": 1e5}, "no layer of it has as many .*--network gru"),
        (["advised_models:without_a_head"], {"tokens": 1e5}, "no layer of it has as .*--network transformer"),
        (
            ["advised_models:flat"],
            {"tokens": 1e5, "network": "cnn"},
            "the depth and the width .*--depth and --width",
        ),
        (["advised_models:gru", "advised_models:flat"], {"tokens": 1e5}, "give one MODEL, or keys"),
        (["nowhere/at:all"], {"tokens": 1e5}, "cannot import"),
        (["task=text_gru"], {"width": 4}, "--width is of a MODEL; of a task give its key"),
        (["task=nothing"], {}, "is no task"),
        (["task=text_gru", "model.width=64,128"], {}, r"several values: give one, or write model.width=\["),
        (["task=series_gru"], {}, "the map has language models and classifiers"),
    ],
)
def test_bad_input_is_told_in_one_line(words, given, message):
    with pytest.raises(BadInput, match=message) as refused:
        sized(words, Given(**given))
    assert "\n" not in str(refused.value)


def test_what_flags_give_need_not_be_read():
    point = sized(["advised_models:headless"], Given(tokens=1e5, vocab=500, width=16)).point
    assert (point.vocabulary, point.width) == (500, 16)


@pytest.fixture
def configs(tmp_path):
    """Choices of a user's own: `model=<class>` for the classes of advised_models that a task can train."""
    (tmp_path / "conf/model").mkdir(parents=True)
    for name in ("Own", "Convolved", "Adaptive"):
        text = f"_target_: advised_models.{name}\ndepth: 4\nwidth: 32\n"
        (tmp_path / f"conf/model/{name}.yaml").write_text(text)
    return str(tmp_path / "conf")


def test_keys_come_back_from_the_command_as_they_were_given(results):
    keys = ("task=text_gru", "tying.grouping=[0,0,1]", "optimizer.shared_lr=null")
    asked = replace(sized(["task=text_gru"], Given(tokens=5e4)), overrides=keys)
    assert set(keys) <= set(split(advise(asked, results).experiment.command))
    assert " 'tying.grouping=[0,0,1]' " in advise(asked, results).experiment.command


def test_a_model_of_ones_own_is_placed_by_its_task_and_trained_to_decide(results, configs):
    words = ["task=text_gru", "model=Own", "model.width=64"]
    asked = sized(words, Given(passes=2), configs)
    ours = sized(["task=text_gru", "model.width=64", "model.depth=4"], Given(passes=2)).point
    assert asked.point == replace(ours, parameters=untied_params(asked.model))
    experiment = advise(asked, results).experiment
    assert not experiment.is_stand_in
    assert experiment.command.endswith(f" --config-dir={configs}")
    for word in (*words, "trainer.max_epochs=2", "trainer.output_precision=null", "seed=1"):
        assert f" {word}" in experiment.command


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        (["advised_models:gru"], {"tokens": 1e5}, "--config-dir is for keys of a task.* is a MODEL"),
        (["task=text_gru", "model=nothing"], {}, "is no task: there is no model=nothing"),
        (["task=text_gru", "model=Convolved"], {}, "what kind of network .*Convolved is cannot be read"),
        (
            ["task=text_gru", "model=Adaptive"],
            {},
            "Adaptive looks like a classifier .encoder. and predicts words",
        ),
    ],
)
def test_a_model_of_ones_own_that_cannot_be_placed_is_told_in_one_line(words, given, message, configs):
    with pytest.raises(BadInput, match=message) as refused:
        sized(words, Given(**given), configs)
    assert "\n" not in str(refused.value)


def test_a_folder_of_configs_that_is_not_there_is_refused(configs):
    with pytest.raises(BadInput, match="--config-dir=.*/none is no folder"):
        sized(["task=text_gru", "model=Own"], Given(), f"{configs}/none")


def test_a_folder_without_a_map_is_refused(capsys, tmp_path):
    code, out, err = run(capsys, "advised_models:gru", "--tokens", "1e5", results=tmp_path)
    assert code == 2 and not out and "there is no map in" in err and err.count("\n") == 1


def test_parameters_and_bytes_are_those_of_the_tied_model(results):
    advice = advise(sized(["advised_models:gru"], Given(tokens=5e4, passes=3)), results)
    for option in advice.options:
        make = {"embedding": embedding, "cross_layer": cross_layer}.get(option.method)
        if make is None:
            continue
        model = inside()
        make(model).apply(model)
        assert option.parameters == sum(p.numel() for p in model.parameters())
        assert option.saved_bytes == 4 * option.saved == 4 * (untied_params(inside()) - option.parameters)


@pytest.mark.parametrize(
    ("plan", "distinct"),
    [
        (cross_layer, 1),
        (lambda m: top_k(m, fraction=0.5), 3),
        (lambda m: cycle(m, groups=2), 2),
        (embedding, 4),
    ],
)
def test_blocks_that_share_are_counted_as_records_count_them(plan, distinct):
    assert distinct_of(plan(inside()), 4) == distinct


def test_inside_of_what_was_measured_there_is_a_prediction(results):
    asked = sized(["advised_models:gru"], Given(tokens=6e4, passes=4))
    advice = advise(asked, results)
    by_method = {option.method: option for option in advice.options}
    generator_free = point_maker.measurement(replace(asked.point, corpus="pydocs"), "embedding")
    mean, low, high, _ = by_method["embedding"].predicted
    assert low < mean < high and abs(mean - generator_free.difference) < 0.03
    assert len(by_method["embedding"].nearest) == 3
    assert any("Press & Wolf" in row.source for row in by_method["embedding"].published)
    assert by_method["cycle"].predicted is None and by_method["cycle"].outside == (
        "cycle was measured nowhere",
    )


def test_outside_it_says_so_first_and_gives_no_number_of_its_own(capsys, results):
    code, out, _ = run(capsys, "advised_models:wide", "--tokens", "2e9", results=results)
    first = [line for line in out.splitlines() if line][1]
    assert code == 0 and first.startswith("Outside of what was measured, so there is no prediction: ")
    assert ", published: " in out and ", measured: " in out
    code, out, _ = run(capsys, "advised_models:wide", "--tokens", "2e9", "--json", results=results)
    content = json.loads(out)
    assert content["outside"] and content["choice"] is None
    assert all(option["predicted"] is None for option in content["options"])
    assert all(option["saved"] > 0 for option in content["options"])


def test_the_choice_saves_most_of_what_is_surely_no_worse(results):
    advice = advise(sized(["advised_models:gru"], Given(tokens=4e4, passes=12)), results)
    safe = [option for option in advice.options if option.is_safe]
    assert advice.choice is not None and advice.choice.percent[2] <= 1
    assert advice.choice.saved == max(option.saved for option in safe)


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_what_would_decide_has_seeds_from_the_noise(noise):
    """Hydra reads the seeds of the command back: one by one or, of many, as a range."""
    found = point_maker.measurements(30)
    place = found[0].point
    option = Option("embedding", "tying=embedding", saved=10, parameters=90, noise=noise, nearest=(found[0],))
    asked = Sized("a task", nn.Identity(), place, False, ("task=text_gru",))
    experiment = _experiment(asked, [option], None, found)
    assert experiment.seeds == seeds_needed(noise, torch.log1p(torch.tensor(0.01, dtype=float)).item())
    *words, seeds = split(experiment.command)
    assert " ".join(words) == "python -m bench -m sweep.name=decide task=text_gru tying=none,embedding"
    (parsed,) = OverridesParser.create().parse_overrides([seeds])
    assert list(map(int, parsed.sweep_string_iterator())) == list(range(1, experiment.seeds + 1))
    assert (experiment.seeds > 10) == ("range" in seeds) == (noise == 0.02)
    assert not experiment.is_stand_in
    assert experiment.minutes == pytest.approx(2 * experiment.seeds * 20 / 60)


def test_a_stand_in_adds_its_input_before_each_block_where_the_nearest_network_did():
    """Its task is that of its kind; before, a GRU with injection stood in as a transformer."""
    found = point_maker.measurements(30)
    place = replace(found[0].point, network="gru, injection")
    near = replace(found[0], point=place)
    option = Option("embedding", "tying=embedding", saved=10, parameters=90, noise=0.02, nearest=(near,))
    experiment = _experiment(Sized("mine", nn.Identity(), place, False), [option], None, [near])
    assert experiment.is_stand_in
    assert {"task=text_gru", "model.injection=add"} <= set(split(experiment.command))


def test_nothing_is_left_to_decide_where_all_is_safe_or_hopeless():
    place = point_maker.measurements(1)[0].point
    asked = Sized("a task", nn.Identity(), place, False, ("task=text_gru",))
    hopeless = Option(
        "embedding", "tying=embedding", saved=1, noise=0.01, predicted=points_interval(0.2, 0.1, 0.3)
    )
    assert _experiment(asked, [hopeless], None, []) is None


def points_interval(mean, low, high):
    from bench.analysis.statistics import Interval

    return Interval(mean, low, high, 20)


def test_the_page_the_json_and_the_text_say_the_same(capsys, results, tmp_path):
    arguments = ("advised_models:gru", "--tokens", "6e4", "--passes", "4")
    code, text, _ = run(capsys, *arguments, "--out", str(tmp_path), results=results)
    assert code == 0
    page, content = (tmp_path / "advice.md").read_text(), json.loads((tmp_path / "advice.json").read_text())
    html = (tmp_path / "advice.html").read_text()
    assert page.startswith("# Tying advised_models:gru") and "<table" in html and "<h2" in html
    for option in content["options"]:
        assert f"{option['saved_bytes']:,}" in text and f"{option['saved_bytes']:,}" in page
        if option["predicted"]:
            percent = option["predicted"]["perplexity_percent"]["mean"]
            shown = f"{percent:+.1f}".replace("-", "−")
            assert shown in text and shown in page and shown in html
    assert re.search(r"tying +nll +perplexity %", text)


def test_a_method_that_does_not_apply_says_why(capsys, results):
    code, out, _ = run(capsys, "advised_models:convolutions", "--tokens", "1000", results=results)
    assert code == 0 and "embedding does not apply: no input embedding" in out


def test_the_command_that_it_names_is_found():
    from importlib.util import find_spec

    import bench

    for name in ("bench.advise", "bench.map", "bench.foretell"):
        assert name in bench.COMMANDS and find_spec(name) is not None


def test_a_measured_place_is_inside_of_the_hull(results):
    found = points.from_csv(results / "map" / points.FILE)
    hull = hull_of(found, "embedding")
    assert sum(not hull.outside(one) for one in hull.measured) >= 0.9 * len(hull.measured)
