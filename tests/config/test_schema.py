import copy
import functools
from types import SimpleNamespace

import cell_maker
import pytest
from omegaconf import OmegaConf

from bench.config import refusals, schema
from bench.training.checkpoint import Best
from bench.tying.errors import BadInput


@pytest.fixture(scope="module")
def composed():
    return OmegaConf.to_container(cell_maker.composed(), resolve=True)


def put(config, path, value):
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    inner = config
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return config


GOOD = {
    "control": (None, "params", "respend", "delete"),
    "dropout": (0, 0.0, 0.999),
    "weight_decay": (0, 10.5),
    "seed": (0, 7),
    "tying.k": (None, 1, 9),
    "tying.fraction": (None, 1e-9, 1),
    "tying.groups": (None, 1, 9),
    "tying.repeats": (None, 1, 9),
    "tying.kv_heads": (None, 1, 16),
    "tying.grouping": (None, [0], [3, 0, 0, 1]),
    "tying.shuffle": (None, 1, 10**6),
    "tying.strength": (None, 0, 1e9),
    "tying.form": (None, "penalty", "decoupled"),
    "tying.init": (None, "own", "shared"),
    "optimizer.lr": (1e-9, 1),
    "optimizer.clip": (None, 0.1),
    "optimizer.shared_lr": (None, "sqrt"),
    "trainer.max_epochs": (1, 100),
    "trainer.max_steps": (None, 1, 10**6),
    "trainer.patience": (None, 1, 5),
    "trainer.limit_train_batches": (None, 1),
    "trainer.precision": ("32-true", "bf16-mixed"),
    "trainer.quantize": (None, True),
    "lr_search.factors": (None, [1], [0.5, 1, 2]),
    "lr_search.widen": (0, 3),
    "lr_search.regularised": (True, False),
    "lr_search.more_seeds": ([], [6, 7]),
    "sweep.name": (None, "quick", "my-sweep_2.1"),
    "retry": (True, False),
    "reuse": (True, False),
}
BAD = {
    "control": ("foo", True, 1, ["params"]),
    "dropout": (1, -0.1, "abc", None, True, float("nan"), [0.1]),
    "weight_decay": (-1, float("inf"), float("nan"), None),
    "seed": (-1, 1.5, 1.0, "x", True, None),
    "tying.k": (0, 10, -1, 2.0, "two"),
    "tying.fraction": (0, 1.1, -0.5, "half"),
    "tying.groups": (0, 10, -1, 2.0, True),
    "tying.repeats": (0, 10, "two"),
    "tying.kv_heads": (0, -1, 1.5, "two", True),
    "tying.grouping": ([], [0, -1], [0, 1.0], [0, None], [True, 0], "0011", 2),
    "tying.shuffle": (0, -1, 1.0, "one", True),
    "tying.strength": (-1e-9, float("inf"), float("nan"), "strong"),
    "tying.form": ("hard", 1),
    "tying.init": ("other",),
    "optimizer.lr": (0, -1, None, float("inf"), "fast"),
    "optimizer.clip": (0, -1),
    "optimizer.shared_lr": ("none", True, 0.5),
    "trainer.max_epochs": (0, -1, 1.5, "x", None),
    "trainer.max_steps": (0, -1, 1.5, "x", True),
    "trainer.patience": (0, -1, 0.5, "x", True),
    "trainer.limit_train_batches": (0, 0.5),
    "trainer.precision": ("auto", "16"),
    "trainer.devices": (0, "auto", True, 1.5),
    "trainer.strategy": ("fsdp", "deepspeed", "ddp_spawn", None),
    "trainer.checkpoint_every_s": (0, -1, "often"),
    "sweep.fail_fast": (None, 1),
    "sweep.stop.margin": (0, -0.01, 1, "1 %"),
    "sweep.stop.first": (1, 2.5, None),
    "sweep.points": (0, -1, 1.5, "many"),
    "trainer.threads": (0,),
    "trainer.output_precision": ("32-true", "bf16-mixed", True),
    "trainer.quantize": (False, "int8", 8, 1),
    "trainer.compile": (True, "fast", ""),
    "measure.memory_gib": (0, -1, None),
    "measure.cold": (None, 1, "no"),
    "lr_search.factors": ([], [0], [-1], "2", 2, ["a"]),
    "lr_search.widen": (-1, 1.5, None, "no"),
    "lr_search.regularised": (None, 1, "maybe"),
    "lr_search.more_seeds": (None, 6, [-1], ["a"]),
    "sweep.name": ("../other", "/tmp", "", ".hidden", 3),
    "retry": (1, "yes", None),
    "reuse": (0, "no", None),
}


START = {"max_epochs": 1, "lr": 0.1, "merge": "mean", "likeness": None}


def part(**keys):
    """A strategy of a plan, as conf/tying has it."""
    return {"_target_": "bench.tying.methods.cross_layer", "_partial_": True, **keys}


def pairs(table):
    return [(path, value) for path, values in table.items() for value in values]


def test_the_default_passes(composed):
    refusals.check(composed)


@pytest.mark.parametrize(("path", "value"), pairs(GOOD))
def test_allowed(composed, path, value):
    refusals.check(put(composed, path, value))


@pytest.mark.parametrize(("path", "value"), pairs(BAD))
def test_refused_in_one_line_that_names_key_value_and_what_is_allowed(composed, path, value):
    with pytest.raises(BadInput) as error:
        refusals.check(put(composed, path, value))
    text = str(error.value)
    assert text.startswith(f"{path}={value} is not allowed: it must be ")
    assert "\n" not in text


CLOSED = ("task", "data", "tying", "start", "optimizer", "trainer", "measure", "lr_search", "sweep")
"""Sections that take no key but their own; a model's and a logger's are for their class to check."""


@pytest.mark.parametrize("section", ["", *(f"{name}." for name in CLOSED)])
def test_a_key_that_nothing_reads_is_refused(composed, section):
    with pytest.raises(BadInput, match=f"unknown key {section}foo: allowed are "):
        refusals.check(put(composed | {"start": dict(START)}, f"{section}foo", 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_epochs", 0), ("lr", 0), ("lr", None), ("merge", None), ("merge", "sum"), ("likeness", "cka")],
)
def test_a_start_is_refused_too(composed, key, value):
    refusals.check(composed | {"start": START})
    with pytest.raises(BadInput, match=f"^start.{key}={value} is not allowed: it must be "):
        refusals.check(composed | {"start": {**START, key: value}})


def test_a_control_has_not_the_size_of_a_start(composed):
    both = composed | {"start": START, "control": "params"}
    refusals.check(both)  # without a tying there is nothing to control
    with pytest.raises(BadInput, match="of another size than start begins from"):
        refusals.check(put(both, "tying.parts", {"cross_layer": part()}))


@pytest.mark.parametrize(("labels", "more"), [([0, 0, 1], {}), (None, {"grouped": part(grouping=None)})])
def test_a_learned_grouping_is_not_given(composed, labels, more):
    learned = {"learned": part(grouping=None)}
    refusals.check(put(composed, "tying.parts", learned))
    given = put(put(composed, "tying.parts", learned | more), "tying.grouping", labels)
    with pytest.raises(BadInput, match=r"tying\.grouping is what tying=learned finds: leave it null"):
        refusals.check(given)


OPEN = (
    "model.injection",
    "model.init_scale",
    "model.width",
    "model.window",
    "model.architecture",
    "task.batches.eval_",
    "data.range",
    "data.time_format",
    "data.tokenizer_of",
    "logger.project",
    "logger.timeout_s",
    "logger._partial_",
    "logger.needs",
    "start",
)


@pytest.mark.parametrize("path", [path for path in schema.paths() if not path.startswith(OPEN)])
def test_a_missing_key_is_named(path):
    *parents, last = path.split(".")
    for task in ("image_cnn", "text_gru", "series_gru"):
        config = OmegaConf.to_container(cell_maker.composed(f"task={task}"), resolve=True)
        inner = functools.reduce(lambda section, name: section[name], parents, config)
        if last in inner:
            break
    del inner[last]
    with pytest.raises(BadInput, match=f"{path} is missing from the config"):
        refusals.check(config)


def test_k_and_fraction_exclude_each_other(composed):
    both = put(put(composed, "tying.k", 2), "tying.fraction", 0.5)
    with pytest.raises(BadInput, match=r"tying\.k and tying\.fraction are both set"):
        refusals.check(both)


@pytest.mark.parametrize("labels", [None, [0, 0, 1], [0, 0, 1, 1, 2]])
def test_a_grouping_labels_every_block(composed, labels):
    four = put(put(composed, "model.depth", 4), "tying.parts", {"grouped": part(grouping=labels)})
    refusals.check(put(four, "tying.grouping", [0, 1, 1, 0]))
    with pytest.raises(BadInput, match="give a whole number for each of the 4 blocks, input first"):
        refusals.check(put(four, "tying.grouping", labels))


@pytest.mark.parametrize(
    ("task", "precision", "said"),
    [
        ("image_cnn", "32-true", "is for the output layer of language models: leave it null"),
        ("series_gru", "32-true", "is for the output layer of language models: leave it null"),
        ("text_gru", "64-true", "exclude each other"),
    ],
)
def test_where_there_is_no_output_layer_to_round(task, precision, said):
    given = (f"task={task}", "trainer.output_precision=bf16", f"trainer.precision={precision}")
    with pytest.raises(BadInput, match=said):
        refusals.check(OmegaConf.to_container(cell_maker.composed(*given), resolve=True))


def test_a_control_needs_a_width_to_change(composed):
    config = put(put(composed, "control", "params"), "tying.parts", {"cross_layer": part()})
    refusals.check(config)
    del config["model"]["width"]
    with pytest.raises(BadInput, match="control=params changes model.width, which this model has not"):
        refusals.check(config)


def test_the_largest_k_is_the_depth(composed):
    refusals.check(put(put(composed, "model.depth", 4), "tying.k", 4))
    with pytest.raises(BadInput, match="tying.k=5 .* from 1 to 4"):
        refusals.check(put(put(composed, "model.depth", 4), "tying.k", 5))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=image_cnn", "data=pydocs"], "data=pydocs is text data: task=image_cnn takes image data"),
        (["task=text_gru", "data=digits"], "data=digits is image data: task=text_gru takes text data"),
        (["task=series_gru", "data=pydocs"], "data=pydocs is text data: task=series_gru takes series data"),
        (
            ["task=text_classifier", "data=pydocs"],
            "data=pydocs is text data: task=text_classifier takes labelled_text data",
        ),
        (["task=text_gru", "data=sst2"], "data=sst2 is labelled_text data: task=text_gru takes text data"),
        (["task=image_cnn", "data=co2"], "data=co2 is series data: task=image_cnn takes image data"),
    ],
)
def test_data_of_the_wrong_kind(overrides, said):
    config = OmegaConf.to_container(cell_maker.composed(*overrides), resolve=True)
    with pytest.raises(BadInput, match=said):
        refusals.check(config)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("droput", "dropout"),
        ("tyin", "tying"),
        ("lr", "optimizer.lr"),
        ("trainer.lr", "optimizer.lr"),
        ("optimiser.lr", "optimizer.lr"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("task.batches.batchsize", "task.batches.batch_size"),
        ("foo", None),
        ("optimizer.foo", None),
    ],
)
def test_the_key_that_was_meant(key, meant):
    assert refusals.near(key) == meant


def test_every_known_key_is_found_from_a_slip_of_it():
    """A letter is missing, in a name that is long enough to be known again."""
    for path in schema.paths():
        section, _, key = path.rpartition(".")
        if len(key) >= 6:
            slip = f"{section}.{key[:3]}{key[4:]}".lstrip(".")
            assert refusals.near(slip).rpartition(".")[2] == key


def test_a_key_of_another_kind_is_not_offered(composed):
    with pytest.raises(BadInput, match=r"^unknown key data\.tokenizer: allowed are holdout, kind"):
        refusals.check(put(composed, "data.tokenizer", "words"))


def test_the_first_fault_is_said_and_the_others_are_counted(composed):
    both = put(put(composed, "dropout", 2), "seed", -1)
    with pytest.raises(BadInput, match=r"^dropout=2 is not allowed: .*\(1 more after this\)$"):
        refusals.check(both)


NAMES = ("task.name", "data.name", "sweep.name", "logger.project", "model.architecture")
NO_NAMES = ("", "../up", "/tmp", ".hidden", "a b", "a\nb", "$(id)", "a;b", "x" * 300, 3, True, [], {})


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in NAMES for value in NO_NAMES])
def test_what_names_a_file_or_a_module_is_a_name(composed, path, value):
    with pytest.raises(BadInput, match=f"^{path}=") as error:
        refusals.check(put(composed, path, value))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("path", ["runs", "results", "cache", "data.root"])
@pytest.mark.parametrize("value", ["", "a\0b", "~no_such_user/x", 5, ["a"]])
def test_a_folder_is_a_path(composed, path, value):
    refusals.check(put(composed, path, "~/x/[y] z"))
    with pytest.raises(BadInput) as error:
        refusals.check(put(composed, path, value))
    assert "\n" not in str(error.value)


WHOLE = [
    path
    for path in schema.paths()
    if path.endswith(("seed", "epochs", "_batches", ".depth", ".size", ".rank"))
]


@pytest.mark.parametrize("path", [*WHOLE, "trainer.threads", "trainer.devices", "data.holdout", "tying.k"])
def test_a_huge_number_is_refused(composed, path):
    with pytest.raises(BadInput, match=f"^{path}=1000.* is not allowed"):
        refusals.check(put(composed | {"start": dict(START)}, path, 10**400))


@pytest.mark.parametrize(
    "value", [1, None, {}, "bench.data.text.TextData", {"_target_": "my.Data", "_partial_": True}]
)
def test_what_reads_the_data_is_not_chosen(composed, value):
    """It is no part of a run's identity, so it must not be able to change what comes of it."""
    with pytest.raises(BadInput, match=r"^data\.module="):
        refusals.check(put(composed, "data.module", value))


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"mode": "up"}, "task.metric.mode=up"),
        ({"mode": "min"}, "task.metric.mode=min"),
        ({"name": "nosuch"}, "task.metric.name=nosuch is not allowed: it must be accuracy or nll"),
        ({"name": "nll"}, "task.metric.mode=max"),
        ({"name": "perplexity", "mode": "min"}, "task.metric.name=perplexity"),
    ],
)
def test_a_metric_is_a_score_of_the_task_best_on_its_side(composed, changes, refused):
    refusals.check(put(composed, "task.metric", {"name": "nll", "mode": "min"}))
    with pytest.raises(BadInput, match=f"^{refused}"):
        refusals.check(put(composed, "task.metric", composed["task"]["metric"] | changes))


def test_a_score_that_an_own_task_has_not_is_refused_at_its_first_validation(tmp_path):
    """Its scores are known to its own code alone: a name, and which way is better, are all that can be checked."""
    best = Best(tmp_path / "best.ckpt", {"name": "nosuch", "mode": "max"})
    with pytest.raises(
        BadInput, match="task.metric.name=nosuch is no score of this task: allowed are own, nll"
    ):
        best.on_validation_end(None, SimpleNamespace(scores={"own": 0.5, "nll": 1.0, "oov": None}))


def test_an_own_task_names_its_own_metric(composed):
    own = put(composed, "task.module", {"_target_": "my.Task", "_partial_": True})
    refusals.check(put(own, "task.metric", {"name": "f1", "mode": "max"}))
    with pytest.raises(BadInput, match=r"^task\.metric\.mode=up"):
        refusals.check(put(own, "task.metric", {"name": "f1", "mode": "up"}))
