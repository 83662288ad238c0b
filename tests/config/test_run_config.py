import cell_maker
import pytest
from cell_maker import made

from bench.config.run_config import _hashed, check_one_run, check_one_sweep, checked
from bench.tying.errors import BadInput

DEFAULT = made()
NINE = "[0,1,1,1,1,1,1,1,2]"


@pytest.mark.parametrize(
    "override",
    [
        *("runs=elsewhere", "results=elsewhere", "cache=elsewhere", "logger=none", "logger=csv"),
        *("trainer.threads=3", "trainer.accelerator=cpu", "data.root=/some/where", "retry=true"),
        "reuse=true",
        *("sweep.name=x", "sweep.note=y", "lr_search.factors=[1,2]", "lr_search.seed=5"),
        *(
            "measure.min_calls=7",
            "dropout=0",
            "weight_decay=0",
            "tying.k=3",
            "tying.strength=1",
            "task=image_cnn",
        ),
        *("data=digits", "model=cnn", "tying=none", "seed=1", "optimizer.lr=3e-3"),
    ],
)
def test_what_can_change_no_number_is_no_part_of_the_identity(override):
    assert made(override).id == DEFAULT.id


CHANGES = (
    *("task=text_gru", "data=fashion_mnist", "data.train_limit=100", "data.holdout=200", "data.split_seed=1"),
    *("model.width=8", "model.depth=6", "model.norm=group", "tying=cross_layer", "tying=top_k", "tying=soft"),
    *(
        "dropout=0.1",
        "weight_decay=0.1",
        "seed=2",
        "optimizer.lr=1",
        "optimizer.clip=null",
        "optimizer.beta2=0.9",
    ),
    *("trainer.max_epochs=3", "trainer.precision=bf16-mixed", "trainer.limit_train_batches=2"),
    *("trainer.limit_eval_batches=2", "task.batches.batch_size=8"),
    *("trainer.max_steps=100", "trainer.max_steps=200", "trainer.patience=3"),
)


@pytest.mark.parametrize("override", CHANGES)
def test_what_can_change_a_number_changes_the_identity(override):
    assert made(override).id != DEFAULT.id


def test_all_those_are_different_runs():
    ids = [made(override).id for override in CHANGES]
    assert len(set(ids)) == len(ids)


def test_the_content_of_the_data_is_part_of_the_identity():
    other = made(fingerprint="other")
    assert (other.id, other.group, other.cost) != (DEFAULT.id, DEFAULT.group, DEFAULT.cost)
    assert other.id != DEFAULT.id and other.cost != DEFAULT.cost


def test_the_code_that_makes_the_numbers_is_part_of_the_identity(monkeypatch):
    monkeypatch.setattr("bench.config.run_config.RESULTS_VERSION", 10_000)
    assert made().id != DEFAULT.id


def test_a_group_is_a_cell_whatever_its_seed():
    assert made("seed=2").group == DEFAULT.group
    assert made("seed=2").id != DEFAULT.id
    assert made("dropout=0.1").group != DEFAULT.group


@pytest.mark.parametrize(
    "override",
    [
        "seed=2",
        "start=untied",
        "dropout=0.5",
        "weight_decay=1",
        "optimizer.lr=1",
        "optimizer.clip=2",
        "trainer.max_epochs=9",
    ],
)
def test_a_cost_is_of_a_task_and_model_and_tying(override):
    assert made(override).cost == DEFAULT.cost


@pytest.mark.parametrize(
    "override",
    [
        "model.width=8",
        "tying=cross_layer",
        "data=cifar10",
        "trainer.threads=2",
        "trainer.precision=bf16-mixed",
        "trainer.compile=default",
        "optimizer.clip=null",
        "measure.memory_gib=1",
    ],
)
def test_what_changes_the_cost_changes_its_identity(override):
    assert made(override).cost != DEFAULT.cost


def test_the_precision_of_the_output_layer_changes_run_and_cost():
    bf16, plain = (made("task=text_gru", f"trainer.output_precision={p}") for p in ("bf16", "null"))
    assert bf16.id != plain.id and bf16.cost != plain.cost


def test_the_strength_costs_nothing_and_the_form_may():
    soft = [made("tying=soft", f"tying.strength={s}") for s in (0.01, 10)]
    assert soft[0].cost == soft[1].cost and soft[0].id != soft[1].id
    assert made("tying=soft", "tying.strength=0").cost != made("tying=none").cost
    assert made("tying=soft", "tying.init=shared").cost == soft[0].cost
    assert made("tying=soft_decoupled").cost != soft[0].cost


def test_a_key_that_came_later_leaves_older_runs_their_identity():
    """Null, it is not part of it; set, it is."""
    assert not {"groups", "repeats", "grouping", "shuffle"} & _hashed(DEFAULT.config)["tying"].keys()
    two, three = (made("tying=cycle", f"tying.groups={groups}") for groups in (2, 3))
    assert len({two.id, three.id, made("tying=sequence").id}) == 3 and two.cost != three.cost
    assert two.id == made("tying=cycle").id
    assert "start" not in _hashed(DEFAULT.config) and made("start=untied").id != DEFAULT.id
    assert "quantize" not in _hashed(DEFAULT.config)["trainer"]
    assert "range" not in _hashed(DEFAULT.config)["data"] and made("data.range=[0,255]").id != DEFAULT.id
    assert "time_format" not in _hashed(made("task=series_gru").config)["data"]
    assert (
        made("trainer.quantize=true").id != DEFAULT.id and made("trainer.quantize=true").cost == DEFAULT.cost
    )


def test_a_cost_without_cold_caches_is_another_and_the_run_is_not():
    warm = made("measure.cold=false")
    assert warm.cost != DEFAULT.cost and warm.id == DEFAULT.id


def test_what_a_tying_does_not_use_makes_no_second_run():
    two, three = made("tying=none", "tying.k=2"), made("tying=none", "tying.k=3")
    assert two.id == three.id == DEFAULT.id and two.cost == DEFAULT.cost
    assert two.unused == ("tying.k",) and DEFAULT.unused == ()
    used = made("tying=top_k", "tying.k=2")
    assert used.unused == () and used.id != made("tying=top_k", "tying.k=3").id


def test_k_takes_the_place_of_the_fraction():
    assert made("tying=top_k").config["tying"]["fraction"] == 0.5
    tying = made("tying=top_k", "tying.k=3").config["tying"]
    assert (tying["k"], tying["fraction"]) == (3, None)
    with pytest.raises(BadInput, match="both set"):
        made("tying=top_k", "tying.k=3", "tying.fraction=0.3")


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (["tying=none"], "none"),
        (["tying=embedding"], "embedding"),
        (["tying=cross_layer"], "cross_layer"),
        (["tying=cross_layer", "tying.scope=all"], "cross_layer(scope=all)"),
        (["tying=cross_layer", "tying.scope=[conv,norm]"], "cross_layer(scope=conv/norm)"),
        (["tying=top_k"], "top_k(fraction=0.5)"),
        (["tying=top_k", "tying.k=3"], "top_k(k=3)"),
        (["tying=bottom_k", "tying.k=3"], "bottom_k(k=3)"),
        (["tying=sandwich", "tying.scope=all"], "sandwich(scope=all)"),
        (["tying=cycle_rev"], "cycle_rev(groups=2)"),
        (["tying=block_wise", "tying.repeats=3"], "block_wise(repeats=3)"),
        (
            ["tying=[embedding,grouped]", f"tying.grouping={NINE}"],
            "embedding+grouped(grouping=0/1/1/1/1/1/1/1/2)",
        ),
        (["tying=learned"], "learned(groups=3)"),
        (["tying=learned", "tying.shuffle=2", "tying.scope=all"], "learned(groups=3, shuffle=2, scope=all)"),
        (
            ["tying=[embedding,learned]", "tying.groups=2", "tying.shuffle=1"],
            "embedding+learned(groups=2, shuffle=1)",
        ),
        (["tying=cross_layer", "start=untied"], "cross_layer, start=untied"),
        (["start=untied"], "none, start=untied"),
        (["tying=soft"], "soft(strength=0.01)"),
        (["tying=soft", "tying.strength=0"], "soft(strength=0)"),
        (["tying=soft", "tying.init=shared"], "soft(strength=0.01, init=shared)"),
        (["tying=soft_decoupled"], "soft(strength=0.01, decoupled)"),
        (["tying=soft_embedding"], "soft_embedding(strength=0.01)"),
        (["tying=albert"], "embedding+cross_layer"),
        (["tying=embedding_top_k"], "embedding+top_k(fraction=0.5)"),
        (["tying=[embedding,top_k]", "tying.k=3"], "embedding+top_k(k=3)"),
        (["tying=[cross_layer,soft_embedding]"], "cross_layer+soft_embedding(strength=0.01)"),
    ],
)
def test_a_label_says_what_is_tied(overrides, label):
    assert made(*overrides).label == label


@pytest.mark.parametrize(
    ("listed", "named"), [("[embedding,top_k]", "embedding_top_k"), ("[embedding,cross_layer]", "albert")]
)
def test_a_list_composes_to_the_same_run_as_its_yaml(listed, named):
    assert made(f"tying={listed}").id == made(f"tying={named}").id


def test_strategies_are_a_set():
    assert made("tying=[top_k,embedding]").id == made("tying=[embedding,top_k]").id


def test_altered_is_a_copy():
    other = DEFAULT.altered(seed=5, optimizer={"lr": 1.0})
    assert (other.config["seed"], other.config["optimizer"]["lr"]) == (5, 1.0)
    assert other.config["optimizer"]["clip"] == DEFAULT.config["optimizer"]["clip"]
    assert DEFAULT.config["seed"] == 1 and other.id != DEFAULT.id


def test_header_names_the_cell():
    header = made("tying=soft", "dropout=0.2", "weight_decay=1", "seed=3").header()
    assert header["tying"] == "soft(strength=0.01)"
    assert (header["task"], header["data"], header["seed"]) == ("image_cnn", "digits", 3)
    assert (header["dropout"], header["weight_decay"]) == (0.2, 1)
    assert header["metric"] == {"name": "accuracy", "mode": "max"}


def test_what_is_wrong_is_said_before_data_is_prepared():
    with pytest.raises(BadInput, match="dropout=2"):
        cell_maker.run_config.from_hydra(cell_maker.composed("dropout=2", "cache=/proc/nope"))


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        (["sweep.name=a"], ["sweep.name=b"], "sweep.name"),
        (["sweep.note=a"], ["sweep.note=b"], "sweep.note"),
        (["sweep.fail_fast=true"], [], "sweep.fail_fast"),
        (["sweep.stop.margin=0.01"], [], "sweep.stop"),
        (["logger=csv"], ["logger=none"], "logger"),
        (["retry=true"], [], "retry"),
        (["runs=a"], ["runs=b"], "runs"),
        (["results=a"], ["results=b"], "results"),
        (["cache=a"], ["cache=b"], "cache"),
    ],
)
def test_what_is_one_for_a_sweep_is_not_swept_over(one, other, key):
    check_one_sweep([config_of(*one), config_of(*one, "seed=2")])
    with pytest.raises(BadInput, match=f"^{key} is .* and .* give one value"):
        check_one_sweep([config_of("seed=2", *one), config_of(*one), config_of(*other)])


def config_of(*overrides):
    return checked(cell_maker.composed(*overrides))[0]


@pytest.mark.parametrize(
    ("one", "other", "key"),
    [
        (["data.root=/a"], ["data.root=/b"], "data.root"),
        (["trainer.checkpoint_every_s=1"], [], "trainer.checkpoint_every_s"),
    ],
)
def test_what_changes_no_number_is_one_for_a_run(one, other, key):
    check_one_run([made(*one), made(*one, "seed=2")])
    with pytest.raises(BadInput, match=f"^{key} is .* and .* give one value"):
        check_one_run([made("seed=2", *one), made(*one), made(*other)])


def test_what_cells_may_differ_in_is_swept_over():
    swept = (["lr_search.factors=[1]"], ["seed=2"], ["seed=3", "sweep.point={a:1}"], ["dropout=0.1"])
    check_one_sweep([config_of(*overrides) for overrides in swept])
    check_one_run([made(*overrides) for overrides in (*swept, *swept)])


@pytest.mark.parametrize(
    ("task", "override"),
    [
        *(
            ("image_cnn", f"{key}=null")
            for key in ("trainer.max_steps", "trainer.patience", "optimizer.shared_lr")
        ),
        ("text_gru", "model.injection=none"),
        ("text_gru", "model.init_scale=1.0"),
        ("text_transformer", "model.injection=none"),
        *(("text_gru", f"data.{key}=null") for key in ("val_limit", "test_limit")),
    ],
)
def test_what_came_with_budgets_in_steps_is_no_part_of_older_identities(task, override):
    one = made(f"task={task}", override)
    section, key = override.split("=")[0].split(".")
    assert key in one.config[section] and key not in _hashed(one.config)[section]
    assert one.id == made(f"task={task}").id


@pytest.mark.parametrize(
    ("task", "override"),
    [
        ("text_gru", "model.injection=add"),
        ("text_gru", "model.init_scale=0.5"),
        ("text_gru", "data.val_limit=9"),
        ("text_gru", "data.test_limit=9"),
        ("text_gru", "optimizer.shared_lr=sqrt"),
    ],
)
def test_each_of_them_is_another_run(task, override):
    plain, other = (made(f"task={task}", "tying=embedding", *more) for more in ((), (override,)))
    assert plain.id != other.id


def test_a_rate_by_uses_is_no_key_of_a_run_that_shares_nothing():
    one = made("optimizer.shared_lr=sqrt")
    assert one.id == DEFAULT.id and one.unused == ("optimizer.shared_lr",)


def test_a_budget_in_steps_takes_the_place_of_that_in_epochs():
    by_steps = made("trainer.max_steps=100")
    for override in ("trainer.max_epochs=7", "trainer.val_check_interval=0.5"):
        assert made("trainer.max_steps=100", override).id == by_steps.id
    assert made("trainer.max_steps=100", "start=untied").start.id == made("start=untied").start.id
