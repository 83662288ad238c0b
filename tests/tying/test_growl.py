"""Rows that a penalty draws together: its proximal step, the rows that are alike, and the two stages end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cell_maker import made
from grid import build, steps
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.config.run_config import LEARNING
from bench.runs.store import read_json
from bench.sweep.launchers.local import Joblib
from bench.sweep.prerequisites import Unlearned, resolved, shuffled, source, with_grouping
from bench.sweep.sweep import run_sweep
from bench.tying import NotApplicable, TyingPlan
from bench.tying.errors import BadInput
from bench.tying.growl import ALIKE, alike, first_matrix, growl, penalise, shrunk, sorted_weights

seeds = st.integers(0, 10**6)
counts = st.integers(1, 7)


def drawn(seed: int, count: int, width: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and weights that do not increase."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return rows, torch.rand(count, generator=generator, dtype=torch.float64).sort(descending=True).values


def penalty(rows: torch.Tensor, weights: torch.Tensor) -> float:
    return float(rows.norm(dim=1).sort(descending=True).values @ weights)


@given(seeds, counts)
def test_the_step_is_that_of_a_slow_reference(seed, count):
    """A non-increasing fit at i is the least over a <= i of the largest over b >= i of the mean of a..b (min-max)."""
    rows, weights = drawn(seed, count)
    norms, order = rows.norm(dim=1).sort(descending=True)
    less = (norms - weights).tolist()
    fit = [
        min(max(np.mean(less[start : end + 1]) for end in range(at, count)) for start in range(at + 1))
        for at in range(count)
    ]
    expected = torch.zeros_like(rows)
    for at, row in enumerate(order.tolist()):
        expected[row] = rows[row] * max(fit[at], 0) / norms[at]
    torch.testing.assert_close(shrunk(rows, weights), expected, rtol=1e-12, atol=1e-12)


@given(seeds, counts)
def test_no_rows_near_it_are_better(seed, count):
    rows, weights = drawn(seed, count)
    best = shrunk(rows, weights)

    def objective(at: torch.Tensor) -> float:
        return float((at - rows).square().sum()) / 2 + penalty(at, weights)

    generator = torch.Generator().manual_seed(seed + 1)
    for scale in (1e-3, 1e-1, 1.0):
        other = best + scale * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        assert objective(best) <= objective(other) + 1e-12


@given(seeds, counts, st.data())
def test_the_step_shortens_keeps_directions_and_does_not_know_the_order(seed, count, data):
    rows, weights = drawn(seed, count)
    after = shrunk(rows, weights)
    assert (after.norm(dim=1) <= rows.norm(dim=1) + 1e-12).all()
    factors = after.norm(dim=1) / rows.norm(dim=1)
    torch.testing.assert_close(after, rows * factors[:, None])
    order = data.draw(st.permutations(range(count)))
    torch.testing.assert_close(shrunk(rows[order], weights), after[order], rtol=1e-12, atol=1e-12)


@given(seeds, counts)
def test_no_weight_is_no_step_and_a_large_one_leaves_zeros(seed, count):
    rows, weights = drawn(seed, count)
    torch.testing.assert_close(shrunk(rows, 0 * weights), rows, rtol=1e-14, atol=0)
    assert not shrunk(rows, weights + 100).any() and not shrunk(0 * rows, weights).any()


def test_rows_of_nearly_one_norm_get_one_norm():
    rows = torch.eye(3, dtype=torch.float64) * torch.tensor([2.0, 1.9, 1.0])
    norms = shrunk(rows, torch.tensor([0.5, 0.1, 0.1], dtype=torch.float64)).norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.65, 1.65, 0.9], dtype=torch.float64))


@given(st.integers(1, 100), st.floats(0.01, 10))
def test_the_weights_fall_to_the_strength(count, strength):
    weights = sorted_weights(count, strength)
    assert (weights.diff() <= 0).all() and weights[0] == pytest.approx(5 * strength)
    assert (weights[(count + 1) // 2 :] == strength).all()


def test_a_penalty_acts_on_the_columns_of_the_first_matrix():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.Linear(5, 4), nn.Linear(4, 2))
    assert first_matrix(model) == "1.weight"
    before = [parameter.clone() for parameter in model.parameters()]
    penalise(model, "1.weight", 0.1)
    for old, (name, new) in zip(before, model.named_parameters(), strict=True):
        assert torch.equal(old, new) != (name == "1.weight")
    expected = shrunk(before[2].T, sorted_weights(5, 0.1)).T
    torch.testing.assert_close(model[1].weight.detach(), expected)
    with pytest.raises(NotApplicable, match=r"no nn\.Linear"):
        first_matrix(nn.Conv1d(2, 3, 1))


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=20), seeds)
def test_rows_of_one_direction_are_found_whatever_their_lengths(labels, seed):
    generator = np.random.default_rng(seed)
    directions = np.linalg.qr(generator.normal(size=(8, 8)))[0]
    rows = np.stack(
        [directions[label] * generator.uniform(0.1, 10) if label >= 0 else np.zeros(8) for label in labels]
    )
    numbers = {label: at for at, label in enumerate(dict.fromkeys(label for label in labels if label >= 0))}
    assert alike(torch.from_numpy(rows)) == [numbers.get(label, -1) for label in labels]


def test_rows_join_above_the_mean_cosine_alone():
    for angle, together in (
        (np.arccos(ALIKE) - 0.01, True),
        (np.arccos(ALIKE) + 0.01, False),
        (np.pi, False),
    ):
        rows = torch.tensor([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
        assert alike(rows) == ([0, 0] if together else [0, 1])


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))


LABELS = [0, 1, 0, -1, 1, 0]


def test_rows_of_a_label_are_one_and_rows_of_none_are_zero():
    model, x = network(), torch.randn(5, 6)
    plan = growl(model, grouping=LABELS)
    assert plan.num_params(model) == 2 * 4 + 4 + 4 * 2 + 2
    first = model[0].weight.detach().T.clone()
    plan.apply(model, example=x)
    plan.verify(model)
    rows = model[0].weight.detach().T
    assert torch.equal(rows, torch.stack([first[0], first[1], first[0], 0 * first[0], first[1], first[0]]))
    assert sum(parameter.numel() for parameter in model.parameters()) == plan.num_params(model)


def test_a_label_for_each_row_ties_nothing():
    assert growl(network(), grouping=[*range(6)]) == TyingPlan()


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 0, 0, 0, 2], [0, 0, 0, 0, 0, -2], [0.5] * 6, None])
def test_other_labels_are_refused(labels):
    with pytest.raises(BadInput, match="has 6 rows"):
        growl(network(), grouping=labels)


def test_no_row_that_is_left_is_not_applicable():
    with pytest.raises(NotApplicable, match="lower the strength"):
        growl(network(), grouping=[-1] * 6)


@given(st.lists(st.integers(-1, 3), min_size=4, max_size=12), st.integers(1, 20))
def test_a_shuffle_keeps_the_sizes_and_the_zeros(labels, number):
    numbers = {label: at for at, label in enumerate(dict.fromkeys(label for label in labels if label >= 0))}
    labels = [numbers.get(label, -1) for label in labels]
    kept = [label for label in labels if label >= 0]
    if len(set(kept)) in (0, 1, len(kept)):
        with pytest.raises(Unlearned, match="in one way only"):
            shuffled(labels, number)
        return
    dealt = shuffled(labels, number)
    sizes = [sorted(np.bincount([label for label in one if label >= 0])) for one in (labels, dealt)]
    assert sizes[0] == sizes[1] and dealt != labels
    assert [label < 0 for label in dealt] == [label < 0 for label in labels]


ROWS = ("task=image_rows", "lr_search.seed=7")


def test_rows_are_found_in_an_untied_run_with_the_penalty():
    asked = [
        made(*ROWS, "tying=growl", *more) for more in ((), ("seed=3", "tying.shuffle=1", "control=params"))
    ]
    expected = made(*ROWS, "tying=none", "optimizer.group_owl=2.0", "seed=7").id
    assert [source(cell).id for cell in asked] == [expected, expected]
    assert made(*ROWS, "tying=none").id != expected
    labels = [row % 3 for row in range(63)] + [-1]
    found = resolved(asked[0], {expected: {"status": "done", "alike_rows": labels}})
    assert found.config["tying"]["parts"]["growl"]["grouping"] == labels and source(found) is None
    assert found.label == "growl(strength=2)" and found.id == with_grouping(asked[0], labels).id


def test_a_grouping_of_ones_own_and_no_penalty_are_refused():
    with pytest.raises(BadInput, match="tying.grouping is what tying=growl finds: leave it null"):
        made(*ROWS, "tying=growl", "tying.grouping=[0,1]")
    with pytest.raises(BadInput, match="tying.strength=0.0 finds no rows for tying=growl: give a number > 0"):
        made(*ROWS, "tying=growl", "tying.strength=0.0")
    assert LEARNING["growl"] == {"strength", "shuffle"}


def test_a_penalty_shortens_rows_while_the_network_learns(cell):
    def trained(*more):
        built = build(cell("image_rows", "none", *more))
        losses = steps(built, 12)
        return built.model.layers[0].weight.detach().T, losses

    (plain, _), (penalised, losses) = trained(), trained("optimizer.group_owl=2")
    assert penalised.norm(dim=1).sum() < 0.9 * plain.norm(dim=1).sum() and losses[-1] < losses[0]


TINY = ("trainer.max_epochs=2", "trainer.limit_train_batches=6", "measure.max_seconds=0")


def test_two_stages_from_end_to_end(grid):
    cells = [
        grid.cell("image_rows", "growl", *TINY, "model.width=8", "tying.strength=5", *more)
        for more in ((), ("tying.shuffle=1",), ("control=params",))
    ]
    asked = [replace(cell, config=with_grouping(cell, None).config) for cell in cells]
    found, records = run_sweep(asked, Joblib(n_jobs=1))
    assert [record["status"] for record in records] == ["done"] * 3, records
    first = read_json(asked[0].runs / source(asked[0]).id / "record.json")
    labels = first["alike_rows"]
    assert len(labels) == 64 and 1 < max(labels) + 1 < 64 and first["tying"] == "none"
    assert [cell.config["tying"]["grouping"] for cell in found] == [labels, shuffled(labels, 1), labels]
    tied, random, sized = records
    untied = 64 * 8 + 8 + 8 * 10 + 10
    assert tied["num_params"] == random["num_params"] == untied - (64 - max(labels) - 1) * 8
    assert sized["control"]["target_params"] == tied["num_params"] and tied["num_params_untied"] == untied
    assert {record["learned_from"] for record in records} == {first["id"]}
    assert "alike_rows" not in tied


def test_a_penalty_on_rows_that_are_tied_does_not_apply(cell):
    from bench.runs.worker import DoesNotApply

    with pytest.raises(DoesNotApply, match="that nothing ties yet"):
        build(cell("image_rows", "growl", "optimizer.group_owl=2"))
