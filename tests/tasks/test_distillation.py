"""A student beside a frozen teacher: who learns what, and what a soft tie draws where."""

import pytest
import torch
from cell_maker import composed
from grid import build, score, steps

from bench.config.run_config import from_hydra
from bench.models.teacher import Taught
from bench.sweep.run_or_load import ensure_run
from bench.training import build as assembly
from bench.tying.errors import BadInput


@pytest.fixture(scope="module")
def taught(grid):
    """(*overrides) -> a run whose teacher has learned, and the teacher's accuracy."""

    def made(*overrides, task="image_teacher"):
        cell = from_hydra(
            composed(f"task={task}", "tying.scope=all", "model.width=16", *grid.common, *overrides)
        )
        built = build(cell)
        data = assembly.data_module(cell.config, train_limit=None)
        return built, built.module.teach(data)

    return made


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def apart(built):
    teacher, student = built.model.networks
    return (weights(teacher) - weights(student)).norm().item()


def test_the_teacher_learns_from_all_examples_and_the_student_from_few(taught):
    built, accuracy = taught()
    assert len(built.data.labels["train"]) == 100 and accuracy > 0.9
    assert score(built.module, built.data.test_dataloader())["accuracy"] < 0.4


def test_teaching_draws_no_random_number_and_leaves_the_student(taught, grid):
    cell = from_hydra(composed("task=image_teacher", *grid.common))
    built = build(cell)
    student, state = weights(built.model.networks[1]), torch.get_rng_state()
    built.module.teach(assembly.data_module(cell.config, train_limit=None))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(built.model.networks[1]), student)
    assert not any(parameter.requires_grad for parameter in built.model.teacher.parameters())


def test_the_teacher_stays_and_draws_the_student_by_the_strength(taught):
    distances = []
    for strength in (0, 1):
        built, _ = taught("tying=soft", f"tying.strength={strength}")
        before = weights(built.model.teacher)
        steps(built, 60)
        assert torch.equal(weights(built.model.teacher), before)
        distances.append(apart(built))
    assert distances[0] > distances[1] > 0 and distances[1] < 0.8 * distances[0]


def test_a_decoupled_pull_without_bound_makes_the_student_the_teacher(taught):
    built, accuracy = taught("tying=soft_decoupled", "tying.strength=1e9")
    steps(built, 1)
    torch.testing.assert_close(*map(weights, built.model.networks))
    assert score(built.module, built.data.test_dataloader())["accuracy"] == pytest.approx(accuracy, abs=0.02)


def test_turned_pictures_are_another_task(taught):
    built, accuracy = taught(task="image_teacher_turned")
    pictures, labels = next(iter(built.data.test_dataloader()))

    def right(shown):
        return (built.model.teacher(shown.flatten(1)).argmax(-1) == labels).double().mean().item()

    assert accuracy > 0.9 and right(pictures.rot90(1, (2, 3))) > 0.9 and right(pictures) < 0.5


def test_a_run_records_what_its_teacher_reads(grid):
    few = ("trainer.max_epochs=1", "measure.max_seconds=0", "model.width=16")
    asked = ("task=image_teacher", "tying=soft", "tying.scope=all", *few, *grid.common)
    record = ensure_run(from_hydra(composed(*asked)))
    assert record["status"] == "done", record["reason"]
    assert record["teacher_accuracy"] > 0.9 and record["num_params"] == record["num_params_untied"]
    sizes = assembly.data_module(record["config"]).labels
    assert len(sizes["train"]) == 100


def test_a_network_without_a_teacher_is_refused_in_one_line(taught):
    with pytest.raises(BadInput, match="the network holds none: set model=teacher"):
        taught("model=perceptron")


def test_other_than_two_networks_are_refused():
    with pytest.raises(BadInput, match="model.depth=3 is not allowed"):
        Taught(1, 10, (8, 8), depth=3)
