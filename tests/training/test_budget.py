"""A budget in steps, patience, and a learning rate by the uses of a tensor."""

import copy
import math
import time

import pytest
import torch
from grid import build, steps

from bench.runs.worker import Stopped
from bench.training import train as run
from bench.training.checkpoint import Checked
from bench.training.module import Training

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

PER_EPOCH = 6
PLAIN = (f"trainer.limit_train_batches={PER_EPOCH}", "dropout=0.1", "weight_decay=0.5", "optimizer.clip=0.3")
STRONG = {"image_cnn": "soft", "text_gru": "albert", "text_transformer": "soft_decoupled"}
SAME = ("test", "val", "train", "best_epoch", "steps", "curves", "spread", "decay", "clipped_share", "last")
both = pytest.mark.parametrize("task", ["text_gru", "text_transformer", "image_cnn"])


def train(one, folder, every_s=None):
    config = copy.deepcopy(one.config)
    config["trainer"]["checkpoint_every_s"] = every_s
    folder.mkdir(exist_ok=True)
    request = {**one.header(), "logger": one.options["logger"], "sweep": "test"}
    return run.train(request, config, folder, time.time())


@both
def test_a_budget_in_steps_is_that_of_epochs_to_the_bit_where_they_coincide(cell, tmp_path, task):
    """Two epochs of six steps validated at each: twelve steps, which are validated at each too."""
    every = f"trainer.val_check_interval={1 / PER_EPOCH}"
    by_epochs = train(cell(task, STRONG[task], *PLAIN, "trainer.max_epochs=2", every), tmp_path / "epochs")
    by_steps = train(cell(task, STRONG[task], *PLAIN, "trainer.max_steps=12"), tmp_path / "steps")
    assert {key: by_steps[key] for key in SAME} == {key: by_epochs[key] for key in SAME}
    assert by_steps["stop"] == by_epochs["stop"] == {"step": 12, "of": 12, "why": "budget"}


@pytest.mark.parametrize(
    ("budget", "validated"), [(1, [1]), (7, range(1, 8)), (24, range(2, 25, 2)), (40, range(3, 40, 3))]
)
def test_a_run_takes_just_those_steps_and_is_validated_about_twelve_times(cell, tmp_path, budget, validated):
    """Whatever the length of an epoch, and to the end where twelve divides the budget."""
    record = train(cell("text_gru", "none", *PLAIN, f"trainer.max_steps={budget}"), tmp_path)
    assert record["steps"] == budget and record["stop"] == {"step": budget, "of": budget, "why": "budget"}
    assert record["curves"]["step"] == list(validated)
    assert record["curves"]["lr"][-1] < 0.05 * max(record["curves"]["lr"]) or budget < 24


def test_a_run_by_steps_goes_on_where_it_was_ended(cell, tmp_path, monkeypatch):
    one = cell("text_gru", "albert", *PLAIN, "trainer.max_steps=24")
    whole = train(one, tmp_path / "whole")
    saves = []

    def save_and_end(self, checkpoint, path, **options):
        save(self, checkpoint, path, **options)
        saves.append(checkpoint["global_step"])
        if len(saves) == 5:
            raise Stopped("here")

    save = Checked.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(Checked, "save_checkpoint", save_and_end)
        with pytest.raises(Stopped):
            train(one, tmp_path / "run", every_s=0)
    # Every second step ends with a validation, and no save falls on one.
    assert all(step % 2 for step in saves) and saves[-1] > PER_EPOCH
    resumed = train(one, tmp_path / "run")
    assert resumed["resumed_from"] == [saves[-1]]
    assert {key: resumed[key] for key in SAME} == {key: whole[key] for key in SAME}


@pytest.fixture
def scored(monkeypatch):
    """Makes validations give these perplexities in turn."""

    def give(values):
        values = iter(values)

        def scores(self):
            original(self)
            self.scores = {**self.scores, "perplexity": next(values)}

        original = Training.on_validation_epoch_end
        monkeypatch.setattr(Training, "on_validation_epoch_end", scores)

    return give


def test_patience_ends_a_run_after_so_many_validations_without_a_better_one(cell, tmp_path, scored):
    scored([9.0, 8.0, 8.5, 7.0, 7.0, 7.5, *[1.0] * 20])
    one = cell("text_gru", "none", *PLAIN, "trainer.max_steps=24", "trainer.patience=2")
    record = train(one, tmp_path)
    assert record["stop"] == {"step": 12, "of": 24, "why": "patience"} and record["steps"] == 12
    assert record["curves"]["val_metric"] == [9.0, 8.0, 8.5, 7.0, 7.0, 7.5]
    assert record["best_epoch"] == 8 / PER_EPOCH and record["val"]["perplexity"] == 7.0
    assert record["last"]["val"]["perplexity"] == 7.5


def test_without_patience_a_run_goes_to_its_end(cell, tmp_path, scored):
    scored([1.0, *[2.0] * 30])
    record = train(cell("text_gru", "none", *PLAIN, "trainer.max_steps=24"), tmp_path)
    assert record["stop"] == {"step": 24, "of": 24, "why": "budget"} and record["best_epoch"] == 2 / PER_EPOCH


def test_patience_is_not_forgotten_where_a_run_goes_on(cell, tmp_path, monkeypatch, scored):
    scored([1.0, *[2.0] * 30])
    one = cell("text_gru", "none", *PLAIN, "trainer.max_steps=24", "trainer.patience=4")
    save = Checked.save_checkpoint

    def save_and_end(self, checkpoint, path, **options):
        save(self, checkpoint, path, **options)
        if checkpoint["global_step"] == 7:  # after three validations, two of them for nothing
            raise Stopped("here")

    with monkeypatch.context() as patch:
        patch.setattr(Checked, "save_checkpoint", save_and_end)
        with pytest.raises(Stopped):
            train(one, tmp_path / "run", every_s=0)
    assert train(one, tmp_path / "run")["stop"] == {"step": 10, "of": 24, "why": "patience"}


@pytest.mark.parametrize("task", ["text_gru", "text_transformer"])
def test_a_tensor_of_g_uses_learns_at_the_rate_over_the_root_of_g(cell, task):
    built = build(cell(task, "[embedding,cross_layer]", "optimizer.shared_lr=sqrt", "weight_decay=2"))
    rate, named = built.config["optimizer"]["lr"], built.named()
    uses = {id(parameter): 0 for parameter in named.values()}
    for parameter in named.values():
        uses[id(parameter)] += 1
    optimizer = built.module.adamw()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {key: rate / math.sqrt(count) for key, count in uses.items()}
    assert {1, 2, built.config["model"]["depth"]} == set(uses.values())
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {id(p): 2 if p.ndim >= 2 else 0 for p in built.model.parameters()}
    assert optimizer.param_groups[0]["lr"] == rate  # which the record's dose and curve are of


@pytest.mark.parametrize("tying", ["none", "soft"])
def test_where_nothing_is_shared_the_uses_change_nothing(cell, tying):
    curves = []
    for more in ((), ("optimizer.shared_lr=sqrt",)):
        built = build(cell("text_gru", tying, *more))
        torch.manual_seed(0)
        curves.append(steps(built, 5))
    assert curves[0] == curves[1]


def test_the_uses_change_what_is_shared(cell):
    one, other = (
        steps(build(cell("text_gru", "cross_layer", *more)), 5)
        for more in ((), ("optimizer.shared_lr=sqrt",))
    )
    assert one[0] == other[0] and one[2:] != other[2:]
