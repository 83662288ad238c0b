"""What a slip on the command line is answered with: the name that was meant."""

import importlib

import pytest

from bench.config import refusals
from bench.tying.errors import offer

KEYS = {
    "droput": "dropout",
    "dropout_rate": "dropout",
    "weight-decay": "weight_decay",
    "wd": "weight_decay",
    "seeds": "seed",
    "resutls": "results",
    "dataset": "data",
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "epochs": "trainer.max_epochs",
    "max_epoch": "trainer.max_epochs",
    "trainer.epochs": "trainer.max_epochs",
    "steps": "trainer.max_steps",
    "device": "trainer.accelerator",
    "early_stopping": "trainer.patience",
    "batch": "task.batches.batch_size",
    "batch_size": "task.batches.batch_size",
    "bptt": "task.batches.window",
    "k": "tying.k",
    "lambda": "tying.strength",
    "tying.lambda": "tying.strength",
    "layer": "model.depth",
    "model.layers": "model.depth",
    "model.hidden_size": "model.width",
    "heads": "model.heads",
}
CHOICES = {
    "tying": {"embeding": "embedding", "topk": "top_k", "ALBERT": "albert"},
    "task": {"text_gr": "text_gru", "transformer": "text_transformer"},
    "sweep": {"smok": "smoke", "quikc": "quick"},
    "data": {"wikitext": "wikitext2"},
}


@pytest.mark.parametrize(("slip", "meant"), KEYS.items())
def test_a_key_is_offered_for_a_slip_and_for_its_name_elsewhere(slip, meant):
    told = refusals.of_hydra(ValueError(f"Could not override '{slip}'."), [f"{slip}=1"])
    assert told == f"unknown key {slip}: did you mean {meant}?"
    assert refusals.unknown_flag(f"--{slip}=1", ["--help"]) == f"did you mean {meant}=1, without dashes?"


@pytest.mark.parametrize(("group", "slips"), CHOICES.items())
def test_a_choice_is_offered_or_all_are_listed(group, slips):
    for choice, meant in {**slips, "zzz": None}.items():
        error = ValueError(f"In 'config': Could not load '{group}/{choice}'.")
        told = refusals.of_hydra(error, [f"{group}=[none,{choice}]"])
        assert told.startswith(f"there is no {group}={choice}: ")
        assert told.endswith(f"did you mean {meant}?") if meant else "allowed are " in told


def test_a_word_without_a_value_and_several_values_of_one_run():
    bare = ValueError("Error parsing override 'quick' missing EQUAL at '<EOF>'")
    assert refusals.of_hydra(bare, ["quick"]) == "quick has no value: did you mean sweep=quick?"
    several = "Ambiguous value for argument '{}=1,2' 1. To use it as a list, use key=[value1,value2]"
    assert "add -m" in refusals.of_hydra(ValueError(several.format("seed")), ["seed=1,2"])
    assert refusals.of_hydra(ValueError(several.format("seeds")), []).endswith("did you mean seed?")
    assert refusals.unknown_flag("--mutlirun", ["--help", "--multirun"]) == "did you mean --multirun?"


@pytest.mark.parametrize(
    ("command", "slip", "meant"),
    [
        ("bench.tables", "--resutls", "--results"),
        ("bench.compare", "--swep", "--sweep"),
        ("bench.plan", "--margn", "--margin"),
        ("bench.status", "--sweeps", "--sweep"),
        ("bench.map", "--rusn", "--runs"),
    ],
)
def test_an_option_is_offered_before_what_else_is_missing(command, slip, meant, capsys):
    assert importlib.import_module(command).main([slip, "x"]) == 2
    assert capsys.readouterr().err == f"error: unknown option {slip}: did you mean {meant}?\n"


def test_what_is_near_nothing_is_answered_with_all_names():
    assert offer("zzz", ["quick", "main"], "there is") == "there is quick, main"
    assert offer("zzz", []) == "allowed are none"
