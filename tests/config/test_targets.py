"""What a config names is looked up in its source: what is there passes, what is not is refused before a run."""

import inspect
import sys

import pytest
from cell_maker import CONF, composed, made
from hydra.utils import get_object
from omegaconf import OmegaConf

from bench.config.refusals import BEST
from bench.config.targets import Parameters, architectures, parameters_of, scores_of
from bench.tying.errors import BadInput

TARGETS = sorted(
    {
        OmegaConf.load(path)["_target_"]
        for group in ("model", "logger")
        for path in (CONF / group).glob("*.yaml")
        if "_target_" in OmegaConf.load(path)
    }
)


@pytest.mark.parametrize("target", [target for target in TARGETS if target.startswith("bench.")])
def test_the_source_says_what_the_class_itself_does(target):
    own = inspect.signature(get_object(target)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        assert parameters_of(target) is None  # the class says itself what it does not take
        return
    required = {name for name, parameter in own.items() if parameter.default is parameter.empty}
    assert parameters_of(target) == Parameters(tuple(own), frozenset(required))


@pytest.mark.parametrize("task", sorted(path.stem for path in (CONF / "task").glob("*.yaml")))
def test_every_task_with_its_own_model_passes(task):
    made(f"task={task}")


def test_the_architectures_are_those_of_transformers():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    assert architectures() == set(CONFIG_MAPPING.keys())


MINE = """
from mine_base import Base as Above
class Any_(Above):
    def __init__(self, **keys): ...
class Heir(Above): ...
def made(): ...
Later = made()
"""
BASE = """
class Base:
    def __init__(self, in_channels, num_classes, dropout, depth, extra=1): ...
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's own module outside the bench."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "mine_base.py").write_text(BASE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    keys = ["~model.stages", "~model.norm", "~model.width"]
    return lambda name, *more: composed(f"model._target_=mine.{name}", *keys, *more)


def test_what_cannot_be_told_passes(mine):
    from bench.config.targets import check_targets

    for name, key in (("Any_", "foo"), ("Later", "foo"), ("Above", "foo"), ("Heir", "extra")):
        config = OmegaConf.to_container(mine(name, f"+model.{key}=1"), resolve=True)
        if name == "Above":  # known through the module that it comes from
            with pytest.raises(BadInput, match="unknown key model.foo: allowed are depth, extra"):
                check_targets(config)
        else:
            check_targets(config)
    with pytest.raises(BadInput, match="there is no Nothing in mine"):
        check_targets(OmegaConf.to_container(mine("Nothing"), resolve=True))


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("bench.tasks.autoencoding.Autoencoding", {"mse", "nll", "examples"}),
        ("bench.tasks.digits.DigitsInAnyOrder", {"digit_accuracy", "nll", "digits"}),  # inherited
        ("bench.tasks.classification.TextClassification", {"accuracy", "nll", "examples"}),
        ("bench.models.gru.GRULanguageModel", set()),
        ("bench.tasks.nowhere.Nothing", set()),
    ],
)
def test_the_scores_of_a_task_are_read_from_its_class(target, names):
    assert scores_of(target) == names


def test_every_metric_of_the_tasks_has_a_direction_and_is_a_score_of_its_class():
    for path in sorted((CONF / "task").rglob("*.yaml")):
        task = OmegaConf.load(path).get("task", {})
        if "metric" in task and "module" in task:
            name, mode = task["metric"]["name"], task["metric"]["mode"]
            assert name in scores_of(task["module"]["_target_"]) and BEST[name] == mode, path
