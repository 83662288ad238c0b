"""The training module on the networks of the tasks: decay, clipping, soft tying, dropout, divergence."""

import math

import pytest
import torch
from grid import CELLS, TASKS, applies, build, doubled, kind, score, step, steps

from bench.models.checks import dropout_sites
from bench.runs.worker import Diverged
from bench.training import build as assembly
from bench.training.module import CHECK_EVERY
from bench.training.optimizer import schedule
from bench.tying.apply import is_factor
from bench.tying.errors import BadInput

APPLYING = [(task, tying) for task, tying in CELLS if applies(task, tying)]
TEXT = [task for task in TASKS if kind(task) == "text"]
PENALTIES = [pair for pair in APPLYING if pair[1] in ("soft", "soft_embedding")]

every_cell = pytest.mark.parametrize(("task", "tying"), APPLYING)
every_task = pytest.mark.parametrize("task", TASKS)
every_text = pytest.mark.parametrize("task", TEXT)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def pulls(built, strength):
    """Name -> gradient of the penalty, written out: 2 n strength (W_i - mean)."""
    named, gradients_of = {name: p.detach() for name, p in built.named().items()}, {}
    for tie in built.plan.ties:
        mean = torch.stack([named[name] for name in tie.names]).mean(0)
        gradients_of |= {name: 2 * len(tie.names) * strength * (named[name] - mean) for name in tie.names}
    return gradients_of


@every_cell
def test_decay_goes_by_rank_and_counts_a_tied_tensor_once(cell, task, tying):
    built, untied = build(cell(task, tying)), build(cell(task))
    decayed, spared = built.module.groups
    assert all(p.ndim >= 2 for p in decayed["params"]) and all(p.ndim < 2 for p in spared["params"])
    grouped = [id(p) for group in (decayed, spared) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in built.model.parameters())
    ours, theirs = built.module.decay, untied.module.decay
    named = built.named()
    # The factors of relaxed weights, and learned maps, go by their rank besides.
    for fate in ("decayed", "undecayed"):
        shared = {name for name in ours[fate] if not is_factor(name, named)}
        assert {id(named[name]) for name in shared} == {id(named[name]) for name in theirs[fate]}
        assert shared <= set(theirs[fate])


@every_cell
def test_weight_decay_takes_lr_times_decay_of_each_matrix_once(cell, task, tying):
    plain = build(cell(task, tying, "optimizer.clip=null"))
    decayed = build(cell(task, tying, "optimizer.clip=null", "weight_decay=2"))
    rate = plain.config["optimizer"]["lr"]
    for built in (plain, decayed):
        module, batch = doubled(built)
        module.form = None  # a decoupled pull comes after the decay
        start = {name: p.detach().clone() for name, p in built.named().items()}
        step(module, module.adamw(), batch)
    for name, parameter in decayed.named().items():
        lost = plain.named()[name] - parameter
        expected = rate * 2 * start[name] if parameter.ndim >= 2 else torch.zeros_like(lost)
        torch.testing.assert_close(lost, expected, rtol=1e-9, atol=1e-15)


def test_schedule_in_the_head():
    assert [schedule(step, 10, 0.2) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert schedule(6, 10, 0.2) == pytest.approx(0.5)
    assert schedule(10, 10, 0.2) == 0.0
    assert schedule(0, 10, 0.0) == schedule(0, 1, 0.0) == 1.0


@every_task
def test_the_dose_is_the_sum_of_lr_times_decay_over_the_steps(cell, task):
    built = build(cell(task, "none", "weight_decay=2"))
    optimizer, rates = built.module.adamw(), [0.01, 0.02, 0.005]
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        step(built.module, optimizer, built.batches[0])
    assert built.module.dose == pytest.approx(2 * (0.01 + 0.02 + 0.005))


@pytest.mark.parametrize(("task", "tying"), PENALTIES)
def test_the_penaltys_gradient_is_added_after_clipping(cell, task, tying):
    clip, strength = 1e-3, 0.5
    built = build(cell(task, tying, f"optimizer.clip={clip}", f"tying.strength={strength}"))
    module, batch = doubled(built)
    module.loss(batch).backward()
    plain = gradients(built.model)
    norm = torch.stack([g.norm() for g in plain.values()]).norm()
    module.configure_gradient_clipping(module.adamw())
    pull = pulls(built, strength)
    for name, gradient in gradients(built.model).items():
        expected = plain[name] * clip / (norm + 1e-6) + pull.get(name, 0)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-13)
    assert norm > clip and float(module.clipped) == 1
    assert torch.stack([g.norm() for g in pull.values()]).norm() > 10 * clip


@pytest.mark.parametrize(("task", "tying"), PENALTIES)
def test_the_closed_form_gradient_is_autograds_of_the_total_loss(cell, task, tying):
    built = build(cell(task, tying, "optimizer.clip=null", "tying.strength=0.3"))
    module, batch = doubled(built)
    module.loss(batch).backward()
    module.configure_gradient_clipping(module.adamw())
    ours = gradients(built.model)
    module.zero_grad()
    total = module.loss(batch) + built.plan.penalty(built.model)
    total.backward()
    for name, gradient in gradients(built.model).items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-9, atol=1e-13)


@every_task
def test_the_decoupled_pull_goes_by_the_rate_of_the_step_just_taken(cell, task):
    built = build(cell(task, "soft_decoupled", "tying.strength=5"))
    module = built.module.double()
    apart = pulls(built, 1)
    optimizer = module.adamw()
    optimizer.param_groups[0]["lr"] = 0.1
    module.after_step(optimizer)
    for name, pull in pulls(built, 1).items():
        n = next(len(tie.names) for tie in built.plan.ties if name in tie.names)
        torch.testing.assert_close(pull, apart[name] / (1 + 2 * n * 0.1 * 5), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("tying", ["soft", "soft_decoupled"])
@every_task
def test_strength_zero_leaves_the_loss_curve_bit_identical(cell, task, tying):
    curves = []
    for overrides in (("none",), (tying, "tying.strength=0"), (tying, "tying.strength=1")):
        built = build(cell(task, *overrides, "dropout=0.2", "weight_decay=1"))
        torch.manual_seed(0)
        curves.append(steps(built, 6))
    none, zero, one = curves
    assert zero == none
    # From here on it pulls; before, weights and dropout masks were the same.
    assert one[0] == none[0] and one[1:] != none[1:]


@pytest.mark.parametrize("tying", ["soft", "soft_decoupled"])
@every_task
def test_a_strong_soft_tie_ends_closer_together_than_none(cell, task, tying):
    soft, none = build(cell(task, tying, "tying.strength=100")), build(cell(task))
    start = soft.plan.spread(soft.model)
    assert none.plan.spread(none.model) is None and soft.plan.spread(none.model) == start > 0.5
    for built in (soft, none):
        steps(built, 15)
    assert soft.plan.spread(soft.model) < 0.9 * soft.plan.spread(none.model)


@every_text
def test_an_infinite_pull_at_n_times_the_rate_is_hard_tying_under_sgd(cell, task):
    rate = 0.1
    strong = ("tying.init=shared", "tying.strength=1e15")
    hard = build(cell(task, "cross_layer", "optimizer.clip=null"))
    soft = build(cell(task, "soft_decoupled", "optimizer.clip=null", *strong))
    copies = {id(soft.named()[name]) for tie in soft.plan.ties for name in tie.names}
    n = len(soft.plan.ties[0].names)
    assert {len(tie.names) for tie in soft.plan.ties} == {n}
    tied = [p for p in soft.model.parameters() if id(p) in copies]
    others = [p for p in soft.model.parameters() if id(p) not in copies]
    groups = [{"params": tied, "lr": n * rate}, {"params": others, "lr": rate}]
    for built, parameters in ((hard, hard.model.parameters()), (soft, groups)):
        doubled(built)
        steps(built, 4, torch.optim.SGD(parameters, lr=rate))
    start = build(cell(task, "cross_layer")).named()
    for name, parameter in soft.named().items():
        torch.testing.assert_close(parameter, hard.named()[name], rtol=1e-9, atol=1e-12)
        assert not torch.allclose(parameter.float(), start[name], rtol=1e-5, atol=0)


@every_cell
def test_dropout_reaches_the_network_and_its_stream_does_not_depend_on_the_tying(cell, task, tying):
    built, none = build(cell(task, tying, "dropout=0.2")), build(cell(task, "none", "dropout=0.2"))
    sites = dropout_sites(built.model)
    assert sites == dropout_sites(none.model) and set(sites.values()) == {0.2}
    assert any(site.startswith(tuple(built.model.parts.stack)) for site in sites)
    assert dropout_sites(build(cell(task, tying)).model) == {}
    batch = built.batches[0]
    built.module.train()
    assert built.module.loss(batch) != built.module.loss(batch)
    states = []
    for each in (built, none):
        torch.manual_seed(0)
        steps(each, 2)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@every_task
def test_weight_decay_changes_every_matrix(cell, task):
    weights = []
    for decay in (0, 1):
        built = build(cell(task, "none", f"weight_decay={decay}"))
        steps(built, 3)
        weights.append(built.named())
    for name, without in weights[0].items():
        assert weights[1][name].norm() < without.norm() or without.ndim < 2, name


def test_a_loss_that_is_no_number_or_blows_up_is_told(cell):
    built = build(cell("text_gru"))
    batch, module = built.batches[0], built.module
    module.training_step(batch, 0)
    with torch.no_grad():
        built.model.output.weight.mul_(1e4)
    module.training_step(batch, 1)  # looked at now and then only, and before each validation
    with pytest.raises(Diverged, match="at the first"):
        module.training_step(batch, CHECK_EVERY)
    score(module, [batch])
    with pytest.raises(Diverged, match="at the first"):
        module.on_validation_epoch_end()
    with torch.no_grad():
        built.model.output.weight.fill_(math.nan)
    with pytest.raises(Diverged, match="loss is nan"):
        module.training_step(batch, 0)


def test_a_validation_loss_is_told_where_it_is_no_number_and_only_there(cell):
    """That of a young batch norm, and of a network that overfits, may be as high as it likes."""
    built = build(cell("text_gru"))
    batch, module = built.batches[0], built.module
    module.training_step(batch, 0)
    first = module.first_loss
    with torch.no_grad():
        built.model.output.weight.mul_(1e4)
    score(module, [batch])
    module.on_validation_epoch_end()
    assert module.scores["nll"] > 3 * first
    with torch.no_grad():
        built.model.output.weight.fill_(math.nan)
    score(module, [batch])
    with pytest.raises(Diverged, match="validation nll is nan"):
        module.on_validation_epoch_end()


@every_text
def test_bf16_multiplies_in_the_output_layer_while_training_and_nowhere_else(cell, task):
    exact, rough = (build(cell(task, "none", f"trainer.output_precision={p}")) for p in ("null", "bf16"))
    batch = next(iter(exact.data.train_dataloader()))
    losses = [built.module.loss(batch) for built in (exact, rough)]
    assert 0 < abs(losses[0].item() - losses[1].item()) < 2**-8 * losses[0].item()
    for built, loss in zip((exact, rough), losses, strict=True):
        loss.backward()
        assert {p.dtype for p in built.model.parameters()} == {p.grad.dtype for p in built.model.parameters()}
    scores = [score(built.module, built.data.val_dataloader()) for built in (exact, rough)]
    assert scores[0] == scores[1]


@every_text
def test_without_a_precision_of_its_own_the_output_layer_has_that_of_the_layers_below(cell, task):
    asked = {
        built: build(cell(task, "none", f"trainer.output_precision={built}")) for built in ("null", "bf16")
    }
    batch = next(iter(asked["null"].data.train_dataloader()))
    with torch.autocast("cpu", torch.bfloat16):
        losses = [built.module.loss(batch).item() for built in asked.values()]
    assert losses[0] == losses[1]


@every_text
def test_the_loss_is_that_of_the_logits(cell, task):
    built = build(cell(task, "none", "trainer.output_precision=null"))
    batch = next(iter(built.data.train_dataloader()))
    logits = built.model(batch[0])[0]
    plain = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())
    torch.testing.assert_close(built.module.loss(batch), plain, rtol=1e-6, atol=0)


def test_an_output_layer_that_is_not_linear_is_scored_by_its_logits_and_not_rounded(cell):
    capped = ("model=llama", "model.architecture=gemma2", "+model.config.final_logit_softcapping=0.01")
    built = build(cell("text_transformer", "none", *capped, "trainer.output_precision=null"))
    batch = next(iter(built.data.train_dataloader()))
    assert built.module.loss(batch).item() == pytest.approx(math.log(built.data.meta["vocab_size"]), rel=0.01)
    assert score(built.module, [batch])["tokens"] == batch[1].numel()
    with pytest.raises(BadInput, match="set trainer.output_precision=null"):
        build(cell("text_transformer", "none", *capped, "trainer.output_precision=bf16"))


@pytest.mark.parametrize(("task", "tying"), [("image_cnn", "cross_layer"), ("text_transformer", "albert")])
def test_a_compiled_network_takes_the_same_step_tied(cell, monkeypatch, task, tying):
    """All of torch.compile but its code generation, which takes a minute: what it makes of shared tensors."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, mode: whole(call, backend="aot_eager"))
    plain, compiled = build(cell(task, tying)), build(cell(task, tying))
    assembly.compile_in_place(compiled.model, "default")
    batch = next(iter(plain.data.train_dataloader()))
    for built in (plain, compiled):
        built.module.loss(batch).backward()
    theirs = gradients(compiled.model)
    for name, gradient in gradients(plain.model).items():
        torch.testing.assert_close(theirs[name], gradient, rtol=1e-4, atol=1e-6)
    compiled.plan.verify(compiled.model)
    assert score(compiled.module, [batch])["nll"] == pytest.approx(
        score(plain.module, [batch])["nll"], rel=1e-5
    )
