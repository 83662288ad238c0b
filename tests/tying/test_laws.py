"""The laws of tying on the networks that the tasks really train, for every task x tying that conf/ has."""

import copy
import io

import pytest
import torch
from grid import CELLS, ROWS, TASKS, TYINGS, UNIFORM, applies, build, doubled, kind, outputs, steps

from bench.runs.worker import DoesNotApply
from bench.training import build as assembly
from bench.tying import TyingPlan
from bench.tying.apply import parameters_by_name, weight
from bench.tying.view import lifted

APPLYING = [(task, tying) for task, tying in CELLS if applies(task, tying)]
TEXT = [task for task in TASKS if kind(task) == "text"]

every_cell = pytest.mark.parametrize(("task", "tying"), APPLYING + ROWS)
every_task = pytest.mark.parametrize("task", TASKS)


def is_hard(plan):
    return any(tie.is_hard for tie in plan.ties)


def assert_tied(plan, model):
    """Each hard tie is one Parameter over one storage."""
    plan.verify(model)
    named = parameters_by_name(model)
    for tie in plan.ties:
        storages = {named[name].untyped_storage().data_ptr() for name in tie.names}
        assert len(storages) == (1 if tie.is_hard else len(tie.names)), tie.names


def plan_of(cell):
    model = assembly.network(cell.config, assembly.data_module(cell.config).shapes, 0.0)
    return assembly.plan_for(cell.config, model), model


def test_the_grid_is_all_there():
    assert {"image_cnn", "text_gru", "text_transformer", "text_classifier", "series_gru"} <= set(TASKS)
    assert {"none", "embedding", "cross_layer", "top_k", "soft"} <= set(TYINGS)
    assert len(TEXT) >= 2 and set(TEXT) < set(TASKS)


@pytest.mark.parametrize(("task", "tying"), [pair for pair in CELLS if pair not in APPLYING])
def test_what_cannot_be_tied_says_why(cell, task, tying):
    with pytest.raises(DoesNotApply, match=r"^no (input|output) embedding in this network$"):
        build(cell(task, tying))


@every_cell
def test_a_tie_holds_after_a_step_a_copy_a_cast_and_a_reload(cell, task, tying):
    built = build(cell(task, tying))
    assert_tied(built.plan, built.model)
    before = {name: p.detach().clone() for name, p in built.named().items()}
    steps(built, 2)
    assert_tied(built.plan, built.model)
    assert all(not torch.equal(p, before[name]) for name, p in built.named().items() if p.ndim > 1)
    assert_tied(built.plan, copy.deepcopy(built.model))

    file = io.BytesIO()
    torch.save(built.model.state_dict(), file)
    file.seek(0)
    other = build(cell(task, tying, "seed=2"))
    assert not torch.equal(outputs(built), outputs(other))
    other.model.load_state_dict(torch.load(file, weights_only=True))
    assert_tied(built.plan, other.model)
    batch = built.batches[0][0]
    with torch.no_grad():
        ours, theirs = built.model.eval()(batch), other.model.eval()(batch)
    assert torch.equal(*(x[0] if isinstance(x, tuple) else x for x in (ours, theirs)))

    assert_tied(built.plan, built.model.to(torch.float64))


@every_cell
def test_num_params_is_what_the_plan_predicted_and_falls_where_a_tie_is_hard(cell, task, tying):
    plan, model = plan_of(cell(task, tying))
    untied = sum(p.numel() for p in model.parameters())
    predicted = plan.num_params(model)
    assert assembly.tie(cell(task, tying).config, model, plan) == untied
    assert sum(p.numel() for p in model.parameters()) == predicted == plan.num_params(model)
    assert predicted < untied if is_hard(plan) else predicted == untied


@torch.no_grad()
def take_weights(twin, tied):
    """The untied network computes with the weights of the tied one, in their layout: the last bit depends on it."""
    for name, parameter in twin.named().items():
        parameter.data = weight(tied.model, name).clone()


def pulled_back(model, name, gradient, shared):
    """The gradient of a use as one of what it is made of."""
    view = parameters_by_name(model).views.get(name)
    if view is None:
        return gradient
    if view.mapped:
        owner, _, leaf = name.rpartition(".")
        made = model.get_submodule(owner).parametrizations[leaf][0]
        inner = gradient * (1 - made(shared).square())
        gradient = (inner.flatten(0, -2) @ made.matrix).view(gradient.shape).detach()
    index, sign = view.entries()
    return (
        torch.zeros_like(shared)
        .flatten()
        .index_add(0, index.flatten(), (gradient * sign).flatten())
        .view(view.shape)
    )


@every_cell
def test_the_gradient_of_a_tied_tensor_is_the_sum_over_its_uses(cell, task, tying):
    tied, twin = build(cell(task, tying)), build(cell(task))
    take_weights(twin, tied)
    # Before the cast, which would make nn.GRU look its weights up again.
    assert torch.equal(outputs(tied), outputs(twin))
    (module, batch), (free, _) = doubled(tied), doubled(twin)
    take_weights(twin, tied)  # a relaxed weight is a sum, rounded to single precision above
    loss, free_loss = module.loss(batch), free.loss(batch)
    loss.backward()
    free_loss.backward()
    assert loss.item() == pytest.approx(free_loss.item(), rel=1e-12)

    uses, views = {}, tied.named().views
    for name, parameter in twin.named().items():
        shared = tied.named()[name]
        uses.setdefault(shared, []).append(pulled_back(tied.model, name, parameter.grad, shared))
    assert any(len(gradients) > 1 for gradients in uses.values()) or bool(views) == is_hard(tied.plan)
    for parameter, gradients in uses.items():
        torch.testing.assert_close(parameter.grad, sum(gradients), rtol=1e-9, atol=1e-13)
        if len(gradients) > 1 and parameter.grad.abs().max() > 1e-15:  # a bias of keys changes no attention
            assert not torch.allclose(parameter.grad, gradients[0], rtol=1e-3)


@every_cell
def test_all_tyings_start_from_the_same_weights_and_tying_draws_no_random_number(cell, task, tying):
    asked = cell(task, tying)
    plain = assembly.network(cell(task).config, assembly.data_module(asked.config).shapes, 0.0)
    untied, state = dict(plain.named_parameters()), torch.get_rng_state()
    built = build(asked)
    assert torch.equal(torch.get_rng_state(), state)
    first = {name: tie.names[0] for tie in built.plan.ties if tie.is_hard for name in tie.names}
    named = built.named()
    assert named.keys() >= untied.keys()
    made = {}
    for tie in built.plan.ties:
        for name, view in tie.uses() if tie.views else ():
            made[name] = view(lifted([(other, untied[use]) for use, other in tie.uses()]))
            made[name] = made[name].tanh() if view.mapped else made[name]  # the map that it begins with
    for name in untied:  # of a relaxed weight the shared tensor: its difference stands apart
        begun = weight(built.model, name) if name in made else named[name]
        assert torch.equal(begun, made.get(name, untied[first.get(name, name)])), name


@every_task
def test_a_soft_tie_can_start_from_shared_values(cell, task):
    untied = build(cell(task)).named()
    built = build(cell(task, "soft", "tying.init=shared"))
    named = built.named()
    first = {name: tie.names[0] for tie in built.plan.ties for name in tie.names}
    assert all(torch.equal(named[name], untied[first.get(name, name)]) for name in named)
    assert built.plan.spread(built.model) == 0.0


@every_task
def test_top_k_runs_from_none_to_cross_layer_and_saves_at_every_block(cell, task):
    uniform = UNIFORM[kind(task)]
    cross_layer, _ = plan_of(cell(task, "cross_layer", *uniform))
    plans = [plan_of(cell(task, "top_k", *uniform, f"tying.k={k}")) for k in range(1, 7)]
    assert plans[0][0] == TyingPlan() and plans[-1][0] == cross_layer
    counts = [plan.num_params(model) for plan, model in plans]
    assert counts == sorted(set(counts), reverse=True)


@every_task
def test_two_fractions_are_two_plans_at_depth_six(cell, task):
    uniform = UNIFORM[kind(task)]
    few, many = (plan_of(cell(task, "top_k", *uniform, f"tying.fraction={f}"))[0] for f in (0.3, 0.6))
    assert few != many
    blocks = [{block for tie in plan.ties for block in tie.blocks} for plan in (few, many)]
    assert blocks == [{-2, -1}, {-4, -3, -2, -1}]


def test_cross_layer_removes_40_percent_of_the_default_cnns_convolutions(grid):
    sizes = ("model.depth=9", "model.stages=3", "model.width=16")
    built = build(grid.cell("image_cnn", "cross_layer", *sizes))

    def conv_params(named):
        return sum(p.numel() for name, p in named if p.ndim == 4)

    left = conv_params(built.model.named_parameters())
    assert left <= 0.6 * conv_params(built.model.named_parameters(remove_duplicate=False))


def test_a_composition_ties_what_its_parts_tie(cell):
    for task in TEXT:
        parts = [plan_of(cell(task, tying))[0] for tying in ("embedding", "cross_layer")]
        assert plan_of(cell(task, "albert"))[0] == sum(parts, TyingPlan())
        assert plan_of(cell(task, "[embedding,cross_layer]"))[0] == sum(parts, TyingPlan())


@pytest.mark.parametrize("override", ["model=llama", "model.architecture=llama"])
@pytest.mark.parametrize("tying", ["none", "albert"])
def test_a_llama_style_transformer_works_by_override_alone(cell, override, tying):
    built = build(cell("text_transformer", tying, override, "model.depth=3", "model.width=16"))
    assert type(built.model.model).__name__ == "LlamaForCausalLM"
    assert len(built.model.parts.stack) == 3
    losses = steps(built, 30)
    assert_tied(built.plan, built.model)
    assert losses[-1] < losses[0] - 0.3
